package media

import (
	"slices"
	"sync"
	"time"
)

const (
	frame = 20 * time.Millisecond // of each packet
	slots = 20                    // into which it is parted
)

// pacer sends the packets of many sessions, each in its slot of every frame.
type pacer struct {
	mu   sync.Mutex // guards what follows
	slot [slots][]*Session
	next int // that the next session joins
}

func (p *pacer) add(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slot[p.next] = append(p.slot[p.next], s)
	p.next = (p.next + 1) % slots
}

// run keeps to its clock: what a late tick has missed is sent at once, up to a
// frame's worth.
func (p *pacer) run(stop <-chan struct{}) {
	tick := time.NewTicker(frame / slots)
	defer tick.Stop()
	start, done := time.Now(), 0
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		due := int(time.Since(start) / (frame / slots))
		done = max(done, due-slots)
		for ; done < due; done++ {
			p.beat(done % slots)
		}
	}
}

// beat lets each session of a slot send, and drops those that are closed.
func (p *pacer) beat(i int) {
	p.mu.Lock()
	all := p.slot[i]
	p.mu.Unlock()
	closed, now := false, time.Now()
	for _, s := range all {
		closed = !s.beat(now) || closed
	}
	if !closed {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slot[i] = slices.DeleteFunc(slices.Clone(p.slot[i]), (*Session).over)
}
