package sound

// Ear listens for one tone, a tenth of a second at a time. Tones of a multiple of
// 50 Hz fit into a packet's 20 ms without a rest, so packets that were lost leave
// no seam in them.
type Ear struct {
	Hertz float64 // that is listened for

	Right   int   // tenths of a second that had the tone and nothing else
	Wrong   int   // that had another sound
	Blurred int   // that had the tone among others, or for a part of the time
	Silent  int   // that had nothing
	Other   Pitch // what the first wrong one had

	block []int16
}

const (
	blockSize = Rate / 10
	hush      = 100.0 // amplitude below which there is nothing to hear
	pure      = 0.95  // share of the power that a tone must have: less than G.711 leaves it, more than one law taken for the other
	some      = 0.3
)

// Hear takes a payload, borrowed.
func (e *Ear) Hear(c Codec, payload []byte) {
	if e.block == nil {
		e.block = make([]int16, 0, blockSize)
	}
	for _, b := range payload {
		if e.block = append(e.block, c.Decode(b)); len(e.block) == blockSize {
			e.judge()
			e.block = e.block[:0]
		}
	}
}

// Forget drops the begun tenth of a second: what comes next does not follow it.
func (e *Ear) Forget() { e.block = e.block[:0] }

func (e *Ear) judge() {
	var samples [blockSize]float64
	var total float64
	for i, s := range e.block {
		samples[i] = float64(s)
		total += samples[i] * samples[i]
	}
	if total < hush*hush/2*blockSize {
		e.Silent++
		return
	}
	switch share := 2 * Power(samples[:], e.Hertz) / blockSize / total; {
	case share >= pure:
		e.Right++
	case share >= some:
		e.Blurred++
	default:
		if e.Wrong++; e.Wrong == 1 {
			e.Other = Listen(samples[:])
		}
	}
}

// Heard tells whether the tone was there, and no other: but for a tenth of a
// second at each edge.
func (e *Ear) Heard() bool {
	return e.Right > 0 && e.Wrong == 0 && e.Blurred <= 2+e.Right/10
}

// Nothing tells whether there was no sound at all.
func (e *Ear) Nothing() bool { return e.Right+e.Wrong+e.Blurred == 0 }
