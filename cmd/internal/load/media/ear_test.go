package media

import (
	"errors"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/sound"
)

// After a hold the tone must come again. Music may end late, but must end, and who
// hears nothing more was not resumed, whatever was heard before. A call that ends right
// after it is not judged by that.
func TestHeardAfterRest(t *testing.T) {
	const tone, music = 1050, 440
	for _, c := range []struct {
		name  string
		after []float64 // half-seconds of sound; 0 is none
		want  error
		is    measure.Verdict
	}{
		{"at once", []float64{tone, tone, tone}, nil, measure.Right},
		{"music that ends late", []float64{music, music, music, tone, tone}, nil, measure.Right},
		{"music for ever", []float64{music, music, music, music}, ErrWrong, measure.Wrong},
		{"music again", []float64{tone, tone, music, music}, ErrWrong, measure.Wrong},
		{"nothing", []float64{0, 0, 0, 0}, ErrSilent, measure.Silent},
		{"the end of the call", []float64{music}, nil, measure.Right},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Now()
			e := newEar(tone, sound.Codecs())
			e.begin(now)
			seq := uint16(0)
			hear := func(hertz float64) { // for half a second
				for range 25 {
					now = now.Add(frame)
					if seq++; hertz == 0 {
						continue
					}
					var payload [sound.FrameSamples]byte
					(&sound.Tone{Hertz: hertz}).Frame(payload[:])
					e.take(&rtp.Header{Version: 2, SSRC: 1, SequenceNumber: seq, Timestamp: uint32(seq) * sound.FrameSamples}, payload[:], now)
				}
			}
			for range 4 {
				hear(tone)
			}
			e.rest(true, now)
			hear(music)
			e.rest(false, now)
			for _, hertz := range c.after {
				hear(hertz)
			}
			e.end(now)
			var m measure.Sound
			if err := e.judge(&m); !errors.Is(err, c.want) || c.want == nil && err != nil || m.Verdict != c.is {
				t.Errorf("the verdict is %d, %v; want %d, %v: %+v", m.Verdict, err, c.is, c.want, *e.tone)
			}
		})
	}
}
