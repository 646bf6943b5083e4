package peers

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"testing"
)

// Sites is a lab of two branches, each with a PBX behind an edge. All that lies
// between the edges is a hostile network, or for measuring a cable.
type Sites struct {
	*Lab
	Net      *Hostile // nil: the cable
	Foo, Bar *Site
}

// Site is one branch.
type Site struct {
	Name   string
	Domain string         // of its edge
	Digit  string         // with which its numbers begin
	Edge   *Host          // its address is the one on the hostile network, or behind a NAT of that
	Public netip.Addr     // by which others see the edge
	Inside netip.Addr     // of the edge, towards the PBX
	Trunk  netip.AddrPort // further there: the other branch, as the PBX knows it
	PBX    *Host
	Phones *Host // the PBX's namespace, by another address
	lab    *Lab
}

// SitesConfig chooses what differs from test to test.
type SitesConfig struct {
	NAT   bool // foo's edge is behind a NAT: it can only dial
	Cable bool // nobody is between the edges
}

// NewSites makes the network. It needs root.
func NewSites(t testing.TB, c SitesConfig) *Sites {
	t.Helper()
	l := newLab(t)
	s := &Sites{Lab: l}
	if !c.Cable {
		s.Net = l.Hostile()
	}
	s.Foo = s.site("foo", "1", "198.51.100.1/24", c.NAT)
	s.Bar = s.site("bar", "2", "203.0.113.1/24", false)
	if c.Cable {
		s.plug()
	}
	return s
}

// plug joins the edges by a cable. Each knows the way to the other's inside, but
// prefers any other.
func (s *Sites) plug() {
	s.t.Helper()
	s.cable(s.Foo.Edge, s.Bar.Edge, "outside")
	for b, other := range map[*Site]*Site{s.Foo: s.Bar, s.Bar: s.Foo} {
		s.ip(b.Edge, "addr add "+b.Public.String()+"/24 dev outside", "link set outside up", "route add default dev outside",
			fmt.Sprintf("route add %s via %s dev outside onlink metric 100", other.network(), other.Public))
	}
}

// network is the branch's inside.
func (b *Site) network() netip.Prefix { return netip.PrefixFrom(b.Inside, 24).Masked() }

// site makes a branch whose inside is 10.<digit>.0.0/24.
func (s *Sites) site(name, digit, public string, nat bool) *Site {
	l := s.Lab
	l.t.Helper()
	addr, net := netip.MustParsePrefix(public), "10."+digit+".0."
	b := &Site{
		Name: name, Domain: name + ".example.com", Digit: digit, Public: addr.Addr(), lab: l,
		Inside: netip.MustParseAddr(net + "1"), Trunk: netip.MustParseAddrPort(net + "11:5071"),
	}
	b.Edge = l.host(name+"-edge", b.Public, "outside")
	b.PBX = l.host(name+"-inside", netip.MustParseAddr(net+"2"), "inside")
	b.Phones = &Host{lab: l, Name: b.PBX.Name, Addr: netip.MustParseAddr(net + "3"), Dev: "inside"}
	l.cable(b.Edge, b.PBX, "inside")
	l.ip(b.Edge, "addr add "+net+"1/24 dev inside", "addr add "+net+"11/24 dev inside", "link set inside up")
	l.ip(b.PBX, "addr add "+net+"2/24 dev inside", "addr add "+net+"3/24 dev inside", "link set inside up", "route add default via "+net+"1")
	if s.Net == nil {
		return b
	}
	if !nat {
		s.Net.Join(b.Edge, addr, b.network())
		return b
	}
	b.Edge.Addr = netip.MustParseAddr("192.168.77.2")
	gate := l.host(name+"-gate", b.Public, "outside")
	l.cable(b.Edge, gate, "gate")
	l.ip(gate, "addr add 192.168.77.1/24 dev gate", "link set gate up")
	l.ip(b.Edge, "addr add 192.168.77.2/24 dev gate", "link set gate up", "route add default via 192.168.77.1")
	s.Net.Join(gate, addr)
	gate.masquerade()
	return b
}

// Impostor adds a host that has a branch's address on the hostile network: from now
// on what is for the branch's edge comes to it.
func (s *Sites) Impostor(of *Site) *Host {
	s.t.Helper()
	return s.Stranger("impostor", netip.PrefixFrom(of.Public, 24).String())
}

// Stranger adds a host to the hostile network.
func (s *Sites) Stranger(name, addr string) *Host {
	s.t.Helper()
	at := netip.MustParsePrefix(addr)
	h := s.host(name, at.Addr(), "outside")
	s.Net.Join(h, at)
	return h
}

// Forward has the edge's kernel hand on packets, as a mere router: so the branch
// is as open as without an edge.
func (b *Site) Forward() { b.Edge.forward() }

// WithoutEdge has the branch's PBX run where the edge would: it speaks with the hostile
// network itself, and with its phones inside.
func (b *Site) WithoutEdge() {
	b.PBX = &Host{lab: b.lab, Name: b.Edge.Name, Addr: b.Inside, Dev: b.Edge.Dev}
}

// StartAsterisk runs the branch's PBX, which knows the other by an address. Its
// users are 1001 to 1020, or 2001 to 2020; see asterisk/extensions.conf for its
// other numbers.
func (b *Site) StartAsterisk(other *Site, at netip.AddrPort, c AsteriskConfig) *Asterisk {
	b.lab.t.Helper()
	first, _ := strconv.Atoi(b.Digit + "001")
	c.On, c.First = b.PBX, first
	c.Trunk = &Trunk{Peer: other.Name, Digit: other.Digit, Own: b.Digit, At: at}
	return StartAsterisk(b.lab, c)
}

// StartEdge runs the branch's edge. Extra has its trunks.
func (b *Site) StartEdge(c EdgeConfig) *Edge {
	l := b.lab
	l.t.Helper()
	e := &Edge{lab: l, host: b.Edge, State: filepath.Join(l.Dir, "state-"+b.Name), config: filepath.Join(l.Dir, b.Name+".toml"), ca: c.CAFile}
	pbx := strconv.Quote(netip.AddrPortFrom(b.PBX.Addr, 5060).String())
	e.start(fmt.Sprintf(edgeConfig, b.Domain, strconv.Quote(b.Edge.Addr.String()), b.Inside, e.State, c.Edge, pbx, c.PBX), c)
	return e
}

// Caller speaks in the PBX's place: what it calls is at the other branch.
func (b *Site) Caller(user string, port uint16) *Phone {
	b.lab.t.Helper()
	return newPlainPhone(b.PBX, port, b.Trunk, user)
}

// Phone is a scripted phone beside the PBX, which it speaks plain SIP with.
func (b *Site) Phone(user string, port uint16) *Phone {
	b.lab.t.Helper()
	return newPlainPhone(b.Phones, port, netip.AddrPortFrom(b.PBX.Addr, 5060), user)
}
