package bench

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// trunkCalls is how many calls are up between the two sites.
const trunkCalls = 200

// trunk is the run that sets a trunk of calls beside a tunnel of packets.
//
// Two sites have a PBX behind an edge each. Both PBXs speak plain RTP; what is
// between the edges differs.
type trunk struct {
	*bench
	sites  *peers.Sites
	report *trunkReport
}

// carrier is what brings a call's packets from one site to the other.
type carrier struct {
	name    string
	framing string // that it must show on the wire
	isMedia func(port int, datagram []byte) bool
	start   func(x *trunk, calls []*call) (pids []int, end func(), err error)
}

var carriers = []carrier{
	{nobody, wirePlain, isRTP, (*trunk).routed},
	{"sallyport", wireSRTP, isRTP, (*trunk).edges},
	{"wireguard-go", wireWireGuard, isTransport, (*trunk).tunnel},
}

func trunkPlan(quick bool) plan {
	if quick {
		return plan{rounds: 1, settle: time.Second, window: 2 * time.Second}
	}
	return plan{rounds: 5, settle: time.Second, window: 5 * time.Second}
}

func TestTrunk(t *testing.T) {
	p := trunkPlan(os.Getenv("BENCH_QUICK") != "")
	sites := peers.NewSites(t, peers.SitesConfig{Cable: true})
	x := &trunk{bench: &bench{t: t, plan: p, lab: sites.Lab, began: time.Now()}, sites: sites, report: newTrunkReport()}
	x.wire = sites.Foo.Edge
	x.generate([ways]*peers.Host{sites.Foo.PBX, sites.Bar.PBX}, [ways]*peers.Host{sites.Foo.Edge, sites.Bar.Edge})
	sites.Foo.Forward() // for who does not relay: what an edge is sent, it takes all the same
	sites.Bar.Forward()
	peers.StartScriptPBX(sites.Foo.PBX, x.answer) // only for its edge to find it there
	peers.StartScriptPBX(sites.Bar.PBX, x.answer)
	for range p.rounds {
		var base measured
		for _, c := range carriers {
			m := x.carry(c)
			if c.name == nobody {
				base = m
			}
			x.report.add(t, c, m, base)
		}
	}
	x.report.write(t)
}

// carry measures one carrier: first what a packet is on the wire, then what all cost.
func (x *trunk) carry(c carrier) measured {
	calls, err := newCalls(trunkCalls, suite{}, x.sites.Foo.PBX.Addr, x.sites.Bar.PBX.Addr)
	if err != nil {
		x.t.Fatal(err)
	}
	pids, end, err := c.start(x, calls)
	if err != nil {
		x.t.Fatalf("%s: %v", c.name, err)
	}
	defer end()
	rate := ways * packetsPerSecond * trunkCalls
	x.window(calls, rate, x.plan.settle, nil)
	x.look(c, calls, rate)
	return x.steady(c.name, calls, rate, pids...)
}

// look compares the wire with the paper.
func (x *trunk) look(c carrier, calls []*call, rate int) {
	x.t.Helper()
	ends, err := openWatch([ways]*peers.Host{x.sites.Foo.Edge, x.sites.Bar.Edge})
	if err != nil {
		x.t.Fatal(err)
	}
	defer ends.close()
	w := x.window(calls, rate, time.Second, nil)
	s, err := ends.read(c.isMedia)
	if err == nil {
		err = s.match(framingOf(c.framing), ways*w.total)
	}
	if err != nil {
		x.t.Fatalf("%s: %v", c.name, err)
	}
	x.report.saw(c, s.one())
}

// routed is the baseline: the edges' kernels forward, and nobody protects.
func (x *trunk) routed(calls []*call) ([]int, func(), error) {
	straight(calls)
	return nil, func() {}, nil
}

// tunnel has the edges' kernels forward into wireguard-go.
func (x *trunk) tunnel(calls []*call) ([]int, func(), error) {
	straight(calls)
	ends := peers.StartTunnel(x.sites.Foo, x.sites.Bar)
	stop := func() {
		for _, e := range ends {
			e.Stop()
		}
	}
	return []int{ends[0].Pid(), ends[1].Pid()}, stop, nil
}

// straight has the calls go from end to end.
func straight(calls []*call) {
	for _, c := range calls {
		c.entry = [ways]netip.AddrPort{inward: c.pbx, outward: c.phone}
	}
}
