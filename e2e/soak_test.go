package e2e

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// How a soak is made. All of it is even: what the edge holds may not depend on when it
// is looked at.
const (
	ring     = 2 * time.Second
	windDown = 75 * time.Second // of a run's time, for calls to end and for the edge to be at rest
)

// watched are figures of the edge. Those that are checked must not grow by more than
// calls that come and go and the garbage of Go's heap make of them; the others tell what
// there was to hold.
var watched = []struct {
	name, metric, unit string
	scale              float64
	perCall            float64 // of it is a call's, and not looked at
	checked            bool
	bound              peers.Bound
}{
	{"Resident memory", "process_resident_memory_bytes", "MB", 1e6, 0, true, peers.Bound{Part: 0.05, Base: 2}},
	{"Goroutines", "go_goroutines", "", 1, 0, true, peers.Bound{Part: 0.05, Base: 10}},
	{"Descriptors but for two of each call", "process_open_fds", "", 1, 2, true, peers.Bound{Part: 0.05, Base: 10}},
	{"Calls", "sallyport_calls", "", 1, 0, false, peers.Bound{}},
	{"Registrations", "sallyport_bindings", "", 1, 0, false, peers.Bound{}},
}

// soak is a run.
type soak struct {
	*office
	issuer   *peers.Issuer
	serial   int64 // of the certificate in force
	time     time.Duration
	arrivals float64 // seconds in which there are any
	calls    int     // at a time
	talk     time.Duration
	begun    time.Time
	answerer *peers.Process
	host     *peers.Host      // of visitors
	visitors *peers.Sallyload // or nil
	report   soakReport
}

// Some minutes (SOAK_TIME) of 50 calls at a time (SOAK_CALLS), half of them by TLS and
// SDES, half by WSS and DTLS, beside phones that come, refresh, reconnect and go, while
// certificates are renewed and the PBX restarts once. No call and no registration fails
// but for that restart, everybody hears his tone, and what the edge holds does not grow,
// nor is any of it left in the end. SOAK_OUT is a folder for the figures.
func TestSoakShort(t *testing.T) {
	t.Parallel() // it takes little of the machine, for long
	s := newSoak(t)
	rest, busy := s.edge.Metrics(), s.busy()
	s.begun = time.Now()
	loads := map[string]*peers.Sallyload{
		"TLS and SDES": s.load("tls", 20001, "--target", peers.EdgeOutside+":5061", "--media", "sdes"),
		"WSS and DTLS": s.load("web", 30001, "--target", "wss://"+peers.EdgeOutside+":"+peers.WSSPort+"/", "--media", "dtls"),
	}
	step := min(2*time.Second+s.time/1200, 5*time.Second)
	for next := s.begun; s.since() < s.arrivals; next = next.Add(step) {
		s.sample()
		s.restart()
		s.renew()
		s.visit()
		time.Sleep(time.Until(next.Add(step)))
	}
	s.report.Cores = (s.busy() - busy).Seconds() / s.since()
	s.visited()
	s.serves(s.host, s.serial)
	for name, l := range loads {
		s.judge(name, l.Result(5*s.talk/2+3*time.Minute))
	}
	s.drifts()
	s.leaves(rest)
	s.write()
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	s := &soak{issuer: peers.NewIssuer(t), talk: 10 * time.Second}
	var err error
	if s.time, err = time.ParseDuration(cmp.Or(os.Getenv("SOAK_TIME"), "5m")); err != nil || s.time < 4*time.Minute {
		t.Fatalf("SOAK_TIME: %q; give 4m or more", os.Getenv("SOAK_TIME"))
	}
	if s.calls, err = strconv.Atoi(cmp.Or(os.Getenv("SOAK_CALLS"), "50")); err != nil || s.calls < 2 {
		t.Fatalf("SOAK_CALLS: %q; give 2 or more", os.Getenv("SOAK_CALLS"))
	}
	if s.time > 20*time.Minute {
		s.talk = time.Minute
	}
	s.arrivals = (s.time - windDown - 5*s.talk/2).Seconds()
	s.certify()
	l := peers.NewLab(t)
	s.office = &office{Lab: l, t: t}
	s.answerer = peers.StartAnswerer(l, "--ring", ring.String())
	s.host = l.Phone("visitors")
	s.edge = peers.StartEdge(l, peers.EdgeConfig{CAFile: s.issuer.CAFile(), Extra: peers.WSS + fmt.Sprintf(
		"[tls]\ncert = %q\nkey = %q\n[policy]\nmax_connections_per_address = 4000\nnew_connections_burst = 2000\n[log]\nlevel = \"warn\"\n", s.issuer.Cert(), s.issuer.Key())})
	return s
}

func (s *soak) since() float64 { return time.Since(s.begun).Seconds() }

// busy is the processor time that the edge has used.
func (s *soak) busy() time.Duration {
	s.t.Helper()
	d, err := peers.Busy(s.edge.Pid())
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// sample looks at the edge.
func (s *soak) sample() {
	s.t.Helper()
	m := s.edge.Metrics()
	for i, w := range watched {
		s.report.figure(i).Add(s.since(), (m[w.metric]-w.perCall*m["sallyport_calls"])/w.scale)
	}
}

// drifts fails if a figure grew in the second half of the run.
func (s *soak) drifts() {
	s.t.Helper()
	for i, w := range watched {
		f := s.report.figure(i)
		half := f.After(s.arrivals / 2)
		d, err := half.Drift()
		if err != nil {
			s.t.Fatalf("%s: %v", w.name, err)
		}
		f.Drift, f.Flat = d, w.bound.Allows(d)
		s.t.Logf("%s: %.1f %s, and in %.0f s by %+.2f (%+.2f to %+.2f)", w.name, d.Median, w.unit, s.arrivals/2, d.Growth, d.Least, d.Most)
		if w.checked && !f.Flat {
			s.t.Errorf("%s grew by %.2f %s within %.0f s, from some %.1f", w.name, d.Growth, w.unit, s.arrivals/2, d.Median)
		}
	}
}

// leaves fails if the edge holds more in the end than before the first phone came.
func (s *soak) leaves(before map[string]float64) {
	s.t.Helper()
	most := map[string]float64{"go_goroutines": before["go_goroutines"] + 5, "process_open_fds": before["process_open_fds"] + 3}
	for _, name := range []string{"sallyport_calls", "sallyport_media_sessions", "sallyport_bindings", "sallyport_transactions"} {
		if _, ok := before[name]; !ok {
			s.t.Errorf("the edge has no metric %s", name)
		}
		most[name] = 0
	}
	for name, m := range most {
		now := s.edge.Metrics()[name]
		for deadline := time.Now().Add(2 * time.Minute); now > m && time.Now().Before(deadline); now = s.edge.Metrics()[name] {
			time.Sleep(time.Second)
		}
		if now > m {
			s.t.Errorf("in the end %s is %v, want at most %v", name, now, m)
		}
	}
}
