// Package sound makes tones and knows them again: PCMU and PCMA (ITU-T G.711), and
// Goertzel's algorithm. It holds no state but a caller's Tone or Ear, which are
// not for concurrent use.
package sound

import "math"

// Of all sound here.
const (
	Rate         = 8000 // Hz, of PCMU and PCMA (RFC 3551)
	FrameSamples = 160  // 20 ms, the default packet
)

// Tone makes a sine, one frame after another without a click between.
type Tone struct {
	Hertz float64
	Codec Codec
	at    int // samples made so far
}

// Frame fills a packet's payload with the next 20 ms.
func (t *Tone) Frame(payload []byte) {
	for i := range payload {
		phase := 2 * math.Pi * t.Hertz * float64(t.at) / Rate
		payload[i] = t.Codec.Encode(int16(8000 * math.Sin(phase)))
		t.at++
	}
}

// Decode is a payload of PCMU as samples.
func Decode(payload []byte) []float64 {
	out := make([]float64, len(payload))
	for i, b := range payload {
		out[i] = float64(DecodeULaw(b))
	}
	return out
}

// Pitch is what was heard: the strongest frequency and the share of all power
// that lies there, 1 for a pure tone and next to nothing for noise.
type Pitch struct {
	Hertz float64
	Share float64
}

// Is reports whether the sound is a tone of a frequency, within one percent.
func (s Pitch) Is(hertz float64) bool {
	return s.Share > 0.9 && math.Abs(s.Hertz-hertz) <= hertz/100
}

// Listen finds the strongest frequency of the telephone band in a second of
// sound or less.
func Listen(samples []float64) Pitch {
	if len(samples) > Rate {
		samples = samples[len(samples)-Rate:]
	}
	var total float64
	for _, s := range samples {
		total += s * s
	}
	if len(samples) < FrameSamples || total == 0 {
		return Pitch{}
	}
	// A tenth of a second resolves 10 Hz, the whole then 1 Hz.
	coarse := samples[:min(len(samples), Rate/10)]
	near := strongest(coarse, 200, 3600, 2.5)
	best := strongest(samples, near-12, near+12, 0.25)
	return Pitch{Hertz: best, Share: min(1, 2*Power(samples, best)/float64(len(samples))/total)}
}

// Tonality is the share of a packet's power at its strongest frequency.
func Tonality(payload []byte) float64 {
	samples := Decode(payload)
	var total float64
	for _, s := range samples {
		total += s * s
	}
	if total == 0 {
		return 0
	}
	best := strongest(samples, 200, 3600, 25)
	return 2 * Power(samples, best) / float64(len(samples)) / total
}

func strongest(samples []float64, from, to, step float64) float64 {
	best, most := from, -1.0
	for hertz := from; hertz <= to; hertz += step {
		if p := Power(samples, hertz); p > most {
			best, most = hertz, p
		}
	}
	return best
}

// Power is Goertzel's: the squared magnitude of the spectrum at one frequency.
func Power(samples []float64, hertz float64) float64 {
	c := 2 * math.Cos(2*math.Pi*hertz/Rate)
	var s1, s2 float64
	for _, x := range samples {
		s1, s2 = x+c*s1-s2, s1
	}
	return s1*s1 + s2*s2 - c*s1*s2
}
