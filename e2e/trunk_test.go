package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// trunks are two branches whose edges have a trunk to each other.
type trunks struct {
	*branches
	ca             *peers.Issuer // of both edges' certificates
	atFoo, atBar   *peers.Edge
	certFoo, certB peers.Pair
}

// newTrunks starts the edges, and waits for the trunk, and PBXs that know it. More are
// lines for both ends of the trunk.
func newTrunks(t *testing.T, more ...string) *trunks {
	t.Helper()
	lines := strings.Join(more, "")
	return newTrunksOf(t, lines, lines)
}

// newTrunksOf does so with lines for each end of the trunk.
func newTrunksOf(t *testing.T, foo, bar string) *trunks {
	t.Helper()
	s := &trunks{branches: &branches{Sites: peers.NewSites(t, peers.SitesConfig{}), t: t}, ca: peers.NewIssuer(t)}
	s.certFoo, s.certB = s.ca.Pair(s.Foo.Domain, false), s.ca.Pair(s.Bar.Domain, false)
	s.atFoo = s.Foo.StartEdge(peers.EdgeConfig{Extra: s.trunk(s.certFoo, s.Foo, s.Bar) + foo})
	s.atBar = s.Bar.StartEdge(peers.EdgeConfig{Extra: s.trunk(s.certB, s.Bar, s.Foo) + bar})
	s.up(s.atFoo, s.Bar, 1)
	s.up(s.atBar, s.Foo, 1)
	s.start(func(own, _ *peers.Site) netip.AddrPort { return own.Trunk })
	s.atFoo.HasPBX()
	s.atBar.HasPBX()
	return s
}

// trunk is the configuration of a branch's trunk to another.
func (s *trunks) trunk(cert peers.Pair, own, other *peers.Site) string {
	return fmt.Sprintf("[tls]\ncert = %q\nkey = %q\n[sip]\nkeepalive = \"1s\"\n[[trunk]]\nname = %q\npeer = \"%s:5061\"\nidentity = [%q]\nca = %q\nlisten = %q\n",
		cert.Cert, cert.Key, other.Name, other.Public, other.Domain, s.ca.CAFile(), own.Trunk)
}

// up waits until an edge takes its trunk to another branch for up, or down.
func (s *trunks) up(e *peers.Edge, to *peers.Site, up float64) {
	s.t.Helper()
	peers.Until(s.t, 30*time.Second, fmt.Sprintf("the trunk to %s to be %v", to.Name, up), func() bool {
		return e.Metric(fmt.Sprintf("sallyport_trunk_up{trunk=%q}", to.Name)) == up
	})
}

// idle waits until nobody has a call.
func (s *trunks) idle() {
	s.t.Helper()
	s.branches.idle()
	for _, e := range []*peers.Edge{s.atFoo, s.atBar} {
		peers.Until(s.t, 10*time.Second, "the edges to have no call", func() bool {
			return e.Metric("sallyport_calls") == 0 && e.Metric("sallyport_media_sessions") == 0
		})
	}
}

// nothingInClear checks that a capture of the hostile network has nothing that
// anybody could read, and that it has something.
func nothingInClear(t *testing.T, c *peers.Capture, known ...string) {
	t.Helper()
	c.Stop()
	if len(c.Packets()) == 0 {
		t.Error("nothing was captured")
	}
	for _, what := range c.Clear(known...) {
		t.Errorf("in clear between the edges: %s", what)
	}
}

// Two PBXs call each other through two edges, each way, and of all that passes
// between these nothing can be read.
func TestTrunkCall(t *testing.T) {
	s := newTrunks(t)
	capture := s.Net.Capture("trunk")
	s.talk()
	s.idle()
	nothingInClear(t, capture, peers.Spoken(700), peers.Spoken(1300), "1001@", "2001@")
	if n := len(slices.DeleteFunc(capture.Packets(), func(p peers.Packet) bool { return !isMedia(p) })); n < 200 {
		t.Errorf("%d packets of media passed between the edges", n)
	}
}

// A hundred calls at once go between one pair of addresses: each hears its own
// tone, and in no packet another's.
func TestTrunkHundred(t *testing.T) {
	s := newTrunks(t)
	s.hundred(100)
	s.idle()
	if n := s.Net.Dropped(); n != 0 {
		t.Errorf("the network lost %d packets by itself, of %d", n, s.Net.Carried())
	}
}

// What the enemy has kept, or makes up, is heard by nobody, and changes nothing.
// TestSites shows that it would be without edges.
func TestTrunkReplay(t *testing.T) {
	s := newTrunks(t)
	capture := s.Net.Capture("replay")
	e := s.enemy(s.foo, s.bar)
	if in, out := e.replays(); in != 0 || out != 0 {
		t.Errorf("of what is sent again %d packets are heard by the callee, and %d by the caller", in, out)
	}
	if in, out := e.forges(); in != 0 || out != 0 {
		t.Errorf("of what is forged %d packets are heard by the callee, and %d by the caller", in, out)
	}
	s.Net.Send(e.kept...) // TCP, too
	e.hear()
	s.hangUp(e.link)
	s.idle()
	s.Net.Send(e.kept...)
	from, to := netip.AddrPortFrom(s.bar.PBX.Addr, 5060), netip.AddrPortFrom(s.foo.PBX.Addr, 5060)
	for _, p := range []peers.Packet{
		invitation(from, to, "1001"), invitation(s.foo.Trunk, to, "1001"), // who the PBX takes for bar
		invitation(netip.AddrPortFrom(s.bar.Public, 5061), netip.AddrPortFrom(s.foo.Public, 5061), "1001"),
		invitation(to, s.foo.Trunk, "2001"), // in the PBX's name
	} {
		s.Net.Send(p)
	}
	for _, ends := range [][2]*branch{{s.foo, s.bar}, {s.bar, s.foo}} { // who rings for nobody else
		l := s.connect(ends[0], ends[1], 900, 1500)
		l.out.Hears(1500, 10*time.Second)
		s.hangUp(l)
	}
	s.idle()
	nothingInClear(t, capture, peers.Spoken(900), peers.Spoken(1500))
}

