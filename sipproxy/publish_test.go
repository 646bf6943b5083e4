package sipproxy

import (
	"fmt"
	"strings"
	"testing"
)

// A PUBLISH (RFC 3903) crosses with its Event, its entity tag and its body as
// they are, and its answer with the new tag; a refusal with what it asks for.
func TestPublish(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	const state = `<?xml version="1.0"?><presence entity="pres:1001@pbx.example.com"><tuple id="a"><status><basic>open</basic></status>` +
		`<contact>sip:1001@192.168.1.9:5061</contact></tuple></presence>`
	for i, c := range []struct {
		name, body, match, answer string
		status                    int
	}{
		{"first", state, "", "SIP-ETag: dx200xyz", 200},
		{"refreshed", "", "dx200xyz", "SIP-ETag: kwj449x", 200},
		{"changed", state, "kwj449x", "SIP-ETag: qwi982ks", 200},
		{"gone", "", "kwj449x", "X-None: yes", 412},
		{"too short", state, "", "Min-Expires: 120", 423},
	} {
		more := []string{"Event: presence", "Expires: 60", contact}
		if c.match != "" {
			more = append(more, "SIP-If-Match: "+c.match)
		}
		p.send(typed(p.request("PUBLISH", "sip:1001@pbx.example.com", "<sip:1001@pbx.example.com>", "p1", 1+i, c.body, more...), "application/pidf+xml"))
		m := b.atPBX("PUBLISH")
		if m.uri() != "sip:1001@pbx.example.com" || m.body != c.body || c.body != "" && m.h.Get("Content-Type") != "application/pidf+xml" {
			t.Errorf("%s: the PBX got %s with %s\n%s", c.name, m.start, m.h.Get("Content-Type"), m.body)
		}
		want := fmt.Sprintf("presence 60 %s <sip:%s@%s>", c.match, token, b.plain)
		if got := fmt.Sprintf("%s %s %s %s", m.h.Get("Event"), m.h.Get("Expires"), m.h.Get("Sip-If-Match"), m.h.Get("Contact")); got != want {
			t.Errorf("%s: the PBX got %s, want %s", c.name, got, want)
		}
		b.fromPBX(reply(m, c.status, "r", "", "Expires: 60", c.answer))
		name, value, _ := strings.Cut(c.answer, ": ")
		if m := p.next(fmt.Sprint(c.status)); m.h.Get(name) != value || m.h.Get("Expires") != "60" {
			t.Errorf("%s: the phone got %s with %v", c.name, m.start, m.h)
		}
	}
	p.send(typed(p.request("PUBLISH", "sip:1001@pbx.example.com", "<sip:1001@pbx.example.com>", "p2", 1, state, "Event: presence", "Content-Encoding: gzip"), "application/pidf+xml"))
	p.next("415") // state that cannot be read is let through neither way
}
