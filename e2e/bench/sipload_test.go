package bench

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// tally is what a load came to.
type tally struct {
	done    int
	failed  int
	first   error // of those that failed
	took    time.Duration
	latency []time.Duration
}

func (t *tally) rate() float64 { return float64(t.done) / t.took.Seconds() }

// at is a percentile of the latencies, in milliseconds.
func (t *tally) at(percent float64) float64 {
	if len(t.latency) == 0 {
		return 0
	}
	slices.Sort(t.latency)
	i := min(len(t.latency)-1, int(percent/100*float64(len(t.latency))))
	return float64(t.latency[i]) / float64(time.Millisecond)
}

// collector gathers a tally from many goroutines.
type collector struct {
	mu sync.Mutex // guards t
	t  tally
}

func (c *collector) note(d time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		if c.t.failed++; c.t.first == nil {
			c.t.first = err
		}
		return
	}
	c.t.done++
	c.t.latency = append(c.t.latency, d)
}

// crowd has n workers do something again and again, each as soon as it is done, for
// some time. One that failed does nothing more.
func crowd(n int, length time.Duration, op func(worker int) (time.Duration, error)) tally {
	var c collector
	var wg sync.WaitGroup
	began := time.Now()
	for i := range n {
		wg.Go(func() { // waited for below
			for time.Since(began) < length {
				d, err := op(i)
				if c.note(d, err); err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	c.t.took = time.Since(began)
	return c.t
}

// paced has n workers do something at a rate, each at times that are fixed before; who
// is late does not begin later for it.
func paced(n int, rate float64, length time.Duration, op func(worker int) (time.Duration, error)) tally {
	var c collector
	var wg sync.WaitGroup
	every := time.Duration(float64(n) / rate * float64(time.Second))
	began := time.Now()
	for i := range n {
		wg.Go(func() { // waited for below
			for at := began.Add(every * time.Duration(i) / time.Duration(n)); at.Sub(began) < length; at = at.Add(every) {
				time.Sleep(time.Until(at))
				late := max(0, time.Since(at)-timerSlack)
				d, err := op(i)
				if c.note(d+late, err); err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	c.t.took = time.Since(began)
	return c.t
}

// timerSlack is how late a worker wakes up without anybody's fault but the clock's.
const timerSlack = 2 * time.Millisecond

// storm has n workers do something at once, and returns what became of it.
func storm(n int, op func(worker int) error) tally {
	var c collector
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		wg.Go(func() { // waited for below
			<-gate
			began := time.Now()
			err := op(i)
			c.note(time.Since(began), err)
		})
	}
	began := time.Now()
	close(gate)
	wg.Wait()
	c.t.took = time.Since(began)
	return c.t
}

// few does something n times, some at a time, and returns the first fault.
func few(n, atOnce int, op func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, atOnce)
	for range atOnce {
		wg.Go(func() { // waited for below
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := op(i); err != nil {
					errs <- fmt.Errorf("number %d: %w", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}
