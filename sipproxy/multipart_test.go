package sipproxy

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"reflect"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/policy"
)

const location = "Content-Type: application/pidf+xml\r\nContent-ID: <alice123@192.168.1.9>\r\nContent-Disposition: render;handling=optional\r\n\r\n" +
	`<presence entity="sips:1001@pbx.example.com:5061"><geopriv/></presence>`

// parts composes a multipart body, as phones do.
func parts(list ...string) string {
	return "\r\n--b=1\r\n" + strings.Join(list, "\r\n--b=1\r\n") + "\r\n--b=1--\r\n"
}

const described = "Content-Type: application/sdp\r\n\r\n"

// mixed sends a phone's request with a multipart body.
func (p *phone) mixed(method, callID, body string) {
	p.send(strings.Replace(p.request(method, "sip:112@pbx.example.com", "<sip:112@pbx.example.com>", callID, 1, body, contact, "Geolocation: <cid:alice123@192.168.1.9>"),
		"application/sdp", `multipart/mixed; boundary="b=1"`, 1))
}

// A phone that calls for help says where it is, beside its description (RFC 6442).
func TestDescriptionWithLocation(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	p.mixed("INVITE", "c1", parts(described+secureSDP, location))
	inv := b.atPBX("INVITE")
	kind, params, err := mime.ParseMediaType(inv.h.Get("Content-Type"))
	if err != nil || kind != "multipart/mixed" || !strings.Contains(inv.h.Get("Content-Type"), ";boundary=") {
		t.Fatalf("Content-Type is %s", inv.h.Get("Content-Type"))
	}
	r := multipart.NewReader(strings.NewReader(inv.body), params["boundary"])
	for _, want := range []struct{ kind, id, in string }{
		{"application/sdp", "", "RTP/AVP 0 101\r\n"},
		{"application/pidf+xml", "<alice123@192.168.1.9>", `entity="sip:1001@pbx.example.com"`},
	} {
		part, err := r.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(part)
		if part.Header.Get("Content-Type") != want.kind || part.Header.Get("Content-ID") != want.id || !strings.Contains(string(text), want.in) {
			t.Errorf("the PBX got %v %q", part.Header, text)
		}
	}
	if strings.Contains(inv.body, "crypto") || strings.Contains(inv.body, "b=1") {
		t.Errorf("the PBX got\n%s", inv.body)
	}
	answer := strings.Replace(reply(inv, 200, "pbx", parts("Content-Type: application/isup;version=x\r\n\r\n\x01\x02", described+plainSDP), "Contact: <sip:112@127.0.0.1:5060>"),
		"application/sdp", `multipart/mixed;boundary="b=1"`, 1)
	b.fromPBX(answer)
	ok := p.next("200")
	if ok.h.Get("Content-Type") != "application/sdp" || !strings.Contains(ok.body, "a=crypto:1 ") || strings.Contains(ok.body, "b=1") {
		t.Errorf("the phone got %s\n%s", ok.h.Get("Content-Type"), ok.body)
	}
}

// Nothing crosses in a body of several parts that would not do so alone.
func TestPartsRefused(t *testing.T) {
	b := newBenchFor(t, media.Defaults().Silence, func(c *Config) { c.Inbound.Bodies = []string{"application/*"} }, policy.Defaults())
	p := b.phone()
	for i, body := range []string{
		parts(described+secureSDP, described+secureSDP),
		parts(described+secureSDP, "Content-Type: multipart/mixed;boundary=x\r\n\r\n--x\r\n"+described+secureSDP+"\r\n--x--\r\n"),
		parts(described+secureSDP, "\r\nof no type"),
		parts(described+secureSDP, "Content-Type: text/plain\r\n\r\nof a type that policy refuses"),
		parts(described+secureSDP, "Content-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA"),
		parts(described+secureSDP, "Content-Type: application/x\r\nContent-Encoding: gzip\r\n\r\nAAAA"),
		parts(described+secureSDP, "Content-Type: application/x\r\nContent-ID: <\u00e9>\r\n\r\nAAAA"),
		parts(described+secureSDP, "Content-Type: application/x\r\nContent-ID: <a>\r\nContent-ID: <b>\r\n\r\nAAAA"),
		parts("Content-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n\r\n" + secureSDP),
		parts(described+secureSDP, location, location, location, location, location),
		strings.TrimSuffix(parts(described+secureSDP, location), "--\r\n"),
		parts(location),
		"",
	} {
		if body == "" {
			body = "no part at all"
		}
		p.mixed("INVITE", fmt.Sprint("c", i), body)
		p.next("415")
	}
	p.mixed("MESSAGE", "m", parts(described+secureSDP, location))
	p.next("415")
	b.noCallLeft()
}

// What is taken out of a body and written into one comes out of that the same.
func FuzzMultipart(f *testing.F) {
	f.Add([]byte(parts(described+secureSDP, location)), "b=1", "")
	f.Add([]byte("--x\nContent-Type: application/sdp\n\nv=0\n--x--"), "x", "")
	f.Add([]byte(parts("Content-Type: text/plain\r\n\r\nx", location)), "b=1", "<alice123@192.168.1.9>")
	f.Fuzz(func(t *testing.T, text []byte, boundary, start string) {
		b := body{kind: fmt.Sprintf("multipart/mixed;boundary=%q", boundary), bytes: text}.described()
		if len(b.beside) > 0 {
			if again := b.joined().described(); !reflect.DeepEqual(again, b) {
				t.Errorf("%+v became %+v", b, again)
			}
		}
		b = body{kind: fmt.Sprintf("multipart/related;boundary=%q;start=%q", boundary, start), bytes: text}.listed()
		if len(b.all) > 0 {
			if again := related(b.all).listed(); !reflect.DeepEqual(again.all, b.all) {
				t.Errorf("%+v became %+v", b.all, again.all)
			}
		}
	})
}
