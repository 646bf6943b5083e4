package prove

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// This file is what is not to or from a port of the edge's media: plain SIP and RTP
// are known by what they say, and how they go on.

// flow is what may be RTP of one source (RFC 3550 appendix A.1).
type flow struct {
	at    time.Time
	seq   uint16
	stamp uint32
	in    int // packets in order
	is    bool
	first packet
	dir   Direction
	frames
}

type flowID struct {
	src, dst netip.AddrPort
	ssrc     uint32
}

const (
	// inOrder is how many packets must follow one another, of one source, each
	// ahead of the one before by a few in number and some seconds in time at the
	// most. By chance one in a hundred million does.
	inOrder  = 2
	maxAhead = 64
	maxTicks = 10 * 90000
)

// elsewhere takes a datagram that is not of the edge's media.
func (a *Account) elsewhere(p packet, dir Direction) {
	if what, ok := sipOf(p.payload); ok {
		a.sip(p, dir, "SIP "+what)
		return
	}
	switch kind := demux(p.payload); {
	case kind == isRTCP && plainRTCP(p.payload):
		a.settle(LeakRTCP, dir, p)
	case kind == isRTP:
		a.rtp(p, dir)
	default:
		a.count(Other, dir, p.frames)
	}
}

// rtp takes what may be RTP. It counts as other until it behaves as RTP does, and
// then all of it is a leak.
func (a *Account) rtp(p packet, dir Direction) {
	id := flowID{p.src, p.dst, ssrcOf(p.payload, isRTP)}
	seq, stamp := binary.BigEndian.Uint16(p.payload[2:]), binary.BigEndian.Uint32(p.payload[4:])
	f := a.flows[id]
	if f == nil {
		a.count(Other, dir, p.frames)
		if len(a.flows) >= maxFlows {
			a.Incomplete("too many flows at a time")
			return
		}
		p.payload = append([]byte(nil), p.payload[:12]...)
		a.flows[id] = &flow{at: p.at, seq: seq, stamp: stamp, first: p, dir: dir, frames: p.frames}
		return
	}
	f.at = p.at
	if f.is {
		a.settle(LeakRTP, dir, p)
		return
	}
	a.count(Other, dir, p.frames)
	f.add(p.frames)
	if ahead, ticks := seq-f.seq, stamp-f.stamp; ahead > 0 && ahead <= maxAhead && ticks <= maxTicks {
		f.in++
		f.seq, f.stamp = seq, stamp
	} else if -ahead > maxAhead { // neither late nor the same again: another beginning
		f.in, f.seq, f.stamp = 0, seq, stamp
	}
	if f.in >= inOrder {
		f.is = true
		a.uncount(Other, dir, f.frames)
		f.first.frames = f.frames
		a.settle(LeakRTP, dir, f.first)
	}
}

// stranger is what somebody sent in SIP to an address of the edge's, in clear. It is
// not ours unless it is answered.
type stranger struct {
	at       time.Time
	answered bool
	leak     packet
	what     string
	frames
}

// sip takes SIP in clear.
func (a *Account) sip(p packet, dir Direction, what string) {
	id, _ := pairOf(p.src, p.dst)
	s := a.strangers[id]
	ours := a.blame(LeakSIP, p.src.Addr(), dir == In) == LeakSIP
	if dir == In && !ours && (s == nil || !s.answered) {
		a.count(StrangeSIP, dir, p.frames)
		if s == nil && len(a.strangers) < maxFlows {
			s = &stranger{leak: p, what: what}
			s.leak.payload = nil
			a.strangers[id] = s
		}
		if s != nil {
			s.at = p.at
			s.add(p.frames)
		}
		return
	}
	if dir == Out {
		switch {
		case s == nil && len(a.strangers) < maxFlows:
			a.strangers[id] = &stranger{at: p.at, answered: true}
		case s != nil && !s.answered:
			s.answered = true
			a.uncount(StrangeSIP, In, s.frames)
			s.leak.frames = s.frames
			a.leak(LeakSIP, In, s.leak, s.what)
		}
	}
	a.leak(LeakSIP, dir, p, what)
}
