package media

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/sallyport/sallyport/media/packet"
)

// splice makes one source of all that the PBX sends on a stream: to web phones the
// one that our description announces by a=ssrc (RFC 5576). Each hold and transfer
// may bring a PBX's SSRC, and chan_pjsip another when it begins to pass packets on
// by itself: a browser does not listen again to one that it has heard before
// another, and baresip's jitter buffer is confused by two within milliseconds.
// Sequence numbers and timestamps go on where they were.
//
// A phone to which nothing was announced hears the PBX's first SSRC, and packets as
// they are while that is the only one, if their numbers begin in the lower half.
//
// It belongs to the worker, but for ssrc, which never changes.
type splice struct {
	ssrc uint32 // that can be announced
	sdes []byte // our source's description, as RTCP carries it; nil: all passes as it comes
	own  uint32 // our source: ssrc if it was announced, or else the PBX's first

	fixed bool // own will not change any more

	begun     bool
	from      uint32 // the PBX's source now
	newest    uint16 // sequence number, as it left
	seqShift  uint16 // what is added to the PBX's
	stamp     uint32 // timestamp of newest, as it left
	tickShift uint32 // what is added to the PBX's
	at        int64  // when newest left

	packets, octets uint32 // of all that left (RFC 3550 section 6.4.1)
}

// newSSRC chooses one that no stream of a worker has: a peer that takes all of
// our calls at one address, and knows us by one, tells them apart by it.
func newSSRC(taken map[uint32]struct{}) uint32 {
	for {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		ssrc := binary.BigEndian.Uint32(b[:])
		if _, used := taken[ssrc]; ssrc != 0 && !used {
			return ssrc
		}
	}
}

// videoRate is the clock of all video (RFC 3551 section 5).
const videoRate = 90000

// isOn tells whether there is one source.
func (s *splice) isOn() bool { return s.sdes != nil }

// begin has the stream be one source from now on, of this CNAME; announced tells
// that it is ssrc.
func (s *splice) begin(cname string, announced bool) {
	if !s.fixed {
		s.own, s.fixed = s.ssrc, announced
	}
	s.sdes = binary.BigEndian.AppendUint32([]byte{0x81, rtcpSDES, 0, 0}, s.own)
	s.sdes = append(append(s.sdes, sdesCNAME, byte(len(cname))), cname...)
	s.sdes = append(s.sdes, 0) // ends the chunk
	for len(s.sdes)%4 != 0 {
		s.sdes = append(s.sdes, 0)
	}
	binary.BigEndian.PutUint16(s.sdes[2:], uint16(len(s.sdes)/4-1))
}

// all makes a packet of the PBX one of our source, in place.
func (s *splice) all(p []byte, kind uint8, now int64, f *figures) []byte {
	if kind == kindRTCP {
		return s.rtcp(p)
	}
	s.rtp(p, now, f)
	return p
}

// rtp makes a packet of the PBX one of our source. A new source of the PBX goes
// on with the next sequence number, and with the time that has passed; so does
// one that begins again under its SSRC (RFC 3550 appendix A.1). Of audio, its
// first packet is marked as that of a talkspurt (RFC 3551 section 4.1).
//
// Our source begins in the lower half of the numbers: who has our key only after a
// while must not have missed a roll-over, or is deaf for the whole call (RFC 3711
// section 3.3.1).
func (s *splice) rtp(p []byte, now int64, f *figures) {
	seq, stamp, ssrc := sequence(p), binary.BigEndian.Uint32(p[4:]), binary.BigEndian.Uint32(p[8:])
	ahead := int16(seq + s.seqShift - s.newest)
	switch {
	case !s.begun:
		s.begun, s.from = true, ssrc
		if !s.fixed {
			s.own, s.fixed = ssrc, true
			binary.BigEndian.PutUint32(s.sdes[4:], ssrc)
		}
		s.seqShift = -(seq & 0x8000)
		s.newest = seq + s.seqShift - 1
		ahead = 1
	case ssrc != s.from || ahead > maxDropout || ahead < -maxMisorder:
		rate := f.rateOf(p[1] & 0x7f)
		switch rate {
		case 0:
			rate = 8000
		case videoRate: // whose marker ends a picture
		default:
			p[1] |= 0x80
		}
		passed := max(now-s.at, int64(10*time.Millisecond)) // a packet's time, or a batch's
		s.from = ssrc
		s.seqShift = s.newest + 1 - seq
		s.tickShift = s.stamp + uint32(passed/1000*int64(rate)/1_000_000) - stamp
		ahead = 1
	}
	seq, stamp = seq+s.seqShift, stamp+s.tickShift
	if ahead > 0 {
		s.newest, s.stamp, s.at = seq, stamp, now
	}
	setSequence(p, seq)
	binary.BigEndian.PutUint32(p[4:], stamp)
	binary.BigEndian.PutUint32(p[8:], s.own)
	n, _ := headerLen(p) // classify has checked it
	s.packets++
	s.octets += uint32(len(p) - n)
}

