package media

import (
	"encoding/binary"

	"github.com/pion/rtp"
)

// The two kinds of packets of a stream, as indexes.
const (
	kindRTP = iota
	kindRTCP
	numKinds
)

// protocol is what the first byte of a packet says it is.
type protocol uint8

const (
	protoUnknown protocol = iota
	protoSTUN
	protoDTLS
	protoRTP // or RTCP
)

// demux reads a packet's protocol (RFC 7983 section 7).
func demux(p []byte) protocol {
	if len(p) == 0 {
		return protoUnknown
	}
	switch b := p[0]; {
	case b <= 3:
		return protoSTUN
	case b >= 20 && b <= 63:
		return protoDTLS
	case b >= 128 && b <= 191:
		return protoRTP
	}
	return protoUnknown
}

// classify reads what kind of packet p is, and its SSRC. It is true for what
// can be RTP or RTCP; nothing in it is authenticated here.
func classify(p []byte) (kind uint8, ssrc uint32, ok bool) {
	if len(p) < 8 || p[0]>>6 != 2 {
		return 0, 0, false
	}
	if p[1] >= 192 && p[1] <= 223 { // RFC 5761 section 4
		return kindRTCP, binary.BigEndian.Uint32(p[4:]), true
	}
	if _, ok := headerLen(p); !ok {
		return 0, 0, false
	}
	return kindRTP, binary.BigEndian.Uint32(p[8:]), true
}

// sequence reads an RTP packet's sequence number. classify has checked p.
func sequence(p []byte) uint16 { return binary.BigEndian.Uint16(p[2:]) }

func setSequence(p []byte, seq uint16) { binary.BigEndian.PutUint16(p[2:], seq) }

// headerLen is the length of an RTP header with its CSRCs and extension
// (RFC 3550 section 5.1). It is false if p does not hold it.
func headerLen(p []byte) (int, bool) {
	if len(p) < 12 {
		return 0, false
	}
	n := 12 + 4*int(p[0]&0x0f)
	if p[0]&0x10 != 0 {
		if len(p) < n+4 {
			return 0, false
		}
		n += 4 + 4*int(binary.BigEndian.Uint16(p[n+2:]))
	}
	return n, len(p) >= n
}

// cryptex tells whether a header says that its extension is encrypted (RFC 9335
// section 5.1), which nobody negotiates here. headerLen has checked p.
func cryptex(p []byte) bool {
	if p[0]&0x10 == 0 {
		return false
	}
	profile := binary.BigEndian.Uint16(p[12+4*int(p[0]&0x0f):])
	return profile == rtp.CryptexProfileOneByte || profile == rtp.CryptexProfileTwoByte
}

// sound tells whether a plain packet is what it says, to its end.
func sound(p []byte, kind uint8) bool {
	if kind == kindRTCP {
		return soundRTCP(p)
	}
	n, ok := headerLen(p)
	if !ok || cryptex(p) {
		return false
	}
	if p[0]&0x20 == 0 {
		return true
	}
	pad := int(p[len(p)-1]) // counts itself (RFC 3550 section 5.1)
	return pad > 0 && n+pad <= len(p)
}

// soundRTCP walks a compound packet: each part has its version and fits, and
// only the last is padded (RFC 3550 appendix A.2). What begins with no report
// is accepted, as RFC 5506 allows.
func soundRTCP(p []byte) bool {
	if len(p) < 8 {
		return false
	}
	for len(p) > 0 {
		if len(p) < 4 || p[0]>>6 != 2 || p[1] < 192 || p[1] > 223 {
			return false
		}
		n := 4 + 4*int(binary.BigEndian.Uint16(p[2:]))
		if n > len(p) {
			return false
		}
		if p[0]&0x20 != 0 {
			pad := int(p[n-1])
			if n < len(p) || pad == 0 || pad%4 != 0 || pad > n-4 {
				return false
			}
		}
		p = p[n:]
	}
	return true
}
