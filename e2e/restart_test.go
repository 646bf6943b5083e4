package e2e

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// An edge that dies takes the sound along, and leaves nobody with a call: phones
// come back to the next one, hang up what they called and what they were called by,
// and the PBX hears of it.
func TestEdgeKilled(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{}, func(o *office) {
		anna, ben := o.registered("1001"), o.registered("1002")
		a, b := anna.NewMedia(suite), ben.NewMedia(suite)
		calling := o.echo(anna, a, 700)
		a.Hears(700, 10*time.Second)
		o.pbx.Originate("1002", "602")
		called := o.answer(ben, b, 800)
		b.Hears(1004, 10*time.Second)
		o.edge.Kill()
		a.Stop()
		b.Stop()
		o.edge.Start()
		for _, p := range []*peers.Phone{anna, ben} {
			p.Connect(o.edge)
			if m := p.Register("secret-"+p.User, 600, ""); m.Status() != 200 {
				o.t.Fatalf("registering again was answered %s", m.Start)
			}
		}
		if n := o.pbx.Channels(); n != 2 {
			o.t.Fatalf("Asterisk has %d channels, want the two that nobody has ended", n)
		}
		stranger := o.script("1003")
		if m := stranger.In(calling).Request("BYE", ""); m.Status() != 481 {
			o.t.Errorf("a stranger's BYE is answered %s", m.Start)
		}
		for _, d := range []*peers.Dialog{calling, called} {
			if m := d.Request("BYE", ""); m.Status() != 200 {
				o.t.Errorf("BYE was answered %s", m.Start)
			}
		}
		o.idle()
	})
}
