package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// pbxs are the PBXs that offices have, and the version of Asterisk.
var pbxs = map[string]int{"chan_sip": 16, "chan_pjsip": 22}

// eachPBX runs a case against each PBX, at the same time.
func eachPBX(t *testing.T, c peers.AsteriskConfig, run func(o *office)) {
	t.Helper()
	eachPBXWith(t, c, peers.EdgeConfig{}, run)
}

func eachPBXWith(t *testing.T, c peers.AsteriskConfig, edge peers.EdgeConfig, run func(o *office)) {
	t.Helper()
	for name, version := range pbxs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := c
			c.Version = version
			run(newOfficeWith(t, c, edge))
		})
	}
}

// holds are the ways to put a call on hold, and what they are answered with.
var holds = []struct {
	name, direction, offered, answer string
	zero                             bool
}{
	{"sendonly", "sendonly", "sendonly", "recvonly", false}, // RFC 3264 section 8.4
	{"inactive", "inactive", "inactive", "inactive", false},
	{"zero address", "sendrecv", "sendonly", "recvonly", true}, // RFC 2543's way
}

// A call between two phones is held each way: who is held hears music, and
// after that the other again.
func TestHold(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{}, func(o *office) {
		anna, ben := o.registered("1001"), o.registered("1002")
		a, b := anna.NewMedia(suite), ben.NewMedia(suite)
		d := o.connect(anna, ben, a, b)
		hear(a, b)
		for _, h := range holds {
			a.Direction, a.Zero = h.direction, h.zero
			if m := o.change(d, a); direction(m.Body) != h.answer && direction(m.Body) != "inactive" {
				o.t.Fatalf("hold by %s was answered %s", h.name, direction(m.Body))
			}
			a.Silence(true)
			b.Forget()
			b.Hears(peers.MusicHz, 10*time.Second)
			a.Silence(false)
			a.Direction, a.Zero = "sendrecv", false
			if m := o.change(d, a); direction(m.Body) != "sendrecv" {
				o.t.Fatalf("resuming from %s was answered %s", h.name, direction(m.Body))
			}
			hear(a, b)
		}
		o.bye(d, a)
		ben.Answer(ben.Expect("BYE", 5*time.Second), 200, "OK", "")
		o.idle()
	})
	t.Run("by the PBX", func(t *testing.T) {
		s := newStandsIn(t)
		for _, h := range holds {
			s.in.Direction, s.in.Zero = h.direction, h.zero
			offer, answer := s.change(true, "INVITE", h.answer)
			if got := direction(offer.Body); got != h.offered || strings.Contains(offer.Body, "0.0.0.0") {
				t.Errorf("hold by %s comes to the phone as %s:\n%s", h.name, got, offer.Body)
			}
			if got := direction(answer.Body); got != h.answer {
				t.Errorf("hold by %s is answered %s, want %s", h.name, got, h.answer)
			}
			s.out.Silence(true)
			if h.direction != "inactive" { // its music is heard
				s.in.Speak(peers.MusicHz)
				s.out.Forget()
				s.out.Hears(peers.MusicHz, 10*time.Second)
				s.in.Speak(1300)
			}
			s.out.Silence(false)
			s.in.Direction, s.in.Zero = "sendrecv", false
			s.change(true, "INVITE", "sendrecv")
			s.talk()
		}
		s.end()
	})
}

// chan_pjsip can pass on that a phone holds, instead of playing music itself.
func TestHoldPassedOn(t *testing.T) {
	o := newOfficeWith(t, peers.AsteriskConfig{Version: 22, Endpoint: "moh_passthrough=yes"}, peers.EdgeConfig{})
	anna, ben := o.registered("1001"), o.registered("1002")
	a, b := anna.NewMedia(suite), ben.NewMedia(suite)
	d := o.connect(anna, ben, a, b)
	hear(a, b)
	for _, h := range []string{"sendonly", "sendrecv"} {
		a.Direction = h
		o.change(d, a)
		inv := ben.Expect("INVITE", 5*time.Second)
		if got := direction(inv.Body); got != h {
			t.Errorf("%s of the phone comes to the other as %s", h, got)
		}
		if b.Direction = "sendrecv"; h == "sendonly" {
			b.Direction = "recvonly"
		}
		b.Session++
		ben.Answer(inv, 200, "OK", b.Accept(inv.Body))
		ben.Expect("ACK", 5*time.Second)
		b.Forget()
		b.Hears(700, 10*time.Second) // the phone's own music
	}
	a.Forget()
	a.Hears(1300, 10*time.Second)
	o.bye(d, a)
	ben.Answer(ben.Expect("BYE", 5*time.Second), 200, "OK", "")
	o.idle()
}
