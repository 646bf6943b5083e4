package sipproxy

import (
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"testing"
)

const (
	rlmi = "Content-Type: application/rlmi+xml\r\nContent-ID: <top1@127.0.0.1>\r\n\r\n" +
		`<list xmlns="urn:ietf:params:xml:ns:rlmi" uri="sip:desk@127.0.0.1:5060" version="0" fullState="true"><resource uri="sip:1002@127.0.0.1:5060">` +
		`<instance id="a" state="active" cid="x7@127.0.0.1"/></resource></list>`
	watched = "Content-ID: <x7@127.0.0.1>\r\nContent-Type: application/dialog-info+xml\r\n\r\n"
)

func related1(start string) string {
	return `multipart/related;type="application/rlmi+xml";boundary="b=1"` + start
}

// list composes a NOTIFY of the PBX about a list.
func (b *bench) list(sub *message, cseq int, kind, body string, more ...string) string {
	return typed(b.inside(sub, "NOTIFY", "pbx", cseq, body, append(more, "Event: dialog", "Require: eventlist", "Subscription-State: active")...), kind)
}

// A phone watches many by one subscription. What it is told of them names nothing of the
// inside, and each part by the name that it has.
func TestListOfWatched(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	sub, _ := b.watch(p, "s1", 600)
	state := strings.NewReplacer("TOKEN", token, "PLAIN", b.plain.String()).Replace(dialogInfo)
	for i, c := range []struct{ body, start string }{
		{parts(rlmi, watched+state), ""},
		{parts(watched+state, rlmi), `;start="<top1@127.0.0.1>"`},
	} {
		b.fromPBX(b.list(sub, 102+i, related1(c.start), c.body))
		m := p.next("NOTIFY")
		kind, params, err := mime.ParseMediaType(m.h.Get("Content-Type"))
		if err != nil || kind != "multipart/related" || params["type"] != "application/rlmi+xml" || params["start"] != "<top1@pbx.example.com>" {
			t.Fatalf("Content-Type is %s", m.h.Get("Content-Type"))
		}
		if strings.Contains(m.body, "127.0.0.1") || strings.Contains(m.body, token) || strings.Contains(m.body, "b=1") || m.h.Get("Require") != "eventlist" {
			t.Errorf("the phone is told\n%s", m.body)
		}
		r := multipart.NewReader(strings.NewReader(m.body), params["boundary"])
		for _, want := range []struct{ kind, id, in string }{
			{"application/rlmi+xml", params["start"], `<resource uri="sip:1002@pbx.example.com"><instance id="a" state="active" cid="x7@pbx.example.com"/>`},
			{"application/dialog-info+xml", "<x7@pbx.example.com>", `<local><target uri="sip:1001@pbx.example.com"/>`},
		} {
			part, err := r.NextRawPart()
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(part)
			if part.Header.Get("Content-Type") != want.kind || part.Header.Get("Content-ID") != want.id || !strings.Contains(string(text), want.in) {
				t.Errorf("the phone is told %v %q", part.Header, text)
			}
		}
		p.send(reply(m, 200, "", ""))
		b.atPBX("200")
	}
}

// Nothing comes in a list that would not come alone, nor what could be taken otherwise.
func TestListRefused(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	b.register(p)
	sub, _ := b.watch(p, "s1", 600)
	many := make([]string, maxListed+1)
	for i := range many {
		many[i] = "Content-Type: text/plain\r\n\r\nx"
	}
	for i, c := range []struct{ kind, body string }{
		{related1(""), parts(rlmi, described+plainSDP)},
		{related1(""), parts(rlmi, "Content-Type: multipart/related;boundary=x\r\n\r\n--x\r\n"+rlmi+"\r\n--x--\r\n")},
		{related1(""), parts(rlmi, "Content-Type: application/pidf+xml\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA")},
		{related1(""), parts(rlmi, "Content-Type: application/pidf+xml\r\nContent-ID: <a\"b>\r\n\r\nAAAA")},
		{related1(""), parts(rlmi, "\r\nof no type")},
		{related1(""), parts(many...)},
		{related1(`;start="<none@127.0.0.1>"`), parts(rlmi)},
		{related1(""), strings.TrimSuffix(parts(rlmi), "--\r\n")},
		{"multipart/related", parts(rlmi)},
		{"multipart/mixed;boundary=\"b=1\"", parts(rlmi)},
	} {
		b.fromPBX(b.list(sub, 200+i, c.kind, c.body))
		if m := b.atPBX("415"); !strings.Contains(m.h.Get("Warning"), "multipart") {
			t.Errorf("%d: Warning is %s", i, m.h.Get("Warning"))
		}
	}
	b.fromPBX(b.list(sub, 300, related1(""), parts(rlmi), "Content-Encoding: gzip"))
	b.atPBX("415")
	b.fromPBX(typed(b.inside(sub, "MESSAGE", "pbx", 301, parts(rlmi)), related1("")))
	b.atPBX("415")
	for i, method := range []string{"NOTIFY", "PUBLISH", "MESSAGE"} { // a phone tells of none
		p.send(typed(p.request(method, "sip:1002@pbx.example.com", to1002+";tag=pbx", "s1", 10+i, parts(rlmi), contact, "Event: dialog", "Subscription-State: active"), related1("")))
		p.next("415")
	}
	b.fromPBX(b.list(sub, 400, related1(""), parts(many[1:]...))) // as many as there may be
	if m := p.next("NOTIFY"); strings.Count(m.body, "text/plain") != maxListed {
		t.Error("the phone is told of fewer")
	}
}