// refusedCall has foo's phone call bar while the trunk is down, by a PBX that does not
// itself ask whether it is.
func (s *trunks) refusedCall() {
	s.t.Helper()
	inside := peers.StartCapture(s.Foo.Edge, "inside")
	_, m := s.foo.phone.Invite("9"+s.bar.phone.User, s.foo.phone.NewPlainMedia().Offer())
	inside.Stop()
	if m.Status() < 400 {
		s.t.Fatalf("a call by a trunk that is down was answered %s", m.Start)
	}
	told := inside.Fields(fmt.Sprintf("sip.Status-Code == 503 && ip.src == %s", s.Foo.Trunk.Addr()), []string{"sip.Warning"})
	if !slices.ContainsFunc(told, func(row []string) bool { return strings.Contains(row[0], "trunk bar is down") }) {
		s.t.Errorf("foo's PBX is told %q, and its phone %s", told, m.Start)
	}
}

// A trunk that is down refuses calls at once, with the reason, and nothing goes
// another way; when it is back, so are the calls. A call goes on through it all,
// if its media do.
func TestTrunkDownRefuses(t *testing.T) {
	t.Parallel() // it waits most of its time
	s := newTrunks(t)
	capture := s.Net.Capture("down")
	l := s.connect(s.foo, s.bar, 700, 1300)
	hear(l.out, l.in)

	cut := s.Net.Drop(peers.IsTCP) // in silence
	s.up(s.atFoo, s.Bar, 0)
	s.refusedCall()
	hear(l.out, l.in)
	cut.Stop()
	s.up(s.atFoo, s.Bar, 1)
	s.up(s.atBar, s.Foo, 1)
	s.reach()
	s.hangUp(l)
	s.idle()

	s.atBar.Kill()
	s.up(s.atFoo, s.Bar, 0)
	s.refusedCall()
	s.atBar.Start()
	s.up(s.atFoo, s.Bar, 1)
	s.reach()
	l = s.connect(s.bar, s.foo, 700, 1300)
	hear(l.out, l.in)
	s.hangUp(l)
	s.idle()
	nothingInClear(t, capture, peers.Spoken(700), peers.Spoken(1300))
}

// dials is how often an edge has tried to reach another branch.
func (s *trunks) dials(e *peers.Edge, to *peers.Site) float64 {
	s.t.Helper()
	return e.Metric(fmt.Sprintf("sallyport_trunk_dials_total{trunk=%q}", to.Name))
}

// The enemy ends the connections of both edges, in the middle of a call: they are
// made anew, and the call goes on, and is hung up by the new ones.
func TestTrunkReconnect(t *testing.T) {
	t.Parallel() // it waits most of its time
	s := newTrunks(t)
	capture := s.Net.Capture("reconnect")
	l := s.connect(s.foo, s.bar, 700, 1300)
	hear(l.out, l.in)
	fromFoo, fromBar := s.dials(s.atFoo, s.Bar), s.dials(s.atBar, s.Foo)
	resets := s.Net.Meddle(func(p peers.Packet) peers.Fate {
		if peers.IsTCP(p) && len(p.Payload()) > 0 {
			go s.Net.Send(p.Reset(), p.ResetBack()) // once the rule lets it
		}
		return 0
	})
	peers.Until(t, 30*time.Second, "both edges to dial anew", func() bool {
		return s.dials(s.atFoo, s.Bar) > fromFoo && s.dials(s.atBar, s.Foo) > fromBar
	})
	resets.Stop()
	s.up(s.atFoo, s.Bar, 1)
	s.up(s.atBar, s.Foo, 1)
	hear(l.out, l.in)
	s.hangUp(l)
	s.idle()

	// Of these, one end alone hears: what the other says next is lost, and said again.
	// Connections that are dialled then are let be: half of a handshake lasts its timeout.
	for _, ends := range [][2]*branch{{s.foo, s.bar}, {s.bar, s.foo}} {
		s.reach() // its PBX may have asked while there was no way
		l = s.connect(ends[0], ends[1], 700, 1300)
		fromFoo, fromBar = s.dials(s.atFoo, s.Bar), s.dials(s.atBar, s.Foo)
		dialling := make(map[netip.AddrPort]bool)
		half := s.Net.Meddle(func(p peers.Packet) peers.Fate {
			switch {
			case p.Opens():
				dialling[p.Source()] = true
			case peers.IsTCP(p) && len(p.Payload()) > 0 && !dialling[p.Source()] && !dialling[p.Destination()]:
				go s.Net.Send(p.Reset())
			}
			return 0
		})
		peers.Until(t, 30*time.Second, "an edge to dial anew", func() bool {
			return s.dials(s.atFoo, s.Bar) > fromFoo || s.dials(s.atBar, s.Foo) > fromBar
		})
		half.Stop()
		s.hangUp(l)
		s.idle()
	}
	nothingInClear(t, capture, peers.Spoken(700), peers.Spoken(1300))
}
