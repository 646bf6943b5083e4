package load

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/load/phone"
)

// extra is how many arrivals may be under way beyond the number of phones.
const extra = 10_000

const noPhone = "no phone free" // the cause of what waited for one in vain

// patience is how long an arrival waits for a phone: as long as one that is busy may
// take for an answer, and for a call. Who waits behind a server that answers nothing
// would wait for all who came before, each with a timeout of its own.
func (p *Plan) patience() time.Duration {
	if !p.calls() {
		return p.Timeout
	}
	return p.Timeout + p.Ring + p.Talk*5/2 // that of Hold
}

// arrive begins an operation that is due. It does not wait: the operation has its
// own goroutine, which ends with it, and f.running waits for that.
func (f *fleet) arrive(ctx context.Context, op measure.Operation, due time.Time) {
	f.record.Due(op)
	if f.waiting.Add(1) > int64(f.plan.Phones+extra) {
		f.waiting.Add(-1)
		f.record.Failed(op, -1, noPhone, "")
		return
	}
	f.running.Go(func() {
		defer f.waiting.Add(-1)
		f.record.Took(measure.Lag, -1, time.Since(due))
		waits, done := context.WithDeadline(ctx, due.Add(f.plan.patience()))
		m, err := take(waits, f.free[0])
		done()
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return // the run is given up
		default:
			f.record.Failed(op, -1, noPhone, "")
			return
		}
		f.record.Took(measure.Wait, -1, time.Since(due))
		err = f.do(ctx, op, m, due)
		f.free[0] <- m
		f.outcome(ctx, op, m, err)
	})
}

func take(ctx context.Context, from chan *member) (*member, error) {
	select {
	case m := <-from:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *fleet) do(ctx context.Context, op measure.Operation, m *member, due time.Time) error {
	switch op {
	case Register:
		return f.register(ctx, m, due, "")
	case Reconnect:
		f.drop(m)
		return f.register(ctx, m, due, "")
	}
	if !m.signed.Load() { // its connection was lost: it comes back first
		if err := f.register(ctx, m, due, ""); err != nil {
			return err
		}
	}
	switch op {
	case Options:
		if err := m.Options(ctx); err != nil {
			return err
		}
		f.record.Took(measure.Options, m.number, time.Since(due))
		return nil
	default:
		return f.call(ctx, op, m, due)
	}
}

// givenUp is how long a call of Cancel rings.
const givenUp = 200 * time.Millisecond

// call makes a call, and ends it.
func (f *fleet) call(ctx context.Context, op measure.Operation, m *member, due time.Time) error {
	with, err := f.pairUp(ctx, op, m)
	if err != nil {
		return err
	}
	defer f.part(with)
	uri := f.plan.uri(with.number)
	f.calls.Add(1)
	defer f.calls.Add(-1)
	if op == Cancel {
		return f.cancel(ctx, m, uri, with.near)
	}
	ringing, done := context.WithTimeout(ctx, f.plan.Timeout+f.plan.Ring)
	defer done()
	call, err := m.Call(ringing, uri, with.near, nil)
	if err != nil {
		if ctx.Err() == nil && ringing.Err() != nil {
			err = fmt.Errorf("call: %w", phone.ErrTimeout)
		}
		return with.why(err)
	}
	if !call.Ringing.IsZero() {
		f.record.Took(measure.Ringing, m.number, call.Ringing.Sub(due))
	}
	f.record.Took(measure.Answered, m.number, call.Answered.Sub(due))
	due, err = f.talk(ctx, op, call, with)
	if bye := f.hangUp(ctx, m, call, due); err == nil {
		err = bye
	}
	return errors.Join(err, f.judge(ctx, with))
}

// cancel calls, and gives up while it rings.
func (f *fleet) cancel(ctx context.Context, m *member, uri string, session phone.Media) error {
	within, done := context.WithTimeout(ctx, f.plan.Timeout)
	defer done()
	var at atomic.Pointer[time.Time] // of the CANCEL; nil: there was none
	ringing := false
	call, err := m.Call(within, uri, session, func(status int) {
		if status > 100 && !ringing {
			ringing = true
			time.AfterFunc(givenUp, func() { // ends at once
				now := time.Now()
				at.Store(&now)
				done()
			})
		}
	})
	var refused *phone.Refused
	switch {
	case err == nil:
		return errors.Join(errQuick, f.hangUp(ctx, m, call, time.Now()))
	case at.Load() != nil && errors.As(err, &refused) && refused.Status == 487:
		f.record.Took(measure.Cancelled, m.number, time.Since(*at.Load()))
		return nil
	case at.Load() == nil && within.Err() != nil && ctx.Err() == nil: // it never rang
		return fmt.Errorf("call: %w", phone.ErrTimeout)
	}
	return err
}

// talk lets a call last; where op says so, it is held after that for half the time,
// and lasts as long again. It returns when the BYE is due.
func (f *fleet) talk(ctx context.Context, op measure.Operation, call *phone.Call, with *pair) (due time.Time, err error) {
	due = call.Answered
	parts := []time.Duration{f.plan.Talk}
	if op == Hold {
		parts = []time.Duration{f.plan.Talk, f.plan.Talk / 2, f.plan.Talk}
	}
	for i, part := range parts {
		if i > 0 {
			if err := f.change(ctx, call, with, i == 1, due); err != nil {
				return time.Now(), err
			}
			due = time.Now() // who is held or back lasts as long, however long that took
		}
		due = due.Add(part)
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
			return time.Now(), nil
		case <-call.Ended:
			if why := call.Err(); why != nil { // not by a BYE
				return due, fmt.Errorf("call: %w", why)
			}
			return due, fmt.Errorf("call: %w", errEarly)
		}
	}
	return due, nil
}

// change holds a call, or resumes it. What is heard meanwhile is not judged: it may
// be music.
func (f *fleet) change(ctx context.Context, call *phone.Call, with *pair, hold bool, due time.Time) error {
	if with.near.Hold(hold); hold {
		with.rest(true)
	}
	if err := call.Change(ctx); err != nil {
		return err
	}
	if !hold {
		with.rest(false)
	}
	f.record.Took(measure.Change, with.caller.number, time.Since(due))
	return nil
}

// hangUp ends a call, also when the run was given up, which bounds how long that takes.
func (f *fleet) hangUp(ctx context.Context, m *member, call *phone.Call, due time.Time) error {
	bye, done := context.WithCancel(context.WithoutCancel(ctx))
	defer done()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(goodbye, done) })()
	select {
	case <-call.Ended:
		return nil
	default:
	}
	if err := call.Hangup(bye); err != nil {
		return err
	}
	f.record.Took(measure.Hangup, m.number, time.Since(due))
	return nil
}
