package peers

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Packet is an IPv4 packet, from its header on.
type Packet struct {
	At   time.Time
	Data []byte
}

// The protocols above IP that are told apart here.
const (
	ICMP = 1
	TCP  = 6
	UDP  = 17
)

const (
	ipHead  = 20 // of what is forged
	udpHead = 8
	tcpHead = 20 // without options
)

// TCP's flags (RFC 9293 section 3.1).
const (
	tcpFIN = 1 << iota
	tcpSYN
	tcpRST
	_
	tcpACK
)

// segment is what follows the IP header; nil if the packet is not whole, or
// only a part of one.
func (p Packet) segment() []byte {
	b := p.Data
	if len(b) < ipHead || b[0]>>4 != 4 {
		return nil
	}
	head, size := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if head < ipHead || size < head || size > len(b) || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 { // a fragment
		return nil
	}
	return b[head:size]
}

// Protocol is what the packet carries; 0 if it is not whole, or a fragment.
func (p Packet) Protocol() int {
	s := p.segment()
	if s == nil {
		return 0
	}
	switch proto := int(p.Data[9]); {
	case proto == UDP && (len(s) < udpHead || int(binary.BigEndian.Uint16(s[4:])) != len(s)),
		proto == TCP && (len(s) < tcpHead || int(s[12]>>4)*4 < tcpHead || int(s[12]>>4)*4 > len(s)):
		return 0
	default:
		return proto
	}
}

// Source and Destination are the two ends; the ports are of UDP and TCP.
func (p Packet) Source() netip.AddrPort { return p.end(12, 0) }

// Destination is the other.
func (p Packet) Destination() netip.AddrPort { return p.end(16, 2) }

func (p Packet) end(addr, port int) netip.AddrPort {
	proto := p.Protocol()
	if proto == 0 {
		return netip.AddrPort{}
	}
	a := netip.AddrFrom4([4]byte(p.Data[addr:]))
	if proto != UDP && proto != TCP {
		return netip.AddrPortFrom(a, 0)
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(p.segment()[port:]))
}

// Payload is what UDP or TCP carries, or ICMP's body.
func (p Packet) Payload() []byte {
	s := p.segment()
	switch p.Protocol() {
	case UDP:
		return s[udpHead:]
	case TCP:
		return s[int(s[12]>>4)*4:]
	case ICMP:
		return s[min(8, len(s)):]
	}
	return nil
}

// sequence is a TCP segment's number, and its flags.
func (p Packet) sequence() (seq uint32, flags byte) {
	s := p.segment()
	return binary.BigEndian.Uint32(s[4:]), s[13]
}

// Opens tells the first segment of a TCP connection.
func (p Packet) Opens() bool {
	if !IsTCP(p) {
		return false
	}
	_, flags := p.sequence()
	return flags&(tcpSYN|tcpACK) == tcpSYN
}

// IsUDP tells UDP.
func IsUDP(p Packet) bool { return p.Protocol() == UDP }

// IsTCP tells TCP.
func IsTCP(p Packet) bool { return p.Protocol() == TCP }

// All takes every packet.
func All(Packet) bool { return true }

// Every takes one of n that another test takes, the n-th first.
func Every(n int, of func(Packet) bool) func(Packet) bool {
	seen := 0
	return func(p Packet) bool {
		if !of(p) {
			return false
		}
		seen++
		return seen%n == 0
	}
}

// Datagram makes a packet of UDP from anybody to anybody.
func Datagram(from, to netip.AddrPort, payload []byte) Packet {
	s := make([]byte, udpHead, udpHead+len(payload))
	binary.BigEndian.PutUint16(s, from.Port())
	binary.BigEndian.PutUint16(s[2:], to.Port())
	binary.BigEndian.PutUint16(s[4:], uint16(udpHead+len(payload)))
	return packet(UDP, from.Addr(), to.Addr(), append(s, payload...))
}

// FromPort is the same packet of UDP from another port of its sender's.
func (p Packet) FromPort(port uint16) Packet {
	return Datagram(netip.AddrPortFrom(p.Source().Addr(), port), p.Destination(), p.Payload())
}

// Reset is a TCP reset that follows on a segment, as its sender would send it:
// with the number that the receiver awaits next (RFC 5961 section 3.2).
func (p Packet) Reset() Packet {
	seq, flags := p.sequence()
	seq += uint32(len(p.Payload()))
	if flags&(tcpSYN|tcpFIN) != 0 {
		seq++
	}
	return segment(p.Source(), p.Destination(), seq, tcpRST, nil)
}

// ResetBack is one to the segment's sender, in the name of the receiver.
func (p Packet) ResetBack() Packet {
	return segment(p.Destination(), p.Source(), binary.BigEndian.Uint32(p.segment()[8:]), tcpRST, nil)
}

// segment is TCP with a number and flags.
func segment(from, to netip.AddrPort, seq uint32, flags byte, payload []byte) Packet {
	s := make([]byte, tcpHead, tcpHead+len(payload))
	binary.BigEndian.PutUint16(s, from.Port())
	binary.BigEndian.PutUint16(s[2:], to.Port())
	binary.BigEndian.PutUint32(s[4:], seq)
	s[12], s[13] = tcpHead/4<<4, flags
	return packet(TCP, from.Addr(), to.Addr(), append(s, payload...))
}

// packet writes an IP header before a segment, and both checksums.
func packet(proto byte, from, to netip.Addr, segment []byte) Packet {
	b := make([]byte, ipHead, ipHead+len(segment))
	b[0], b[6], b[8], b[9] = 0x45, 0x40, 64, proto // no options, no fragments
	binary.BigEndian.PutUint16(b[2:], uint16(ipHead+len(segment)))
	copy(b[12:], from.AsSlice())
	copy(b[16:], to.AsSlice())
	binary.BigEndian.PutUint16(b[10:], internetSum(0, b))
	sum := uint32(proto) + uint32(len(segment))
	for i := 12; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	at := map[byte]int{UDP: 6, TCP: 16, ICMP: 2}[proto]
	if proto == ICMP { // has no addresses in its sum
		sum = 0
	}
	binary.BigEndian.PutUint16(segment[at:], internetSum(sum, segment))
	return Packet{At: time.Now(), Data: append(b, segment...)}
}

// internetSum is the checksum of RFC 1071.
func internetSum(sum uint32, b []byte) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
