package prove

import (
	"net/netip"
)

// ends are the edge's own sockets, as it told, and the addresses that are its own.
type ends struct {
	local  []netip.Addr // of the interface
	hosts  map[netip.Addr]bool
	udp    map[netip.AddrPort]bool // media
	tcp    map[netip.AddrPort]bool // media
	tls    map[netip.AddrPort]bool // SIP
	trunks map[netip.AddrPort]bool // SIP, of others
}

func newEnds(local []netip.Addr) ends {
	e := ends{
		hosts: make(map[netip.Addr]bool), udp: make(map[netip.AddrPort]bool), tcp: make(map[netip.AddrPort]bool),
		tls: make(map[netip.AddrPort]bool), trunks: make(map[netip.AddrPort]bool),
	}
	for _, a := range local {
		e.local = append(e.local, a.Unmap().WithZone(""))
		e.hosts[a.Unmap().WithZone("")] = true
	}
	return e
}

// learn adds what the edge tells. What it told before stays: packets of then may
// still be judged.
func (e *ends) learn(k Knowledge) {
	e.add(e.udp, k.Keys.UDP, true)
	e.add(e.tcp, k.Keys.TCP, true)
	e.add(e.tls, k.Listeners, true)
	e.add(e.trunks, k.Trunks, false)
}

// add takes an address of all interfaces for each of this one.
func (e *ends) add(to map[netip.AddrPort]bool, list []netip.AddrPort, own bool) {
	for _, at := range list {
		addrs := []netip.Addr{at.Addr().Unmap()}
		if own && at.Addr().IsUnspecified() {
			addrs = e.local
		}
		for _, a := range addrs {
			to[netip.AddrPortFrom(a, at.Port())] = true
			if own {
				e.hosts[a] = true
			}
		}
	}
}

// isMedia tells whether an address is one of the edge's for media.
func (e *ends) isMedia(a netip.AddrPort, tcp bool) bool {
	if tcp {
		return e.tcp[a]
	}
	return e.udp[a]
}

// direction is where a packet goes: by the edge's sockets, else by its addresses.
func (e *ends) direction(src, dst netip.AddrPort) Direction {
	socket := func(a netip.AddrPort) bool { return e.udp[a] || e.tcp[a] || e.tls[a] }
	switch in, out := e.hosts[dst.Addr()], e.hosts[src.Addr()]; {
	case socket(dst):
		return In
	case socket(src):
		return Out
	case in == out:
		return Past
	case in:
		return In
	}
	return Out
}

// pair is both ends of a conversation, the lesser address first.
type pair struct{ a, b netip.AddrPort }

func pairOf(x, y netip.AddrPort) (p pair, swapped bool) {
	if x.Compare(y) > 0 {
		return pair{y, x}, true
	}
	return pair{x, y}, false
}
