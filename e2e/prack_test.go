package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// reliably are the headers of a provisional response that wants a PRACK.
func reliably(rseq int) []string { return []string{"Require: 100rel", fmt.Sprintf("RSeq: %d", rseq)} }

// isReliable tells whether a response wants one (RFC 3262 section 4).
func isReliable(m *peers.Message) bool {
	return strings.Contains(m.Get("Require"), "100rel") && m.Get("RSeq") != ""
}

// Provisional responses that are acknowledged, several in a call, with both
// orders of offer and answer; the sound before the answer is heard by both.
func TestPrack(t *testing.T) {
	o := newOfficeWith(t, peers.AsteriskConfig{Version: 22, Endpoint: "100rel=peer_supported"}, peers.EdgeConfig{})
	phone := o.registered("1001")
	t.Run("from the PBX", func(t *testing.T) {
		media := phone.NewMedia(suite)
		d := phone.Call("609", media.Offer(), "Supported: 100rel")
		first := d.Await("INVITE", 180)
		if again := d.Await("INVITE", 180); !isReliable(first) || again.Get("RSeq") != first.Get("RSeq") {
			t.Fatalf("180 has Require %q and RSeq %q, and came again with RSeq %q", first.Get("Require"), first.Get("RSeq"), again.Get("RSeq"))
		}
		d.Prack(first, "")
		d.Await("PRACK", 200)
		progress := d.Await("INVITE", 183)
		d.Prack(progress, "")
		d.Await("PRACK", 200)
		media.Start(progress.Body, 700)
		media.Hears(peers.MusicHz, 10*time.Second)
		d.Ack(d.Await("INVITE", 200), "")
		media.Forget()
		media.Hears(700, 10*time.Second)
		o.hangUp(d, media)
	})
	t.Run("answer in the PRACK", func(t *testing.T) {
		media := phone.NewMedia(suite)
		d := phone.Call("609", "", "Supported: 100rel")
		var offer *peers.Message
		for offer == nil {
			m := phone.Await("a reliable response", isReliable)
			if m.Body == "" {
				d.Prack(m, "")
			} else {
				offer = m
				d.Prack(m, media.Accept(m.Body))
			}
			d.Await("PRACK", 200)
		}
		media.Start(onlySuite(offer.Body, media.Suite), 700)
		m := phone.Await("the rest", func(m *peers.Message) bool {
			if isReliable(m) {
				d.Prack(m, "")
			}
			return m.Status() >= 200 && m.Method() == "INVITE"
		})
		if m.Status() != 200 {
			t.Fatalf("the call was answered %s", m.Start)
		}
		d.Ack(m, "")
		media.Forget()
		media.Hears(700, 10*time.Second)
		o.hangUp(d, media)
	})
	t.Run("from the phone", func(t *testing.T) {
		media := phone.NewMedia(suite)
		o.pbx.Originate("1001", "600")
		inv := phone.Expect("INVITE", 5*time.Second)
		if !strings.Contains(inv.Get("Supported"), "100rel") {
			t.Fatalf("the INVITE supports %q", inv.Get("Supported"))
		}
		for i, sdp := range []string{media.Accept(inv.Body), ""} {
			status := 183 - 3*i
			phone.Answer(inv, status, "Because", sdp, reliably(i+1)...)
			prack := phone.Expect("PRACK", 5*time.Second)
			if want := fmt.Sprintf("%d %s", i+1, inv.Get("CSeq")); prack.Get("RAck") != want {
				t.Fatalf("the PRACK is of %q, want %q", prack.Get("RAck"), want)
			}
			phone.Answer(prack, 200, "OK", "")
		}
		phone.Answer(inv, 200, "OK", "")
		phone.Expect("ACK", 5*time.Second)
		media.Start(onlySuite(inv.Body, media.Suite), 700)
		media.Hears(700, 10*time.Second)
		o.hangUp(phone.DialogOf(inv), media)
	})
	t.Run("chan_sip", func(t *testing.T) { // it knows none: told so, or asked for none
		o := newOffice(t)
		phone := o.registered("1001")
		media := phone.NewMedia(suite)
		d := phone.Call("609", media.Offer(), "Supported: 100rel")
		m := d.Await("INVITE", 183)
		if isReliable(m) {
			t.Fatalf("chan_sip wants a PRACK, RSeq %q", m.Get("RSeq"))
		}
		media.Start(m.Body, 700)
		media.Hears(peers.MusicHz, 10*time.Second)
		d.Ack(d.Await("INVITE", 200), "")
		media.Forget()
		media.Hears(700, 10*time.Second)
		o.hangUp(d, media)
		d = phone.Dial("600", phone.NewMedia(suite).Offer(), "Require: 100rel")
		m = d.Await("INVITE", 0)
		d.Refused(m)
		if m.Status() != 420 || m.Get("Unsupported") != "100rel" {
			t.Errorf("one that must have it is answered %s, Unsupported %q", m.Start, m.Get("Unsupported"))
		}
		o.idle()
	})
	t.Run("another offer in the PRACK", func(t *testing.T) { // RFC 3262 section 5
		s := newRinging(t)
		m := s.early()
		s.call.Prack(m, s.moves())
		prack := s.pbx.Expect("PRACK", 5*time.Second)
		s.pbx.Answer(prack, 200, "OK", s.in.Accept(prack.Body))
		s.out.Apply(s.call.Await("PRACK", 200).Body)
		s.in.Apply(prack.Body)
		s.talk()
		s.taken()
		s.talk()
		s.end()
	})
}
