package flow

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Trunk is a peer on the secure side that is known by its certificate, over
// connections that either end began.
type Trunk struct {
	service
	cfg TrunkConfig

	mu       sync.Mutex // guards what follows
	flows    []*Flow
	dialled  map[*conn]chan struct{} // closed when another is to take the connection's place
	next     int                     // of the flows, in turn
	since    time.Time               // up, or down
	reason   string                  // why the last attempt failed or the last connection ended
	told     string                  // of it, last
	flapping bool                    // the last connection ended before anything came of it
	needed   func() bool             // of one that has retired: see Retire
	dials    uint64
	failures map[string]uint64
	shunned  map[netip.AddrPort]time.Time // until when others are tried first
	found    []netip.AddrPort             // where the peer is, as it was looked up last
}

// TrunkConfig says how a peer is reached and known.
type TrunkConfig struct {
	Name string
	// Locate finds where the peer is, the best first. It is asked before each
	// attempt; nil: the peer dials, and nobody else.
	Locate func(context.Context) ([]Target, error)
	// TLS is as a client's. It verifies the peer, and shows our certificate.
	TLS *tls.Config
	// ServerName is what the peer is asked for, at each connection anew; nil: as TLS
	// has it.
	ServerName func() string
	// Connections is how many to keep when dialling; 0: one.
	Connections int
	// OnUp is called with each connection that we dialled, before anything is read
	// from it; nil: nobody wants to know. It must not block.
	OnUp func(*Flow)
	// Withdrawn tells why a certificate that was taken no longer is; nil: none ever is.
	Withdrawn func(*tls.ConnectionState) error
}

// Target is one address of a peer.
type Target struct {
	Addr netip.AddrPort
}

// TrunkState is what an operator wants to know of a trunk.
type TrunkState struct {
	Up          bool // a connection is there
	Connections int
	Since       time.Time // when it came up or went down
	Reason      string    // why the last attempt failed or the last connection ended; empty: nothing did
}

// TrunkStats is what a trunk has counted, and holds now.
type TrunkStats struct {
	Connections int
	Dials       uint64            // attempts
	Failures    map[string]uint64 // of them, by cause
	Events      map[string]uint64 // endings of dialled connections, by reason
}

// NewTrunk makes a trunk. Nothing is dialled before Run.
func NewTrunk(cfg TrunkConfig, limits Limits, to Handler, log *slog.Logger) *Trunk {
	cfg.Connections = max(1, cfg.Connections)
	return &Trunk{
		service: service{limits: limits, to: to, log: log.With("trunk", cfg.Name), trace: &tracer{log}},
		cfg:     cfg, dialled: make(map[*conn]chan struct{}), failures: make(map[string]uint64), since: time.Now(),
	}
}

// Name is the trunk's, of its configuration.
func (t *Trunk) Name() string { return t.cfg.Name }

// Flow returns a connection to the peer, each in its turn; nil if there is none. One
// that is to be spared comes after all others.
func (t *Trunk) Flow() *Flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	var spared *Flow
	for range t.flows {
		t.next = (t.next + 1) % len(t.flows)
		switch f := t.flows[t.next]; {
		case f.Err() != nil:
		case f.Spared():
			spared = f
		default:
			return f
		}
	}
	return spared
}

// Instead returns a connection for what is of one that is gone, as Flow does. Where that
// one was to be spared, so is the other, if there is one: both are those of a process that
// others know nothing of.
func (t *Trunk) Instead(of *Flow) *Flow {
	if of.Spared() {
		for _, f := range t.Flows() {
			if f.Spared() && f.Err() == nil {
				return f
			}
		}
	}
	return t.Flow()
}

// Flows are all connections to the peer.
func (t *Trunk) Flows() []*Flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.flows)
}

// State returns a snapshot.
func (t *Trunk) State() TrunkState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return TrunkState{Up: len(t.flows) > 0, Connections: len(t.flows), Since: t.since, Reason: t.reason}
}

