package policy

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
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
	Call                   // a call about to be made, which was a Request before
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
	Flow   uint64     // the connection's own number; 0 before there is one
	Method string     // of a Request
	Inside bool       // it belongs to a call or a subscription that there is
	User   string     // who it claims to be; not authenticated here
	Login  string     // whose credentials it carries, unverified; empty: none
	Device string     // which device it says it is; empty: it does not say
	Agent  string     // what program it says it is
	Number string     // whom a Call is for
	Handed bool       // a Call that the PBX makes for the user, who leaves it: a transfer, or one forwarded
}

// Verdict is the answer. The zero Verdict refuses.
type Verdict struct {
	Allowed bool
	Rule    string // the configuration key of the rule that spoke; empty: none did
	Reason  string // for the log, in words an operator can act on
	Say     string // what of it the peer may be told; empty: nothing

	End   bool          // a refusal after which the connection is to be closed
	Hush  bool          // a refusal without an answer
	After time.Duration // how long to hold the connection before it is closed
	Later time.Duration // when to try again what is put off, not refused

	hold *hold
	tab  *tab
}

// Release tells that the connection or the call that the Verdict allowed has ended.
// It may be called more than once and from any goroutine; on other verdicts it does
// nothing.
func (v Verdict) Release() {
	if v.tab != nil {
		v.tab.end()
	}
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

	allowed, refused, spared atomic.Uint64 // verdicts it gave; spared are refusals of a dry run
}

// Parts are what a Policy works with. All may be left out.
type Parts struct {
	Log    *slog.Logger
	Ledger Ledger      // keeps bans over a restart; nil: nothing does
	Alarm  func(Alarm) // is told what an operator wants to know now; it must not block
	Banned func(Ban)   // is told of each source that is banned for what it did; nil: nobody is
}

// Policy decides. It is safe for concurrent use.
type Policy struct {
	cfg         Config
	log         *slog.Logger
	now         func() time.Time
	allow, deny bart.Lite // not changed after New
	trusted     bart.Lite // likewise

	rules         []*rule
	silent        atomic.Uint64 // events allowed because no rule spoke
	withoutSource atomic.Uint64 // events refused for want of an address

	ledger    Ledger // nil: nothing is kept
	bans      *bans
	watch     *watch
	marks     *marks
	budget    *budget
	countries *countries
	alarms    *alarms

	saving sync.Mutex // held from when what is to be kept is collected until it is written

	mu          sync.Mutex // guards what follows
	connections int
	sources     sources
}

// New returns a Policy that follows cfg.
func New(cfg Config, parts Parts) (*Policy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if parts.Log == nil {
		parts.Log = slog.New(slog.DiscardHandler)
	}
	p := &Policy{cfg: cfg, log: parts.Log, now: time.Now, sources: newSources(cfg.NewConnectionsPerSecond, cfg.NewConnectionsBurst)}
	for _, prefix := range cfg.Allow {
		p.allow.Insert(prefix)
	}
	for _, prefix := range cfg.Deny {
		p.deny.Insert(prefix)
	}
	for _, prefix := range cfg.Trusted {
		p.trusted.Insert(prefix)
	}
	p.bans, p.ledger = newBans(cfg), parts.Ledger
	p.bans.told = parts.Banned
	p.watch, p.marks, p.budget, p.alarms = newWatch(cfg), newMarks(cfg.Scanners), newBudget(cfg.Calls), newAlarms(parts.Alarm)
	var err error
	if p.countries, err = newCountries(cfg); err != nil {
		return nil, err
	}
	p.Restore()
	p.rules = p.chain()
	return p, nil
}

