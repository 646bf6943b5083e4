package measure

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Verdict is what a phone thinks of what it heard in a call.
type Verdict int

// The verdicts.
const (
	Unjudged Verdict = iota // it had nothing to expect
	Right                   // what it was to hear, and nothing else
	Wrong                   // something else
	Silent                  // nothing
)

// Sound is what one end of a call sent and heard.
type Sound struct {
	Sent, Received, Lost int           // packets; lost are those missing in the sequence
	Bad                  int           // that did not verify
	Jitter               time.Duration // at the end (RFC 3550 section 6.4.1)
	FirstPacket          time.Duration // from when it could be expected; 0 if none came
	Verdict              Verdict
	Early                *Early // nil: there was none
	Control              Control
}

// Early is what the one who calls heard before the answer, which counts nowhere else.
type Early struct {
	Received, Lost, Bad int // packets
	Verdict             Verdict
}

// Control is what one end's RTCP told (RFC 3550 section 6.4).
type Control struct {
	Sent, Received int           // packets
	Bad            int           // that did not verify, or are none
	Told           bool          // what follows was: what the other end has of this one
	Lost           int           // packets of ours; below 0: more came twice
	Jitter         time.Duration // likewise
	Measured       bool          // RoundTrip was
	RoundTrip      time.Duration // the last one
}

type soundTotals struct {
	calls, sent, received, lost, bad int
	verdicts                         [Silent + 1]int
	jitter                           *hdrhistogram.Histogram
	early                            EarlyMedia
	control                          controlTotals
}

// controlTotals are of RTCP.
type controlTotals struct {
	sent, received, bad, told, lost int
	jitter, trip                    *hdrhistogram.Histogram
}

func newSoundTotals() soundTotals {
	return soundTotals{jitter: fine(), control: controlTotals{jitter: fine(), trip: fine()}}
}

func (m *EarlyMedia) add(e *Early) {
	if e == nil {
		return
	}
	m.Ends++
	m.Received, m.Lost, m.Bad = m.Received+e.Received, m.Lost+e.Lost, m.Bad+e.Bad
	switch e.Verdict {
	case Right:
		m.Right++
	case Wrong:
		m.Wrong++
	case Silent:
		m.Silent++
	case Unjudged:
		m.Unjudged++
	}
}

func (t *controlTotals) add(c Control) {
	t.sent, t.received, t.bad = t.sent+c.Sent, t.received+c.Received, t.bad+c.Bad
	if c.Told {
		t.told, t.lost = t.told+1, t.lost+c.Lost
		record(t.jitter, c.Jitter)
	}
	if c.Measured {
		record(t.trip, c.RoundTrip)
	}
}

func (t *controlTotals) report() Reports {
	return Reports{
		Sent: t.sent, Received: t.received, Bad: t.bad, Told: t.told, Lost: t.lost,
		Jitter: quantiles(t.jitter, unit), RoundTrip: quantiles(t.trip, unit),
	}
}

// Heard takes what one end of a call had.
func (r *Recorder) Heard(phone int, s Sound) {
	if s.FirstPacket > 0 {
		r.Took(FirstPacket, phone, s.FirstPacket)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := &r.sound
	t.calls++
	t.sent, t.received, t.lost, t.bad = t.sent+s.Sent, t.received+s.Received, t.lost+s.Lost, t.bad+s.Bad
	t.verdicts[s.Verdict]++
	t.early.add(s.Early)
	t.control.add(s.Control)
	if s.Received > 1 {
		record(t.jitter, s.Jitter)
	}
	early := s.Early != nil && (s.Early.Verdict == Wrong || s.Early.Verdict == Silent)
	if early || s.Verdict == Wrong || s.Verdict == Silent {
		r.phones[phone].silent++
	}
}
