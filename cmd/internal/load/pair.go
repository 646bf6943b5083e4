package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/load/media"
	"github.com/sallyport/sallyport/cmd/internal/load/phone"
)

// pair is a call: of a phone with another of this process, which both know of
// it; or with somebody else.
type pair struct {
	number   string // that is called
	caller   *member
	callee   *member // nil: somebody else
	near     *media.Session
	ring     time.Duration
	answered chan *phone.Call // the callee's end, once
	mu       sync.Mutex       // guards what follows
	far      *media.Session   // the callee's; nil: it was not called yet
	lacks    error            // why the callee has none, though it was
}

// tone is what a phone speaks. Callers and those that are called have none in
// common, so that nobody takes an echo for the other end.
func (f *fleet) tone(m *member) float64 {
	const each, square = 30, 2000 // of four samples a period, which are as pure if a codec is taken for another
	base := 400
	if m.number >= f.plan.Phones-f.callees() {
		base = 450
	}
	hertz := base + 100*(m.number%each)
	if hertz == square {
		hertz = 400 + 100*each
	}
	return float64(hertz)
}

// callees is how many phones only answer.
func (f *fleet) callees() int {
	if f.plan.Callee != "" || !f.plan.calls() {
		return 0
	}
	return f.plan.Phones / 2
}

// pairUp finds whom a phone calls. part must follow.
func (f *fleet) pairUp(ctx context.Context, op measure.Operation, m *member) (*pair, error) {
	with := &pair{number: f.plan.Callee, caller: m, ring: f.plan.Ring, answered: make(chan *phone.Call, 1)}
	tones := media.Tones{Speak: f.tone(m), Hear: f.hearing.hertz}
	if with.number == "" {
		callee, err := take(ctx, f.free[1])
		if err != nil {
			return nil, err
		}
		with.callee, with.number = callee, callee.User
		if op == Cancel {
			with.ring = time.Minute
		}
		callee.await(with)
		if f.hearing.peer {
			tones.Hear = f.tone(callee)
		}
	}
	if f.hearing.own {
		tones.Hear = tones.Speak
	}
	var err error
	if with.callee != nil && !with.callee.signed.Load() { // its connection was lost
		err = f.register(ctx, with.callee, time.Now(), "")
	}
	if err == nil {
		with.near, err = f.engine.Session(m.Local().Addr(), tones)
	}
	if err != nil {
		f.part(with)
		return nil, err
	}
	if f.plan.Early > 0 {
		with.near.Early(f.plan.Early)
	}
	return with, nil
}

// part frees the one that was called, once he knows that the call is over: the
// caller knows of a CANCEL first.
func (f *fleet) part(p *pair) {
	if p.near != nil {
		p.near.Close()
	}
	if p.callee == nil {
		return
	}
	p.callee.await(nil)
	for left := goodbye; p.callee.Busy() && left > 0; left -= pause {
		time.Sleep(pause)
	}
	f.free[1] <- p.callee
}

const pause = 5 * time.Millisecond

// await tells a phone that a call is to come; nil: none is.
func (m *member) await(p *pair) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expect = p
}

func (m *member) awaited() *pair {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.expect
}

// answer takes the call that a phone awaits, and refuses others.
func (f *fleet) answer(p *phone.Phone, _ string) (phone.Media, time.Duration, int) {
	m := f.members[p.Number]
	with := m.awaited()
	if with == nil {
		return nil, 0, 480
	}
	s, err := f.engine.Session(m.Local().Addr(), media.Tones{Speak: f.tone(m), Hear: f.tone(with.caller)})
	with.mu.Lock()
	defer with.mu.Unlock()
	if err != nil {
		with.lacks = err
		return nil, 0, 500
	}
	with.far = s
	return s, with.ring, 0
}

// answered takes the callee's end of a call.
func (f *fleet) answered(p *phone.Phone, c *phone.Call) {
	if with := f.members[p.Number].awaited(); with != nil {
		select {
		case with.answered <- c:
		default: // the server called twice, and has one more
		}
	}
}

// why names what a call failed by. Where it is a refusal that the server hands on from
// the phone that was called, that one knows the reason.
func (p *pair) why(err error) error {
	var refused *phone.Refused
	p.mu.Lock()
	defer p.mu.Unlock()
	if !errors.As(err, &refused) {
		return err
	}
	reason := p.lacks
	if p.far != nil {
		reason = p.far.Refused()
	}
	if reason != nil {
		return fmt.Errorf("call: %w, by %s, which refused it (%s)", reason, p.callee.User, refused.Error())
	}
	return err
}

// rest has nothing judged at either end until it is over.
func (p *pair) rest(on bool) {
	p.near.Rest(on)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.far != nil {
		p.far.Rest(on)
	}
}

// judge takes what both ends heard, once both were hung up.
func (f *fleet) judge(ctx context.Context, p *pair) error {
	err := f.verdict(ctx, p.caller, p.near)
	if p.callee == nil {
		return err
	}
	p.mu.Lock()
	far := p.far
	p.mu.Unlock()
	timer := time.NewTimer(goodbye)
	defer timer.Stop()
	select {
	case call := <-p.answered:
		select {
		case <-call.Ended:
		case <-timer.C:
			ctx, done := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
			defer done()
			_ = call.Hangup(ctx) // it is left over, and that is told
			return errLeft
		}
	case <-timer.C:
		return errUnrung
	}
	if hears := f.verdict(ctx, p.callee, far); err == nil {
		err = hears
	}
	return err
}

// verdict records what one end heard. Who was cut short with the run may not have
// heard anything yet.
func (f *fleet) verdict(ctx context.Context, m *member, s *media.Session) error {
	sound, err := s.Sound()
	if ctx.Err() != nil && sound.Verdict == measure.Silent {
		sound.Verdict = measure.Unjudged
	}
	if f.plan.Media != media.None {
		f.record.Heard(m.number, sound)
	}
	if err != nil {
		return fmt.Errorf("%w, by %s", err, m.User)
	}
	return nil
}
