package policy

import (
	"fmt"
	"net/netip"

	"github.com/gaissmai/bart"
)

func (p *Policy) allowed(e Event) (Verdict, bool) {
	if !p.allow.Contains(e.Source) {
		return Verdict{}, false
	}
	return Verdict{Allowed: true, Reason: "the source is in policy.allow"}, true
}

func (p *Policy) denied(e Event) (Verdict, bool) {
	if !p.deny.Contains(e.Source) {
		return Verdict{}, false
	}
	return Verdict{Reason: fmt.Sprintf("the source is in policy.deny (%s)", match(&p.deny, e.Source))}, true
}

// full protects memory. Called with mu held, as the rules below.
func (p *Policy) full(Event) (Verdict, bool) {
	if p.connections < p.cfg.MaxConnections {
		return Verdict{}, false
	}
	return Verdict{Reason: fmt.Sprintf("all %d connections of policy.max_connections are taken", p.cfg.MaxConnections)}, true
}

// crowded keeps one source from taking every place.
func (p *Policy) crowded(e Event) (Verdict, bool) {
	limit := p.cfg.MaxConnectionsPerAddress
	if limit == 0 || p.sources.open(prefixOf(e.Source)) < limit {
		return Verdict{}, false
	}
	return Verdict{Reason: fmt.Sprintf("%s has %d connections open, as many as policy.max_connections_per_address allows",
		prefixOf(e.Source), limit)}, true
}

// hasty keeps one source from spending our CPU on handshakes. It is the last
// rule, so that a connection refused by another costs the source nothing.
func (p *Policy) hasty(e Event) (Verdict, bool) {
	if p.cfg.NewConnectionsPerSecond == 0 {
		return Verdict{}, false
	}
	if p.sources.get(prefixOf(e.Source), p.now()).take() {
		return Verdict{}, false
	}
	return Verdict{Reason: fmt.Sprintf("%s opens connections faster than the %v of policy.new_connections_per_second",
		prefixOf(e.Source), p.cfg.NewConnectionsPerSecond)}, true
}

// prefixOf is the source an address belongs to: itself, or its IPv6 /64.
func prefixOf(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// match is the entry of the table that holds the address.
func match(t *bart.Lite, a netip.Addr) netip.Prefix {
	prefix, _ := t.LookupPrefixLPM(netip.PrefixFrom(a, a.BitLen()))
	return prefix
}
