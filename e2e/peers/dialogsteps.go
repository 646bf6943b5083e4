package peers

import (
	"fmt"
	"strings"
	"time"
)

// This file is a Dialog one message at a time, for cases about their order.

// Dial calls a number. What comes then is the test's to read. Without a
// description the INVITE has no offer.
func (p *Phone) Dial(number, sdp string, headers ...string) *Dialog {
	p.t.Helper()
	uri := "sip:" + number + "@pbx.example.com"
	if p.plain {
		uri = "sip:" + number + "@" + p.conn.RemoteAddr().String()
	}
	d := &Dialog{p: p, id: Random(8), local: fmt.Sprintf("<sip:%s@pbx.example.com>;tag=%s", p.User, Random(4)), remote: "<" + uri + ">", target: uri}
	d.Ask("INVITE", sdp, headers...)
	return d
}

// Call dials a number and answers the challenge. The headers go with both
// INVITEs.
func (p *Phone) Call(number, sdp string, headers ...string) *Dialog {
	p.t.Helper()
	d := p.Dial(number, sdp, headers...)
	m := d.Await("INVITE", 401)
	d.Refused(m)
	d.Ask("INVITE", sdp, append(headers, p.credentials(m, "INVITE", d.target))...)
	return d
}

// Ask sends a request inside the call, and awaits nothing.
func (d *Dialog) Ask(method, sdp string, headers ...string) {
	d.p.t.Helper()
	d.cseq++
	via := d.p.via()
	if method == "INVITE" {
		d.invite = invite{d.target, via, d.remote, d.cseq}
	}
	if sdp != "" {
		headers = append([]string{"Content-Type: application/sdp"}, headers...)
	}
	d.p.Send(compose(sdp, append(d.lines(method, via), headers...)...))
}

// Cancel cancels the last INVITE (RFC 3261 section 9.1).
func (d *Dialog) Cancel() {
	d.p.t.Helper()
	d.p.Send(compose("", d.follow("CANCEL", d.invite)...))
}

// Refused acknowledges a final response to the last INVITE that is no 2xx
// (RFC 3261 section 17.1.1.3).
func (d *Dialog) Refused(m *Message) {
	d.p.t.Helper()
	of := d.invite
	of.to = m.Get("To")
	d.p.Send(compose("", d.follow("ACK", of)...))
}

// follow is the head of what belongs to an INVITE.
func (d *Dialog) follow(method string, of invite) []string {
	return []string{method + " " + of.uri + " SIP/2.0", of.via, "Max-Forwards: 70", "From: " + d.local, "To: " + of.to, "Call-ID: " + d.id,
		fmt.Sprintf("CSeq: %d %s", of.cseq, method)}
}

// Learn takes the far end's tag and Contact from a response.
func (d *Dialog) Learn(m *Message) {
	d.remote = m.Get("To")
	if m.URI("Contact") != "" {
		d.target = m.URI("Contact")
	}
}

// Ack takes a 2xx to the last INVITE and acknowledges it, with a description
// if that had the offer.
func (d *Dialog) Ack(m *Message, sdp string) {
	d.p.t.Helper()
	d.Learn(m)
	lines := d.follow("ACK", invite{d.target, d.p.via(), d.remote, d.invite.cseq})
	if sdp != "" {
		lines = append(lines, "Content-Type: application/sdp")
	}
	d.p.Send(compose(sdp, lines...))
}

// Prack acknowledges a reliable provisional response (RFC 3262), and awaits
// nothing.
func (d *Dialog) Prack(m *Message, sdp string) {
	d.p.t.Helper()
	d.Learn(m)
	d.Ask("PRACK", sdp, "RAck: "+m.Get("RSeq")+" "+m.Get("CSeq"))
}

// Await reads up to a response to a method: a status, or with 0 any final one.
// Requests, and other responses, are passed over.
func (d *Dialog) Await(method string, status int) *Message {
	d.p.t.Helper()
	return d.p.Await(fmt.Sprintf("%d to %s", status, method), func(m *Message) bool {
		return m.Method() == method && (m.Status() == status || status == 0 && m.Status() >= 200)
	})
}

// Await reads up to a message of the test's choice.
func (p *Phone) Await(what string, is func(*Message) bool) *Message {
	p.t.Helper()
	var passed []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		m, err := p.read(time.Until(deadline))
		if err != nil {
			break
		}
		if is(m) {
			return m
		}
		passed = append(passed, m.Start+" ("+m.Get("CSeq")+")")
	}
	p.t.Fatalf("phone %s awaits %s, got %s", p.User, what, strings.Join(passed, ", "))
	return nil
}
