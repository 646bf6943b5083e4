package flow

import (
	"maps"
	"sync"
)

// Stats is what a listener or the plain socket has counted, and holds now.
type Stats struct {
	Open       int
	Accepted   uint64
	Handshakes int               // now
	Events     map[string]uint64 // refusals, failures and endings by reason
	Clients    map[string]uint64 // clients' certificates refused, by reason
}

// counters count by reason. Reasons are words of this package only, so the
// map is bounded.
type counters struct {
	mu         sync.Mutex // guards what follows
	open       int
	accepted   uint64
	handshakes int
	events     map[string]uint64

	refusedClients map[string]uint64
}

func (c *counters) event(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.events == nil {
		c.events = make(map[string]uint64)
	}
	c.events[reason]++
}

func (c *counters) snapshot() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{Open: c.open, Accepted: c.accepted, Handshakes: c.handshakes, Events: maps.Clone(c.events), Clients: maps.Clone(c.refusedClients)}
}
