package sipproxy

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// Drain refuses new calls and registrations from now on, waits for the running
// calls until ctx ends, and hangs up what is left.
func (p *Proxy) Drain(ctx context.Context) {
	select {
	case <-p.draining:
	default:
		close(p.draining)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	if !p.yielded.Load() { // or providers would no longer send their calls to the process after this one
		defer p.resign()
	}
	for p.calls.len() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			for _, c := range p.calls.list() {
				p.hangUp(c, "the edge shuts down")
			}
			return
		}
	}
}

func (p *Proxy) isDraining() bool {
	select {
	case <-p.draining:
		return true
	default:
		return false
	}
}

// leaving sends who asks to another edge, or here again later: a 503 with a
// Retry-After has a phone try the next server of its list (RFC 3261 section
// 21.5.4), or register by another flow of its set (RFC 5626 section 4.5). They do
// not come back all at once.
func (p *Proxy) leaving() *refusal {
	after := 30 + rand.IntN(30)
	return refuse(sip.StatusServiceUnavailable, "Service Unavailable", "the edge shuts down; try another, or this one again soon").
		with("Retry-After", strconv.Itoa(after))
}

// mayRegister tells whether a registration is taken. One that is refused keeps the
// phone from sending anything else here (RFC 3261 section 21.5.4), a BYE too: so who
// has a call on the connection goes on registering. To leave is welcome from anybody.
func (p *Proxy) mayRegister(reg *registration) bool {
	return !p.isDraining() || reg.leaves() || p.isTalking(reg.flow)
}

// leaves tells whether a REGISTER removes all that it names.
func (reg *registration) leaves() bool {
	for _, c := range reg.contacts {
		if !reg.removes(c.phone) {
			return false
		}
	}
	return reg.star || len(reg.contacts) > 0
}

// isTalking tells whether a call is on a phone's connection.
func (p *Proxy) isTalking(f *flow.Flow) bool {
	for _, c := range p.calls.list() {
		if slices.Contains(c.isBy(), f) {
			return true
		}
	}
	return false
}

// isBy are the connections of a call's phone or trunk.
func (c *call) isBy() (flows []*flow.Flow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.outside(); l != nil {
		flows = append(flows, l.flow)
	}
	for _, d := range c.dialogs {
		if !slices.Contains(flows, d.secure.flow) {
			flows = append(flows, d.secure.flow)
		}
	}
	return flows
}
