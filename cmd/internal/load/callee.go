package load

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/load/media"
	"github.com/sallyport/sallyport/cmd/internal/load/phone"
)

// await tells a phone that a call is to come; nil: none is.
func (m *member) await(p *pair) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expect = p
}

// answer takes a call: the one that is awaited, or refuses it.
func (f *fleet) answer(p *phone.Phone, _ string) (phone.Media, time.Duration, int) {
	m := f.members[p.Number]
	m.mu.Lock()
	with := m.expect
	m.mu.Unlock()
	if with == nil {
		return nil, 0, 480
	}
	s, err := f.session(m, with)
	if err != nil {
		return nil, 0, 500
	}
	return s, with.ring, 0
}

// answered takes the callee's end of a call.
func (f *fleet) answered(c *phone.Call) {}

// session makes the media of one end of a call.
func (f *fleet) session(m *member, _ *pair) (*media.Session, error) {
	return f.engine.Session(m.Local().Addr())
}

// judge takes what a caller heard.
func (f *fleet) judge(context.Context, *member, *media.Session) error { return nil }

// judgeCallee takes what the other end did.
func (f *fleet) judgeCallee(context.Context, *pair) {}
