package prove

import (
	"bytes"
	"testing"
	"time"
)

const invite = "INVITE sip:100@198.51.100.9 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.11:5060;branch=z9hG4bK1\r\nCall-ID: x\r\n\r\n"

var (
	from4, to4 = at(phoneIP, 5060), at(farIP, 7000)
	from6, to6 = at(edgeIP6, 5060), at(farIP6, 7000)
)

// carriers are frames with one datagram of IPv4, or of IPv6, in whatever carries it.
func carriers() (of4, of6 map[string][]byte) {
	inner := ip4(protoUDP, phoneIP, farIP, nil, 1, 0, udpOf(from4, to4, []byte(invite)))
	udp6 := udpOf(from6, to6, []byte(invite))
	of4 = map[string][]byte{
		"plain":         ether(etherIPv4, inner),
		"VLAN":          ether(etherIPv4, inner, etherVLAN),
		"VLANs":         ether(etherIPv4, inner, etherQinQ, etherVLAN),
		"options":       ether(etherIPv4, ip4(protoUDP, phoneIP, farIP, []byte{1, 1, 1, 0, 7, 4, 4, 0}, 1, 0, udpOf(from4, to4, []byte(invite)))),
		"IP in IP":      ether(etherIPv4, ip4(protoIPIP, edgeIP, farIP, nil, 1, 0, inner)),
		"6in4":          ether(etherIPv4, ip4(protoIPv6, edgeIP, farIP, nil, 1, 0, ip6(protoIPIP, edgeIP6, farIP6, inner))),
		"GRE":           ether(etherIPv4, ip4(protoGRE, edgeIP, farIP, nil, 1, 0, append([]byte{0x20, 0, 8, 0, 0, 0, 0, 9}, inner...))),
		"GRE, Ethernet": ether(etherIPv4, ip4(protoGRE, edgeIP, farIP, nil, 1, 0, append([]byte{0, 0, 0x65, 0x58}, ether(etherIPv4, inner)...))),
		"PPPoE":         ether(etherPPPoE, append([]byte{0x11, 0, 0, 1, 0, 0, 0, 0x21}, inner...)),
	}
	extension := func(next byte, more ...byte) []byte {
		return append([]byte{next, byte(len(more) / 8)}, append([]byte{1, 4, 0, 0, 0, 0}, more...)...)
	}
	of6 = map[string][]byte{
		"IPv6":       ether(etherIPv6, ip6(protoUDP, edgeIP6, farIP6, udp6)),
		"hop by hop": ether(etherIPv6, ip6(protoHopByHop, edgeIP6, farIP6, append(extension(protoUDP), udp6...))),
		"extensions": ether(etherIPv6, ip6(protoHopByHop, edgeIP6, farIP6, bytes.Join([][]byte{
			extension(protoRouting), extension(protoOptions, make([]byte, 8)...), extension(protoFragment), {protoUDP, 0, 0, 0, 0, 0, 0, 1}, udp6}, nil))),
		"AH": ether(etherIPv6, ip6(protoAH, edgeIP6, farIP6, append([]byte{protoUDP, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, udp6...))),
	}
	return of4, of6
}

// A datagram is found in whatever carries it.
func TestDissect(t *testing.T) {
	of4, of6 := carriers()
	for name, frame := range of4 {
		d := dissect(frame)
		if d.proto != protoUDP || d.src != from4 || d.dst != to4 || string(d.payload) != invite || d.short {
			t.Errorf("%s: %+v", name, d)
		}
	}
	for name, frame := range of6 {
		d := dissect(frame)
		if d.proto != protoUDP || d.src != from6 || d.dst != to6 || string(d.payload) != invite {
			t.Errorf("%s: %+v", name, d)
		}
	}
	for name, frame := range map[string][]byte{
		"nothing": nil, "ARP": ether(0x0806, make([]byte, 28)), "ICMP": ether(etherIPv4, ip4(1, edgeIP, farIP, nil, 1, 0, []byte(invite))),
		"ESP": ether(etherIPv4, ip4(50, edgeIP, farIP, nil, 1, 0, []byte(invite))), "no next header": ether(etherIPv6, ip6(protoNone, edgeIP6, farIP6, nil)),
	} {
		if d := dissect(frame); d.proto != 0 || d.fragment != nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestSIPIsRecognised(t *testing.T) {
	for text, want := range map[string]string{
		invite:                             "INVITE",
		"\r\n\r\n" + invite:                "INVITE",
		"SIP/2.0 200 OK\r\nVia: x\r\n\r\n": "response 200",
		"REGISTER sip:x sip/2.0\r\n":       "REGISTER",
		"OPTIONS sip:secret@x SIP/2.0\n":   "OPTIONS",
		"SECRET-4711 sip:x SIP/2.0\r\n":    "request",
		"junk before\r\nBYE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP x\r\n":  "BYE",
		"ader: x\r\nVia: SIP/2.0/UDP x\r\n":                           "part of a message",
		"v:SIP/2.0/TCP x;branch=1\r\n":                                "part of a message",
		"\x81\x7e\x01\x00SIP/2.0 100 Trying\r\nVia: SIP/2.0/WS x\r\n": "part of a message", // a frame of WebSocket
	} {
		if what, ok := sipOf([]byte(text)); !ok || what != want {
			t.Errorf("%q is %q, %v; want %q", text, what, ok, want)
		}
	}
	for _, text := range []string{
		"", "\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "about SIP/2.0 and more", "      Via: SIP/2.0/UDP server10.biloxi.com\n",
		"HTTP/1.1 200 OK\r\n\r\n<p>SIP/2.0 is a protocol</p>", "SIP/2.0", "SIP/2.0 2x0 OK\r\n", "INVITE sip:x SIP/3.0\r\n", "User-Agent: SIP/2.0\r\n",
	} {
		if what, ok := sipOf([]byte(text)); ok {
			t.Errorf("%q is taken for %q", text, what)
		}
	}
}

func TestDTLSRecords(t *testing.T) {
	record := func(kind byte, epoch byte, body int) []byte {
		return append([]byte{kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 1, byte(body >> 8), byte(body)}, make([]byte, body)...)
	}
	for name, c := range map[string]struct {
		p    []byte
		want bool
	}{
		"one":                           {record(22, 0, 40), true},
		"several":                       {append(record(22, 0, 40), record(20, 0, 1)...), true},
		"1.3":                           {append([]byte{0x2c, 1, 2, 0, 20}, make([]byte, 20)...), true},
		"1.3 without a length":          {append([]byte{0x28, 1, 2}, make([]byte, 20)...), true},
		"cut":                           {record(22, 0, 40)[:30], false},
		"something behind":              {append(record(22, 0, 40), 1), false},
		"another version":               {append([]byte{22, 3, 3}, record(22, 0, 40)[3:]...), false},
		"application data without keys": {record(23, 0, 40), false},
		"application data":              {record(23, 1, 40), true},
		"nothing":                       {nil, false},
	} {
		if got := dtlsRecords(c.p); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What waits for its rest is bounded, however often and long its parts come.
func TestFragmentsAreBounded(t *testing.T) {
	f := fragments{open: make(map[fragmentKey]*whole)}
	for i := range 600 {
		d := datagram{payload: make([]byte, 60000), fragment: &fragment{fragmentKey{src: phoneIP, dst: edgeIP}, 8 * (1 + i), true}}
		if _, ok := f.add(time.Unix(0, 0), d, frames{1, 60000}); !ok {
			t.Fatal("no room")
		}
	}
	for _, w := range f.open {
		held := 0
		for _, p := range w.parts {
			held += len(p.data)
		}
		if held > maxHeldParts || w.packets != 600 {
			t.Errorf("%d bytes of %d parts are held, and %d are counted", held, len(w.parts), w.packets)
		}
	}
}