// rtcp makes a compound packet of the PBX one of our source, in place, and
// returns what is left of it: a sender report of another source than the one
// that speaks is none of ours, and no source of ours ends while its stream
// lives. p is sound, and has room behind it.
func (s *splice) rtcp(p []byte) []byte {
	kept, described := 0, false
	for at := 0; at < len(p); {
		n := 4 + 4*int(binary.BigEndian.Uint16(p[at+2:]))
		part := p[at : at+n]
		at += n
		if part[0]&0x20 != 0 { // padded, as only a last one may be
			n -= int(part[n-1])
			part = part[:n]
			part[0] &^= 0x20
			binary.BigEndian.PutUint16(part[2:], uint16(n/4-1))
		}
		switch part[1] {
		case rtcpSDES:
			described = true
			continue
		case rtcpBYE:
			continue
		case rtcpSR:
			if n < 28 || !s.begun || binary.BigEndian.Uint32(part[4:]) != s.from {
				continue
			}
			binary.BigEndian.PutUint32(part[16:], binary.BigEndian.Uint32(part[16:])+s.tickShift)
			binary.BigEndian.PutUint32(part[20:], s.packets)
			binary.BigEndian.PutUint32(part[24:], s.octets)
		}
		if n < 8 {
			continue
		}
		binary.BigEndian.PutUint32(part[4:], s.own)
		kept += copy(p[kept:], part)
	}
	out := p[:kept]
	if described && kept > 0 && kept+len(s.sdes) <= cap(p)-packet.TagRoom {
		out = append(out, s.sdes...)
	}
	return out
}

// told makes what a phone tells of our source, or asks of it, be about the PBX's, in
// place. p is sound.
func (s *splice) told(p []byte) {
	for len(p) > 0 {
		n := 4 + 4*int(binary.BigEndian.Uint16(p[2:]))
		part := p[:n]
		p = p[n:]
		if part[0]&0x20 != 0 {
			part = part[:n-int(part[n-1])]
		}
		switch count := int(part[0] & 0x1f); part[1] {
		case rtcpSR:
			s.toldOf(part, 28, count)
		case rtcpRR:
			s.toldOf(part, 8, count)
		case rtcpPSFB:
			s.askedOf(part, count)
		}
	}
}

// toldOf takes report blocks (RFC 3550 section 6.4.1), the first of which is at a place.
func (s *splice) toldOf(part []byte, at, blocks int) {
	for ; blocks > 0 && len(part) >= at+24; blocks, at = blocks-1, at+24 {
		if s.renamed(part[at:]) {
			binary.BigEndian.PutUint16(part[at+10:], binary.BigEndian.Uint16(part[at+10:])-s.seqShift)
		}
	}
}

// askedOf takes what asks for a whole picture: the one format names its source in the
// header, the other in each entry (RFC 4585 section 6.1, RFC 5104 section 4.3.1.1).
func (s *splice) askedOf(part []byte, format int) {
	if len(part) >= 12 {
		s.renamed(part[8:])
	}
	for at := 12; format == psfbFIR && len(part) >= at+8; at += 8 {
		s.renamed(part[at:])
	}
}

// renamed makes an SSRC of ours the PBX's, and tells whether it was ours.
func (s *splice) renamed(b []byte) bool {
	if binary.BigEndian.Uint32(b) != s.own {
		return false
	}
	binary.BigEndian.PutUint32(b, s.from)
	return true
}
