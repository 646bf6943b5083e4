package e2e

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// soloPBX is a lab whose bar has no edge: its PBX, an Asterisk 22, speaks TLS and SDES
// with foo's edge.
type soloPBX struct {
	*branches
	ca   *peers.Issuer
	edge *peers.Edge
}

// newSoloPBX starts bar's PBX and foo's edge.
func newSoloPBX(t *testing.T) *soloPBX {
	t.Helper()
	s := &soloPBX{branches: &branches{Sites: peers.NewSites(t, peers.SitesConfig{}), t: t}, ca: peers.NewIssuer(t)}
	foo, bar := s.Foo, s.Bar
	own, others := s.ca.Peer(foo.Domain), s.ca.Peer(bar.Domain)
	bar.WithoutEdge()
	bar.PBX.Resolves(peers.Zone{Addrs: map[string]netip.Addr{foo.Domain: foo.Public}})
	s.bar = &branch{Site: bar, pbx: bar.StartAsterisk(foo, netip.AddrPortFrom(foo.Public, 5061), peers.AsteriskConfig{
		Version: 22,
		TLS:     &peers.PBXTLS{At: netip.AddrPortFrom(bar.Public, 5061), Cert: others.Cert, Key: others.Key, CA: s.ca.CAFile(), Mutual: true},
	}), phone: bar.Phone("2001", 5070)}
	s.edge = foo.StartEdge(peers.EdgeConfig{Extra: fmt.Sprintf("[tls]\ncert = %q\nkey = %q\n[[trunk]]\nname = %q\npeer = \"%s:5061\"\nidentity = [%q]\nca = %q\nlisten = %q\n",
		own.Cert, own.Key, bar.Name, bar.Public, bar.Domain, s.ca.CAFile(), foo.Trunk)})
	return s
}

// begin starts foo's PBX, and the phones.
func (s *soloPBX) begin() {
	s.t.Helper()
	s.foo = &branch{Site: s.Foo, pbx: s.Foo.StartAsterisk(s.Bar, s.Foo.Trunk, peers.AsteriskConfig{}), phone: s.Foo.Phone("1001", 5070)}
	s.edge.HasPBX()
	for _, b := range []*branch{s.foo, s.bar} {
		if m := b.phone.Register("secret-"+b.phone.User, 600, ""); m.Status() != 200 {
			s.t.Fatalf("registration at %s was answered %s", b.Name, m.Start)
		}
	}
	s.reach()
}

// both connects the phones of two branches, and hears them out.
func (b *branches) both(from, to *branch, hz, back float64) *link {
	b.t.Helper()
	l := b.connect(from, to, hz, back)
	l.in.Hears(hz, 10*time.Second)
	l.out.Hears(back, 10*time.Second)
	return l
}

// hungUp ends the call from the callee.
func (b *branches) hungUp(l *link) {
	b.t.Helper()
	l.callee.Ask("BYE", "")
	b.answersBye(l.from.phone)
	l.callee.Await("BYE", 200)
	l.out.Stop()
	l.in.Stop()
}

func (b *branches) answersBye(p *peers.Phone) {
	b.t.Helper()
	p.Answer(p.Expect("BYE", 10*time.Second), 200, "OK", "")
}

// refusals has the phone of one branch call that of the other, which is busy, and a
// number that there is not; and give up a call that rings.
func (b *branches) refusals(from, to *branch) {
	b.t.Helper()
	d := from.phone.Call(to.phone.User, from.phone.NewPlainMedia().Offer())
	inv := to.phone.Expect("INVITE", 10*time.Second)
	to.phone.Answer(inv, 486, "Busy Here", "")
	to.phone.Expect("ACK", 10*time.Second)
	d.Refused(d.Await("INVITE", 486))
	d = from.phone.Call(to.Digit+"999", from.phone.NewPlainMedia().Offer())
	d.Refused(d.Await("INVITE", 404))

	d = from.phone.Call(to.phone.User, from.phone.NewPlainMedia().Offer())
	inv = to.phone.Expect("INVITE", 10*time.Second)
	to.phone.Answer(inv, 180, "Ringing", "")
	d.Await("INVITE", 180)
	d.Cancel()
	to.phone.Answer(to.phone.Expect("CANCEL", 10*time.Second), 200, "OK", "")
	to.phone.Answer(inv, 487, "Request Terminated", "")
	to.phone.Expect("ACK", 10*time.Second)
	for range 2 { // in the one order or the other
		m := from.phone.Await("the end of a call given up", func(m *peers.Message) bool {
			return m.Method() == "INVITE" && m.Status() == 487 || m.Method() == "CANCEL" && m.Status() == 200
		})
		if m.Status() == 487 {
			d.Refused(m)
		}
	}
}

// holds has the caller of a call hold it and come back, which bar's PBX passes on.
func (s *soloPBX) holds(l *link) {
	s.t.Helper()
	inside := peers.StartCapture(s.Foo.Edge, "inside")
	for _, direction := range []string{"sendonly", "sendrecv"} {
		l.out.Direction = direction
		l.out.Session++
		if m := l.caller.Reinvite(l.out.Offer()); m.Status() != 200 {
			s.t.Fatalf("%s was answered %s", direction, m.Start)
		}
	}
	l.in.Forget()
	l.in.Hears(700, 10*time.Second)
	l.out.Forget()
	l.out.Hears(1300, 10*time.Second)
	inside.Stop()
	for _, direction := range []string{"sendonly", "sendrecv"} {
		if inside.Count(fmt.Sprintf("sip.Method == INVITE && ip.dst == %s && sdp.media_attr == %q", s.Foo.PBX.Addr, direction)) == 0 {
			s.t.Errorf("no re-INVITE with %s came from bar to foo's PBX", direction)
		}
	}
}

// nothingInClear checks a capture of what lies between the branches.
func (s *soloPBX) nothingInClear(c *peers.Capture) {
	s.t.Helper()
	c.Stop()
	if n := len(c.Packets()); n < 500 {
		s.t.Errorf("%d packets were captured", n)
	}
	for _, what := range c.Clear(peers.Spoken(700), peers.Spoken(1300), "1001@", "2001@") {
		s.t.Errorf("in clear between the branches: %s", what)
	}
}

// A trunk to a PBX that speaks TLS and SDES itself, each end with a certificate that the
// other asks for. It dials us, too: calls go by either connection.
func TestTrunkAsterisk22(t *testing.T) {
	s := newSoloPBX(t)
	s.begin()
	capture := s.Net.Capture("solo")
	s.refusals(s.foo, s.bar)
	s.refusals(s.bar, s.foo)
	l := s.both(s.foo, s.bar, 700, 1300)
	s.hungUp(l)
	s.idle()
	l = s.both(s.bar, s.foo, 700, 1300)
	s.holds(l)
	s.hangUp(l)
	s.idle()
	s.nothingInClear(capture)
}
