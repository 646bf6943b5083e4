package bench

import (
	"os"
	"time"
)

const (
	genOn       = 0 // processors
	relayOn     = 1
	searchFirst = 60000
	searchCalm  = 10000 // what must do no harm
	searchLast  = 1000  // lower, a relay is taken for broken
	searchTries = 4     // what fails undisturbed has failed
)

// search looks for the highest rate that one processor relays without loss.
//
// What is late counts as lost. Else a relay with large buffers would seem to
// hold any rate, as long as the try is short.
type search struct {
	b       *bench
	sys     system
	suite   suite
	relay   relay
	calls   []*call
	limited bool // what stopped it was the generator
}

func (b *bench) search(sys system, s suite) {
	x := &search{b: b, sys: sys, suite: s}
	x.begin()
	defer func() {
		x.relay.end()
		b.pin(os.Getpid(), genOn, relayOn)
	}()
	rate := highest(searchFirst, b.plan.precision, func(rate int) bool { return x.holds(rate, b.plan.probe) })
	for rate > searchLast && !x.holds(rate, 2*b.plan.probe) { // a long try confirms it
		rate = int(float64(rate) * (1 - b.plan.precision))
	}
	if rate <= searchLast {
		b.t.Errorf("%s holds no rate on one core", sys.name)
	}
	b.report.core(b.t, s, sys.name, rate, x.limited)
}

// begin starts a relay, with the calls set up, and pins it.
func (x *search) begin() {
	b := x.b
	b.pin(os.Getpid(), genOn, relayOn) // what the relay finds when it starts
	x.relay = b.start(x.sys, 1)
	x.calls = b.calls(b.plan.searchCalls, x.suite)
	if err := x.relay.connect(x.calls); err != nil || b.t.Failed() {
		b.t.Fatalf("%s: %v", x.sys.name, err)
	}
	b.window(x.calls, searchCalm, b.plan.settle, nil)
	b.pin(x.relay.Pid(), relayOn)
	b.pin(os.Getpid(), genOn)
}

// holds tries a rate, and again if it failed while others disturbed it.
func (x *search) holds(rate int, length time.Duration) bool {
	b := x.b
	for try := 1; ; try++ {
		var m measured
		w := b.window(x.calls, rate, length, &m, x.relay.Pid())
		if m.loss() <= mayMiss && !m.behind {
			if err := w.verify(true); err != nil {
				b.t.Fatalf("%s: %v", x.sys.name, err)
			}
			return true
		}
		x.recover()
		if m.foreign < disturbed || try == searchTries || !b.patient() {
			x.limited = x.limited || m.behind
			return false
		}
	}
}

// recover begins anew with a relay that has not survived too high a rate: in
// rtpengine, sockets that were full may never be read again.
func (x *search) recover() {
	var m measured
	x.b.window(x.calls, searchCalm, 500*time.Millisecond, nil) // empties what is queued
	x.b.window(x.calls, searchCalm, 500*time.Millisecond, &m, x.relay.Pid())
	if m.loss() > mayMiss {
		x.relay.end()
		x.begin()
	}
}

// highest finds the highest rate that holds, within a precision, from one to
// begin with; 0 if none does.
func highest(first int, precision float64, holds func(rate int) bool) int {
	low, high := 0, first
	for holds(high) {
		low, high = high, high*3/2
	}
	for low == 0 { // below the first
		if high /= 2; high < searchLast {
			return 0
		}
		if holds(high) {
			low, high = high, high*2
		}
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
