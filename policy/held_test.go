package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func nth(i int) netip.Addr { return netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}) }

// crowded is a policy that remembers as much as it may.
func crowded(t testing.TB) *Policy {
	t.Helper()
	p, c := build(t, func(c *Config) { c.NewConnectionsPerSecond = 0 })
	p.ledger = &Memory{}
	for i := range maxBans {
		p.bans.set(Ban{Source: prefixOf(nth(i)), Since: c.now(), Until: c.now().Add(time.Duration(i+1) * time.Second)})
	}
	for i := range maxSuspects {
		p.watch.suspect(nth(i)).left = c.now()
	}
	for i := range maxAccounts {
		p.budget.abroad.get(fmt.Sprint("user", i))
	}
	return p
}

// Whoever asks whether a source is banned waits for nobody who changes the bans, or
// lists them.
func TestBansAreReadWithoutALock(t *testing.T) {
	p, _ := build(t, nil)
	if _, err := p.AddBan(prefixOf(nth(1)), 0, "test"); err != nil {
		t.Fatal(err)
	}
	p.bans.mu.Lock()
	defer p.bans.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if p.Decide(Event{Kind: Connection, Source: nth(1)}).Allowed || !p.Decide(Event{Kind: Connection, Source: nth(2)}).Allowed {
			t.Error("the wrong one is banned")
		}
		if n := len(p.Bans()); n != 1 || p.Stats().Bans != 1 {
			t.Errorf("%d bans are listed", n)
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("it waits")
	}
}

// Nor does a request wait until all sources were looked at.
func TestSourcesAreLookedAtBySlices(t *testing.T) {
	p, _ := build(t, nil)
	w := p.watch
	for i := range maxSuspects {
		w.suspect(nth(i))
	}
	for range 50 { // on a busy machine nobody else may come to run meanwhile
		var let atomic.Bool
		var waiter sync.WaitGroup
		seen, before := make(map[netip.Prefix]bool), 0
		w.each(func(s *suspect) {
			if len(seen) == 0 {
				waiter.Go(func() {
					w.mu.Lock()
					defer w.mu.Unlock()
					let.Store(true)
				})
			}
			if !let.Load() {
				before++
			}
			seen[s.prefix] = true
		})
		waiter.Wait()
		if len(seen) != maxSuspects {
			t.Fatalf("%d of %d sources were looked at", len(seen), maxSuspects)
		}
		if before < len(seen) {
			return
		}
	}
	t.Error("who waits for the mutex is let in after the last one")
}

// BenchmarkHeld tells how long a connection waits at most for what goes on beside it,
// when as much is remembered as may be: by the median of all rounds.
func BenchmarkHeld(b *testing.B) {
	for _, beside := range []struct {
		name string
		do   func(p *Policy, n int)
	}{
		{"no lock", func(p *Policy, _ int) { // what the machine itself makes wait
			for range 4 {
				new(bans).replace(p.bans.list())
			}
		}},
		{"save", func(p *Policy, _ int) { p.Save() }},
		{"list", func(p *Policy, _ int) { p.Bans() }},
		{"shed", func(p *Policy, n int) {
			for i := range maxBans/8 + 1 {
				p.bans.add(prefixOf(nth(1<<20+n<<13+i)), "test", p.now())
			}
		}},
	} {
		b.Run(beside.name, func(b *testing.B) {
			p, e, n := crowded(b), from("198.51.100.1"), 0
			var waits []time.Duration
			for b.Loop() {
				done, waited := make(chan struct{}), make(chan time.Duration)
				go func() {
					longest := time.Duration(0)
					for {
						began := time.Now()
						p.Decide(e).Release()
						longest = max(longest, time.Since(began))
						select {
						case <-done:
							waited <- longest
							return
						case <-time.After(50 * time.Microsecond):
						}
					}
				}()
				beside.do(p, n)
				n++
				close(done)
				waits = append(waits, <-waited)
			}
			slices.Sort(waits)
			b.ReportMetric(float64(waits[len(waits)/2].Microseconds()), "longest-µs")
		})
	}
}
