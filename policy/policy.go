package policy

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"
)

// Kind is the moment at which policy is asked.
type Kind uint8

// The moments, in the order a caller meets them.
const (
	Connection Kind = iota // a connection, before its handshake
	Request                // one SIP request
	Call                   // a call about to be made
)

// String implements fmt.Stringer.
func (k Kind) String() string {
	switch k {
	case Connection:
		return "connection"
	case Request:
		return "request"
	case Call:
		return "call"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Event is what is about to happen. A field the moment does not have is empty.
type Event struct {
	Kind   Kind
	Source netip.Addr // whence, on the secure side
	Method string     // of a Request
	User   string     // who it claims to be; not authenticated here
	Number string     // whom a Call is for
}

// Verdict is the answer. The zero Verdict refuses.
type Verdict struct {
	Allowed bool
	Rule    string // the configuration key of the rule that spoke; empty: none did
	Reason  string // for the log, in words an operator can act on

	hold *hold
}

// Release tells that the connection the Verdict allowed has ended. It may be
// called more than once and from any goroutine; on other verdicts it does nothing.
func (v Verdict) Release() {
	if v.hold != nil && !v.hold.released.Swap(true) {
		v.hold.policy.release(v.hold.source)
	}
}

// hold is one connection's place in the counts.
type hold struct {
	policy   *Policy
	source   *source
	released atomic.Bool
}

// rule is one entry of the ordered list. It answers spoke = false to leave the
// event to the next.
type rule struct {
	key    string // configuration key
	kinds  []Kind // the moments it is asked at
	decide func(Event) (v Verdict, spoke bool)

	allowed, refused atomic.Uint64 // verdicts it gave
}

// Policy decides. It is safe for concurrent use.
type Policy struct {
	cfg         Config
	now         func() time.Time
	allow, deny bart.Lite // not changed after New

	rules         []*rule
	silent        atomic.Uint64 // events allowed because no rule spoke
	withoutSource atomic.Uint64 // events refused for want of an address

	mu          sync.Mutex // guards what follows
	connections int
	sources     sources
}

// New returns a Policy that follows cfg.
func New(cfg Config) (*Policy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Policy{cfg: cfg, now: time.Now, sources: newSources(cfg.NewConnectionsPerSecond, cfg.NewConnectionsBurst)}
	for _, prefix := range cfg.Allow {
		p.allow.Insert(prefix)
	}
	for _, prefix := range cfg.Deny {
		p.deny.Insert(prefix)
	}
	always, connection := []Kind{Connection, Request, Call}, []Kind{Connection}
	p.rules = []*rule{
		{key: "policy.allow", kinds: always, decide: p.allowed},
		{key: "policy.deny", kinds: always, decide: p.denied},
		{key: "policy.max_connections", kinds: connection, decide: p.full},
		{key: "policy.max_connections_per_address", kinds: connection, decide: p.crowded},
		{key: "policy.new_connections_per_second", kinds: connection, decide: p.hasty},
	}
	return p, nil
}

// Decide answers for one event. When it allows a Connection, the caller must
// Release the Verdict once the connection has ended.
func (p *Policy) Decide(e Event) Verdict {
	if !e.Source.IsValid() {
		p.withoutSource.Add(1)
		return Verdict{Reason: "the source address is not known"}
	}
	// A dual-stack listener shows an IPv4 source as ::ffff:a.b.c.d: the rules
	// must not be evaded by it, nor by a zone.
	e.Source = e.Source.Unmap().WithZone("")
	if e.Kind == Connection {
		// From the first count to the hold in one piece, so that a burst
		// can't pass a limit that has room for one.
		p.mu.Lock()
		defer p.mu.Unlock()
	}
	v := p.judge(e)
	if v.Allowed && e.Kind == Connection {
		v.hold = p.admit(e.Source)
	}
	return v
}

func (p *Policy) judge(e Event) Verdict {
	for _, r := range p.rules {
		if !r.asked(e.Kind) {
			continue
		}
		v, spoke := r.decide(e)
		if !spoke {
			continue
		}
		v.Rule = r.key
		if v.Allowed {
			r.allowed.Add(1)
		} else {
			r.refused.Add(1)
		}
		return v
	}
	p.silent.Add(1)
	return Verdict{Allowed: true}
}

func (r *rule) asked(k Kind) bool {
	for _, own := range r.kinds {
		if own == k {
			return true
		}
	}
	return false
}

// admit counts a connection. Called with mu held.
func (p *Policy) admit(from netip.Addr) *hold {
	s := p.sources.get(prefixOf(from), p.now())
	p.sources.opened(s)
	p.connections++
	return &hold{policy: p, source: s}
}

func (p *Policy) release(s *source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.connections--
	p.sources.closed(s, p.now())
}
