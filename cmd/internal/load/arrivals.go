package load

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
)

// arrivals says when the next thing is due. It keeps to its clock: one that is
// late makes none of the others late.
type arrivals struct {
	rate   float64 // a second
	even   bool
	random *rand.Rand
	next   time.Duration // since the start
}

// due is when the next one is, since the start.
func (a *arrivals) due() time.Duration {
	at := a.next
	gap := 1 / a.rate
	if !a.even {
		gap *= a.random.ExpFloat64()
	}
	a.next += time.Duration(gap * float64(time.Second))
	return at
}

// run calls begin for each until a duration has passed, or ctx ends. begin must
// not wait.
func (a *arrivals) run(ctx context.Context, duration time.Duration, begin func(due time.Time)) {
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		at := a.due()
		if at >= duration {
			break
		}
		if !sleepUntil(ctx, timer, start.Add(at)) {
			return
		}
		begin(start.Add(at))
	}
	sleepUntil(ctx, timer, start.Add(duration))
}

func sleepUntil(ctx context.Context, timer *time.Timer, at time.Time) bool {
	if wait := time.Until(at); wait > 0 {
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

// mixture draws operations by their weights.
type mixture struct {
	ops    []measure.Operation
	upTo   []int // sums of the weights
	random *rand.Rand
}

func newMixture(weights map[measure.Operation]int, random *rand.Rand) *mixture {
	m := &mixture{random: random}
	sum := 0
	for _, op := range Operations { // in one order: a seed draws the same each time
		if weights[op] > 0 {
			sum += weights[op]
			m.ops, m.upTo = append(m.ops, op), append(m.upTo, sum)
		}
	}
	return m
}

func (m *mixture) draw() measure.Operation {
	n := m.random.IntN(m.upTo[len(m.upTo)-1])
	i, exact := slices.BinarySearch(m.upTo, n)
	if exact {
		i++
	}
	return m.ops[i]
}
