package media

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"github.com/sallyport/sallyport/media/packet"
)

// The two kinds of packets of a stream, as indexes.
const (
	kindRTP = iota
	kindRTCP
	numKinds
)

// grace is how long packets under a key that was replaced are still accepted:
// those that were on their way when the answer was.
const grace = 4 * time.Second

// maxLanes bounds the (source, SSRC) pairs of one stream. A phone has one or
// two; transfers and music on hold bring some more.
const maxLanes = 16

// stream is one m-line of a call as its worker knows it. It belongs to the
// worker.
type stream struct {
	session   *Session
	index     int
	counts    counts
	rx        receiver
	tx        sender
	peers     [numKinds]peer
	plain     [numKinds]plainEnd
	lanes     []*lane
	declared  []uint32
	mux       bool
	inactive  bool
	fresh     bool // in worker.fresh: may latch to an address not seen before
	lastHeard int64
}

// peer is the phone's end of one kind of packets.
type peer struct {
	latched netip.AddrPort // zero until a tag verified
	hint    netip.AddrPort
	to      packet.Addr   // of latched, else of hint
	sock    *secureSocket // to send from
}

// plainEnd is the PBX's end of one kind of packets, and our socket for it.
type plainEnd struct {
	sock packet.Socket
	from netip.Addr  // the address its packets must come from; the last one known
	to   packet.Addr // zero: it wants none
}

// lane is one source of authenticated packets of a stream.
type lane struct {
	stream  *stream
	key     laneKey
	highest uint16 // newest RTP sequence number
}

// laneKey is what a packet of the secure side is found by.
type laneKey struct {
	from netip.AddrPort
	ssrc uint32
	kind uint8
}

// receiver decrypts a phone's packets.
type receiver struct {
	key      Key
	ctx      *srtp.Context
	old      *srtp.Context // of the key before, during the grace
	oldUntil int64         // nanoseconds of the worker's clock
}

// sender encrypts packets to a phone.
type sender struct {
	key Key
	ctx *srtp.Context
}

// headers are reused for each packet, so that parsing allocates nothing.
type headers struct {
	rtp  rtp.Header
	rtcp rtcp.Header
}

// open verifies and decrypts p into dst, which may be p itself. It tells why
// not by a Drop, and reports success.
func (r *receiver) open(ctx *srtp.Context, dst, p []byte, kind uint8, h *headers) ([]byte, Drop, bool) {
	if ctx == nil {
		return nil, DropAuth, false
	}
	var out []byte
	var err error
	if kind == kindRTP {
		out, err = ctx.DecryptRTP(dst, p, &h.rtp)
	} else {
		// An SRTCP packet may say of itself that it is not encrypted (RFC 3711
		// section 3.4, the E bit). Nothing on this side is not encrypted.
		if !r.key.encrypted(p) {
			return nil, DropMalformed, false
		}
		out, err = ctx.DecryptRTCP(dst, p, &h.rtcp)
	}
	if err == nil {
		return out, 0, true
	}
	if errors.Is(err, srtp.ErrFailedToVerifyAuthTag) || errors.Is(err, srtp.ErrMKINotFound) {
		return nil, DropAuth, false
	}
	return nil, DropReplay, false
}

// encrypted reads the E bit, which stands before MKI and tag, or at the end
// for GCM (RFC 7714 section 9.3).
func (k Key) encrypted(p []byte) bool {
	behind := 4 + len(k.MKI)
	if k.Suite != AEADAES128GCM && k.Suite != AEADAES256GCM {
		behind += 10 // the SRTCP tag of all AES_CM suites
	}
	return len(p) >= 8+behind && p[len(p)-behind]&0x80 != 0
}

// set takes a new key. The same key keeps its context, and with it the
// roll-over counter and what was seen (RFC 3711 section 3.3.1).
func (r *receiver) set(key Key, ctx *srtp.Context, now int64) (changed bool) {
	if r.ctx != nil && r.key.Equal(key) {
		return false
	}
	if r.ctx != nil {
		r.old, r.oldUntil = r.ctx, now+int64(grace)
	}
	r.key, r.ctx = key, ctx
	return true
}

// set takes a new key. The same key must keep its context: a new one would
// begin again at packet 0, and use each nonce of AES-CM and GCM a second time
// with other contents, which gives both away.
func (s *sender) set(key Key, ctx *srtp.Context) {
	if s.ctx != nil && s.key.Equal(key) {
		return
	}
	s.key, s.ctx = key, ctx
}

// seal encrypts p in place; behind it there is room for the tag.
func (s *sender) seal(p []byte, kind uint8, h *headers) ([]byte, bool) {
	var out []byte
	var err error
	if kind == kindRTP {
		out, err = s.ctx.EncryptRTP(p, p, &h.rtp)
	} else {
		out, err = s.ctx.EncryptRTCP(p, p, &h.rtcp)
	}
	return out, err == nil
}

// target returns where packets of a kind go to the phone, and by which
// socket; nil while nothing is known of it.
func (st *stream) target(kind uint8) *peer {
	if kind == kindRTCP && !st.mux {
		if p := &st.peers[kindRTCP]; !p.to.IsZero() {
			return p
		}
		return nil
	}
	if p := &st.peers[kindRTP]; !p.to.IsZero() {
		return p
	}
	return nil
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

// newer tells whether an RTP packet is ahead of all that came before on its
// lane (RFC 3550 appendix A.1).
func (l *lane) newer(seq uint16) bool { return int16(seq-l.highest) > 0 }

// classify reads what kind of packet p is, and its SSRC. It is true for what
// can be RTP or RTCP; nothing in it is authenticated here.
func classify(p []byte) (kind uint8, ssrc uint32, ok bool) {
	if len(p) < 2 || p[0]>>6 != 2 {
		return 0, 0, false
	}
	if p[1] >= 192 && p[1] <= 223 { // RFC 5761 section 4
		if len(p) < 8 {
			return 0, 0, false
		}
		return kindRTCP, binary.BigEndian.Uint32(p[4:]), true
	}
	if len(p) < 12 {
		return 0, 0, false
	}
	return kindRTP, binary.BigEndian.Uint32(p[8:]), true
}

func sequence(p []byte) uint16 { return binary.BigEndian.Uint16(p[2:]) }
