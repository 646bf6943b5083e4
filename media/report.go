package media

import "encoding/binary"

// Packet types of RTCP (RFC 3550 section 12.1, RFC 4585 section 6.1).
const (
	rtcpSR    = 200
	rtcpRR    = 201
	rtcpSDES  = 202
	rtcpBYE   = 203
	rtcpRTPFB = 205
	rtcpPSFB  = 206
)

// Formats of payload-specific feedback that ask for a whole picture (RFC 4585
// section 6.3.1, RFC 5104 section 4.3.1).
const (
	psfbPLI = 1
	psfbFIR = 4
)

// sdesCNAME is the item of RTCP SDES that names a source (RFC 3550 section 6.5.1).
const sdesCNAME = 1

// keptReports is how many sender reports are remembered until they are
// referred to: one comes every five seconds, its answer in a few.
const keptReports = 4

// report is what one end tells of the packets of one direction, as it
// receives them.
type report struct {
	count    uint64 // of report blocks
	lost     uint64 // the sum of their fractions lost, in 1/256
	jitter   uint32 // the last one's, in units of the timestamp
	trip     int64  // nanoseconds from us to that end and back; 0: not known
	sent     [keptReports]sentReport
	nextSent uint8
}

// sentReport is a sender report that went towards that end.
type sentReport struct {
	ntp uint32 // the middle of its NTP timestamp
	at  int64  // when it passed us
}

// readReports reads a compound packet on its way through: sender reports are
// remembered, and what they are answered with gives the round trip. d is the
// direction of the packet. p is sound.
//
// The numbers are the peer's word: they are shown, and change nothing.
func (f *figures) readReports(p []byte, d Direction, now int64) {
	for len(p) >= 4 {
		n := 4 + 4*int(binary.BigEndian.Uint16(p[2:]))
		part, kind, blocks := p[:n], p[1], int(p[0]&0x1f)
		p = p[n:]
		at := 8
		if kind == rtcpSR {
			if len(part) < 28 {
				continue
			}
			own := &f.reports[d] // told of by the end that it goes to
			own.sent[own.nextSent%keptReports] = sentReport{binary.BigEndian.Uint32(part[10:]), now}
			own.nextSent++
			at = 28
		} else if kind != rtcpRR {
			continue
		}
		for ; blocks > 0 && len(part) >= at+24; blocks, at = blocks-1, at+24 {
			f.reports[1-d].block(part[at:], now)
		}
	}
}

// block reads a report block (RFC 3550 section 6.4.1).
func (r *report) block(b []byte, now int64) {
	r.count++
	r.lost += uint64(b[4])
	r.jitter = binary.BigEndian.Uint32(b[12:])
	last, delay := binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint32(b[20:])
	if last == 0 {
		return
	}
	for _, s := range r.sent {
		if s.ntp == last && s.at > 0 {
			trip := now - s.at - int64(delay)*1_000_000_000>>16
			r.trip = max(trip, 1)
			return
		}
	}
}

// withoutFeedback removes from a compound packet, in place, what a peer of
// plain RTP/AVP has no use for (RFC 4585 section 4: feedback needs its
// profile), and returns what is left. p is sound. What asks for a whole picture
// stays: we announce it to browsers, Asterisk heeds it under any profile, and
// others ignore what they don't know (RFC 3550 section 6.1).
func withoutFeedback(p []byte) []byte {
	kept := 0
	for at := 0; at < len(p); {
		n := 4 + 4*int(binary.BigEndian.Uint16(p[at+2:]))
		if kind := p[at+1]; kind != rtcpRTPFB && (kind != rtcpPSFB || asksForPicture(p[at])) {
			if kept != at {
				copy(p[kept:], p[at:at+n])
			}
			kept += n
		}
		at += n
	}
	return p[:kept]
}

// asksForPicture tells it of payload-specific feedback by its first byte.
func asksForPicture(b byte) bool { return b&0x1f == psfbPLI || b&0x1f == psfbFIR }
