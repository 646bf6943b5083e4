package e2e

import (
	"os"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// office is what most cases need: a PBX, an edge, and phones.
type office struct {
	*peers.Lab
	t    *testing.T
	pbx  *peers.Asterisk
	edge *peers.Edge
}

func newOffice(t *testing.T) *office {
	t.Helper()
	l := peers.NewLab(t)
	return &office{Lab: l, t: t, pbx: peers.StartAsterisk(l, peers.AsteriskConfig{}), edge: peers.StartEdge(l, "")}
}

// phone starts a registered baresip that speaks a tone.
func (o *office) phone(user string, hz float64) *peers.Baresip {
	o.t.Helper()
	return peers.StartBaresip(o.Phone(user), peers.BaresipConfig{User: user, CAFile: o.edge.CAFile(), ToneHz: hz, AutoAnswer: true})
}

func TestCallOut(t *testing.T) {
	o := newOffice(t)
	phone := o.phone("1001", 700)
	phone.Dial("602")
	phone.Event("CALL_ESTABLISHED", 10*time.Second)
	phone.Hears(1004, 10*time.Second)
	phone.Hangup()
	o.idle()
	phone.Dial("600")
	phone.Event("CALL_ESTABLISHED", 10*time.Second)
	phone.Hears(700, 10*time.Second)
	phone.Hangup()
	o.idle()
}

// idle waits until nobody has a call.
func (o *office) idle() {
	o.t.Helper()
	peers.Until(o.t, 10*time.Second, "the edge to have no call", func() bool { return o.edge.Metric("sallyport_calls ") == 0 })
	peers.Until(o.t, 10*time.Second, "Asterisk to have no channel", func() bool { return o.pbx.Channels() == 0 })
}
func TestZ(t *testing.T) {
	o := newOffice(t)
	t.Log(o.pbx.Must("module show"))
	t.Log(o.pbx.Must("module load res_rtp_asterisk.so"))
	b, _ := os.ReadFile(o.pbx.Log)
	t.Log(string(b))
}
