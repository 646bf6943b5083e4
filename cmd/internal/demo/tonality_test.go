package demo

import (
	"math/rand/v2"
	"testing"

	"github.com/sallyport/sallyport/cmd/internal/sound"
)

// What separates an encrypted packet from one in plain text.
func TestTonality(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	payload := make([]byte, sound.FrameSamples)
	most := 0.0
	for range 5_000 {
		for i := range payload {
			payload[i] = byte(r.Uint32())
		}
		most = max(most, sound.Tonality(payload))
	}
	t.Logf("the most tonal of 5000 random packets: %.2f", most)
	if most > noise {
		t.Errorf("random bytes sound like a tone: %v", most)
	}
	for _, hertz := range []float64{voice, testTone} {
		tone := sound.Tone{Hertz: hertz}
		tone.Frame(payload)
		if got := sound.Tonality(payload); got < 0.8 {
			t.Errorf("a packet of %v Hz has a tonality of %v", hertz, got)
		}
	}
}
