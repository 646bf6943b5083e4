package load

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/load/phone"
)

func TestEven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := arrivals{rate: 10, even: true}
		start, n := time.Now(), 0
		a.run(t.Context(), 2*time.Second, func(due time.Time) {
			if want := start.Add(time.Duration(n) * 100 * time.Millisecond); due.Sub(want).Abs() > time.Microsecond || time.Since(due) > time.Microsecond {
				t.Errorf("arrival %d is due at %s, want %s", n, due.Sub(start), want.Sub(start))
			}
			n++
		})
		if n != 20 || time.Since(start) != 2*time.Second {
			t.Errorf("%d arrivals in %s", n, time.Since(start))
		}
	})
}

func TestPoisson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, seconds = 100, 200
		a := arrivals{rate: rate, random: rand.New(rand.NewPCG(1, 2))}
		counts, start := make([]float64, seconds), time.Now()
		a.run(t.Context(), seconds*time.Second, func(due time.Time) { counts[int(due.Sub(start)/time.Second)]++ })
		mean, variance := 0.0, 0.0
		for _, c := range counts {
			mean += c / seconds
		}
		for _, c := range counts {
			variance += (c - mean) * (c - mean) / seconds
		}
		// Of a Poisson process both are the rate.
		if math.Abs(mean-rate) > rate/20 || variance < rate/2 || variance > 2*rate {
			t.Errorf("arrivals a second: mean %.1f, variance %.1f; want %d", mean, variance, rate)
		}
	})
}

func TestArrivalsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		start := time.Now()
		(&arrivals{rate: 1, even: true}).run(ctx, time.Hour, func(time.Time) {})
		if time.Since(start) > time.Second {
			t.Errorf("it went on for %s", time.Since(start))
		}
	})
}

// A server that stalls for a second is charged for all that was due meanwhile. The
// control measures as a closed loop does, from when each was sent: it sees one slow
// answer.
func TestNoOmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		record, closed := measure.New(1), measure.New(1)
		server := make(chan struct{}, 1) // answers one at a time
		stalls := time.Now().Add(time.Second)
		var all sync.WaitGroup
		a := arrivals{rate: 100, even: true}
		a.run(t.Context(), 3*time.Second, func(due time.Time) {
			all.Go(func() {
				server <- struct{}{}
				defer func() { <-server }()
				sent := time.Now()
				if sent.After(stalls) {
					stalls = sent.Add(time.Hour)
					time.Sleep(time.Second)
				}
				time.Sleep(time.Millisecond)
				record.Took(measure.Register, 0, time.Since(due))
				closed.Took(measure.Register, 0, time.Since(sent))
			})
		})
		all.Wait()
		name := func(int) string { return "phone" }
		open, control := record.Report(nil, 0, name).Latency[measure.Register], closed.Report(nil, 0, name).Latency[measure.Register]
		if open.P90 < 500 || open.Count != 300 {
			t.Errorf("p90 of %d is %.1f ms: a third of them waited, for half a second each", open.Count, open.P90)
		}
		if control.P90 > 10 {
			t.Errorf("the control's p90 is %.1f ms: it does not tell the two apart", control.P90)
		}
	})
}

func TestMixture(t *testing.T) {
	m := newMixture(map[measure.Operation]int{Register: 5, Call: 3, Hold: 2}, rand.New(rand.NewPCG(3, 4)))
	drawn := make(map[measure.Operation]int)
	for range 10_000 {
		drawn[m.draw()]++
	}
	for op, want := range map[measure.Operation]int{Register: 5000, Call: 3000, Hold: 2000} {
		if got := drawn[op]; got < want-200 || got > want+200 {
			t.Errorf("%s was drawn %d times, want some %d", op, got, want)
		}
	}
}

func TestRetry(t *testing.T) {
	r := Retry{Base: 30 * time.Second, Max: 30 * time.Minute}
	for failures, upper := range map[int]time.Duration{1: time.Minute, 2: 2 * time.Minute, 5: 16 * time.Minute, 6: 30 * time.Minute, 1000: 30 * time.Minute} {
		for range 100 { // RFC 5626 section 4.5: from half of it on
			if wait, again := r.after(failures, errors.New("")); !again || wait < upper/2 || wait > upper {
				t.Fatalf("after %d failures it waits %s, want %s to %s", failures, wait, upper/2, upper)
			}
		}
	}
	if wait, _ := r.after(1, &phone.Refused{Status: 503, RetryAfter: time.Hour}); wait != time.Hour {
		t.Errorf("it waits %s, and was asked to for an hour", wait)
	}
	if _, again := (Retry{}).after(1, nil); again {
		t.Error("it comes back, and was not to")
	}
}
