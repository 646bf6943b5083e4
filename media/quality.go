package media

import (
	"slices"
	"strings"
	"time"
)

// Format says what a payload type is.
type Format struct {
	PayloadType uint8
	Codec       string // the encoding name of RFC 4855: PCMU, G729, …
	ClockRate   uint32 // of its timestamps, in Hz
}

// Quality is how one direction of a stream fared.
type Quality struct {
	Received, Expected uint64        // RTP packets as they came to us (RFC 3550 appendix A.3)
	Loss               float64       // share of packets, 0 to 1, lost before us
	Jitter             time.Duration // before us (RFC 3550 appendix A.8)

	// What the far end tells in its RTCP. Sequence numbers pass us as they
	// are, so its losses are those of the whole way.
	Told      bool
	FarLoss   float64       // the mean of its reports, 0 to 1
	FarJitter time.Duration // of its last report
	FarTrip   time.Duration // from us to the far end and back; 0: not known

	MOS float64 // an estimate of what the far end hears, 1 to 4.5; 0: nothing was sent
}

// figures are what a stream's quality is made from, beside what is measured of
// each source.
type figures struct {
	formats []Format
	past    [2]tally  // by Direction: of sources that are gone
	reports [2]report // by Direction: what its receiver tells
}

// has tells whether a payload type is one of the stream's.
func (f *figures) has(payload uint8) bool {
	return slices.ContainsFunc(f.formats, func(each Format) bool { return each.PayloadType == payload })
}

// rateOf is a payload type's clock rate, 0 if not known. The timestamps of
// telephone events stand still during an event (RFC 4733 section 2.2).
func (f *figures) rateOf(payload uint8) uint32 {
	for _, each := range f.formats {
		if each.PayloadType == payload && !strings.EqualFold(each.Codec, "telephone-event") {
			return each.ClockRate
		}
	}
	return 0
}

// quality sums one direction up.
func (st *stream) quality(d Direction) Quality {
	sum := st.figures.past[d]
	if d == Inward {
		for _, l := range st.lanes {
			sum.add(&l.reception)
		}
	} else {
		for _, s := range st.prot[kindRTP].tx.sources {
			if s.stream == st {
				sum.add(&s.reception)
			}
		}
	}
	told := &st.figures.reports[d]
	q := Quality{
		Received: sum.received, Expected: sum.expected, Loss: sum.lost(), Jitter: time.Duration(sum.jitter * float64(time.Second)),
		Told: told.count > 0, FarTrip: time.Duration(told.trip),
	}
	codec := ""
	if formats := st.figures.formats; len(formats) > 0 {
		codec = formats[0].Codec
		if rate := formats[0].ClockRate; rate > 0 {
			q.FarJitter = time.Duration(float64(told.jitter) / float64(rate) * float64(time.Second))
		}
	}
	if told.count > 0 {
		q.FarLoss = float64(told.lost) / float64(told.count) / 256
	}
	if q.Received > 0 {
		back := time.Duration(st.figures.reports[1-d].trip)
		delay := (q.FarTrip+back)/2 + 2*max(q.Jitter, q.FarJitter) + packetTime
		q.MOS = score(rating(codec, q.WholeLoss(), delay))
	}
	return q
}

// WholeLoss is the share of packets lost on the whole way, as far as it is
// known.
func (q Quality) WholeLoss() float64 { return max(q.Loss, q.FarLoss) }

// packetTime is what one packet waits for to be full, and its look-ahead.
const packetTime = 25 * time.Millisecond

// impairment is a codec's equipment impairment factor and its robustness to
// random loss, both from ITU-T G.113 appendix I. Codecs that are not listed
// count as G.711 with concealment.
func impairment(codec string) (ie, bpl float64) {
	switch strings.ToUpper(codec) {
	case "G729":
		return 11, 19
	case "G723":
		return 15, 16.1
	case "GSM":
		return 20, 43
	case "ILBC":
		return 11, 32
	}
	return 0, 25.1
}

// rating is the transmission rating factor R of the E-model, ITU-T G.107,
// with all of its inputs at their defaults (R = 93.2) but two: loss, taken as
// random (equation 7-29 with BurstR = 1), and the delay from mouth to ear, by
// the usual linear form of section 7.4.
func rating(codec string, loss float64, delay time.Duration) float64 {
	ie, bpl := impairment(codec)
	percent := 100 * loss
	ieEff := ie + (95-ie)*percent/(percent+bpl)
	ms := float64(delay) / float64(time.Millisecond)
	id := 0.024 * ms
	if ms > 177.3 {
		id += 0.11 * (ms - 177.3)
	}
	return 93.2 - id - ieEff
}

// score is the mean opinion score of a rating (ITU-T G.107 annex B).
func score(r float64) float64 {
	switch {
	case r <= 0:
		return 1
	case r >= 100:
		return 4.5
	}
	return max(1, 1+0.035*r+r*(r-60)*(100-r)*7e-6)
}
