package e2e

import (
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// stages are where a client is when it dies. Each takes a registered phone there.
var stages = []struct {
	name  string
	reach func(p *peers.Phone, m *peers.Media)
}{
	{"before the answer", func(p *peers.Phone, m *peers.Media) { p.Call("605", m.Offer()) }},
	{"ringing", func(p *peers.Phone, m *peers.Media) { p.Call("605", m.Offer()).Await("INVITE", 180) }},
	{"answered, without an ACK", func(p *peers.Phone, m *peers.Media) { p.Call("602", m.Offer()).Await("INVITE", 200) }},
	{"in media", func(p *peers.Phone, m *peers.Media) {
		d := p.Call("602", m.Offer())
		ok := d.Await("INVITE", 200)
		d.Ack(ok, "")
		m.Start(ok.Body, 700)
		m.Hears(1004, 10*time.Second)
	}},
	{"in a re-INVITE", func(p *peers.Phone, m *peers.Media) {
		d := p.Call("602", m.Offer())
		d.Ack(d.Await("INVITE", 200), "")
		m.Session++
		d.Ask("INVITE", m.Offer())
	}},
}

// Clients that die in a call, at every stage of it, by RST and by FIN, some at a
// time, as CVE-2018-7286 and CVE-2020-28327 had it of Asterisk: nothing of them is
// left when the media's time is over, neither at the edge nor at the PBX, and an
// honest call goes on. KILLED says how many (1,000).
func TestAbruptClose(t *testing.T) {
	killed := 1000
	if n, err := strconv.Atoi(os.Getenv("KILLED")); err == nil {
		killed = n
	}
	o := newOfficeWith(t, peers.AsteriskConfig{Quiet: true}, peers.EdgeConfig{Extra: "[media]\ntimeout = \"5s\"\n" + quiet + calm})
	call := o.talks("1002")
	host := o.Phone("victims")
	o.dies(host, 0, true) // what the first of all costs is not of those to come
	gone := func() bool {
		return o.edge.Metric("sallyport_calls") == 1 && o.edge.Metric("sallyport_media_sessions") == 1 && o.pbx.Channels() == 1
	}
	peers.Until(t, 60*time.Second, "the first one's call to end", gone)
	before := o.held()
	const together = 5
	var next atomic.Int32
	var all sync.WaitGroup
	most := 0.0
	for range together {
		all.Go(func() { // ends when so many are killed; waited for below
			for n := int(next.Add(1)); n <= killed && !t.Failed(); n = int(next.Add(1)) {
				o.dies(host, n, n/len(stages)%2 == 0)
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	for waiting := true; waiting; {
		select {
		case <-done:
			waiting = false
		case <-time.After(200 * time.Millisecond):
			most = max(most, o.edge.Metric("sallyport_calls"))
		}
	}
	if most < 3 {
		t.Errorf("there were %v calls at a time: nobody died in one", most)
	}
	ended := time.Now()
	peers.Until(t, 60*time.Second, "the calls of the dead to end", gone)
	t.Logf("%d clients died, %v calls at a time at most; %s after the last one all are ended", killed, most-1, time.Since(ended).Round(time.Second))
	peers.Until(t, 60*time.Second, "nothing to be left of them", func() bool {
		now := o.held()
		return now["descriptors"] <= before["descriptors"] && now["go_goroutines"] <= before["go_goroutines"]+2 &&
			now["sallyport_transactions"] == 0 && now["sallyport_media_streams"] == before["sallyport_media_streams"]
	})
	if n := o.edge.Metric("sallyport_flows{"); n != 1 {
		t.Errorf("the edge has %v connections, want the honest phone's", n)
	}
	call.keepsSound(t, "abrupt closes")
	o.calls(host, "1001")
	call.ends()
}

// dies is a phone that registers, gets to a stage of a call, and is gone.
func (o *office) dies(host *peers.Host, n int, reset bool) {
	p := peers.NewPhone(host, o.edge, "1001")
	if m := p.Register("secret-1001", 600, ""); m.Status() != 200 {
		o.t.Errorf("registration answered %s", m.Start)
		p.Close()
		return
	}
	media := p.NewMedia(suite)
	stages[n%len(stages)].reach(p, media)
	if reset {
		p.Reset()
	} else {
		p.Close()
	}
	media.Stop()
}
