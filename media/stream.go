package media

import (
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/media/packet"
)

const (
	// maxLanes bounds the SSRCs that one stream has at a time, RTP and RTCP each
	// counted. A phone has two; hold, transfers and trunks bring more, and the one
	// that was silent for longest makes room: see maxVerified.
	maxLanes = 32
	// maxDeclared bounds those that an SDP may announce.
	maxDeclared = 16
	// doubtAfter is how many packets in a row must fail on a lane until it is
	// asked whether they are another stream's.
	doubtAfter = 8
)

// stream is one m-line of a call as its worker knows it. It belongs to the
// worker.
type stream struct {
	session   *Session
	index     int
	counts    counts
	own       protection            // of SDES
	prot      [numKinds]*protection // own, or those of the transport
	transport *transport            // nil for one whose keys come by SDES
	peers     [numKinds]peer
	plain     [numKinds]plainEnd
	lanes     []*lane
	declared  []uint32
	gone      map[uint32]int64 // by SSRC: where those were that are forgotten
	mux       bool
	inactive  bool
	fresh     bool     // may latch to an address not seen before
	sole      bool     // only what was declared is its phone's
	fixed     bool     // its phone is at the host of the hints
	heard     [2]int64 // by Direction: when the last packet was accepted
	figures   figures
	splice    splice
}

// peer is the phone's end of one kind of packets.
type peer struct {
	latched netip.AddrPort // zero until a tag verified
	hint    netip.AddrPort
	to      packet.Addr   // of latched, else of hint
	sock    *secureSocket // to send from
}

// reach says where packets go, and by which socket. An address that is not
// valid, or no socket, is nowhere.
func (p *peer) reach(at netip.AddrPort, s *secureSocket) {
	p.to, p.sock = packet.MakeAddr(at), s
}

// plainEnd is the PBX's end of one kind of packets, and our socket for it.
type plainEnd struct {
	sock packet.Socket
	from netip.Addr  // the address its packets must come from; the last one known
	to   packet.Addr // zero: it wants none
}

// lane is one source of authenticated packets of a stream.
type lane struct {
	stream    *stream
	key       laneKey
	index     int64  // of the newest RTP packet: its roll-over counter and sequence number
	last      int64  // when its last packet was accepted
	failed    uint8  // packets in a row that did not verify, up to doubtAfter
	contested bool   // another stream has its SSRC, or declared it
	epoch     uint32 // of the key it was last heard under
	reception reception
}

// laneKey is what a packet of the secure side is found by.
type laneKey struct {
	from origin
	ssrc uint32
	kind uint8
}

// newer tells whether an RTP packet is ahead of all that came before on its
// lane (RFC 3550 appendix A.1).
func (l *lane) newer(seq uint16) bool { return int16(seq-uint16(l.index)) > 0 }

// reached notes an RTP packet, and tells whether it is newer than all before.
func (l *lane) reached(seq uint16) bool {
	if !l.newer(seq) {
		return false
	}
	l.index = indexOf(seq, l.index)
	return true
}

// rebase takes the roll-over counter over that a key began with for this lane,
// as the packet with this sequence number verified.
func (l *lane) rebase(o *opener, seq uint16) {
	if l.key.kind != kindRTP {
		return
	}
	roc, _ := o.ctx.ROC(l.key.ssrc)
	ahead := int64(int16(seq - uint16(l.index)))
	l.index = int64(roc)<<16 | int64(seq) - ahead
}

// leave keeps what must be known of a lane that is forgotten: its source may
// come back under another key, and with the same roll-over counter.
func (st *stream) leave(l *lane) {
	if l.key.kind != kindRTP || l.index>>16 <= 0 || len(st.gone) >= maxVerified {
		return
	}
	if st.gone == nil {
		st.gone = make(map[uint32]int64)
	}
	st.gone[l.key.ssrc] = l.index
}

// before is the packet index that a source of the stream had reached when its
// key was changed to one that it was not heard under yet; else it is negative.
func (st *stream) before(ssrc uint32, kind uint8, epoch uint32) int64 {
	l := st.lane(ssrc, kind)
	if l != nil {
		return l.before(epoch)
	}
	if index, ok := st.gone[ssrc]; ok {
		return index
	}
	return -1
}

func (l *lane) before(epoch uint32) int64 {
	if l.epoch == epoch {
		return -1
	}
	return l.index
}

// keying names where the stream's keys come from.
func (st *stream) keying() string {
	switch t := st.transport; {
	case t == nil:
		return "SDES"
	case t.params.ICE && t.byTCP:
		return "DTLS over ICE-TCP"
	case t.params.ICE:
		return "DTLS over ICE"
	}
	return "DTLS"
}

// target returns where packets of a kind go to the phone, and by which
// socket; nil while nothing is known of it.
func (st *stream) target(kind uint8) *peer {
	if st.mux {
		kind = kindRTP // RFC 5761 section 5.1.1
	}
	if p := &st.peers[kind]; p.sock != nil && !p.to.IsZero() {
		return p
	}
	return nil
}

// sends tells whether an SSRC is known to be the stream's.
func (st *stream) sends(ssrc uint32) bool {
	return slices.Contains(st.declared, ssrc) || st.lane(ssrc, kindRTP) != nil
}

// speaks tells whether RTP of the stream's phone was heard.
func (st *stream) speaks() bool {
	return slices.ContainsFunc(st.lanes, func(l *lane) bool { return l.key.kind == kindRTP })
}

// comesFrom tells whether packets of the stream are expected from an address.
func (st *stream) comesFrom(at origin) bool {
	for _, l := range st.lanes {
		if l.key.from == at {
			return true
		}
	}
	t := st.transport
	return t != nil && (t.hasPath(at) || at.conn == 0 && (t.parts[kindRTP].from == at.AddrPort || t.parts[kindRTCP].from == at.AddrPort))
}

// lane finds the stream's lane of an SSRC, or nil.
func (st *stream) lane(ssrc uint32, kind uint8) *lane {
	for _, l := range st.lanes {
		if l.key.ssrc == ssrc && l.key.kind == kind {
			return l
		}
	}
	return nil
}