// chain is the ordered list: the first rule that speaks decides.
func (p *Policy) chain() []*rule {
	before, connection, request, call := []Kind{Connection, Request}, []Kind{Connection}, []Kind{Request}, []Kind{Call}
	return []*rule{
		{key: "policy.allow", kinds: before, decide: p.allowed},
		{key: "policy.deny", kinds: before, decide: p.denied},
		{key: "policy.bans", kinds: before, decide: p.banned},
		{key: "policy.countries", kinds: connection, decide: p.abroad},
		{key: keyMax, kinds: connection, decide: p.full},
		{key: "policy.max_connections_per_address", kinds: connection, decide: p.crowded},
		{key: "policy.calls.emergency", kinds: []Kind{Request, Call}, decide: p.emergency},
		{key: "policy.scanners", kinds: request, decide: p.scanning},
		{key: keyFailures, kinds: before, decide: p.suspected},
		{key: "policy.caller_id", kinds: []Kind{Request, Call}, decide: p.spoofed},
		{key: "policy.new_connections_per_second", kinds: connection, decide: p.hasty}, // last of these: a connection that another refuses costs its source nothing
		{key: "policy.calls.numbers", kinds: call, decide: p.numbered},
		{key: "policy.calls.closed_to", kinds: call, decide: p.closed},
		{key: keyLimits, kinds: call, decide: p.limited},
	}
}

// Keys that more than one place names.
const (
	keyMax      = "policy.max_connections"
	keyFailures = "policy.auth_failures"
	keyLimits   = "policy.calls" // its verdicts name the limit
)

// Run keeps the bans in the ledger, and takes a new file of countries, until ctx
// ends.
func (p *Policy) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { p.countries.run(ctx, p.log) })
	p.keep(ctx)
	<-ctx.Done()
	wg.Wait()
	return nil
}

// Decide answers for one event. When it allows a Connection, the caller must
// Release the Verdict once the connection has ended.
func (p *Policy) Decide(e Event) Verdict {
	if !e.Source.IsValid() {
		p.withoutSource.Add(1)
		return Verdict{Reason: "the source address is not known"}
	}
	e.Source = plain(e.Source)
	if e.Kind == Call && e.Inside && !p.watch.isProven(e.Flow, name(e.Login)) {
		e.Login = "" // in a call the PBX need not look at credentials, and they may be anybody's
	}
	if e.Kind == Connection {
		// From the first count to the hold in one piece, so that a burst
		// can't pass a limit that has room for one.
		p.mu.Lock()
		defer p.mu.Unlock()
	}
	v := p.judge(e)
	switch {
	case !v.Allowed:
	case e.Kind == Connection:
		v.hold = p.admit(e.Source)
	case e.Kind == Call && v.Rule == "": // not one for help
		v.tab = p.open(e)
	}
	return v
}

// plain is an address as the rules know it. A dual-stack listener shows an IPv4
// source as ::ffff:a.b.c.d: the rules must not be evaded by it, nor by a zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func (p *Policy) judge(e Event) Verdict {
	for _, r := range p.rules {
		if !slices.Contains(r.kinds, e.Kind) {
			continue
		}
		v, spoke := r.decide(e)
		if !spoke || p.spare(r, e, v) {
			continue
		}
		if v.Rule == "" {
			v.Rule = r.key
		}
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

// spare tells of a refusal that a dry run only counts. What keeps memory bounded
// holds in a dry run too.
func (p *Policy) spare(r *rule, e Event, v Verdict) bool {
	if v.Allowed || !p.cfg.DryRun || r.key == keyMax {
		return false
	}
	r.spared.Add(1)
	p.log.Info("dry run: would refuse", "moment", e.Kind.String(), "peer", e.Source.String(), "method", e.Method, "user", e.User, "number", e.Number,
		"rule", r.key, "reason", v.Reason)
	return true
}

// judged counts a refusal that budgets gave a call after it was let through. In a
// dry run it is none.
func (p *Policy) judged(key string, v Verdict, t *tab) Verdict {
	for _, r := range p.rules {
		if r.key != keyLimits {
			continue
		}
		if p.spare(r, Event{Kind: Call, Source: t.source, User: t.user, Number: t.number}, v) {
			return Verdict{Allowed: true}
		}
		r.refused.Add(1)
	}
	v.Rule = key
	return v
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
