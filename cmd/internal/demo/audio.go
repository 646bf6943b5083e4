package demo

import "math"

const (
	sampleRate   = 8000 // Hz, of PCMU (RFC 3551)
	frameSamples = 160  // 20 ms, the default packet
)

// tone makes a sine, one frame after another without a click between.
type tone struct {
	hertz float64
	at    int // samples made so far
}

// frame fills a packet's payload with the next 20 ms, as PCMU.
func (t *tone) frame(payload []byte) {
	for i := range payload {
		phase := 2 * math.Pi * t.hertz * float64(t.at) / sampleRate
		payload[i] = encodeULaw(int16(8000 * math.Sin(phase)))
		t.at++
	}
}

// encodeULaw and decodeULaw follow ITU-T G.711 table 2a.
func encodeULaw(s int16) byte {
	const bias, clip = 0x84, 32635
	sign, v := byte(0), int(s)
	if v < 0 {
		sign, v = 0x80, -v
	}
	v = min(v, clip) + bias
	exponent := 7
	for mask := 0x4000; v&mask == 0 && exponent > 0; mask >>= 1 {
		exponent--
	}
	mantissa := byte(v>>(exponent+3)) & 0x0f
	return ^(sign | byte(exponent)<<4 | mantissa)
}

func decodeULaw(b byte) int16 {
	b = ^b
	exponent := int(b>>4) & 7
	v := (int(b&0x0f)<<3+0x84)<<exponent - 0x84
	if b&0x80 != 0 {
		return int16(-v)
	}
	return int16(v)
}

func decode(payload []byte) []float64 {
	out := make([]float64, len(payload))
	for i, b := range payload {
		out[i] = float64(decodeULaw(b))
	}
	return out
}

// Sound is what was heard: the strongest frequency and the share of all power
// that lies there, 1 for a pure tone and next to nothing for noise.
type Sound struct {
	Hertz float64
	Share float64
}

// Is reports whether the sound is a tone of a frequency, within one percent.
func (s Sound) Is(hertz float64) bool {
	return s.Share > 0.9 && math.Abs(s.Hertz-hertz) <= hertz/100
}

// listen finds the strongest frequency of the telephone band in a second of
// sound or less.
func listen(samples []float64) Sound {
	if len(samples) > sampleRate {
		samples = samples[len(samples)-sampleRate:]
	}
	var total float64
	for _, s := range samples {
		total += s * s
	}
	if len(samples) < frameSamples || total == 0 {
		return Sound{}
	}
	// A tenth of a second resolves 10 Hz, the whole then 1 Hz.
	coarse := samples[:min(len(samples), sampleRate/10)]
	near := strongest(coarse, 200, 3600, 2.5)
	best := strongest(samples, near-12, near+12, 0.25)
	return Sound{Hertz: best, Share: min(1, 2*power(samples, best)/float64(len(samples))/total)}
}

// tonality is the share of a packet's power at its strongest frequency.
func tonality(payload []byte) float64 {
	samples := decode(payload)
	var total float64
	for _, s := range samples {
		total += s * s
	}
	if total == 0 {
		return 0
	}
	best := strongest(samples, 200, 3600, 25)
	return 2 * power(samples, best) / float64(len(samples)) / total
}

func strongest(samples []float64, from, to, step float64) float64 {
	best, most := from, -1.0
	for hertz := from; hertz <= to; hertz += step {
		if p := power(samples, hertz); p > most {
			best, most = hertz, p
		}
	}
	return best
}

// power is Goertzel's: the squared magnitude of the spectrum at one frequency.
func power(samples []float64, hertz float64) float64 {
	c := 2 * math.Cos(2*math.Pi*hertz/sampleRate)
	var s1, s2 float64
	for _, x := range samples {
		s1, s2 = x+c*s1-s2, s1
	}
	return s1*s1 + s2*s2 - c*s1*s2
}
