package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// One number rings two phones, and two phones of one user ring; each in turn
// answers, and the other is cancelled.
func TestForking(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{}, func(o *office) {
		anna, ben, caller := o.registered("1001"), o.registered("1002"), o.registered("1003")
		o.rings(caller, "620", anna, ben)
		o.rings(caller, "620", ben, anna)
		if o.pbx.Version != 22 { // chan_sip knows one phone of a user
			return
		}
		second := peers.NewPhone(o.Phone("second"), o.edge, "1001")
		if m := second.Register("secret-1001", 600, ""); m.Status() != 200 || o.pbx.Registered() != 4 {
			o.t.Fatalf("the user's second phone is answered %s, and the PBX has %d contacts", m.Start, o.pbx.Registered())
		}
		o.rings(caller, "621", anna, second)
		o.rings(caller, "621", second, anna)
	})
	t.Run("early dialogs", earlyDialogs)
}

// rings calls a number that rings two phones, of which the first answers.
func (o *office) rings(caller *peers.Phone, number string, takes, misses *peers.Phone) {
	o.t.Helper()
	a, b := caller.NewMedia(suite), takes.NewMedia(suite)
	called := peers.Meanwhile(o.t, func() *peers.Dialog { return o.call(caller, number, a, 700) })
	inv := takes.Expect("INVITE", 5*time.Second)
	missed := misses.Expect("INVITE", 5*time.Second)
	takes.Answer(inv, 180, "Ringing", "")
	misses.Answer(missed, 180, "Ringing", "")
	takes.Answer(inv, 200, "OK", b.Accept(inv.Body))
	cancel := misses.Expect("CANCEL", 5*time.Second)
	if why := cancel.Get("Reason"); !strings.Contains(why, "completed elsewhere") { // or the phone shows a missed call
		o.t.Errorf("the other phone is cancelled with Reason %q", why)
	}
	misses.Answer(cancel, 200, "OK", "")
	misses.Answer(missed, 487, "Request Terminated", "")
	misses.Expect("ACK", 5*time.Second)
	takes.Expect("ACK", 5*time.Second)
	b.Start(onlySuite(inv.Body, b.Suite), 1300)
	d := called()
	hear(a, b)
	o.bye(d, a)
	o.hungUp(takes, b)
	o.idle()
}

// A PBX that is a proxy lets several answer one call: each with sound of its own
// before the answer, and one of them for good. The phone talks with whoever spoke
// up last, and then with whoever answered first; one who answers too late is
// hung up, and harms nothing.
func earlyDialogs(t *testing.T) {
	s := newRinging(t)
	rings := func(tag string, status int, media *peers.Media) *peers.Message {
		s.pbx.As(tag)
		s.pbx.Answer(s.inv, status, "Because", media.Accept(s.inv.Body))
		return s.call.Await("INVITE", status)
	}
	heard := func(by *peers.Media, hz float64) {
		t.Helper()
		s.out.Forget()
		by.Forget()
		s.out.Hears(hz, 10*time.Second)
		by.Hears(700, 10*time.Second)
	}
	one, two := s.in, s.pbx.NewPlainMedia()
	first := rings("one", 183, one)
	s.out.Start(first.Body, 700)
	one.Start(s.inv.Body, 900)
	heard(one, 900)
	second := rings("two", 183, two)
	if tagOf(first.Get("To")) == tagOf(second.Get("To")) {
		t.Errorf("two early dialogs come to the phone as one, To %s", second.Get("To"))
	}
	s.out.Apply(second.Body)
	one.Silence(true) // or both are heard: that is the phone's to choose
	two.Start(s.inv.Body, 1900)
	heard(two, 1900)
	two.Silence(true)
	one.Silence(false)
	m := rings("one", 200, one)
	s.out.Apply(m.Body)
	s.call.Ack(m, "")
	s.pbx.Expect("ACK", 5*time.Second)
	heard(one, 900)
	s.pbx.As("two")
	s.pbx.Answer(s.inv, 200, "OK", two.Accept(s.inv.Body))
	s.pbx.Expect("ACK", 5*time.Second)
	bye := s.pbx.Expect("BYE", 5*time.Second)
	s.pbx.Answer(bye, 200, "OK", "")
	if tagOf(bye.Get("To")) != "two" {
		t.Errorf("BYE is for %s", bye.Get("To"))
	}
	heard(one, 900)
	s.end()
}
