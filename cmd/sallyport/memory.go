package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	leastGarbage = 8 << 20         // bytes of garbage that there may be, or as many as are in use;
	mostGarbage  = 128 << 20       // and this many, or
	mostPart     = 4               // times what is in use, where they
	collectAfter = 2 * time.Second // are made in so much time
	quietRate    = 1 << 20         // bytes allocated in a second: nobody does much
	worthwhile   = 4 << 20         // bytes allocated since memory was given back: nothing worth the work else,
	manyEnded    = 100             // or goroutines, one of each connection, that have ended
	manyBegun    = 50              // of which so many have begun since the last collection: see percentFor
)

// calm is how long nobody does much before memory is given back: once when transactions
// are over that are held for RFC 3261's timer K, and once more for those of timer L.
var calm = []time.Duration{6 * time.Second, 40 * time.Second}

// memory lets signalling make garbage while there is much of it, and gives the memory
// back when there is not. What is in use is small here, and to collect whenever it has
// grown by some part cost a third of a loaded edge's time. But what a storm of
// connections leaves behind keeps the places between them, and an idle connection is to
// cost what it holds: so while they come, little garbage is made between them. The
// environment's GOGC is the operator's word: then nothing is done.
type memory struct {
	live metrics.Sample // bytes that the last collection found in use
	made metrics.Sample // bytes allocated since the start

	mu   sync.Mutex // guards what follows, and the collector's setting
	over bool
}

func newMemory() *memory {
	return &memory{
		live: metrics.Sample{Name: "/gc/heap/live:bytes"},
		made: metrics.Sample{Name: "/gc/heap/allocs:bytes"},
	}
}

// Run does so until ctx ends, and leaves the collector as it was.
func (m *memory) Run(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	before := debug.SetGCPercent(100)
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.over = true
		debug.SetGCPercent(before)
	}()
	m.afterEach(m.allocated(), time.Now(), runtime.NumGoroutine())
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	quiet := quiet{last: m.allocated(), since: time.Now()}
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if quiet.over(now, m.allocated(), runtime.NumGoroutine()) {
				debug.FreeOSMemory()
				quiet.given = m.allocated()
			}
		}
	}
}

// quiet is the time in which nobody does much.
type quiet struct {
	since       time.Time
	next        int    // of calm
	last, given uint64 // bytes allocated: a second ago, and when memory was given back
	most        int    // goroutines that there were
	ended       bool   // many of which have ended
}

// over tells, each second, whether it has lasted so long that memory is to be given
// back. That many connections end is something done, though it allocates next to
// nothing: those that nobody closed end when all else has long been quiet.
func (q *quiet) over(now time.Time, made uint64, routines int) bool {
	if q.most = max(q.most, routines); q.most-routines >= manyEnded {
		q.most, q.ended = routines, true
		q.since, q.next = now, 0
	}
	if made-q.last > quietRate {
		q.since, q.next = now, 0
	}
	if q.last = made; q.next == len(calm) || now.Sub(q.since) < calm[q.next] {
		return false
	}
	q.next++
	worth := made-q.given > worthwhile || q.ended || q.next > 1
	q.ended = false
	return worth
}

func (m *memory) allocated() uint64 {
	sample := []metrics.Sample{m.made}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// afterEach sets when the next collection begins, after each, until Run ends. made were
// allocated at the last one, when there were so many goroutines.
func (m *memory) afterEach(made uint64, last time.Time, routines int) {
	mark := &struct{ self *memory }{m} // is garbage at once, and cleaned up after one collection
	runtime.AddCleanup(mark, func(m *memory) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.over {
			return
		}
		sample := []metrics.Sample{m.live, m.made}
		metrics.Read(sample)
		live, now := sample[0].Value.Uint64(), sample[1].Value.Uint64()
		running := runtime.NumGoroutine()
		debug.SetGCPercent(percentFor(live, now-made, time.Since(last), running-routines))
		m.afterEach(now, time.Now(), running)
	}, m)
}

// percentFor is the part of what is in use, by which it may grow (runtime/debug,
// SetGCPercent), where so much was allocated in some time, and so many more goroutines
// run. Little in use counts as 4 MB, as it does there.
func percentFor(live, made uint64, took time.Duration, begun int) int {
	used := float64(max(live, 4<<20))
	if begun >= manyBegun {
		return int(max(25, 100*leastGarbage/used))
	}
	wanted := float64(made) * collectAfter.Seconds() / max(took, time.Millisecond).Seconds()
	most := max(leastGarbage, min(mostPart*used, mostGarbage))
	return int(max(100, 100*min(max(wanted, leastGarbage), most)/used))
}
