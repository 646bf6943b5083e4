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
}

type soundTotals struct {
	calls, sent, received, lost, bad int
	verdicts                         [Silent + 1]int
	jitter                           *hdrhistogram.Histogram
}

func newSoundTotals() soundTotals { return soundTotals{jitter: fine()} }

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
	if s.Received > 1 {
		record(t.jitter, s.Jitter)
	}
	if s.Verdict == Wrong || s.Verdict == Silent {
		r.phones[phone].silent++
	}
}
