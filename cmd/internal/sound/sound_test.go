package sound

import (
	"math/rand/v2"
	"testing"
)

func TestULawRoundTrip(t *testing.T) {
	// Known values of G.711.
	for b, want := range map[byte]int16{0xff: 0, 0x7f: 0, 0x80: 32124, 0x00: -32124, 0xfe: 8, 0x7e: -8} {
		if got := DecodeULaw(b); got != want {
			t.Errorf("decode %#02x = %d, want %d", b, got, want)
		}
	}
	for i := range 256 {
		b := byte(i)
		if again := EncodeULaw(DecodeULaw(b)); again != b && b != 0x7f { // two codes for zero
			t.Errorf("%#02x becomes %#02x", b, again)
		}
	}
}

func TestALawRoundTrip(t *testing.T) {
	// Known values of G.711, the ends of its segments among them.
	for b, want := range map[byte]int16{0xd5: 8, 0x55: -8, 0xaa: 32256, 0x2a: -32256, 0xc5: 264, 0xf5: 528, 0xb5: 8448, 0x80: 5504} {
		if got := DecodeALaw(b); got != want {
			t.Errorf("decode %#02x = %d, want %d", b, got, want)
		}
	}
	for i := range 256 {
		b := byte(i)
		if again := EncodeALaw(DecodeALaw(b)); again != b {
			t.Errorf("%#02x becomes %#02x", b, again)
		}
	}
	// Any sample is within half a step of its segment.
	for s := -32768; s <= 32767; s++ {
		size, got := max(s, -s-1), int(DecodeALaw(EncodeALaw(int16(s))))
		step := 16
		for end := 512; end <= size; end *= 2 {
			step *= 2
		}
		if d := got - s; max(d, -d) > step/2 {
			t.Fatalf("%d becomes %d", s, got)
		}
	}
}

func TestListen(t *testing.T) {
	pure := func(hertz float64, frames int) (samples []float64) {
		tone := Tone{Hertz: hertz}
		for range frames {
			payload := make([]byte, FrameSamples)
			tone.Frame(payload)
			samples = append(samples, Decode(payload)...)
		}
		return samples
	}
	r := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, Rate)
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
		{"ciphertext", Decode(random), 1004, false},
		{"silence", make([]float64, Rate), 1004, false},
		{"nothing", nil, 1004, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := Listen(tc.samples)
			if s.Is(tc.hertz) != tc.is {
				t.Errorf("heard %+v; a tone of %v Hz: want %v", s, tc.hertz, tc.is)
			}
		})
	}
}
