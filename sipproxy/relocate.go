package sipproxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/sipproxy/locate"
)

// A PBX that answers does not move, whatever a name server says: every phone's
// password would move with it. When one does not answer, its name is looked up
// again: it may have a new address, or a new neighbour.

const (
	lookupInterval = 30 * time.Second
	lookupTimeout  = 5 * time.Second
)

// lookups are those of the PBXs' names. At most one runs.
type lookups struct {
	last    time.Time // when one began; Run's alone
	running atomic.Bool
	wg      sync.WaitGroup
}

// relocate looks the PBXs up again if one is down.
func (p *Proxy) relocate(ctx context.Context, now time.Time) {
	if p.cfg.Locate == nil || now.Sub(p.pool.lookups.last) < lookupInterval || !p.pool.anyDown() || p.pool.lookups.running.Swap(true) {
		return
	}
	p.pool.lookups.last = now
	p.pool.lookups.wg.Go(func() { // ends with the lookup; Run waits for it
		defer p.pool.lookups.running.Store(false)
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		servers, err := p.cfg.Locate(ctx)
		if err == nil {
			err = p.cfg.fitting(servers)
		}
		if err != nil {
			p.log.Warn("look the PBX up again", "reason", err)
			return
		}
		p.setPBXs(servers)
	})
}

// setPBXs takes the PBXs that there are from now on.
func (p *Proxy) setPBXs(servers []locate.Server) {
	p.inside.Store(newInsideHosts(p.cfg, servers, p.inside.Load()))
	changed := false
	for l := range p.pools() {
		if l.plain == nil { // AttachTrunk comes
			continue
		}
		changed = l.set(servers) || changed
	}
	if changed {
		for _, s := range servers {
			p.log.Info("PBX", "peer", s.Addr, "priority", s.Priority, "weight", s.Weight)
		}
	}
}
