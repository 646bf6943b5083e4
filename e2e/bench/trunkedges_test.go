package bench

import (
	"fmt"
	"net/netip"
	"regexp"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// edges has two edges relay by a trunk, and sets the calls up: foo's PBX calls bar's.
func (x *trunk) edges(calls []*call) ([]int, func(), error) {
	foo, bar := x.paired()
	pids := []int{foo.Pid(), bar.Pid()}
	caller := x.sites.Foo.Caller("1001", callerPort)
	end := func() { // does not drain: the calls are not hung up
		caller.Close()
		foo.Kill()
		bar.Kill()
	}
	x.ring(calls)
	for _, c := range calls {
		_, m := caller.Invite(fmt.Sprintf("sip:%s@%s", number(c.number), x.sites.Foo.Trunk), describe(c.phone, "RTP/AVP", ""))
		if m.Status() != 200 {
			return pids, end, fmt.Errorf("make call %d: it was answered %s", c.number, m.Start)
		}
		c.renamed = true
		var err error
		if c.entry[inward], err = audioAddr(m.Body); err != nil {
			return pids, end, err
		}
	}
	return pids, end, nil
}

// callerPort is the port of foo's PBX from which it calls.
const callerPort = 5062

// token is what one edge prints for the other.
var token = regexp.MustCompile(`sallyport1\.[A-Za-z0-9_-]+`)

// paired runs two edges that are paired, and returns when the trunk is up.
func (x *trunk) paired() (foo, bar *peers.Edge) {
	x.t.Helper()
	const quiet = "[log]\nlevel = \"info\"\n"
	stanza := func(own, other *peers.Site) string {
		return fmt.Sprintf("[[trunk]]\nname = %q\npeer = \"%s:5061\"\nlisten = %q\n", other.Name, other.Public, own.Trunk)
	}
	f, b := x.sites.Foo, x.sites.Bar
	printed := ""
	foo = f.StartEdge(peers.EdgeConfig{Extra: stanza(f, b) + quiet, Before: func(e *peers.Edge) {
		printed = token.FindString(e.Run("trunk", "pair", b.Name, "-address", netip.AddrPortFrom(f.Public, 5061).String()))
	}})
	bar = b.StartEdge(peers.EdgeConfig{Extra: stanza(b, f) + quiet, Before: func(e *peers.Edge) {
		e.Run("trunk", "join", printed, "-name", f.Name)
	}})
	for e, other := range map[*peers.Edge]*peers.Site{foo: b, bar: f} {
		peers.Until(x.t, 30*time.Second, "the trunk to be up", func() bool {
			return e.Metric(fmt.Sprintf("sallyport_trunk_up{trunk=%q}", other.Name)) == 1
		})
	}
	return foo, bar
}
