package load

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/load/phone"
)

// extra is how many arrivals may be under way beyond the number of phones.
const extra = 10_000

// arrive begins an operation that is due. It does not wait: the operation has its
// own goroutine, which ends with it, and f.running waits for that.
func (f *fleet) arrive(ctx context.Context, op measure.Operation, due time.Time) {
	f.record.Due(op)
	if f.waiting.Add(1) > int64(f.plan.Phones+extra) {
		f.waiting.Add(-1)
		f.record.Failed(op, -1, "no phone free")
		return
	}
	f.running.Go(func() {
		defer f.waiting.Add(-1)
		m, err := take(ctx, f.callers)
		if err != nil {
			return // the run is given up
		}
		f.record.Took(measure.Lag, -1, time.Since(due))
		err = f.do(ctx, op, m, due)
		f.callers <- m
		switch {
		case err == nil:
			f.record.Done(op)
		case ctx.Err() == nil:
			f.record.Failed(op, m.number, cause(err))
		}
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
	with := &pair{caller: m, ring: f.plan.Ring, answered: make(chan *phone.Call, 1)}
	callee := f.plan.Callee
	if callee == "" {
		var err error
		if with.callee, err = take(ctx, f.callees); err != nil {
			return err
		}
		defer func() { f.callees <- with.callee }()
		if op == Cancel {
			with.ring = time.Minute
		}
		with.callee.await(with)
		defer with.callee.await(nil)
		if !with.callee.signed.Load() {
			if err := f.register(ctx, with.callee, time.Now(), ""); err != nil {
				return err
			}
		}
		callee = with.callee.User
	}
	session, err := f.session(m, with)
	if err != nil {
		return err
	}
	uri := "sip:" + callee + "@" + f.plan.Domain
	f.calls.Add(1)
	defer f.calls.Add(-1)
	if op == Cancel {
		return f.cancel(ctx, m, uri, session)
	}
	ringing, done := context.WithTimeout(ctx, f.plan.Timeout+f.plan.Ring)
	defer done()
	call, err := m.Call(ringing, uri, session, nil)
	if err != nil {
		if ctx.Err() == nil && ringing.Err() != nil {
			err = fmt.Errorf("call: %w", phone.ErrTimeout)
		}
		return err
	}
	f.record.Took(measure.Ringing, m.number, call.Ringing.Sub(due))
	f.record.Took(measure.Answered, m.number, call.Answered.Sub(due))
	err = f.talk(ctx, op, m, call, session)
	if bye := f.hangUp(m, call, call.Answered.Add(f.plan.Talk)); err == nil {
		err = bye
	}
	if with.callee != nil {
		f.judgeCallee(ctx, with)
	}
	return errors.Join(err, f.judge(ctx, m, session))
}

// cancel calls, and gives up while it rings.
func (f *fleet) cancel(ctx context.Context, m *member, uri string, session phone.Media) error {
	within, done := context.WithTimeout(ctx, f.plan.Timeout)
	defer done()
	var at time.Time
	ringing := false
	call, err := m.Call(within, uri, session, func(status int) {
		if status > 100 && !ringing {
			ringing = true
			time.AfterFunc(givenUp, func() { // ends at once
				at = time.Now()
				done()
			})
		}
	})
	var refused *phone.Refused
	switch {
	case err == nil:
		return errors.Join(errors.New("call: it was answered before it was given up"), f.hangUp(m, call, time.Now()))
	case ringing && errors.As(err, &refused) && refused.Status == 487:
		f.record.Took(measure.Cancelled, m.number, time.Since(at))
		return nil
	}
	return err
}

// talk lets a call last, and holds and resumes it in the middle of that, if op
// says so.
func (f *fleet) talk(ctx context.Context, op measure.Operation, m *member, call *phone.Call, session held) error {
	parts := []time.Duration{f.plan.Talk}
	if op == Hold {
		parts = []time.Duration{f.plan.Talk / 3, f.plan.Talk / 3, f.plan.Talk / 3}
	}
	for i, part := range parts {
		if i > 0 {
			due := time.Now()
			session.Hold(i == 1)
			if err := call.Change(ctx); err != nil {
				return err
			}
			f.record.Took(measure.Change, m.number, time.Since(due))
		}
		select {
		case <-time.After(part):
		case <-ctx.Done():
			return nil
		case <-call.Ended:
			return fmt.Errorf("call: %w", errors.Join(errEarly, call.Err()))
		}
	}
	return nil
}

type held interface{ Hold(on bool) }

// hangUp ends a call, also when the run was given up. Where the talk was cut
// short, the BYE is due now.
func (f *fleet) hangUp(m *member, call *phone.Call, due time.Time) error {
	if now := time.Now(); due.After(now) {
		due = now
	}
	ctx, done := context.WithTimeout(context.Background(), min(f.plan.Timeout, goodbye))
	defer done()
	select {
	case <-call.Ended:
		return nil
	default:
	}
	if err := call.Hangup(ctx); err != nil {
		return err
	}
	f.record.Took(measure.Hangup, m.number, time.Since(due))
	return nil
}
