package locate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// The default ports of SIP over UDP, and over TLS (RFC 3261 section 19.1.2).
const (
	DefaultPort    = 5060
	DefaultTLSPort = 5061
)

// MaxServers bounds what one name may stand for.
const MaxServers = 32

// ErrNotOffered means: the domain says itself that it has no SIP over UDP, or over TLS.
var ErrNotOffered = errors.New("SIP is not offered there in this way, says its SRV record")

// transport is how servers are to be reached.
type transport struct {
	service, proto string // of SRV records (RFC 3263 section 4.2)
	port           uint16
}

// Server is one address to send to.
type Server struct {
	Addr netip.AddrPort
	// Priority tells which to try before which: the lowest first. Those of one
	// priority share the load by Weight (RFC 2782).
	Priority int
	Weight   int
}

// Resolver is what locate asks; *net.Resolver is one.
type Resolver interface {
	LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Lookup returns the servers of a host, best first. host is an address or a name;
// port 0 is none given.
func Lookup(ctx context.Context, r Resolver, host string, port uint16) ([]Server, error) {
	return transport{"sip", "udp", DefaultPort}.lookup(ctx, r, host, port)
}

// LookupTLS does likewise for SIP over TLS.
func LookupTLS(ctx context.Context, r Resolver, host string, port uint16) ([]Server, error) {
	return transport{"sips", "tcp", DefaultTLSPort}.lookup(ctx, r, host, port)
}

func (t transport) lookup(ctx context.Context, r Resolver, host string, port uint16) ([]Server, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []Server{{Addr: netip.AddrPortFrom(addr.Unmap(), cmp.Or(port, t.port))}}, nil
	}
	if port != 0 {
		return addresses(ctx, r, host, port)
	}
	_, records, err := r.LookupSRV(ctx, t.service, t.proto, host)
	switch {
	case errors.Is(err, errUnsure):
		return nil, fmt.Errorf("look up the SRV record of %s: %w", host, err)
	case err != nil, len(records) == 0:
		// RFC 3263 section 4.2. A resolver that can't tell may be one that never
		// heard of SRV, and the name one of /etc/hosts.
		list, fault := addresses(ctx, r, host, t.port)
		var dns *net.DNSError
		if fault != nil && errors.As(err, &dns) && !dns.IsNotFound {
			fault = fmt.Errorf("look up the SRV record of %s: %w", host, err)
		}
		return list, fault
	case len(records) == 1 && records[0].Target == ".":
		return nil, fmt.Errorf("look up %s: %w", host, ErrNotOffered)
	}
	return targets(ctx, r, host, records)
}

// targets are the addresses of what SRV records name. One target that has none
// does not spoil the others; one that had, and may have, is not left out.
func targets(ctx context.Context, r Resolver, host string, records []*net.SRV) (list []Server, err error) {
	for _, record := range records {
		found, fault := addresses(ctx, r, record.Target, record.Port)
		if errors.Is(fault, errUnsure) {
			return nil, fmt.Errorf("look up the SRV record of %s: %w", host, fault)
		}
		err = errors.Join(err, fault)
		for _, s := range found {
			s.Priority, s.Weight = int(record.Priority), int(record.Weight)
			list = append(list, s)
		}
	}
	switch {
	case len(list) == 0:
		return nil, fmt.Errorf("look up the SRV record of %s: %w", host, err)
	case len(list) > MaxServers:
		return nil, fmt.Errorf("look up the SRV record of %s: it has %d servers, %d are taken", host, len(list), MaxServers)
	}
	slices.SortStableFunc(list, func(a, b Server) int { return a.Priority - b.Priority })
	return list, nil
}

// addresses are those of a name, IPv4 first: chan_sip listens there.
func addresses(ctx context.Context, r Resolver, host string, port uint16) ([]Server, error) {
	found, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", host, err)
	}
	list := make([]Server, 0, len(found))
	for _, addr := range found {
		list = append(list, Server{Addr: netip.AddrPortFrom(addr.Unmap(), port)})
	}
	slices.SortStableFunc(list, func(a, b Server) int { return a.Addr.Addr().BitLen() - b.Addr.Addr().BitLen() })
	return list[:min(len(list), MaxServers)], nil
}
