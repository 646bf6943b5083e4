package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/load/media"
	"github.com/sallyport/sallyport/cmd/internal/load/phone"
	"github.com/sallyport/sallyport/cmd/internal/load/wire"
)

// fleet is all phones of a run.
type fleet struct {
	plan    *Plan
	hearing hearing
	record  *measure.Recorder
	engine  *media.Engine
	members []*member
	free    [2]chan *member // those that call, and those that are called
	waiting atomic.Int64    // arrivals that are under way
	running sync.WaitGroup
	calls   atomic.Int64
	signed  atomic.Int64 // registered phones
	online  atomic.Int64
	leaving atomic.Bool // the run is over
}

// member is a phone, and what is known of it.
type member struct {
	*phone.Phone
	number int
	signed atomic.Bool
	unsure atomic.Bool // it asked to be registered, and the run ended before the answer
	online atomic.Bool
	asking atomic.Bool // for a refresh
	mu     sync.Mutex  // guards what follows
	expect *pair       // the call that it is to answer
	again  time.Time   // when a refresh that failed is tried once more
}

func newFleet(p *Plan, record *measure.Recorder) (*fleet, error) {
	f := &fleet{plan: p, record: record, free: [2]chan *member{make(chan *member, p.Phones), make(chan *member, p.Phones)}}
	var err error
	if f.hearing, err = p.hear(); err != nil {
		return nil, err
	}
	describe := media.SDES
	if p.Connect.Path != "" {
		describe = media.DTLS
	}
	if f.engine, err = media.New(media.Config{Kind: p.Media, Describe: describe, Suites: p.Suites, Codecs: p.Codecs}); err != nil {
		return nil, err
	}
	c := &phone.Config{
		Target: p.Connect, Domain: p.Domain, Expires: p.Expires, Timeout: p.Timeout, Agent: "sallyload", Resume: p.Resume,
		Answer: f.answer, Answered: f.answered, Lost: f.lost,
	}
	for i := range p.Phones {
		user, password := p.account(i)
		m := &member{Phone: phone.New(c, i, p.user(i), user, password), number: i}
		f.members = append(f.members, m)
		if i < p.Phones-f.callees() {
			f.free[0] <- m
		} else {
			f.free[1] <- m
		}
	}
	return f, nil
}

// calls tells whether phones are to call.
func (p *Plan) calls() bool { return p.Mix[Call]+p.Mix[Hold]+p.Mix[Cancel] > 0 }

// state counts.
func (f *fleet) state() measure.State {
	return measure.State{Connected: int(f.online.Load()), Registered: int(f.signed.Load()), Calls: int(f.calls.Load())}
}

// connect opens a phone's connection.
func (f *fleet) connect(ctx context.Context, m *member, prefix measure.Metric) error {
	ctx, done := context.WithTimeout(ctx, f.plan.Timeout)
	defer done()
	took, resumed, err := m.Connect(ctx)
	if err != nil {
		return err
	}
	if m.online.CompareAndSwap(false, true) {
		f.online.Add(1)
	}
	if err := f.still(m); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	f.record.Took(prefix+measure.Connect, m.number, took)
	if resumed {
		f.record.Took(prefix+measure.Resumed, m.number, took)
	}
	return nil
}

// register connects a phone, if need be, and registers it.
func (f *fleet) register(ctx context.Context, m *member, due time.Time, prefix measure.Metric) error {
	if !m.Connected() {
		if err := f.connect(ctx, m, prefix); err != nil {
			return err
		}
	}
	if err := m.Register(ctx); err != nil {
		m.unsure.Store(ctx.Err() != nil)
		return err
	}
	if m.signed.CompareAndSwap(false, true) {
		f.signed.Add(1)
	}
	if err := f.still(m); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	f.record.Took(prefix+measure.Register, m.number, time.Since(due))
	return nil
}

// still takes a phone back whose connection was lost before it was counted: it would
// pass for one that is there, and never come back.
func (f *fleet) still(m *member) error {
	if m.Connected() {
		return nil
	}
	f.offline(m)
	return phone.ErrDown
}

// drop ends a phone's connection.
func (f *fleet) drop(m *member) {
	m.Close()
	f.offline(m)
}

func (f *fleet) offline(m *member) {
	if m.online.CompareAndSwap(true, false) {
		f.online.Add(-1)
	}
	if m.signed.CompareAndSwap(true, false) {
		f.signed.Add(-1)
	}
}

// lost counts a connection that the server ended.
func (f *fleet) lost(p *phone.Phone, err error) {
	m := f.members[p.Number]
	f.offline(m)
	if f.leaving.Load() { // some close what nobody is registered by
		return
	}
	f.record.Failed(Lost, m.number, wire.Cause(err), fmt.Sprint(m.User, ": ", err))
}

// outcome counts one operation of a phone. What ends with the run is no failure.
func (f *fleet) outcome(ctx context.Context, op measure.Operation, m *member, err error) {
	switch {
	case err == nil:
		f.record.Done(op)
	case ctx.Err() == nil:
		f.record.Failed(op, m.number, cause(err), fmt.Sprint(m.User, ": ", err))
	}
}
