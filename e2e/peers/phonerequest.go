package peers

import (
	"fmt"
	"strings"
	"time"
)

// Ask sends a request outside of calls, answering the challenge, and returns
// the final response, and the dialog that it may have made.
func (p *Phone) Ask(method, uri, body string, headers ...string) (*Dialog, *Message) {
	p.t.Helper()
	to := "<sip:" + userAt(uri) + ">"
	d := &Dialog{p: p, id: Random(8), local: fmt.Sprintf("<sip:%s@pbx.example.com>;tag=%s", p.User, Random(4)), remote: to, target: uri}
	m := d.Request(method, body, headers...)
	d.remote = m.Get("To")
	if contact := m.URI("Contact"); contact != "" {
		d.target = contact
	}
	return d, m
}

// userAt is a URI's user and host.
func userAt(uri string) string {
	_, after, _ := strings.Cut(uri, ":")
	user, _, _ := strings.Cut(after, ";")
	if !strings.Contains(user, "@") {
		user += "@pbx.example.com"
	}
	return user
}

// In is another's call as the phone would have it if it knew all of it.
func (p *Phone) In(of *Dialog) *Dialog {
	d := *of
	d.p = p
	return &d
}

// ID is the Call-ID.
func (d *Dialog) ID() string { return d.id }

// Local is this end, as From and To write it, with its tag.
func (d *Dialog) Local() string { return d.local }

// Remote is the other.
func (d *Dialog) Remote() string { return d.remote }

// Told answers requests of a method with 200 until one satisfies what is asked,
// and returns that.
func (p *Phone) Told(method, what string, satisfies func(*Message) bool) *Message {
	p.t.Helper()
	var seen []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		m := p.Next(time.Until(deadline))
		seen = append(seen, m.Start+"\n"+m.Body)
		if m.Status() != 0 || m.Method() == "ACK" {
			continue
		}
		p.Answer(m, 200, "OK", "")
		if m.Method() == method && satisfies(m) {
			return m
		}
	}
	p.t.Fatalf("phone %s awaits %s that says %s, got\n%s", p.User, method, what, strings.Join(seen, "\n"))
	return nil
}
