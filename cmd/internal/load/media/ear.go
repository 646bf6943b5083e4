package media

import (
	"fmt"
	"slices"
	"time"

	"github.com/pion/rtp"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/sound"
)

// ear is what a session hears. Its session's mutex guards it.
type ear struct {
	tone     *sound.Ear // nil: nothing is listened for
	codecs   []sound.Codec
	started  time.Time // when sound was first to come
	deaf     time.Time // until when nothing is judged
	resting  bool
	awaited  bool        // the tone, since the last rest: what comes before it may be the end of music
	other    sound.Pitch // what came since, and is no end of music if the tone does not follow
	ended    time.Time
	received received
	before   received // of what was heard before the answer, and counts there
}

func newEar(hertz float64, codecs []sound.Codec) ear {
	e := ear{codecs: codecs}
	if hertz > 0 {
		e.tone = &sound.Ear{Hertz: hertz}
	}
	return e
}

// settle is how long after a rest sound may still be what it was.
const settle = 500 * time.Millisecond

func (e *ear) begin(now time.Time) { e.started, e.deaf = now, now.Add(settle) }

// follow goes on from what was heard before the answer. Between them there may be a gap
// in the sound, or in its clock.
func (e *ear) follow(early *ear) {
	early.received.pause()
	e.received, e.before = early.received, early.received
	e.received.first, e.received.jitter = time.Time{}, 0
}

// rest has nothing judged until it is over. Then the tone must come again.
func (e *ear) rest(on bool, now time.Time) {
	e.resting, e.deaf, e.awaited, e.other = on, now.Add(settle), !on, sound.Pitch{}
	e.received.pause()
	if e.tone != nil {
		e.tone.Forget()
	}
}

// take takes a packet's header and payload, borrowed.
func (e *ear) take(h *rtp.Header, payload []byte, now time.Time) {
	if e.resting {
		return
	}
	e.received.take(h, now, e.started)
	codec := sound.Codec(h.PayloadType)
	if e.tone == nil || now.Before(e.deaf) || !slices.Contains(e.codecs, codec) {
		return
	}
	before := *e.tone
	e.tone.Hear(codec, payload)
	switch {
	case !e.awaited:
	case e.tone.Right > before.Right:
		e.awaited = false
	case e.tone.Wrong > before.Wrong:
		e.other = e.tone.Other
		fallthrough
	default:
		e.tone.Wrong, e.tone.Blurred, e.tone.Other = before.Wrong, before.Blurred, before.Other
	}
}

// end is when nothing more is to come.
func (e *ear) end(now time.Time) { e.ended = now }

// missed tells what is wrong with what came since the last rest, if it was time for
// the tone.
func (e *ear) missed() (measure.Verdict, error) {
	end := e.ended
	if end.IsZero() {
		end = time.Now()
	}
	switch {
	case !e.awaited || e.tone == nil || end.Sub(e.deaf) < settle:
		return measure.Right, nil
	case e.other.Hertz > 0:
		return measure.Wrong, fmt.Errorf("%w after the call was held: %g Hz was to be heard, %.0f Hz was", ErrWrong, e.tone.Hertz, e.other.Hertz)
	}
	return measure.Silent, fmt.Errorf("%w of %g Hz after the call was held", ErrSilent, e.tone.Hertz)
}

// judge tells what was heard, and what was wrong with it.
func (e *ear) judge(m *measure.Sound) error {
	r, b, t := &e.received, &e.before, e.tone
	m.Received, m.Lost, m.Bad, m.Jitter = r.packets-b.packets, max(0, r.lost()-b.lost()), r.bad-b.bad, r.delay()
	if !r.first.IsZero() {
		m.FirstPacket = r.first.Sub(e.started)
	}
	switch {
	case t == nil:
		return nil
	case t.Heard():
		var err error
		m.Verdict, err = e.missed()
		return err
	case t.Nothing():
		m.Verdict = measure.Silent
		return fmt.Errorf("%w of %g Hz, %d packets came, %d did not verify", ErrSilent, t.Hertz, m.Received, m.Bad)
	}
	m.Verdict = measure.Wrong
	return fmt.Errorf("%w: %g Hz was to be heard, %.0f Hz was (%d tenths of a second right, %d wrong, %d blurred, %d silent; of %d packets %d were lost, %d did not verify)",
		ErrWrong, t.Hertz, t.Other.Hertz, t.Right, t.Wrong, t.Blurred, t.Silent, m.Received, m.Lost, m.Bad)
}

// judgeEarly tells what was heard before the answer: the tone must be in most of it. Where
// it begins and ends, which it may do every second, a tenth of a second has too little of it.
func (e *ear) judgeEarly() (*measure.Early, error) {
	r, t := &e.received, e.tone
	m := &measure.Early{Received: r.packets, Lost: r.lost(), Bad: r.bad}
	switch {
	case t == nil:
		return m, nil
	case t.Wrong > 0 && t.Wrong >= t.Right+t.Blurred:
		m.Verdict = measure.Wrong
		return m, fmt.Errorf("%w: %g Hz was to be heard, %.0f Hz was (%d tenths of a second had it, %d another sound)", ErrEarly, t.Hertz, t.Other.Hertz, t.Right+t.Blurred, t.Wrong)
	case t.Nothing():
		m.Verdict = measure.Silent
		return m, fmt.Errorf("%w: %g Hz was to be heard, and nothing was (%d packets came, %d did not verify)", ErrEarly, t.Hertz, r.packets, r.bad)
	}
	m.Verdict = measure.Right
	return m, nil
}
