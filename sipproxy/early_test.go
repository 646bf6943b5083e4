package sipproxy

import (
	"fmt"
	"strings"
	"testing"
)

// What the PBX says to a contact before it has said that it took it reaches
// the phone behind that answer, in order; and nobody, if it did not take it.
func TestBeforeRegisterAnswer(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	ask := func(cseq int) (reg *message, token string) {
		p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg", cseq, "", contact, "Expires: 600"))
		reg = b.atPBX("REGISTER")
		token, _, _ = strings.Cut(strings.TrimPrefix(reg.h.Get("Contact"), "<sip:"), "@")
		return reg, token
	}
	tell := func(token, method string, cseq int) {
		m := strings.ReplaceAll(b.inviteTo(token, fmt.Sprint("early", cseq), ""), "INVITE", method)
		b.fromPBX(strings.Replace(m, "Max-Forwards", "Event: message-summary\r\nSubscription-State: terminated\r\nMax-Forwards", 1))
	}
	reg, token := ask(1)
	for i, refused := range []bool{true, false} {
		tell(token, "NOTIFY", 2*i)
		tell(token, "OPTIONS", 2*i+1)
		b.fromPBX(b.inviteTo("nobody", fmt.Sprint("mark", i), "")) // refused at once, and behind them
		if m := b.atPBX("480"); m.method() != "INVITE" {
			t.Fatalf("%s did not wait", m.method())
		}
		if refused {
			b.fromPBX(reply(reg, 401, "r", ""))
			p.next("401")
			if m := b.atPBX("480"); m.method() != "NOTIFY" {
				t.Errorf("%s %s comes before NOTIFY", m.start, m.method())
			}
			b.dropped(1) // the OPTIONS
			reg, token = ask(2)
			continue
		}
		b.fromPBX(reply(reg, 200, "r", "", "Contact: "+reg.h.Get("Contact")+";expires=600"))
		p.next("200")
		for _, method := range []string{"NOTIFY", "OPTIONS"} {
			p.send(reply(p.next(method), 200, "", ""))
			b.atPBX("200")
		}
	}
	if n := len(b.proxy.asking.byToken); n != 0 {
		t.Errorf("%d contacts are still asked for", n)
	}

	// So it is when the phone has lost its connection and registers by another.
	p.conn.Close()
	p = b.phone()
	reg, token = ask(3)
	tell(token, "NOTIFY", 4)
	b.fromPBX(b.inviteTo("nobody", "mark2", ""))
	if m := b.atPBX("480"); m.method() != "INVITE" {
		t.Fatalf("%s did not wait", m.method())
	}
	b.fromPBX(reply(reg, 200, "r", "", "Contact: "+reg.h.Get("Contact")+";expires=600"))
	p.next("200")
	p.next("NOTIFY")
}

// An INVITE that waits is cancelled as any other; and no more wait than there
// is room for.
func TestEarlyInvite(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg", 1, "", contact, "Expires: 600"))
	reg := b.atPBX("REGISTER")
	token, _, _ := strings.Cut(strings.TrimPrefix(reg.h.Get("Contact"), "<sip:"), "@")
	inv := b.inviteTo(token, "c1", plainSDP)
	b.fromPBX(inv)
	b.fromPBX(cancelOf(inv))
	for i := range maxEarly { // two of which find no room
		b.fromPBX(strings.ReplaceAll(b.inviteTo(token, fmt.Sprint("o", i), ""), "INVITE", "MESSAGE"))
	}
	b.atPBX("480")
	b.atPBX("480")
	b.fromPBX(reply(reg, 200, "r", "", "Contact: "+reg.h.Get("Contact")+";expires=600"))
	p.next("200")
	atPhone := p.next("INVITE")
	p.send(reply(atPhone, 180, "anna", "", contact))
	p.next("CANCEL")
	p.send(reply(atPhone, 487, "anna", ""))
	b.atPBX("487")
	b.noCallLeft()
}
