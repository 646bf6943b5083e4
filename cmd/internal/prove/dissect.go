package prove

import (
	"encoding/binary"
	"net/netip"
)

// Ether types that are looked into.
const (
	etherIPv4  = 0x0800
	etherIPv6  = 0x86dd
	etherVLAN  = 0x8100 // IEEE 802.1Q
	etherQinQ  = 0x88a8 // 802.1ad
	etherQinQ1 = 0x9100 // and what came before that
	etherPPPoE = 0x8864 // RFC 2516
)

// IP protocols that are looked into.
const (
	protoHopByHop = 0
	protoIPIP     = 4
	protoTCP      = 6
	protoUDP      = 17
	protoIPv6     = 41
	protoRouting  = 43
	protoFragment = 44
	protoGRE      = 47
	protoAH       = 51
	protoNone     = 59
	protoOptions  = 60
	protoMobility = 135
)

// maxNested bounds tunnels in tunnels, and header extensions.
const maxNested = 8

// datagram is what an IP packet carries: TCP, UDP, a part of either, or what is
// not looked into.
type datagram struct {
	proto    uint8 // protoTCP or protoUDP; of a fragment any; else 0
	src, dst netip.AddrPort
	payload  []byte // of UDP or TCP; of a fragment that of IP; borrowed
	tcp      tcpHeader
	fragment *fragment
	short    bool // its headers are longer than it is
}

type tcpHeader struct {
	seq, ack uint32
	flags    uint8
}

// Flags of TCP (RFC 9293 section 3.1).
const (
	tcpFIN = 1 << 0
	tcpSYN = 1 << 1
	tcpRST = 1 << 2
	tcpACK = 1 << 4
)

// fragment tells where a part of an IP packet belongs (RFC 791 section 3.2, RFC
// 8200 section 4.5).
type fragment struct {
	key    fragmentKey
	offset int
	more   bool
}

type fragmentKey struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8 // of IPv6 that of the first fragment counts, so 0
}

// dissect reads a frame of Ethernet, VLAN tags and tunnels included.
func dissect(b []byte) datagram {
	if len(b) < 14 {
		return datagram{}
	}
	return network(binary.BigEndian.Uint16(b[12:]), b[14:], 0)
}

// network reads what follows an ether type.
func network(kind uint16, b []byte, depth int) datagram {
	if depth > maxNested {
		return datagram{}
	}
	switch kind {
	case etherVLAN, etherQinQ, etherQinQ1:
		if len(b) >= 4 {
			return network(binary.BigEndian.Uint16(b[2:]), b[4:], depth+1)
		}
	case etherPPPoE:
		if len(b) >= 8 {
			switch binary.BigEndian.Uint16(b[6:]) { // RFC 1661's protocol numbers
			case 0x0021:
				return ipv4(b[8:], depth+1)
			case 0x0057:
				return ipv6(b[8:], depth+1)
			}
		}
	case etherIPv4:
		return ipv4(b, depth+1)
	case etherIPv6:
		return ipv6(b, depth+1)
	}
	return datagram{}
}

func ipv4(b []byte, depth int) datagram {
	if len(b) < 20 || b[0]>>4 != 4 {
		return datagram{}
	}
	head, total := 4*int(b[0]&15), int(binary.BigEndian.Uint16(b[2:]))
	if total == 0 { // a super-packet over 64 KB (BIG TCP)
		total = len(b)
	}
	if head < 20 || total < head || len(b) < head {
		return datagram{short: true}
	}
	short := len(b) < total
	b = b[:min(total, len(b))] // Ethernet pads what is short
	src, dst := netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	if place := binary.BigEndian.Uint16(b[6:]); place&0x3fff != 0 {
		return datagram{
			proto: b[9], src: netip.AddrPortFrom(src, 0), dst: netip.AddrPortFrom(dst, 0), payload: b[head:], short: short,
			fragment: &fragment{fragmentKey{src, dst, uint32(binary.BigEndian.Uint16(b[4:])), b[9]}, 8 * int(place&0x1fff), place&0x2000 != 0},
		}
	}
	d := transport(b[9], src, dst, b[head:], depth)
	d.short = d.short || short && d.proto != 0 // what is not looked into is not read whole
	return d
}

