package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/load/phone"
)

// Observer is told of a run's progress, each second.
type Observer interface {
	// Second is told of the one that has ended, of a phase.
	Second(phase string, p measure.Point)
}

// The bounds of a run's end.
const (
	goodbye = 5 * time.Second  // of one BYE, and of a callee that is to hear of it
	closing = 15 * time.Second // of all registrations
)

// Run does what a plan says. It returns a report also if ctx ends before; an error
// is a run that could not begin.
func Run(ctx context.Context, p Plan, o Observer) (*measure.Report, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if err := descriptors(p.Phones, p.Media); err != nil {
		return nil, err
	}
	record := measure.New(p.Phones)
	f, err := newFleet(&p, record)
	if err != nil {
		return nil, err
	}
	defer f.engine.Close()
	w := &watch{fleet: f, observer: o, stop: make(chan struct{})}
	w.done.Go(w.run) // ends with stop; waited for below
	before := resident()
	var bytes int64
	arrivals := time.Duration(0)
	storm, stayed := (*measure.Storm)(nil), false
	if p.Command != "storm" || p.Cut {
		w.phase("ramp")
		f.ramp(ctx)
		bytes = perPhone(before, int(f.signed.Load()))
	}
	begun := time.Now()
	switch {
	case ctx.Err() != nil:
	case p.Command == "storm":
		w.phase("storm")
		storm = f.storm(ctx)
		arrivals = time.Since(begun)
		w.phase("stay")
		sleepUntil(ctx, time.NewTimer(0), time.Now().Add(p.Stay))
		stayed = int(f.signed.Load()) == p.Phones
	default:
		w.phase("load")
		f.arrivals(ctx)
		arrivals = time.Since(begun)
		w.phase("ending")
		f.running.Wait() // each is bounded, and ctx cuts it short
	}
	w.phase("goodbye")
	w.kept.Wait()
	f.goodbye()
	close(w.stop)
	w.done.Wait()
	r := record.Report(p, arrivals, func(i int) string { return p.user(i) })
	if r.Storm = storm; storm != nil { // what failed before a phone was let in is no failure of it
		refresh := r.Operations[Refresh]
		r.Passed = stayed && (refresh == nil || refresh.Failed == 0)
	}
	r.Ended = ctx.Err() != nil
	done := 0
	for _, c := range r.Operations {
		done += c.Done
	}
	r.Passed = r.Passed && done > 0 // what was ended before it did anything shows nothing
	r.Generator = w.generator(bytes)
	return r, nil
}

// ramp registers all phones, at their rate, before anything is measured. In a run
// of registrations that is what is measured.
func (f *fleet) ramp(ctx context.Context) {
	if f.plan.Command == "register" {
		return
	}
	var all sync.WaitGroup
	next := 0
	a := arrivals{rate: f.plan.RampRate, even: true}
	last := time.Duration(float64(f.plan.Phones) / f.plan.RampRate * float64(time.Second))
	a.run(ctx, last, func(due time.Time) {
		if next >= len(f.members) {
			return
		}
		m := f.members[next]
		next++
		f.record.Due(Ramp)
		all.Go(func() { // ends with the registration; waited for below
			f.outcome(ctx, Ramp, m, f.register(ctx, m, due, "ramp_"))
		})
	})
	all.Wait()
}

// arrivals has operations come at the plan's rate.
func (f *fleet) arrivals(ctx context.Context) {
	random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	mix := newMixture(f.plan.Mix, random)
	a := arrivals{rate: f.plan.Rate, even: f.plan.Even, random: random}
	a.run(ctx, f.plan.Duration, func(due time.Time) { f.arrive(ctx, mix.draw(), due) })
}

