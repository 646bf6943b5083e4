package bench

import (
	"encoding/binary"
	"net"
	"net/netip"
)

const (
	frameRoom  = 256 // between the beginnings of two frames
	etherLen   = 14
	ipLen      = 20
	rtpAt      = etherLen + ipLen + 8
	rtpLen     = 12
	payloadLen = 160 // 20 ms of PCMU, at any rate: so that rows compare by the packet
)

// putHeaders writes Ethernet, IPv4 and UDP around size bytes of RTP. The UDP
// checksum is none (RFC 768): between virtual interfaces the kernel would not
// compute one either.
func putHeaders(f []byte, fromMAC, toMAC net.HardwareAddr, from, to netip.AddrPort, size int) {
	copy(f, toMAC)
	copy(f[6:], fromMAC)
	binary.BigEndian.PutUint16(f[12:], 0x0800)
	ip := f[etherLen:rtpAt]
	clear(ip)
	ip[0] = 0x45
	ip[1] = 46 << 2 // expedited forwarding
	binary.BigEndian.PutUint16(ip[2:], uint16(ipLen+8+size))
	ip[6] = 0x40 // don't fragment
	ip[8] = 64
	ip[9] = 17
	src, dst := from.Addr().As4(), to.Addr().As4()
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	binary.BigEndian.PutUint16(ip[10:], checksum(ip[:ipLen]))
	udp := ip[ipLen:]
	binary.BigEndian.PutUint16(udp, from.Port())
	binary.BigEndian.PutUint16(udp[2:], to.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(8+size))
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// putRTP writes a call's packet, plain. Its payload differs from that of any
// other packet.
func putRTP(p []byte, c *call, way int, seq uint16) {
	p[0], p[1] = 0x80, 0 // version 2, PCMU
	binary.BigEndian.PutUint16(p[2:], seq)
	binary.BigEndian.PutUint32(p[4:], uint32(seq)*payloadLen)
	binary.BigEndian.PutUint32(p[8:], c.ssrc[way])
	x := uint64(c.ssrc[way])<<32 | uint64(seq)<<8 | uint64(way) | 1<<63
	for i := rtpLen; i < rtpLen+payloadLen; i += 8 {
		x ^= x << 13 // xorshift
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(p[i:], x)
	}
}

// arrival reads whose packet a received frame is: its call, and the RTP in it.
func arrival(f []byte, calls int) (number int, rtp []byte, ok bool) {
	if len(f) < rtpAt+rtpLen || f[etherLen] != 0x45 || f[etherLen+9] != 17 {
		return 0, nil, false
	}
	port := int(binary.BigEndian.Uint16(f[etherLen+ipLen+2:])) - firstPort
	end := etherLen + int(binary.BigEndian.Uint16(f[etherLen+2:]))
	if port < 0 || port%2 != 0 || port/2 >= calls || end < rtpAt+rtpLen || end > len(f) {
		return 0, nil, false
	}
	return port / 2, f[rtpAt:end], true
}
