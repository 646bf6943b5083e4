package media

import (
	"net/netip"
	"sync"
)

// EventKind is what happened to a session.
type EventKind uint8

// The kinds.
const (
	Latched EventKind = iota // the phone was heard at a new address
	Silence                  // the phone was not heard for Config.Silence
	Secured                  // the keys of DTLS are in force
	Failed                   // ICE or DTLS failed; told again from time to time
)

// Event is what a session's owner is told.
type Event struct {
	Kind   EventKind
	Stream int
	Remote netip.AddrPort // of Latched and Secured
	TCP    bool           // Remote is the far end of a connection (RFC 6544)
	Cause  string         // of Failed, for an operator
}

// Notify takes a session's events, on a goroutine that all sessions share: it
// must not wait for long. It may be called once more just after Close. In a
// flood of them, Latched is not told each time.
type Notify func(Event)

// maxWaiting bounds the Latched events that wait. A phone can cause as many as
// it sends packets; what waits for delivery must not grow with that.
const maxWaiting = 1024

// events carries what workers have to tell to the goroutine that tells it.
type events struct {
	mu      sync.Mutex // guards what follows
	waiting []notice
	ended   bool
	some    *sync.Cond
}

type notice struct {
	session *Session
	event   Event
}

func newEvents() *events {
	e := &events{}
	e.some = sync.NewCond(&e.mu)
	return e
}

func (e *events) put(s *Session, ev Event) {
	if s.notify == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.ended && (ev.Kind != Latched || len(e.waiting) < maxWaiting) {
		e.waiting = append(e.waiting, notice{s, ev})
		e.some.Signal()
	}
}

// deliver calls back until stop.
func (e *events) deliver() {
	for {
		e.mu.Lock()
		for len(e.waiting) == 0 && !e.ended {
			e.some.Wait()
		}
		batch := e.waiting
		e.waiting = nil
		ended := e.ended
		e.mu.Unlock()
		for _, n := range batch {
			n.session.notify(n.event)
		}
		if ended {
			return
		}
	}
}

func (e *events) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	e.some.Broadcast()
}
