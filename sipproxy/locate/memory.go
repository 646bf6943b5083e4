package locate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// Memory is a resolver that remembers what there was. A name that had records has none
// any longer when a name server says so, and not when none can be asked: who looks up
// again where servers are would else go from its SRV records to an address that was
// never meant for SIP, by one lost datagram.
type Memory struct {
	resolver Resolver

	mu    sync.Mutex // guards what follows
	found map[string]struct{}
}

// errUnsure means: there were records, and whether there are is not to be told now.
var errUnsure = errors.New("it had records before, and no name server tells what they are now")

// maxFound bounds what is remembered.
const maxFound = 1024

// Remember makes a resolver of one.
func Remember(r Resolver) *Memory {
	return &Memory{resolver: r, found: make(map[string]struct{})}
}

// LookupSRV implements Resolver.
func (m *Memory) LookupSRV(ctx context.Context, service, proto, name string) (string, []*net.SRV, error) {
	cname, records, err := m.resolver.LookupSRV(ctx, service, proto, name)
	return cname, records, m.judge("_"+service+"._"+proto+"."+name, len(records), err)
}

// LookupNetIP implements Resolver.
func (m *Memory) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	addrs, err := m.resolver.LookupNetIP(ctx, network, host)
	return addrs, m.judge(host, len(addrs), err)
}

// judge notes what was found, and tells an answer that there is nothing from none.
func (m *Memory) judge(name string, found int, err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, had := m.found[name]
	var dns *net.DNSError
	switch {
	case err == nil && found > 0:
		if len(m.found) >= maxFound {
			clear(m.found)
		}
		m.found[name] = struct{}{}
	case err == nil, errors.As(err, &dns) && dns.IsNotFound:
		delete(m.found, name)
	case had:
		return fmt.Errorf("%w: %w", errUnsure, err)
	}
	return err
}
