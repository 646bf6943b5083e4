package prove

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// This file makes frames of Ethernet.

var (
	edgeIP  = netip.MustParseAddr("203.0.113.7")
	phoneIP = netip.MustParseAddr("203.0.113.11")
	farIP   = netip.MustParseAddr("198.51.100.9")
	edgeIP6 = netip.MustParseAddr("2001:db8::7")
	farIP6  = netip.MustParseAddr("2001:db8::9")
)

func at(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

func udpOf(from, to netip.AddrPort, payload []byte) []byte {
	b := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(b, from.Port())
	binary.BigEndian.PutUint16(b[2:], to.Port())
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(payload)))
	return append(b, payload...)
}

func tcpOf(from, to netip.AddrPort, seq, ack uint32, flags byte, payload []byte) []byte {
	b := make([]byte, 24, 24+len(payload)) // with 4 bytes of options
	binary.BigEndian.PutUint16(b, from.Port())
	binary.BigEndian.PutUint16(b[2:], to.Port())
	binary.BigEndian.PutUint32(b[4:], seq)
	binary.BigEndian.PutUint32(b[8:], ack)
	b[12], b[13] = 6<<4, flags
	return append(b, payload...)
}

// ip4 is an IPv4 packet with options, or a part of one.
func ip4(proto byte, src, dst netip.Addr, options []byte, id, place uint16, payload []byte) []byte {
	b := make([]byte, 20, 20+len(options)+len(payload))
	b[0], b[8], b[9] = 0x45+byte(len(options)/4), 64, proto
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(options)+len(payload)))
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], place)
	s, d := src.As4(), dst.As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	return append(append(b, options...), payload...)
}

func ip6(next byte, src, dst netip.Addr, payload []byte) []byte {
	b := make([]byte, 40, 40+len(payload))
	b[0], b[6], b[7] = 0x60, next, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	s, d := src.As16(), dst.As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
	return append(b, payload...)
}

// ether is a frame, with VLAN tags before what it carries.
func ether(kind uint16, payload []byte, tags ...uint16) []byte {
	b := make([]byte, 12, 60+len(payload))
	for _, tag := range tags {
		b = binary.BigEndian.AppendUint16(b, tag)
		b = binary.BigEndian.AppendUint16(b, 42)
	}
	b = append(binary.BigEndian.AppendUint16(b, kind), payload...)
	for len(b) < 60 { // as Ethernet pads
		b = append(b, 0)
	}
	return b
}

// datagramFrame is a UDP packet over IPv4 or IPv6.
func datagramFrame(from, to netip.AddrPort, payload []byte) []byte {
	if from.Addr().Is6() {
		return ether(etherIPv6, ip6(protoUDP, from.Addr(), to.Addr(), udpOf(from, to, payload)))
	}
	return ether(etherIPv4, ip4(protoUDP, from.Addr(), to.Addr(), nil, 1, 0, udpOf(from, to, payload)))
}

var began = time.Unix(1_800_000_000, 0)

func frameAt(after time.Duration, b []byte) Frame {
	return Frame{At: began.Add(after), Data: b, Length: len(b)}
}
