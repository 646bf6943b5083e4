package e2e

import (
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// An edge that is told to end refuses what is new and lets calls go on, with their
// sound, until they end or its patience does; a second word hurries it.
func TestDrainOnTerm(t *testing.T) {
	t.Run("told once", func(t *testing.T) {
		o := newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{Edge: "drain = \"20s\"\n"})
		inside := peers.StartCapture(o.Edge, "inside")
		anna, ben, carol := o.registered("1001"), o.registered("1002"), o.registered("1003")
		a, b := anna.NewMedia(suite), ben.NewMedia(suite)
		calling := o.echo(anna, a, 500)
		o.pbx.Originate("1002", "600")
		called := o.answer(ben, b, 600)
		a.Hears(500, 10*time.Second)
		b.Hears(600, 10*time.Second)

		o.edge.Signal(syscall.SIGTERM)
		o.edge.WaitLog("shutting down", 5*time.Second)
		for _, p := range []*peers.Phone{anna, carol} { // one that has a call, and one that has none
			if _, m := p.Invite("602", p.NewMedia(suite).Offer()); m.Status() != 503 || m.Get("Retry-After") == "" {
				t.Errorf("a new call of %s was answered %s, Retry-After %q", p.User, m.Start, m.Get("Retry-After"))
			}
		}
		if m := carol.Query(); m.Status() != 503 || m.Get("Retry-After") == "" {
			t.Errorf("a registration without a call was answered %s, Retry-After %q", m.Start, m.Get("Retry-After"))
		}
		if m := anna.Register("secret-1001", 600, ""); m.Status() != 200 {
			t.Errorf("the registration of a phone in a call was answered %s", m.Start)
		}
		o.pbx.Originate("1003", "602")
		carol.Silent(500 * time.Millisecond)
		if m := carol.Register("secret-1003", 0, ""); m.Status() != 200 {
			t.Errorf("signing off was answered %s", m.Start)
		}
		o.change(calling, a) // what is inside of a call goes on
		o.speaks(a, 700)
		o.speaks(b, 800)
		o.bye(calling, a)
		o.speaks(b, 900)

		bye := ben.Expect("BYE", 40*time.Second)
		ben.Answer(bye, 200, "OK", "")
		b.Stop()
		o.ended(bye, called)
		inside.Stop()
		if n := inside.Count(`sip.Method == "BYE" && sip.Reason contains "cause=503" && ip.dst == ` + peers.PBXAddr); n == 0 {
			t.Error("the PBX got no BYE with a Reason")
		}
	})
	t.Run("told twice", func(t *testing.T) {
		o := newOffice(t)
		anna := o.registered("1001")
		a := anna.NewMedia(suite)
		d := o.echo(anna, a, 500)
		a.Hears(500, 10*time.Second)
		o.edge.Signal(syscall.SIGTERM)
		o.edge.WaitLog("shutting down", 5*time.Second)
		o.speaks(a, 700)
		o.edge.Signal(syscall.SIGTERM)
		bye := anna.Expect("BYE", 10*time.Second) // the drain alone would take 30 seconds
		anna.Answer(bye, 200, "OK", "")
		a.Stop()
		o.ended(bye, d)
	})
}

// ended checks how an edge ended that was told to: the last call's phone and the PBX
// have heard so, and its status is 0.
func (o *office) ended(bye *peers.Message, d *peers.Dialog) {
	o.t.Helper()
	if reason := bye.Get("Reason"); reason != `SIP;cause=503;text="the edge shuts down"` || bye.Get("Call-Id") != d.ID() {
		o.t.Errorf("the phone got a BYE of %s with the Reason %q", bye.Get("Call-Id"), reason)
	}
	if status, err := o.edge.Wait(10 * time.Second); status != 0 || err != nil {
		o.t.Errorf("the edge ended with status %d, %v", status, err)
	}
	peers.Until(o.t, 10*time.Second, "Asterisk to have no channel", func() bool { return o.pbx.Channels() == 0 })
}
