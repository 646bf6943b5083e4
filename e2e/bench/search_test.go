package bench

import (
	"os"
	"time"
)

// The processors of a search.
const (
	genOn       = 0
	relayOn     = 1
	searchFirst = 20000
)

// search finds the highest rate that one processor relays without loss.
//
// What is late counts as lost. Else a relay with large buffers would seem to
// hold any rate, as long as the try is short.
func (b *bench) search(sys system, s suite) {
	r := b.start(sys, 1)
	defer r.end()
	calls := b.calls(b.plan.searchCalls, s)
	if err := r.connect(calls); err != nil || b.t.Failed() {
		b.t.Fatalf("%s: %v", sys.name, err)
	}
	b.window(calls, searchFirst/2, b.plan.settle, nil)
	b.pin(r.Pid(), relayOn)
	b.pin(os.Getpid(), genOn)
	defer b.pin(os.Getpid(), genOn, relayOn)
	limited := false // what stopped the search was the generator
	holds := func(rate int, length time.Duration) bool {
		for try := 1; ; try++ {
			var m measured
			w := b.window(calls, rate, length, &m, r.Pid())
			if m.loss() <= mayMiss && !m.behind {
				if err := w.verify(true); err != nil {
					b.t.Fatalf("%s: %v", sys.name, err)
				}
				return true
			}
			if m.foreign < disturbed || try == tries {
				limited = limited || m.behind
				return false
			}
		}
	}
	rate := highest(searchFirst, b.plan.precision, func(rate int) bool { return holds(rate, b.plan.probe) })
	for rate > 0 && !holds(rate, 2*b.plan.probe) { // a long try confirms it
		rate = int(float64(rate) * (1 - b.plan.precision))
	}
	b.report.core(b.t, s, sys.name, rate, limited)
}

// highest finds the highest rate that holds, within a precision, from one to
// begin with.
func highest(first int, precision float64, holds func(rate int) bool) int {
	low, high := 0, first
	for holds(high) {
		low, high = high, high*3/2
	}
	if low == 0 { // below the first
		for high /= 2; high > 100 && !holds(high); high /= 2 {
		}
		low, high = high, high*2
	}
	for float64(high-low) > precision*float64(high) {
		if mid := (low + high) / 2; holds(mid) {
			low = mid
		} else {
			high = mid
		}
	}
	return low
}

func (b *bench) pin(pid int, processors ...int) {
	b.t.Helper()
	if err := pin(pid, processors...); err != nil {
		b.t.Fatal(err)
	}
}

// drops counts what the generator's own sockets lost.
func (g *generator) drops() (sum int, err error) {
	for _, t := range g.taps {
		n, err := t.drops()
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}
