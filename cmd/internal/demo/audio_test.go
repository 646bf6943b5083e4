package demo

import (
	"math/rand/v2"
	"testing"
)

func TestULawRoundTrip(t *testing.T) {
	// Known values of G.711.
	for b, want := range map[byte]int16{0xff: 0, 0x7f: 0, 0x80: 32124, 0x00: -32124, 0xfe: 8, 0x7e: -8} {
		if got := decodeULaw(b); got != want {
			t.Errorf("decode %#02x = %d, want %d", b, got, want)
		}
	}
	for i := range 256 {
		b := byte(i)
		if again := encodeULaw(decodeULaw(b)); again != b && b != 0x7f { // two codes for zero
			t.Errorf("%#02x becomes %#02x", b, again)
		}
	}
}

func TestListen(t *testing.T) {
	pure := func(hertz float64, frames int) (samples []float64) {
		tone := tone{hertz: hertz}
		for range frames {
			payload := make([]byte, frameSamples)
			tone.frame(payload)
			samples = append(samples, decode(payload)...)
		}
		return samples
	}
	r := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, sampleRate)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	for _, tc := range []struct {
		name    string
		samples []float64
		hertz   float64
		is      bool
	}{
		{"1004 Hz", pure(1004, 50), 1004, true},
		{"700 Hz", pure(700, 50), 700, true},
		{"half a second", pure(1004, 25), 1004, true},
		{"longer than needed", pure(1004, 200), 1004, true},
		{"another tone", pure(1030, 50), 1004, false},
		{"ciphertext", decode(random), 1004, false},
		{"silence", make([]float64, sampleRate), 1004, false},
		{"nothing", nil, 1004, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := listen(tc.samples)
			if s.Is(tc.hertz) != tc.is {
				t.Errorf("heard %+v; a tone of %v Hz: want %v", s, tc.hertz, tc.is)
			}
		})
	}
}

// What separates an encrypted packet from one in plain text.
func TestTonality(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	payload := make([]byte, frameSamples)
	most := 0.0
	for range 5_000 {
		for i := range payload {
			payload[i] = byte(r.Uint32())
		}
		most = max(most, tonality(payload))
	}
	t.Logf("the most tonal of 5000 random packets: %.2f", most)
	if most > noise {
		t.Errorf("random bytes sound like a tone: %v", most)
	}
	for _, hertz := range []float64{voice, testTone} {
		tone := tone{hertz: hertz}
		tone.frame(payload)
		if got := tonality(payload); got < 0.8 {
			t.Errorf("a packet of %v Hz has a tonality of %v", hertz, got)
		}
	}
}
