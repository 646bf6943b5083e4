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
		var answered, cancelled int
		wait := time.Millisecond
		for range races {
			d := phone.Call("600", offer)
			for end := time.Now().Add(wait); time.Now().Before(end); { // a sleep is too coarse
			}
			d.Cancel()
			switch m := d.Await("INVITE", 0); m.Status() {
			case 200:
				answered++
				wait -= wait / 8
				d.Ack(m, "")
				d.Ask("BYE", "")
				if m := d.Await("BYE", 0); m.Status() != 200 {
					o.t.Fatalf("BYE was answered %s", m.Start)
				}
			case 487:
				cancelled++
				wait += max(wait/8, 10*time.Microsecond)
				d.Refused(m)
			default:
				o.t.Fatalf("the cancelled call ended with %s", m.Start)
			}
		}
		o.idle()
		o.t.Logf("%d calls were answered first, %d cancelled; a CANCEL %s after the INVITE meets the answer", answered, cancelled, wait)
		if answered < races/10 || cancelled < races/10 {
			o.t.Errorf("%d calls were answered first, %d cancelled: that is no race", answered, cancelled)
		}
	})
}
