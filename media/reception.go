package media

import "encoding/binary"

const (
	// maxDropout and maxMisorder are those of RFC 3550 appendix A.1: a step
	// beyond them is a source that began again, not a loss.
	maxDropout  = 3000
	maxMisorder = 100
)

// reception measures one source's RTP packets as they come to us (RFC 3550
// appendices A.3 and A.8). Each packet was verified, and is no repetition.
type reception struct {
	received uint64
	expected uint64 // by the sequence numbers
	highest  uint16
	payload  uint8 // of the newest packet
	rate     uint32
	transit  int64   // of the newest packet, in units of its timestamp
	jitter   float64 // likewise
}

// packet takes note of an RTP packet.
func (r *reception) packet(p []byte, now int64, f *figures) {
	seq, payload := sequence(p), p[1]&0x7f
	ahead := int16(seq - r.highest)
	r.received++
	switch {
	case r.expected == 0 || ahead > maxDropout || ahead < -maxMisorder:
		r.expected++
		r.highest = seq
		r.rate = 0 // the next one's distance says nothing
	case ahead > 0:
		r.expected += uint64(ahead)
		r.highest = seq
	default: // late: it was counted as expected, or came before the first
		return
	}
	if payload != r.payload || r.rate == 0 {
		r.payload, r.rate, r.transit = payload, f.rateOf(payload), 0
	}
	if r.rate == 0 {
		return
	}
	arrived := now / 1000 * int64(r.rate) / 1_000_000
	transit := int64(int32(uint32(arrived) - binary.BigEndian.Uint32(p[4:])))
	if r.transit != 0 {
		d := int64(int32(transit - r.transit)) // also across the timestamp's wrap
		r.jitter += (float64(max(d, -d)) - r.jitter) / 16
	}
	r.transit = transit
}

// tally is what was received of a direction, over all of its sources.
type tally struct {
	received, expected uint64
	jitter             float64 // seconds, of the source with the most packets
	most               uint64
}

func (t *tally) add(r *reception) {
	t.received += r.received
	t.expected += max(r.expected, r.received)
	if r.rate > 0 && r.received >= t.most {
		t.most, t.jitter = r.received, r.jitter/float64(r.rate)
	}
}

// lost is the share of packets that did not come.
func (t *tally) lost() float64 {
	if t.expected == 0 {
		return 0
	}
	return float64(t.expected-t.received) / float64(t.expected)
}