// goodbye takes all registrations back and closes all connections.
func (f *fleet) goodbye() {
	f.leaving.Store(true)
	ctx, done := context.WithTimeout(context.Background(), closing)
	defer done()
	turns := make(chan struct{}, 200) // at a time
	var all sync.WaitGroup
	for _, m := range f.members {
		turns <- struct{}{}
		all.Go(func() { // ends with the connection; waited for below
			defer func() { <-turns }()
			if (m.signed.Load() || m.unsure.Load()) && m.Connected() {
				_ = m.Unregister(ctx) // a registrar that does not answer forgets it in time
			}
			f.drop(m)
		})
	}
	all.Wait()
}

// watch ticks: progress, keep-alives and what would run out.
type watch struct {
	fleet    *fleet
	observer Observer
	stop     chan struct{}
	done     sync.WaitGroup
	mu       sync.Mutex     // guards what follows
	kept     sync.WaitGroup // refreshes and pings; waited for once the phase lets none begin
	name     string         // of the phase
	routines int
	rss      int64
}

func (w *watch) phase(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.name = name
}

func (w *watch) run() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			if w.fleet.record.Pending() { // of a second that is cut short
				w.second()
			}
			return
		case <-tick.C:
			w.second()
		}
	}
}

// second ends one, and tells of it.
func (w *watch) second() {
	p := w.fleet.record.Tick(w.fleet.state())
	w.mu.Lock()
	name := w.name
	w.routines, w.rss = max(w.routines, runtime.NumGoroutine()), max(w.rss, resident())
	if name != "goodbye" { // a ramp may be longer than a registration, or than a server's patience with a silent phone
		w.keep(time.Now(), p.Second)
	}
	w.mu.Unlock()
	if w.observer != nil {
		w.observer.Second(name, p)
	}
}

// keep refreshes registrations that would run out, and pings connections in turn.
// w.mu is held.
func (w *watch) keep(now time.Time, second int) {
	f := w.fleet
	every := int(f.plan.KeepAlive / time.Second)
	for i, m := range f.members {
		refresh := m.Refresh()
		if !refresh.IsZero() && now.After(refresh) && m.mayRefresh(now) {
			w.kept.Go(func() { f.refresh(m) }) // ends with the answer; Run waits for it, as for the next one
		} else if every > 0 && (second+i)%every == 0 && m.online.Load() {
			w.kept.Go(m.Ping)
		}
	}
}

// refresh registers a phone once more. A connection that is lost meanwhile is told
// elsewhere.
func (f *fleet) refresh(m *member) {
	defer m.asking.Store(false)
	ctx, done := context.WithTimeout(context.Background(), f.plan.Timeout)
	defer done()
	err := m.Register(ctx)
	if errors.Is(err, phone.ErrDown) {
		return
	}
	if err != nil {
		m.postpone(err, f.plan.KeepAlive)
	}
	f.record.Due(Refresh)
	f.outcome(context.Background(), Refresh, m, err) // also if it took all its time
}

// mayRefresh tells whether a refresh may begin, and that it does: one at a time, and
// after one that failed not at once.
func (m *member) mayRefresh(now time.Time) bool {
	m.mu.Lock()
	again := m.again
	m.mu.Unlock()
	return !now.Before(again) && m.asking.CompareAndSwap(false, true)
}

// postpone has a refresh that failed wait before it is tried again: what the server
// says, and some time in any case.
func (m *member) postpone(why error, least time.Duration) {
	wait := max(least, 10*time.Second)
	var refused *phone.Refused
	if errors.As(why, &refused) {
		wait = max(wait, refused.RetryAfter)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.again = time.Now().Add(wait)
}

func (w *watch) generator(perPhone int64) measure.Generator {
	w.mu.Lock()
	defer w.mu.Unlock()
	return measure.Generator{CPUSeconds: processor().Seconds(), PeakRSS: max(w.rss, resident()), BytesPerPhone: perPhone, Goroutines: w.routines}
}

// perPhone is the memory of each registered phone, at rest.
func perPhone(before int64, phones int) int64 {
	if phones == 0 {
		return 0
	}
	debug.FreeOSMemory()
	return max(0, resident()-before) / int64(phones)
}
