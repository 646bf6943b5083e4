package sipproxy

import (
	"sync"
	"sync/atomic"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// Stats is what the proxy has counted since it began, and what it holds now.
type Stats struct {
	Calls        int             // now
	Bindings     int             // now
	Transactions int             // now
	PBXs         map[string]bool // by address: whether it is up

	CallsFromPhones uint64
	CallsToPhones   uint64
	CallsFromTrunks uint64
	CallsToTrunks   uint64
	StrayResponses  uint64
	Faults          uint64 // messages at which the code itself failed
	RefreshesSpared uint64 // that the PBX did not see
	OptionsDropped  uint64 // of the PBX, for phones that are not there
	OtherUsers      uint64 // requests in another user's name than the client's certificate's
	Requests        map[RequestKind]uint64
	Refused         map[int]uint64    // by status
	Ended           map[string]uint64 // calls by reason
}

// RequestKind is where a request came from, and its method; methods that are
// not in RFC 3261 or its common extensions count as "other".
type RequestKind struct {
	Side   string
	Method string
}

// counters are what Stats is made from.
type counters struct {
	fromPhones, toPhones, fromTrunks, toTrunks, strayResponses, refreshesSpared, optionsDropped, otherUsers, faults atomic.Uint64

	mu       sync.Mutex // guards the maps; they are bounded by their keys
	requests map[RequestKind]uint64
	refusals map[int]uint64
	ended    map[string]uint64
}

// maxReasons bounds the reasons counted apart: some quote a peer's words.
const maxReasons = 64

var countedMethods = map[sip.RequestMethod]bool{
	sip.INVITE: true, sip.CANCEL: true, sip.BYE: true, sip.REGISTER: true, sip.OPTIONS: true,
	sip.SUBSCRIBE: true, sip.NOTIFY: true, sip.REFER: true, sip.INFO: true, sip.MESSAGE: true,
	sip.PRACK: true, sip.UPDATE: true, sip.PUBLISH: true,
}

func (c *counters) request(s flow.Side, m sip.RequestMethod) {
	if !countedMethods[m] {
		m = "other"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	count(&c.requests, RequestKind{s.String(), string(m)})
}

func (c *counters) refused(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	count(&c.refusals, status)
}

func (c *counters) callStarted(caller flow.Side, trunk bool) {
	switch {
	case trunk && caller == flow.Secure:
		c.fromTrunks.Add(1)
	case trunk:
		c.toTrunks.Add(1)
	case caller == flow.Secure:
		c.fromPhones.Add(1)
	default:
		c.toPhones.Add(1)
	}
}

func (c *counters) callEnded(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.ended[reason]; !known && len(c.ended) >= maxReasons {
		reason = "other"
	}
	count(&c.ended, reason)
}

func count[K comparable](m *map[K]uint64, key K) {
	if *m == nil {
		*m = make(map[K]uint64)
	}
	(*m)[key]++
}

// Stats returns a snapshot.
func (p *Proxy) Stats() Stats {
	c := &p.counters
	s := Stats{
		Calls: p.calls.len(), Bindings: p.bindings.len(), Transactions: p.tx.Len(),
		CallsFromPhones: c.fromPhones.Load(), CallsToPhones: c.toPhones.Load(),
		CallsFromTrunks: c.fromTrunks.Load(), CallsToTrunks: c.toTrunks.Load(),
		StrayResponses: c.strayResponses.Load(), RefreshesSpared: c.refreshesSpared.Load(), OptionsDropped: c.optionsDropped.Load(),
		OtherUsers: c.otherUsers.Load(), Faults: c.faults.Load(),
	}
	s.PBXs = make(map[string]bool)
	for _, b := range p.pool.all() {
		s.PBXs[b.Addr.String()] = !b.isDown()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Requests, s.Refused, s.Ended = cloned(c.requests), cloned(c.refusals), cloned(c.ended)
	return s
}

func cloned[K comparable](m map[K]uint64) map[K]uint64 {
	out := make(map[K]uint64, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}
