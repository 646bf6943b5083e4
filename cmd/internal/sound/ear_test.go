package sound

import "testing"

func TestEar(t *testing.T) {
	frames := func(hertz ...float64) []byte {
		var samples [FrameSamples]float64
		for _, hz := range hertz {
			var payload [FrameSamples]byte
			(&Tone{Hertz: hz}).Frame(payload[:])
			for i, s := range Decode(payload[:]) {
				samples[i] += s / float64(len(hertz))
			}
		}
		out := make([]byte, FrameSamples)
		for i, s := range samples {
			out[i] = EncodeULaw(int16(s))
		}
		return out
	}
	for _, c := range []struct {
		name           string
		tones          []float64
		heard, nothing bool
	}{
		{"the tone", []float64{1050}, true, false},
		{"its neighbour", []float64{1100}, false, false},
		{"both", []float64{1050, 1100}, false, false},
		{"an echo beside it", []float64{1050, 400}, false, false},
		{"nothing", nil, false, true},
	} {
		e := &Ear{Hertz: 1050}
		for range 100 {
			e.Hear(PCMU, frames(c.tones...))
		}
		if e.Heard() != c.heard || e.Nothing() != c.nothing {
			t.Errorf("%s: heard %v, nothing %v: %+v", c.name, e.Heard(), e.Nothing(), *e)
		}
	}
	// A second of another tone in ten is enough, and named; silence before is none.
	e := &Ear{Hertz: 1050}
	for range 50 {
		e.Hear(PCMU, frames())
	}
	for range 450 {
		e.Hear(PCMU, frames(1050))
	}
	if !e.Heard() {
		t.Errorf("after silence it is not heard: %+v", *e)
	}
	for range 50 {
		e.Hear(PCMU, frames(2000))
	}
	if e.Heard() || !e.Other.Is(2000) {
		t.Errorf("another tone went by: %+v", *e)
	}
}

// What is spoken by one codec is heard by it, and is noise by the other.
func TestEarKnowsItsCodec(t *testing.T) {
	for _, spoken := range Codecs() {
		for _, heard := range Codecs() {
			e, tone := &Ear{Hertz: 1050}, &Tone{Hertz: 1050, Codec: spoken}
			for range 100 {
				var payload [FrameSamples]byte
				tone.Frame(payload[:])
				e.Hear(heard, payload[:])
			}
			if e.Heard() != (spoken == heard) {
				t.Errorf("%s, taken for %s: heard %v: %+v", spoken, heard, e.Heard(), *e)
			}
		}
	}
}
