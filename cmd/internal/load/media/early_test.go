package media

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/sound"
)

// What is heard before the answer counts apart from the call, also where somebody else
// answers than who rang: with other keys, another certificate and another tone.
func TestEarly(t *testing.T) {
	for _, kind := range []Kind{SDES, DTLS} {
		for _, c := range []struct {
			name  string
			early float64 // that is to be heard; 0: whatever it is
			rings bool
			other bool // another answers
			heard measure.Verdict
		}{
			{"one", 450, true, false, measure.Right},
			{"two", 450, true, true, measure.Right},
			{"nothing to expect", 0, true, true, measure.Unjudged},
			{"another tone", 600, true, true, measure.Wrong},
			{"silence", 450, false, true, measure.Silent},
		} {
			t.Run(string(kind)+", "+c.name, func(t *testing.T) {
				t.Parallel()
				engine := func(suites []string) *Engine {
					e, err := New(Config{Kind: kind, Suites: suites, Codecs: Codecs()})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(e.Close)
					return e
				}
				ringing, answering := Tones{450, 1050}, Tones{800, 1050}
				a := session(t, engine(Suites()), Tones{1050, answering.Speak})
				b := session(t, engine(Suites()[1:]), ringing) // it takes another suite than who answers
				who := b
				if c.other {
					who = session(t, engine(Suites()), answering)
				} else {
					a.ear.tone.Hertz = ringing.Speak
				}
				if c.early > 0 {
					a.Early(c.early)
				}
				offer, err := a.Offer()
				if err != nil {
					t.Fatal(err)
				}
				take := func(from *Session, final bool) {
					t.Helper()
					answer, err := from.Answer(offer)
					if err == nil {
						err = a.Accept(answer, final)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if c.rings {
					take(b, false)
					until(t, "something before the answer", func() bool {
						a.mu.Lock()
						defer a.mu.Unlock()
						heard := a.early.tone
						return a.early.received.packets > 20 && (heard == nil || heard.Right+heard.Wrong > 2)
					})
					if m, _ := a.Sound(); m.Received > 0 {
						t.Errorf("before the answer the call has %+v", m)
					}
				}
				if c.other {
					b.Close()
				}
				take(who, true)
				heard(t, a, who)
				reports(t, who, a)
				a.Close()
				m, err := a.Sound()
				if failed := c.heard == measure.Wrong || c.heard == measure.Silent; failed != errors.Is(err, ErrEarly) || !failed && err != nil {
					t.Errorf("it ended with %v", err)
				}
				if m.Verdict != measure.Right || m.FirstPacket <= 0 || m.Received == 0 {
					t.Errorf("the call heard %+v", m)
				}
				if e := m.Early; e == nil || e.Verdict != c.heard || (e.Received > 20) != c.rings || !c.other && m.Bad+e.Bad+m.Lost+e.Lost > 0 {
					t.Errorf("before the answer it heard %+v, and then %+v", e, m)
				}
			})
		}
	}
}

// A tone that rings, of two at once and with pauses, wherever its packets begin, is not
// taken for another, and another is not taken for it.
func TestRinging(t *testing.T) {
	mixed := make([]byte, 0, 50*sound.FrameSamples) // a second
	a, b := &sound.Tone{Hertz: 440}, &sound.Tone{Hertz: 480}
	for range 50 {
		var x, y [sound.FrameSamples]byte
		a.Frame(x[:])
		b.Frame(y[:])
		for i := range x {
			mixed = append(mixed, sound.EncodeULaw(sound.DecodeULaw(x[i])/2+sound.DecodeULaw(y[i])/2))
		}
	}
	for shift := range 5 { // packets of silence before
		for hertz, want := range map[float64]measure.Verdict{440: measure.Right, 480: measure.Right, 600: measure.Wrong} {
			e := newEar(hertz, sound.Codecs())
			seq := uint16(0)
			take := func(payload []byte) {
				seq++
				h := header(1, seq)
				e.take(&h, payload, time.Now())
			}
			quiet := bytes.Repeat([]byte{sound.EncodeULaw(0)}, sound.FrameSamples)
			for range shift {
				take(quiet)
			}
			for range 3 {
				for i := range 50 {
					take(mixed[i*sound.FrameSamples:][:sound.FrameSamples])
				}
				for range 23 { // which is no whole number of tenths of a second
					take(quiet)
				}
			}
			if m, err := e.judgeEarly(); m.Verdict != want || (err == nil) != (want == measure.Right) {
				t.Errorf("%g Hz after %d packets: the verdict is %d, %v: %+v", hertz, shift, m.Verdict, err, *e.tone)
			}
		}
	}
}
