package policy

import (
	"container/list"
	"net/netip"
	"time"
)

// maxIdle bounds the sources remembered without an open connection, about
// 250 bytes each.
const maxIdle = 1 << 16

// sources counts connections and their rate by source. A source with a
// connection open is never forgotten. One without is, when its bucket is full
// again, for then forgetting loses nothing; or when there are too many, the
// longest unseen first. The caller holds Policy.mu.
type sources struct {
	perSecond, burst float64
	fill             time.Duration // an empty bucket is full after this

	byPrefix map[netip.Prefix]*source
	idle     *list.List // of *source without open connections, longest unseen in front
}

// source is one prefix and its token bucket.
type source struct {
	prefix netip.Prefix
	open   int
	tokens float64
	seen   time.Time     // when tokens was right
	place  *list.Element // in sources.idle; nil while connections are open
}

func newSources(perSecond float64, burst int) sources {
	s := sources{
		perSecond: perSecond,
		burst:     float64(burst),
		byPrefix:  make(map[netip.Prefix]*source),
		idle:      list.New(),
	}
	if perSecond > 0 {
		s.fill = time.Duration(float64(burst) / perSecond * float64(time.Second))
	}
	return s
}

// open is the number of connections of a source, which it does not remember
// for having been asked.
func (t *sources) open(prefix netip.Prefix) int {
	if s := t.byPrefix[prefix]; s != nil {
		return s.open
	}
	return 0
}

// get finds or begins a source, its bucket filled up to now.
func (t *sources) get(prefix netip.Prefix, now time.Time) *source {
	t.expire(now)
	s := t.byPrefix[prefix]
	if s == nil {
		if t.idle.Len() >= maxIdle {
			t.forget(t.idle.Front().Value.(*source))
		}
		s = &source{prefix: prefix, tokens: t.burst, seen: now}
		t.byPrefix[prefix] = s
		s.place = t.idle.PushBack(s)
		return s
	}
	t.refill(s, now)
	if s.place != nil {
		t.idle.MoveToBack(s.place)
	}
	return s
}

func (t *sources) refill(s *source, now time.Time) {
	if past := now.Sub(s.seen); past > 0 { // a clock may step back
		s.tokens = min(t.burst, s.tokens+past.Seconds()*t.perSecond)
	}
	s.seen = now
}

// take takes one connection's token, if there is one.
func (s *source) take() bool {
	if s.tokens < 1 {
		return false
	}
	s.tokens--
	return true
}

func (t *sources) opened(s *source) {
	s.open++
	if s.place != nil {
		t.idle.Remove(s.place)
		s.place = nil
	}
}

func (t *sources) closed(s *source, now time.Time) {
	s.open--
	t.refill(s, now)
	if s.open == 0 {
		if t.idle.Len() >= maxIdle {
			t.forget(t.idle.Front().Value.(*source))
		}
		s.place = t.idle.PushBack(s)
	}
}

// expire forgets up to two sources whose buckets are full by now. Two a call
// outrun the one that a call can add.
func (t *sources) expire(now time.Time) {
	for range 2 {
		front := t.idle.Front()
		if front == nil {
			return
		}
		s := front.Value.(*source)
		if now.Sub(s.seen) < t.fill {
			return
		}
		t.forget(s)
	}
}

func (t *sources) forget(s *source) {
	t.idle.Remove(s.place)
	delete(t.byPrefix, s.prefix)
}
