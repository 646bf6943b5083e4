package load

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// plan is what is climbed.
type plan struct {
	rates  []int         // calls a second
	length time.Duration // for which each is offered
}

// readPlan takes it from LOAD_RATES, LOAD_SECONDS and LOAD_QUICK.
func readPlan(t testing.TB) plan {
	t.Helper()
	p := plan{rates: []int{5, 10, 20, 30, 40, 50, 60, 80, 100, 120, 150, 200}, length: 10 * time.Second}
	if os.Getenv("LOAD_QUICK") != "" {
		p = plan{rates: []int{2, 5}, length: shortest}
	}
	if s := os.Getenv("LOAD_SECONDS"); s != "" {
		n, err := strconv.Atoi(s)
		if p.length = time.Duration(n) * time.Second; err != nil || p.length < shortest {
			t.Fatalf("LOAD_SECONDS=%s: want a number from %v on", s, shortest.Seconds())
		}
	}
	if s := os.Getenv("LOAD_RATES"); s != "" {
		p.rates = nil
		for _, word := range strings.Split(s, ",") {
			n, err := strconv.Atoi(strings.TrimSpace(word))
			if err != nil || n < 1 || len(p.rates) > 0 && n <= p.rates[len(p.rates)-1] {
				t.Fatalf("LOAD_RATES=%s: want numbers of calls a second, each above the one before, with commas", s)
			}
			p.rates = append(p.rates, n)
		}
	}
	return p
}

// ladder is one run.
type ladder struct {
	t      testing.TB
	pbx    *peers.Asterisk
	edge   *peers.Edge
	phones *peers.Host
}

func TestLoad(t *testing.T) {
	p := readPlan(t)
	l := peers.NewLab(t)
	x := &ladder{
		t: t, pbx: peers.StartAsterisk(l, peers.AsteriskConfig{Quiet: true}),
		edge: peers.StartEdge(l, peers.EdgeConfig{Extra: "[log]\nlevel = \"warn\"\n"}), phones: l.Phone("phones"),
	}
	x.verify()
	r := &report{Machine: peers.Machine(), Seconds: p.length.Seconds()}
	for _, rate := range p.rates {
		s := x.step(rate, p.length)
		r.Steps = append(r.Steps, s)
		t.Log(s)
		if s.End != "" {
			break
		}
	}
	r.write(t, os.Getenv("LOAD_OUT"))
	if first := r.Steps[0]; first.fault != "" {
		t.Errorf("not even %d calls a second are held: %s", first.Rate, first.fault)
	}
}

// echo is the scenario of each call.
func (x *ladder) echo(args ...string) *peers.SIPp {
	x.t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "testdata", "sipp", "echo.xml"))
	if err != nil {
		x.t.Fatal(err)
	}
	return peers.StartSIPp(x.phones, path, append([]string{"-t", "l1", "-timeout_error"}, args...)...)
}

// verify makes a few calls for which SIPp notes each packet: what comes back is
// SRTP with good tags. To note them costs too much to do so in the steps.
func (x *ladder) verify() {
	x.t.Helper()
	const calls = 3
	run := x.echo("-r", "3", "-m", strconv.Itoa(calls), "-timeout", "30s", peers.SIPpNotes)
	r := run.Result(time.Minute)
	good, bad := run.Verified()
	if r.Successful != calls || good < calls*50 || bad > 0 {
		x.t.Fatalf("of %d calls %d succeeded %v; SIPp verified %d SRTP packets and refused %d", calls, r.Successful, r.Causes, good, bad)
	}
	if !x.settles() {
		x.t.Fatal("the first calls did not end")
	}
}

// settles waits until nobody has a call.
func (x *ladder) settles() bool {
	x.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if x.edge.Metric("sallyport_calls") == 0 && x.edge.Metric("sallyport_media_sessions") == 0 && x.pbx.Channels() == 0 {
			return true
		}
	}
	return false
}

// counts is what is counted all the time, by name: the edge's packets, drops and
// refusals, and the datagrams that SIPp's host took.
func (x *ladder) counts() map[string]float64 {
	x.t.Helper()
	c := make(map[string]float64)
	for name, v := range x.edge.Metrics() {
		for _, of := range []string{inward, outward, dropped, refused} {
			if strings.HasPrefix(name, of) {
				c[name] = v
			}
		}
	}
	c[taken] = datagrams(x.phones.Run(x.t, "cat", "/proc/net/snmp"))
	return c
}

// datagrams reads in a host's /proc/net/snmp how many its sockets took.
func datagrams(snmp string) float64 {
	_, udp, _ := strings.Cut(snmp, "\nUdp: InDatagrams ") // names, then values
	_, values, _ := strings.Cut(udp, "\nUdp: ")
	first, _, _ := strings.Cut(values, " ")
	n, _ := strconv.ParseFloat(first, 64) // none: nothing has come back, and the step fails
	return n
}

// The names of counts, or how they begin.
const (
	inward  = `sallyport_media_packets_total{direction="inward",protocol="rtp"}`
	outward = `sallyport_media_packets_total{direction="outward",protocol="rtp"}`
	dropped = "sallyport_media_drops_total{"
	refused = "sallyport_requests_refused_total{"
	taken   = "datagrams"
)
