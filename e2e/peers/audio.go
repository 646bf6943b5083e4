package peers

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
)

// Rate is the sampling rate of all telephone audio here.
const Rate = 8000

// Sine makes a tone of a frequency, at half of full scale.
func Sine(hz float64, seconds float64) []int16 {
	s := make([]int16, int(Rate*seconds))
	for i := range s {
		s[i] = int16(16000 * math.Sin(2*math.Pi*hz*float64(i)/Rate))
	}
	return s
}

// WriteWAV writes mono 16-bit PCM.
func WriteWAV(path string, samples []int16) error {
	b := make([]byte, 44, 44+2*len(samples))
	copy(b, "RIFF")
	binary.LittleEndian.PutUint32(b[4:], uint32(36+2*len(samples)))
	copy(b[8:], "WAVEfmt ")
	binary.LittleEndian.PutUint32(b[16:], 16)
	binary.LittleEndian.PutUint16(b[20:], 1)
	binary.LittleEndian.PutUint16(b[22:], 1)
	binary.LittleEndian.PutUint32(b[24:], Rate)
	binary.LittleEndian.PutUint32(b[28:], 2*Rate)
	binary.LittleEndian.PutUint16(b[32:], 2)
	binary.LittleEndian.PutUint16(b[34:], 16)
	copy(b[36:], "data")
	binary.LittleEndian.PutUint32(b[40:], uint32(2*len(samples)))
	for _, s := range samples {
		b = binary.LittleEndian.AppendUint16(b, uint16(s))
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// ReadWAV reads mono 16-bit PCM. A header whose lengths were never filled in,
// as a killed recorder leaves it, is accepted.
func ReadWAV(path string) (samples []int16, rate int, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, fmt.Errorf("read recording: %w", err)
	}
	if len(b) < 44 || string(b[:4]) != "RIFF" {
		return nil, 0, fmt.Errorf("read recording %s: not a WAV file (%d bytes)", path, len(b))
	}
	rate = int(binary.LittleEndian.Uint32(b[24:]))
	for at := 12; at+8 <= len(b); {
		size := int(binary.LittleEndian.Uint32(b[at+4:]))
		if string(b[at:at+4]) == "data" {
			data := b[at+8:]
			if size > 0 && size < len(data) {
				data = data[:size]
			}
			for i := 0; i+1 < len(data); i += 2 {
				samples = append(samples, int16(binary.LittleEndian.Uint16(data[i:])))
			}
			return samples, rate, nil
		}
		at += 8 + size + size%2
	}
	return nil, rate, fmt.Errorf("read recording %s: no data", path)
}

// Tone finds the strongest frequency between 100 Hz and 3,800 Hz in the
// loudest second, and the share of that second's energy that it has.
func Tone(samples []int16, rate int) (hz, share float64) {
	window := loudest(samples, rate)
	if len(window) < rate/10 {
		return 0, 0
	}
	x := make([]float64, len(window))
	energy := 0.0
	for i, s := range window {
		hann := 0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/float64(len(window)-1))
		x[i] = float64(s) * hann
		energy += x[i] * x[i]
	}
	if energy == 0 {
		return 0, 0
	}
	best := 0.0
	for f := 100.0; f < 3800; f += 2 {
		if p := power(x, f, rate); p > best {
			best, hz = p, f
		}
	}
	for step := 1.0; step > 0.01; step /= 2 { // climb to the top of the peak
		for _, f := range []float64{hz - step, hz + step} {
			if p := power(x, f, rate); p > best {
				best, hz = p, f
			}
		}
	}
	// A pure tone under a Hann window has 2/3 of N·energy in its peak.
	return hz, math.Min(1, best/(energy*float64(len(x))/3))
}

// frame is the samples of a packet: 20 ms.
const frame = Rate / 50

// Pitches are the frequencies of tones, one for each 20 ms: 0 where there is
// none, or more than one. It tells tones apart that lie some hertz from each
// other, by how each sample of one follows from the two before.
func Pitches(samples []int16) []float64 {
	var all []float64
	for ; len(samples) >= frame; samples = samples[frame:] {
		all = append(all, pitch(samples[:frame]))
	}
	return all
}

func pitch(x []int16) float64 {
	var both, square, energy float64
	for i := 1; i+1 < len(x); i++ {
		v, sides := float64(x[i]), float64(x[i-1])+float64(x[i+1])
		both += v * sides
		square += v * v
	}
	c := both / (2 * square) // of a tone, the cosine of its step
	if square < 1e6 || math.Abs(c) > 1 {
		return 0
	}
	for i := 1; i+1 < len(x); i++ {
		rest := float64(x[i-1]) + float64(x[i+1]) - 2*c*float64(x[i])
		energy += rest * rest
	}
	if energy > square/50 {
		return 0
	}
	return math.Acos(c) * Rate / (2 * math.Pi)
}

// power is the energy at one frequency (Goertzel).
func power(x []float64, hz float64, rate int) float64 {
	c := 2 * math.Cos(2*math.Pi*hz/float64(rate))
	var s1, s2 float64
	for _, v := range x {
		s1, s2 = v+c*s1-s2, s1
	}
	return s1*s1 + s2*s2 - c*s1*s2
}

// loudest returns the second with the most energy, in steps of a tenth.
func loudest(samples []int16, rate int) []int16 {
	if len(samples) <= rate {
		return samples
	}
	best, at := -1.0, 0
	for i := 0; i+rate <= len(samples); i += rate / 10 {
		e := 0.0
		for _, s := range samples[i : i+rate] {
			e += float64(s) * float64(s)
		}
		if e > best {
			best, at = e, i
		}
	}
	return samples[at : at+rate]
}

// MuLaw encodes a sample (ITU-T G.711).
func MuLaw(s int16) byte {
	sign, v := byte(0), int(s)
	if v < 0 {
		sign, v = 0x80, -v
	}
	v = min(v, 32635) + 132
	exp := 7
	for mask := 0x4000; exp > 0 && v&mask == 0; mask >>= 1 {
		exp--
	}
	return ^(sign | byte(exp<<4) | byte(v>>(exp+3))&0x0f)
}

// FromMuLaw decodes a sample.
func FromMuLaw(b byte) int16 {
	b = ^b
	v := (int(b&0x0f)<<3 + 132) << (b >> 4 & 7)
	if b&0x80 != 0 {
		return int16(132 - v)
	}
	return int16(v - 132)
}

// ALaw encodes a sample (ITU-T G.711).
func ALaw(s int16) byte {
	sign, v := byte(0x80), int(s)
	if v < 0 {
		sign, v = 0, -v-1
	}
	v >>= 4
	exp := 0
	for v > 31 {
		v >>= 1
		exp++
	}
	if v > 15 {
		v -= 16
		exp++
	}
	return (sign | byte(exp<<4) | byte(v)) ^ 0x55
}

// FromALaw decodes a sample.
func FromALaw(b byte) int16 {
	b ^= 0x55
	v := int(b&0x0f)<<4 + 8
	if exp := int(b >> 4 & 7); exp > 0 {
		v = (v + 0x100) << (exp - 1)
	}
	if b&0x80 == 0 {
		v = -v
	}
	return int16(v)
}
