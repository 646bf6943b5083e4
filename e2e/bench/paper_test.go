package bench

import "fmt"

// layer is one header, or trailer, of a packet.
type layer struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes"`
}

// framing is how a packet of a call crosses the wire: from its IP header on,
// as what is below is the same for all.
type framing struct {
	Name   string  `json:"name"`
	Layers []layer `json:"layers"`
}

// pad is what brings n bytes to a multiple of block.
func pad(n, block int) int { return (block - n%block) % block }

const (
	udpLen   = 8
	plainLen = ipLen + udpLen + rtpLen + payloadLen
)

// esp is RFC 4303's packet around content: block is the cipher's, and at least 4
// (section 2.4); the trailer of two bytes ends what is encrypted.
func esp(outer []layer, iv, content, block, icv int, what string) []layer {
	return append(outer,
		layer{"ESP header", 8}, layer{"IV", iv}, layer{what, content},
		layer{"padding", pad(content+2, block)}, layer{"ESP trailer", 2}, layer{"ICV", icv})
}

var (
	ip     = layer{"IPv4", ipLen}
	udp    = layer{"UDP", udpLen}
	header = layer{"RTP header", rtpLen}
	sound  = layer{"sound", payloadLen}
)

// The framings that are also measured, by the names of who speaks them.
const (
	wirePlain     = "RTP, plain"
	wireSRTP      = "SRTP, AEAD_AES_128_GCM"
	wireWireGuard = "WireGuard"
)

// framings are the ways to carry a call of 20 ms packets of G.711 between two
// sites, by IPv4.
//
// SRTP: RFC 3711, RFC 7714. ESP: RFC 4303, with AES-GCM RFC 4106, with AES-CBC RFC
// 3602 and HMAC-SHA1-96 RFC 2404, in UDP RFC 3948. WireGuard: its whitepaper, 5.4.6.
// In transport mode ESP takes what is behind the IP header, and leaves from the PBX
// itself; in tunnel mode the whole packet.
func framings() []framing {
	const packet, datagram = plainLen, plainLen - ipLen
	const aPacket, aDatagram = "packet", "datagram"
	outer, outerUDP := layer{"outer IPv4", ipLen}, layer{"outer UDP", udpLen}
	return []framing{
		{wirePlain, []layer{ip, udp, header, sound}},
		{"SRTP, AES_CM_128_HMAC_SHA1_32", []layer{ip, udp, header, sound, {"tag", 4}}},
		{"SRTP, AES_CM_128_HMAC_SHA1_80", []layer{ip, udp, header, sound, {"tag", 10}}},
		{wireSRTP, []layer{ip, udp, header, sound, {"tag", 16}}},
		{"ESP, AES-GCM, transport mode", esp([]layer{ip}, 8, datagram, 4, 16, aDatagram)},
		{"ESP, AES-GCM, transport mode, in UDP", esp([]layer{ip, outerUDP}, 8, datagram, 4, 16, aDatagram)},
		{"ESP, AES-GCM, tunnel mode", esp([]layer{outer}, 8, packet, 4, 16, aPacket)},
		{"ESP, AES-GCM, tunnel mode, in UDP", esp([]layer{outer, outerUDP}, 8, packet, 4, 16, aPacket)},
		{"ESP, AES-CBC and HMAC-SHA1-96, transport mode", esp([]layer{ip}, 16, datagram, 16, 12, aDatagram)},
		{"ESP, AES-CBC and HMAC-SHA1-96, tunnel mode", esp([]layer{outer}, 16, packet, 16, 12, aPacket)},
		{wireWireGuard, []layer{outer, outerUDP, {"header", 16}, {aPacket, packet}, {"padding", pad(packet, 16)}, {"tag", 16}}},
	}
}

func (f framing) bytes() (sum int) {
	for _, l := range f.Layers {
		sum += l.Bytes
	}
	return sum
}

// kbits is what one way of a call takes.
func kbits(bytes float64) float64 { return bytes * 8 * packetsPerSecond / 1000 }

const packetsPerSecond = 50 // of one way of a call

// breakdown is the sum, written out.
func (f framing) breakdown() (s string) {
	for _, l := range f.Layers {
		if l.Bytes == 0 {
			continue
		}
		if s != "" {
			s += " + "
		}
		s += fmt.Sprintf("%s %d", l.Name, l.Bytes)
	}
	return s
}

func framingOf(name string) framing {
	for _, f := range framings() {
		if f.Name == name {
			return f
		}
	}
	panic("no framing is named " + name)
}
