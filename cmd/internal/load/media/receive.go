package media

import (
	"time"

	"github.com/pion/rtp"
	"github.com/sallyport/sallyport/cmd/internal/sound"
)

// received counts what came (RFC 3550 appendices A.1, A.3 and A.8).
type received struct {
	packets, bad int
	first        time.Time
	ssrc         uint32
	begun        bool   // there was a packet of ssrc, since the last pause
	base, high   uint32 // sequence numbers, without their wraps
	of           int    // packets of ssrc, since the last pause
	whole        int    // packets of ssrc
	missed       int    // before the last pause, and of sources before
	before       int    // missed when ssrc began
	transit      int64  // of the last packet, in samples
	jitter       float64
}

// anew is how far a clock jumps that is another one, in samples. A talkspurt may begin with
// one, and who goes on from one source to the next, as from early media to the call, does
// not always say so.
const anew = 60 * sound.Rate

func (r *received) take(h *rtp.Header, now time.Time, since time.Time) {
	if r.first.IsZero() {
		r.first = now
	}
	r.packets++
	transit := int64(now.Sub(since)*sound.Rate/time.Second) - int64(h.Timestamp)
	if !r.begun || h.SSRC != r.ssrc {
		r.missed = r.lost()
		high := uint32(h.SequenceNumber)
		if h.SSRC == r.ssrc && r.whole > 0 { // it goes on after a pause
			high = r.high + uint32(h.SequenceNumber-uint16(r.high))
		} else {
			r.ssrc, r.whole, r.before = h.SSRC, 0, r.missed
		}
		r.whole++
		r.begun, r.of = true, 1
		r.base, r.high, r.transit = high, high, transit
		return
	}
	r.of++
	r.whole++
	if step := int16(h.SequenceNumber - uint16(r.high)); step > 0 {
		r.high += uint32(step)
	} else if r.high+uint32(int32(step)) < r.base && r.base-r.high < 1<<31 {
		r.base = r.high + uint32(int32(step)) // it began before, and came late
	}
	d := int32(transit - r.transit)
	if d = max(d, -d); !h.Marker && d >= 0 && d < anew {
		r.jitter += (float64(d) - r.jitter) / 16
	}
	r.transit = transit
}

// pause has what comes next begin anew: what was held back is not lost.
func (r *received) pause() { r.missed, r.begun = r.lost(), false }

func (r *received) lost() int {
	if !r.begun {
		return r.missed
	}
	return r.missed + max(0, int(r.high-r.base)+1-r.of)
}

func (r *received) delay() time.Duration {
	return time.Duration(r.jitter * float64(time.Second) / sound.Rate)
}

// read takes datagrams until the socket is closed.
func (s *Session) read() {
	var buf, plain [2048]byte
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf[:])
		if err != nil {
			if s.over() {
				return
			}
			continue // an ICMP message of before
		}
		switch p := buf[:n]; { // RFC 7983
		case n < 12: // a keep-alive
		case p[0] < 4:
			s.mu.Lock()
			if s.ice != nil {
				s.ice.take(s, p, from)
			}
			s.mu.Unlock()
		case p[0] >= 20 && p[0] < 64:
			s.mu.Lock()
			if s.dtls != nil {
				_, _ = s.dtls.in.Write(p, nil) // a full buffer loses it
			}
			s.mu.Unlock()
		case p[0]>>6 == 2 && p[1] >= 192 && p[1] <= 223: // RFC 5761 section 4
			s.reported(p, plain[:0])
		case p[0]>>6 == 2:
			s.hear(p, plain[:0])
		}
	}
}

// hear takes an RTP packet, borrowed.
func (s *Session) hear(p, plain []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys.in == nil { // the other end may have its keys first
		return
	}
	var h rtp.Header
	plain, err := s.keys.in.DecryptRTP(plain, p, &h)
	size := h.MarshalSize()
	if err != nil || size > len(plain) {
		s.hearing().received.bad++
		return
	}
	s.hearing().take(&h, plain[size:], time.Now())
}
