package e2e

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// crowd is phones of sallyload that share an address.
type crowd struct {
	*office
	host   *peers.Host
	phones int
}

// newCrowd makes an edge and who answers in the PBX's place.
func newCrowd(t *testing.T, phones int, config string) *crowd {
	t.Helper()
	l := peers.NewLab(t)
	peers.StartAnswerer(l)
	c := &crowd{office: &office{Lab: l, t: t}, host: l.Phone("crowd"), phones: phones}
	c.edge = peers.StartEdge(l, peers.EdgeConfig{Extra: config + "[log]\nlevel = \"info\"\n"})
	return c
}

// come has all phones come at once.
func (c *crowd) come(more ...string) *peers.Sallyload {
	c.t.Helper()
	return peers.StartSallyload(c.host, append([]string{
		"storm", "--target", peers.EdgeOutside + ":5061", "--domain", "pbx.example.com", "--ca", c.edge.CAFile(), "--users", "%d",
		"--first", "10001", "--password", "secret-%s", "--phones", strconv.Itoa(c.phones), "--duration", "2m",
	}, more...)...)
}

// here has them come and stay, and returns when all are registered.
func (c *crowd) here() *peers.Sallyload {
	c.t.Helper()
	s := c.come("--stay", "10m")
	s.WaitLog(` stay +\d+ phones`, 3*time.Minute)
	if !s.Logged(fmt.Sprintf(" stay    %5d phones", c.phones)) {
		c.t.Errorf("not all of %d phones came", c.phones)
	}
	return s
}

// holding is what an edge holds.
type holding struct{ flows, routines, files, heap, memory float64 }

func (c *crowd) holds() holding {
	c.t.Helper()
	m := c.edge.Metrics()
	return holding{
		m[`sallyport_flows{socket="`+peers.EdgeOutside+`:5061"}`], m["go_goroutines"], m["process_open_fds"],
		m["go_memstats_heap_alloc_bytes"] / 1e6, m["process_resident_memory_bytes"] / 1e6,
	}
}

// rests waits until the edge holds no more than before, which it has a minute and a half
// for: it gives back memory when it was idle for some seconds. What is in use in the heap
// is as it was; of the kernel it has some more, in places between what is in use.
func (c *crowd) rests(before holding) (now holding) {
	c.t.Helper()
	settled := func() bool {
		now = c.holds()
		return now.flows == before.flows && now.routines <= before.routines+20 && now.files <= before.files+20 &&
			now.heap <= 1.1*before.heap+2 && now.memory <= 1.4*before.memory+4
	}
	for deadline := time.Now().Add(90 * time.Second); !settled() && time.Now().Before(deadline); {
		time.Sleep(500 * time.Millisecond)
	}
	if !settled() {
		c.t.Errorf("the edge holds more than before: %+v, and before %+v", now, before)
	}
	return now
}

// A power cut at an office of a thousand phones (or STORM): their connections are
// dead, nobody tells the edge, and all phones come back at once, while the edge still
// takes the dead ones for alive. Each is registered at its first attempt, calls of
// others lose nothing, and the edge holds no more afterwards than before.
func TestReconnectStorm(t *testing.T) {
	phones, err := strconv.Atoi(cmp.Or(os.Getenv("STORM"), "1000"))
	if err != nil || phones < 100 {
		t.Fatalf("STORM: %q is no number from 100 on", os.Getenv("STORM"))
	}
	// As docs/policy.md says: the dead and the new at a time, all new ones at once, and again
	// after ten seconds.
	c := newCrowd(t, phones, fmt.Sprintf("[policy]\nmax_connections_per_address = %d\nnew_connections_burst = %d\nnew_connections_per_second = %d\n", 2*phones, phones, phones/10))
	c.host.HavePower()
	talks := []*talk{c.talks("1001"), c.talks("1002"), c.talks("1003")}
	begun := time.Now()
	before := c.here()
	first := time.Since(begun)
	time.Sleep(idleBefore)
	held := c.holds()

	for _, talk := range talks {
		talk.measure()
	}
	c.edge.LeastMemory()
	back := c.host.LosePower()
	before.Kill()
	begun = time.Now()
	after := c.here()
	again, most := time.Since(begun), float64(c.edge.MostMemory())
	for i, talk := range talks {
		talk.keepsSound(t, fmt.Sprintf("call %d, while %d phones come back", i, phones))
	}
	back()
	rest := c.rests(held)
	for _, talk := range talks {
		c.bye(talk.d, talk.media)
	}
	after.Signal(syscall.SIGINT)
	r := after.Result(time.Minute)
	t.Logf("%d phones were there after %.1f s, and again after %.1f s (by their own clock half in %.2f s, all in %.2f s); the edge held %+v, at most %.0f MB, and %+v in the end",
		phones, first.Seconds(), again.Seconds(), r.Storm.HalfAfter, r.Storm.AllAfter, held, most/1e6, rest)
	if storm := r.Operations["storm"]; storm.Failed != 0 || storm.Done != phones || r.Storm.Registered != phones || r.Storm.Attempts != phones || !r.Passed {
		t.Errorf("of %d phones %d came back, in %d attempts, of which %d failed: %v; first: %s", phones, r.Storm.Registered, r.Storm.Attempts, storm.Failed, storm.Causes, storm.First)
	}
	for _, rule := range []string{"policy.new_connections_per_second", "policy.max_connections_per_address"} {
		if n := c.refused(rule); n != 0 {
			t.Errorf("%v phones were refused by %s", n, rule)
		}
	}
}

// idleBefore is how long the edge is left alone before its memory is measured: it gives
// back what a storm of connections left behind after six seconds.
const idleBefore = 9 * time.Second

// refused counts what a rule of the policy did not let in.
func (c *crowd) refused(rule string) float64 {
	c.t.Helper()
	return c.edge.Metric(fmt.Sprintf(`sallyport_policy_verdicts_total{rule=%q,verdict="refuse"}`, rule))
}

// An office that is larger than an edge was told of is slowed down, and not shut out:
// who finds too many before it is refused before TLS, comes again after a while as
// phones do, and all are in.
func TestStormDefaults(t *testing.T) {
	c := newCrowd(t, 700, "")
	r := c.come("--retry", "500ms", "--retry-max", "4s").Result(2 * time.Minute)
	refused := c.refused("policy.new_connections_per_second")
	storm := r.Operations["storm"]
	t.Logf("700 phones at once, and the policy as it is: %v refusals, all in after %.1f s, in %d attempts", refused, r.Storm.AllAfter, r.Storm.Attempts)
	if r.Storm.Registered != c.phones || storm.Done != c.phones {
		t.Errorf("%d of %d phones are in; %v, first: %s", r.Storm.Registered, c.phones, storm.Causes, storm.First)
	}
	if refused == 0 || int(refused) != storm.Failed {
		t.Errorf("%d attempts failed, and %v were refused by the rate; want as many, and some: %v", storm.Failed, refused, storm.Causes)
	}
	if bans := c.edge.Metric("sallyport_policy_bans"); bans != 0 {
		t.Errorf("%v sources are banned", bans)
	}
}
