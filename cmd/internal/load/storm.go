package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/load/phone"
)

// storm has all phones come at once, or within the plan's window, and come back
// as it says, until all are registered or its duration is over.
func (f *fleet) storm(ctx context.Context) *measure.Storm {
	ctx, done := context.WithTimeout(ctx, f.plan.Duration)
	defer done()
	if f.plan.Cut {
		f.cut()
	}
	start := time.Now()
	var all sync.WaitGroup
	var mu sync.Mutex // guards what follows
	var after []time.Duration
	attempts := 0
	for i, m := range f.members {
		due := start.Add(f.plan.Window * time.Duration(i) / time.Duration(len(f.members)))
		all.Go(func() { // ends when it is registered, or with ctx; waited for below
			n, ok := f.come(ctx, m, due)
			mu.Lock()
			defer mu.Unlock()
			if attempts += n; ok {
				after = append(after, time.Since(start))
			}
		})
	}
	all.Wait()
	slices.Sort(after)
	s := &measure.Storm{Registered: len(after), Attempts: attempts}
	if half := (len(f.members) + 1) / 2; len(after) >= half {
		s.HalfAfter = after[half-1].Seconds()
	}
	if len(after) == len(f.members) {
		s.AllAfter = after[len(after)-1].Seconds()
	}
	return s
}

// cut ends all connections, as a server that restarts does.
func (f *fleet) cut() {
	var all sync.WaitGroup
	for _, m := range f.members {
		all.Go(func() { f.drop(m) }) // ends at once; waited for below
	}
	all.Wait()
}

// come registers one phone, however often it takes.
func (f *fleet) come(ctx context.Context, m *member, due time.Time) (attempts int, ok bool) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if !sleepUntil(ctx, timer, due) {
			return attempts, false
		}
		attempts++
		f.record.Due(Storm)
		f.record.Took(measure.Lag, -1, time.Since(due))
		err := f.register(ctx, m, due, "")
		f.outcome(ctx, Storm, m, err)
		if err == nil {
			return attempts, true
		}
		f.drop(m)
		wait, again := f.plan.Retry.after(attempts, err)
		if !again {
			return attempts, false
		}
		due = time.Now().Add(wait)
	}
}

// after is how long a phone waits that failed some times in a row: between half
// of and all of twice as long as before (RFC 5626 section 4.5), and not shorter
// than the server asks for.
func (r Retry) after(failures int, why error) (wait time.Duration, again bool) {
	if r.Base <= 0 {
		return 0, false
	}
	upper := r.Max
	if failures < 30 {
		upper = min(r.Max, r.Base<<failures)
	}
	wait = upper/2 + rand.N(upper/2+1)
	var refused *phone.Refused
	if errors.As(why, &refused) {
		wait = max(wait, refused.RetryAfter)
	}
	return wait, true
}
