package peers

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Dialog is a call as a Phone keeps it.
type Dialog struct {
	p             *Phone
	id            string
	local, remote string // From and To values, with tags
	target        string
	cseq          int
	invite        invite // the last one
}

// invite is what a CANCEL and an ACK repeat of an INVITE.
type invite struct {
	uri, via, to string
	cseq         int
}

// Invite calls a number, or a URI, with a description, and with headers
// besides, answering the challenge, and returns the dialog and the final response. It acknowledges that.
func (p *Phone) Invite(number, sdp string, headers ...string) (*Dialog, *Message) {
	p.t.Helper()
	uri := number
	if !strings.Contains(uri, ":") {
		uri = "sip:" + number + "@pbx.example.com"
	}
	d := &Dialog{p: p, id: Random(8), local: fmt.Sprintf("<sip:%s@pbx.example.com>;tag=%s", cmp.Or(p.Poses, p.User), Random(4)), target: uri}
	auth := ""
	for {
		d.cseq++
		via := p.via()
		p.Send(compose(sdp, append([]string{"INVITE " + uri + " SIP/2.0", via, "Max-Forwards: 70", "From: " + d.local, "To: <" + uri + ">",
			"Call-ID: " + d.id, fmt.Sprintf("CSeq: %d INVITE", d.cseq), "Contact: <" + p.Contact() + ">",
			"Content-Type: " + typeOf(sdp) + auth}, headers...)...))
		m := p.final(10 * time.Second)
		d.remote = m.Get("To")
		if m.Status() < 300 {
			d.target = m.URI("Contact")
			via = p.via()
		}
		p.Send(compose("", "ACK "+d.target+" SIP/2.0", via, "Max-Forwards: 70", "From: "+d.local, "To: "+d.remote,
			"Call-ID: "+d.id, fmt.Sprintf("CSeq: %d ACK", d.cseq)))
		if !m.challenges() || auth != "" {
			return d, m
		}
		auth = "\r\n" + p.credentials(m, "INVITE", uri)
	}
}

// final reads up to the final response to an INVITE.
func (p *Phone) final(timeout time.Duration) *Message {
	p.t.Helper()
	for deadline := time.Now().Add(timeout); ; {
		if m := p.Next(time.Until(deadline)); m.Status() >= 200 && m.Method() == "INVITE" {
			return m
		}
	}
}

// DialogOf is the call that the phone answered with Answer.
func (p *Phone) DialogOf(inv *Message) *Dialog {
	return &Dialog{p: p, id: inv.Get("Call-Id"), local: inv.Get("To") + ";tag=" + p.tag, remote: inv.Get("From"), target: inv.URI("Contact")}
}

// Reinvite offers another description inside the call, and acknowledges the
// final response, which it returns.
func (d *Dialog) Reinvite(sdp string) *Message {
	d.p.t.Helper()
	d.cseq++
	via := d.p.via()
	d.p.Send(compose(sdp, append(d.lines("INVITE", via), "Content-Type: application/sdp")...))
	m := d.final("INVITE")
	if m.Status() < 300 {
		d.target, via = m.URI("Contact"), d.p.via()
	}
	d.p.Send(compose("", d.lines("ACK", via)...))
	return m
}

// lines are the headers of a request with the current CSeq.
func (d *Dialog) lines(method, via string) []string {
	return []string{method + " " + d.target + " SIP/2.0", via, "Max-Forwards: 70", "From: " + d.local, "To: " + d.remote,
		"Call-ID: " + d.id, fmt.Sprintf("CSeq: %d %s", d.cseq, method), "Contact: <" + d.p.Contact() + ">"}
}

// Request sends a request inside the call, answering the challenge, and returns
// its response.
func (d *Dialog) Request(method, body string, headers ...string) *Message {
	d.p.t.Helper()
	auth := []string(nil)
	for {
		d.cseq++
		d.p.Send(compose(body, append(append(d.lines(method, d.p.via()), headers...), auth...)...))
		m := d.final(method)
		if !m.challenges() || auth != nil {
			return m
		}
		auth = []string{d.p.credentials(m, method, d.target)}
	}
}

// final reads up to the final response to a request.
func (d *Dialog) final(method string) *Message {
	d.p.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		if m := d.p.Next(time.Until(deadline)); m.Status() >= 200 && m.Method() == method {
			return m
		}
	}
}

// Cancelled calls a number, cancels when it rings, and returns the INVITE's
// final response, which it acknowledges.
func (p *Phone) Cancelled(number, sdp string) (rang bool, final *Message) {
	p.t.Helper()
	uri, id, from := "sip:"+number+"@pbx.example.com", Random(8), fmt.Sprintf("<sip:%s@pbx.example.com>;tag=%s", p.User, Random(4))
	auth := ""
	for cseq := 1; ; cseq++ {
		via := p.via()
		head := func(method string) []string {
			return []string{method + " " + uri + " SIP/2.0", via, "Max-Forwards: 70", "From: " + from, "Call-ID: " + id, fmt.Sprintf("CSeq: %d %s", cseq, method)}
		}
		p.Send(compose(sdp, append(head("INVITE"), "To: <"+uri+">", "Contact: <"+p.Contact()+">", "Content-Type: application/sdp"+auth)...))
		var m *Message
		for m = p.Next(5 * time.Second); m.Status() < 200 || m.Method() != "INVITE"; m = p.Next(5 * time.Second) {
			if m.Status() == 180 && !rang {
				rang = true
				p.Send(compose("", append(head("CANCEL"), "To: <"+uri+">")...))
			}
		}
		p.Send(compose("", append(head("ACK"), "To: "+m.Get("To"))...))
		if !m.challenges() || auth != "" {
			return rang, m
		}
		auth = "\r\n" + p.credentials(m, "INVITE", uri)
	}
}