func ipv6(b []byte, depth int) datagram {
	if len(b) < 40 || b[0]>>4 != 6 {
		return datagram{}
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if length == 0 { // a jumbogram, or a super-packet over 64 KB
		length = len(b) - 40
	}
	short := len(b)-40 < length
	src, dst := netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	d := extensions(b[6], src, dst, b[40:min(40+length, len(b))], depth)
	d.short = d.short || short
	return d
}

// extensions walks the headers behind IPv6's own (RFC 8200 section 4).
func extensions(next uint8, src, dst netip.Addr, b []byte, depth int) datagram {
	for range maxNested {
		var n int
		switch next {
		case protoHopByHop, protoRouting, protoOptions, protoMobility:
			if len(b) < 8 {
				return datagram{short: true}
			}
			n = 8 + 8*int(b[1])
		case protoAH:
			if len(b) < 8 {
				return datagram{short: true}
			}
			n = 8 + 4*int(b[1])
		case protoFragment:
			if len(b) < 8 {
				return datagram{short: true}
			}
			place := binary.BigEndian.Uint16(b[2:])
			if place&^6 == 0 { // an atomic one (RFC 6946)
				n = 8
				break
			}
			return datagram{
				proto: b[0], src: netip.AddrPortFrom(src, 0), dst: netip.AddrPortFrom(dst, 0), payload: b[8:],
				fragment: &fragment{fragmentKey{src, dst, binary.BigEndian.Uint32(b[4:]), 0}, int(place &^ 7), place&1 != 0},
			}
		default:
			return transport(next, src, dst, b, depth)
		}
		if n > len(b) {
			return datagram{short: true}
		}
		next, b = b[0], b[n:]
	}
	return datagram{}
}

// transport reads what an IP packet carries. Of IPv6 that may be extensions still,
// when it was put together of fragments.
func transport(proto uint8, src, dst netip.Addr, b []byte, depth int) datagram {
	if depth > maxNested {
		return datagram{}
	}
	switch proto {
	case protoUDP:
		return udp(src, dst, b)
	case protoTCP:
		return tcp(src, dst, b)
	case protoIPIP:
		return ipv4(b, depth+1)
	case protoIPv6:
		return ipv6(b, depth+1)
	case protoGRE:
		return gre(b, depth)
	case protoAH:
		return extensions(proto, src, dst, b, depth+1)
	case protoHopByHop, protoRouting, protoOptions, protoMobility:
		if src.Is6() {
			return extensions(proto, src, dst, b, depth+1)
		}
	}
	return datagram{}
}

func udp(src, dst netip.Addr, b []byte) datagram {
	if len(b) < 8 {
		return datagram{short: true}
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	if n < 8 || n > len(b) { // 0 is a super-packet, or a jumbogram
		n = len(b)
	}
	return datagram{
		proto: protoUDP, payload: b[8:n],
		src: netip.AddrPortFrom(src, binary.BigEndian.Uint16(b)), dst: netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:])),
	}
}

func tcp(src, dst netip.Addr, b []byte) datagram {
	if len(b) < 20 {
		return datagram{short: true}
	}
	head := 4 * int(b[12]>>4)
	if head < 20 || head > len(b) {
		return datagram{short: true}
	}
	return datagram{
		proto: protoTCP, payload: b[head:],
		src: netip.AddrPortFrom(src, binary.BigEndian.Uint16(b)), dst: netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:])),
		tcp: tcpHeader{seq: binary.BigEndian.Uint32(b[4:]), ack: binary.BigEndian.Uint32(b[8:]), flags: b[13]},
	}
}

// gre reads a tunnel of RFC 2784 and 2890.
func gre(b []byte, depth int) datagram {
	if len(b) < 4 || b[1]&7 != 0 {
		return datagram{}
	}
	n := 4
	for _, flag := range []byte{0x80, 0x20, 0x10} { // checksum, key, sequence number
		if b[0]&flag != 0 {
			n += 4
		}
	}
	if len(b) < n {
		return datagram{short: true}
	}
	kind := binary.BigEndian.Uint16(b[2:])
	if kind == 0x6558 { // Ethernet within
		if depth > maxNested || len(b) < n+14 {
			return datagram{}
		}
		return network(binary.BigEndian.Uint16(b[n+12:]), b[n+14:], depth+1)
	}
	return network(kind, b[n:], depth+1)
}
