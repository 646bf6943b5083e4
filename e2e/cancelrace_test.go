package e2e

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// races is how many calls each case cancels.
const races = 1000

// A phone cancels calls while they are answered. Whoever comes first, both
// ends think the same of each call: it was cancelled, or it was answered and is
// hung up. The moment of the CANCEL follows the answer, so that both happen.
func TestCancelRace(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{}, func(o *office) {
		phone := o.registered("1001")
		offer := phone.NewMedia(suite).Offer()
		var r race
		for range races {
			d := phone.Call("600", offer)
			r.by = max(r.by, 0) // there is no answer before the call
			r.wait()
			d.Cancel()
			r.ends(o.t, d)
		}
		o.idle()
		r.isOne(o.t)
	})
	t.Run("between phones", func(t *testing.T) { // the PBX's CANCEL meets the other phone's answer
		eachPBX(t, peers.AsteriskConfig{}, func(o *office) {
			anna, ben := o.registered("1001"), o.registered("1002")
			offer, media := anna.NewMedia(suite).Offer(), ben.NewMedia(suite)
			var r race
			forgotten := 0
			for range races {
				d := anna.Call("1002", offer)
				inv := ben.Expect("INVITE", 5*time.Second)
				ben.Answer(inv, 180, "Ringing", "")
				d.Await("INVITE", 180)
				if r.by > 0 {
					ben.Answer(inv, 200, "OK", media.Accept(inv.Body))
					r.wait()
					d.Cancel()
				} else {
					d.Cancel()
					r.wait()
					ben.Answer(inv, 200, "OK", media.Accept(inv.Body))
				}
				r.ends(o.t, d)
				if !o.letGo(ben) {
					forgotten++
					if m := ben.DialogOf(inv).Request("BYE", ""); m.Status() != 200 && m.Status() != 481 {
						o.t.Fatalf("BYE was answered %s", m.Start)
					}
				}
			}
			// chan_sip itself now and then acknowledges an answer that crosses its
			// CANCEL, and says no BYE.
			if o.t.Logf("the PBX forgot %d calls", forgotten); forgotten > races/10 || forgotten > 0 && o.pbx.Version == 22 {
				o.t.Errorf("the PBX left the phone with %d calls", forgotten)
			}
			o.idle()
			r.isOne(o.t)
		})
	})
}

// letGo takes the end of a call that a phone has answered: whatever the caller
// heard, it must end. It tells whether the PBX, which had the answer, said BYE.
func (o *office) letGo(phone *peers.Phone) bool {
	patience := time.Second
	if o.pbx.Version == 22 { // which forgets none
		patience = 15 * time.Second
	}
	acknowledged := false
	for {
		m := phone.Within(patience)
		switch {
		case m == nil && acknowledged:
			return false
		case m == nil:
			phone.Next(10 * time.Second) // fails: nobody has told the PBX of the answer
		case m.Status() == 0 && m.Method() == "ACK":
			acknowledged = true
		case m.Status() == 0:
			phone.Answer(m, 200, "OK", "")
			if m.Method() == "BYE" {
				return true
			}
		}
	}
}

// race finds the moment at which a CANCEL meets the answer.
type race struct {
	by                  time.Duration // how long the second waits for the first; below 0 the CANCEL is first
	answered, cancelled int
}

func (r *race) wait() {
	for end := time.Now().Add(max(r.by, -r.by)); time.Now().Before(end); { // a sleep is too coarse
	}
}

// ends takes the call's end, and hangs up if it was answered.
func (r *race) ends(t *testing.T, d *peers.Dialog) {
	t.Helper()
	const step = 20 * time.Microsecond
	switch m := d.Await("INVITE", 0); m.Status() {
	case 200:
		r.answered++
		r.by -= step
		d.Ack(m, "")
		d.Ask("BYE", "")
		if m := d.Await("BYE", 0); m.Status() != 200 && m.Status() != 481 { // 481: the PBX is through with it already
			t.Fatalf("BYE was answered %s", m.Start)
		}
	case 487:
		r.cancelled++
		r.by += step
		d.Refused(m)
	default:
		t.Fatalf("the cancelled call ended with %s", m.Start)
	}
}

// isOne checks that both came first often enough.
func (r *race) isOne(t *testing.T) {
	t.Helper()
	t.Logf("%d calls were answered first, %d cancelled; they met at %s", r.answered, r.cancelled, r.by)
	if min(r.answered, r.cancelled) < races/10 {
		t.Errorf("%d calls were answered first, %d cancelled: that is no race", r.answered, r.cancelled)
	}
}
