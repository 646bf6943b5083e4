package sipproxy

import (
	"strings"
	"testing"
)

// pbxAcks is the ACK of the PBX for a 200 to an inviteTo.
func (b *bench) pbxAcks(ok *message) {
	b.t.Helper()
	b.fromPBX(text("", "ACK "+strings.Trim(ok.h.Get("Contact"), "<>")+" SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK"+randomToken(4),
		"Max-Forwards: 70", "From: "+ok.h.Get("From"), "To: "+ok.h.Get("To"), "Call-ID: "+ok.h.Get("Call-Id"), "CSeq: 102 ACK"))
}

// The PBX has called a phone, which re-INVITEs and is gone before the answer. The PBX gets
// its ACK, as often as it says so, and the call waits for the phone to come back.
func TestReInviteOfAPhoneThatIsGone(t *testing.T) {
	for _, c := range []struct{ name, offer string }{{"with an offer", secureSDP}, {"without", ""}} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			p := b.phone()
			b.fromPBX(b.inviteTo(b.register(p), "in1", plainSDP))
			inv := p.next("INVITE")
			p.send(reply(inv, 200, "anna", strings.Replace(secureSDP, "a=crypto:1", "a=crypto:2", 1), contact))
			b.pbxAcks(b.atPBX("200"))
			p.next("ACK")
			p.send(text(c.offer, "INVITE "+strings.Trim(inv.h.Get("Contact"), "<>")+" SIP/2.0", p.via(), "Max-Forwards: 70",
				"From: "+inv.h.Get("To")+";tag=anna", "To: "+inv.h.Get("From"), "Call-ID: "+inv.h.Get("Call-Id"), "CSeq: 1 INVITE", contact))
			again := b.atPBX("INVITE")
			b.leaves(p)
			call := b.proxy.calls.list()[0]
			until(t, "the INVITE to be given up", func() bool { return !b.proxy.tx.Busy(call.outside().flow) })
			for range 2 {
				b.fromPBX(reply(again, 200, "", plainSDP, "Contact: <sip:1002@127.0.0.1:5060>"))
				if ack := b.atPBX("ACK"); ack.h.Get("Cseq") != "1 ACK" || ack.h.Get("To") != again.h.Get("To") {
					t.Errorf("the ACK is %v", ack.h)
				}
			}
			call.mu.Lock()
			pending := call.media.pending
			call.mu.Unlock()
			if pending != nil && !pending.answered {
				t.Error("its offer stands in the way of the next")
			}
			if n := b.proxy.Stats().Calls; n != 1 {
				t.Errorf("%d calls are left", n)
			}
		})
	}
}

// The ACK of an answered call was lost, and then the phone's connection: the PBX gets the
// ACK again, and the call waits for the phone to come back.
func TestAckLostOfAPhoneThatIsGone(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	b.register(p)
	inv := b.callOut(p, "c1")
	b.leaves(p)
	for range 2 {
		b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
		if m, err := b.heard(soon()); err != nil || m.method() != "ACK" || m.h.Get("Cseq") != "1 ACK" {
			t.Fatalf("the PBX got %v, %v", m, err)
		}
	}
	b.fromPBX(b.optionsFor(b.plain.String(), "mark"))
	if m, err := b.heard(soon()); err != nil || m.status() != 200 {
		t.Errorf("the PBX got %v, %v", m, err)
	}
	if n := b.proxy.Stats().Calls; n != 1 {
		t.Errorf("%d calls are left", n)
	}
}
