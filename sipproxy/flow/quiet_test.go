package flow

import (
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
)

// A phone that pinged and falls silent is gone. One that never pings is not held
// to it.
func TestPingsThatStop(t *testing.T) {
	limits := DefaultLimits()
	limits.KeepAlive = 0
	h := newInbox()
	h.on = func(f *Flow, _ sip.Message) { f.Expect(100 * time.Millisecond) }
	l := serve(t, limits, h, nil)
	control := dial(t, l)
	send(t, control, options)
	pinger := dial(t, l)
	send(t, pinger, options)
	until(t, "both messages", func() bool { n, _ := h.count(); return n == 2 })
	send(t, pinger, "\r\n\r\n")
	pong := make([]byte, 2)
	if _, err := io.ReadFull(pinger, pong); err != nil || string(pong) != "\r\n" {
		t.Fatalf("the ping was answered %q, %v", pong, err)
	}
	until(t, "the end of one that falls silent", func() bool { _, closed := h.count(); return closed == 1 })
	h.mu.Lock()
	for f, err := range h.closed {
		if f.Remote() != addrPort(pinger.LocalAddr()) || !errors.Is(err, ErrQuiet) || ending(err) != "closed_quiet" {
			t.Errorf("%s ended by %v", f.Remote(), err)
		}
	}
	h.mu.Unlock()
	send(t, control, numbered(2))
	until(t, "a message of the other", func() bool { n, _ := h.count(); return n == 3 })
}

// Pings hold it, and so does anything else.
func TestPaceOfPings(t *testing.T) {
	var at time.Time
	p := &pace{limits: DefaultLimits(), half: new(atomic.Bool), set: func(t time.Time) { at = t }, quiet: time.Minute}
	p.before(false)
	if !errors.Is(p.over, ErrQuiet) || time.Until(at) > time.Minute {
		t.Fatalf("between messages: %v in %s", p.over, time.Until(at))
	}
	p.before(true)
	if !errors.Is(p.over, ErrStalled) {
		t.Fatalf("inside a message: %v", p.over)
	}
	p.quiet = 24 * time.Hour
	p.got()
	p.before(false)
	if !errors.Is(p.over, ErrIdle) {
		t.Fatalf("with pings rarer than the limit: %v", p.over)
	}
}
