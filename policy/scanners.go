package policy

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// maxHeld bounds the connections held without an answer at a time.
const maxHeld = 64

// marks are the names that scanners give themselves.
type marks struct {
	list []string // in lower case

	mu   sync.Mutex  // guards held
	held []time.Time // until when connections are
}

func newMarks(list []string) *marks {
	m := &marks{}
	for _, each := range list {
		m.list = append(m.list, strings.ToLower(each))
	}
	return m
}

// in finds a mark in what a program calls itself.
func (m *marks) in(agent string) string {
	if agent == "" {
		return ""
	}
	agent = strings.ToLower(agent)
	for _, mark := range m.list {
		if strings.Contains(agent, mark) {
			return mark
		}
	}
	return ""
}

// hold takes one of the places in which a scanner waits for an answer, and tells
// whether there was one.
func (m *marks) hold(now time.Time, span time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	kept := m.held[:0]
	for _, until := range m.held {
		if now.Before(until) {
			kept = append(kept, until)
		}
	}
	m.held = kept
	if len(m.held) >= maxHeld {
		return false
	}
	m.held = append(m.held, now.Add(span))
	return true
}

// scanning ends connections of programs that nobody calls with. They are told
// nothing, not even that SIP is spoken here.
func (p *Policy) scanning(e Event) (Verdict, bool) {
	mark := p.marks.in(e.Agent)
	if mark == "" {
		return Verdict{}, false
	}
	v := Verdict{Reason: fmt.Sprintf("the program calls itself %q, as scanners do", mark), End: true, Hush: true}
	if p.cfg.Tarpit > 0 && !p.cfg.DryRun && p.marks.hold(p.now(), p.cfg.Tarpit) {
		v.After = p.cfg.Tarpit
	}
	p.condemn(e, fmt.Sprintf("calls itself %q", mark), v.After > 0)
	return v, true
}
