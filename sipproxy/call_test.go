package sipproxy

import (
	"context"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/media"
)

// A call that rings when the edge shuts down is given up on both sides.
func TestDrainWhileRinging(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "out", 1, secureSDP, contact))
	out := b.atPBX("INVITE")
	b.fromPBX(reply(out, 180, "pbx", "", "Contact: <sip:602@127.0.0.1:5060>"))
	p.next("180")
	b.fromPBX(b.inviteTo(token, "in", plainSDP))
	in := p.next("INVITE")
	p.send(reply(in, 180, "anna", "", contact))
	b.atPBX("180")
	over, stop := context.WithCancel(t.Context())
	stop()
	b.proxy.Drain(over)
	p.next("503")
	if m := p.next("CANCEL"); m.h.Get("Call-Id") != "in" {
		t.Errorf("CANCEL of %s", m.h.Get("Call-Id"))
	}
	b.atPBX("503")
	b.atPBX("CANCEL")
	b.noCallLeft()
}

// Before the answer a phone may only listen, to a long announcement perhaps.
func TestSilenceWhileRinging(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP, contact))
	inv := b.atPBX("INVITE")
	b.fromPBX(reply(inv, 183, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	p.next("183")
	c := b.proxy.calls.list()[0]
	b.proxy.mediaEvent(c, media.Event{Kind: media.Silence})
	b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	p.next("200")
	b.proxy.mediaEvent(c, media.Event{Kind: media.Silence})
	p.next("BYE")
	b.atPBX("BYE")
	b.noCallLeft()
}

// What comes after the end of a call opens no media, and every request gets
// its answer.
func TestAfterTheEnd(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, "", contact))
	inv := b.atPBX("INVITE")
	b.fromPBX(reply(inv, 180, "pbx", "", "Contact: <sip:602@127.0.0.1:5060>"))
	p.next("180")
	p.send(p.request("BYE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2, ""))
	b.fromPBX(reply(b.atPBX("BYE"), 200, "", ""))
	p.next("200")
	b.fromPBX(reply(inv, 183, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	b.fromPBX(reply(b.atPBX("BYE"), 200, "", ""))
	if m := p.next("487"); !strings.Contains(m.h.Get("Cseq"), "INVITE") {
		t.Errorf("487 to %s", m.h.Get("Cseq"))
	}
	if n := b.proxy.engine.Stats().Sessions; n != 0 {
		t.Fatalf("%d media sessions are left", n)
	}
}