// Peers are where we connect to: the addresses that were looked up last, and those
// of the connections that are there.
func (t *Trunk) Peers() []netip.AddrPort {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := slices.Clone(t.found)
	for c := range t.dialled {
		if !slices.Contains(list, c.remote) {
			list = append(list, c.remote)
		}
	}
	return list
}

// Stats returns a snapshot.
func (t *Trunk) Stats() TrunkStats {
	events := t.snapshot().Events
	t.mu.Lock()
	defer t.mu.Unlock()
	return TrunkStats{Connections: len(t.flows), Dials: t.dials, Failures: maps.Clone(t.failures), Events: events}
}

// Recheck closes the connections that we dialled and whose certificate is not good
// any longer; Listener.Recheck does so with the others.
func (t *Trunk) Recheck() {
	t.mu.Lock()
	all := slices.Collect(maps.Keys(t.dialled))
	t.mu.Unlock()
	for _, c := range all {
		t.recheck(c)
	}
}

// recheck closes a connection whose certificate is not good any longer.
func (t *Trunk) recheck(c *conn) {
	if t.cfg.Withdrawn == nil {
		return
	}
	if err := t.cfg.Withdrawn(c.state); err != nil {
		t.log.Info("connection closed", "peer", c.remote.String(), "reason", err)
		c.end(err)
	}
}

// shunTime is for how long others are tried before an address that was shunned.
const shunTime = 5 * time.Minute

// Shun closes a connection whose far end does not do what it is there for. Its address
// is dialled again only if no other of the peer's takes us.
func (t *Trunk) Shun(f *Flow, reason error) {
	t.mu.Lock()
	if t.shunned == nil {
		t.shunned = make(map[netip.AddrPort]time.Time)
	}
	t.shunned[f.Remote()] = time.Now().Add(shunTime)
	t.mu.Unlock()
	f.Close(reason)
}

// ranked are the targets in the order to dial them, and are known from then on.
func (t *Trunk) ranked(targets []Target) []Target {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.shunned, func(_ netip.AddrPort, until time.Time) bool { return now.After(until) })
	slices.SortStableFunc(targets, func(a, b Target) int { return t.shunned[a.Addr].Compare(t.shunned[b.Addr]) })
	t.found = t.found[:0:0]
	for _, target := range targets {
		t.found = append(t.found, target.Addr)
	}
	return targets
}

// gained notes a connection, dialled or accepted.
func (t *Trunk) gained(f *Flow) {
	t.mu.Lock()
	t.flows = append(t.flows, f)
	first := len(t.flows) == 1
	if first {
		t.since = time.Now()
	}
	quietly := t.flapping
	t.mu.Unlock()
	if first {
		t.log.Log(context.Background(), level(quietly, slog.LevelInfo), "trunk is up", "peer", f.Remote().String())
	}
}

// lost notes that a connection is gone, whose Err tells why. One that ends soon and
// without a word, again and again, is told once for each reason.
func (t *Trunk) lost(f *Flow, lasted time.Duration) {
	reason := parting(f.Err())
	if reason == hungUp && !f.Spoke() && lasted < hasty {
		reason = hungUpHastily
	}
	t.mu.Lock()
	t.flows = slices.DeleteFunc(t.flows, func(g *Flow) bool { return g == f })
	last := len(t.flows) == 0
	if last {
		t.since = time.Now()
	}
	t.flapping = !f.Spoke() && lasted < steady
	quietly := t.flapping && t.told == reason
	t.told, t.reason = reason, reason
	t.mu.Unlock()
	if last && !errors.Is(f.Err(), ErrDone) && !errors.Is(f.Err(), ErrMoved) {
		t.log.Log(context.Background(), level(quietly, slog.LevelWarn), "trunk is down", "peer", f.Remote().String(), "reason", reason)
	}
}

// settled tells that the trunk is up where gained did not.
func (t *Trunk) settled(f *Flow) {
	t.mu.Lock()
	late := t.flapping
	t.flapping, t.told = false, ""
	t.mu.Unlock()
	if late {
		t.log.Info("trunk is up", "peer", f.Remote().String())
	}
}

func level(quietly bool, l slog.Level) slog.Level {
	if quietly {
		return slog.LevelDebug
	}
	return l
}
