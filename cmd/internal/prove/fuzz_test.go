package prove

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/pion/stun/v3"

	"github.com/sallyport/sallyport/media"
)

// script turns bytes into what an interface carries: for each packet what it is,
// its place in a stream or a datagram, its length, and what it holds.
type script []byte

func (s *script) next() (frame []byte, ok bool) {
	b := *s
	if len(b) < 3 {
		return nil, false
	}
	what, place, n := b[0], uint32(b[1]), min(int(b[2])*4, len(b)-3)
	p := b[3 : 3+n]
	*s = b[3+n:]
	from, to := phonePort, []netip.AddrPort{mediaPort, tlsPort, tcpMedia, at(farIP, 7000), rtcpPort, at(edgeIP, 5060)}[int(what>>3&7)%6]
	if what&0x40 != 0 {
		from = at(farIP, 4000)
	}
	if what&0x80 != 0 {
		from, to = to, from
	}
	switch what & 7 {
	case 0, 1:
		return datagramFrame(from, to, p), true
	case 2:
		return ether(etherIPv4, ip4(protoTCP, from.Addr(), to.Addr(), nil, 1, 0, tcpOf(from, to, place, 0, tcpSYN, p))), true
	case 3, 4:
		return ether(etherIPv4, ip4(protoTCP, from.Addr(), to.Addr(), nil, 1, 0, tcpOf(from, to, 1+4*place, 4*place, tcpACK, p))), true
	case 5:
		return ether(etherIPv4, ip4(protoUDP, from.Addr(), to.Addr(), nil, 1, uint16(place>>1)|uint16(place&1)<<13, p)), true
	case 6:
		return ether(etherIPv6, ip6(byte(place), edgeIP6, farIP6, p)), true
	}
	return slices.Clone(p), true
}

// Whatever an interface carries: nothing panics, each packet is counted once, and
// nothing is held for ever.
func FuzzAccount(f *testing.F) {
	const password = "a password of 22 chars"
	k := knows(hmacSuite, func(k *Knowledge) { k.Keys.ICE = []media.LivePassword{{Ufrag: "ours", Password: password}} })
	c := sealer(f, hmacSuite, phoneKey(hmacSuite), nil)
	add := func(what byte, packets ...[]byte) {
		var b []byte
		place := 0
		for _, p := range packets {
			for len(p)%4 != 0 {
				p = append(p, 0)
			}
			b = append(append(b, what, byte(place), byte(len(p)/4)), p...)
			place += len(p) / 4
		}
		f.Add(b)
	}
	framed := func(p []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...) }
	check := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("ours:theirs"), stun.NewShortTermIntegrity(password), stun.Fingerprint).Raw
	good, reports := must[[]byte](f)(c.EncryptRTP(nil, rtpPacket(5, 1, "a sound"), nil)), must[[]byte](f)(c.EncryptRTCP(nil, report(5), nil))
	for _, who := range []byte{0, 0x40, 0x80, 0xc0} {
		for to := range byte(6) {
			add(who|to<<3, good, reports, check, []byte(invite), rtpPacket(7, 1, "x"), rtpPacket(7, 2, "x"), rtpPacket(7, 3, "x"))
			add(who|to<<3|3, hello, request, hello, []byte(invite))
			add(who|to<<3|3, framed(good), framed(check), framed(reports), []byte(invite))
			add(who|to<<3|5, []byte(invite)[:64], []byte(invite)[64:])
		}
	}
	of4, of6 := carriers()
	for _, frames := range []map[string][]byte{of4, of6} {
		for _, frame := range frames {
			add(7, frame)
		}
	}
	part := func(what, place byte, p string) []byte { return append([]byte{what, place, byte(len(p) / 4)}, p...) }
	whole := udpOf(phonePort, mediaPort, []byte(invite))
	whole = append(whole, make([]byte, 72-len(whole)%72)...)
	f.Add(slices.Concat(part(5, 1, string(whole[:72])), part(5, 72/8*2, string(whole[72:])))) // fragments that are one packet
	f.Add(slices.Concat(part(1<<3|2, 0, ""), part(1<<3|3, 2, string(hello[8:304])), part(1<<3|3, 0, string(hello[:8])), part(1<<3|3, 1, string(hello[4:8]))))
	f.Add(slices.Concat(part(1<<3|3, 0, "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"), part(1<<3|3, 4, string(hello[:304]))))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := newLedger(t, &k)
		s := script(b)
		for i := 0; ; i++ {
			p, ok := s.next()
			if !ok {
				break
			}
			frame := frameAt(time.Duration(i)*100*time.Millisecond, p)
			frame.Each = 100 * (i % 3)
			l.Take(frame)
			checkSum(t, l.Account)
			if i%8 == 7 {
				l.learn(k, time.Duration(i)*200*time.Millisecond)
				checkSum(t, l.Account)
			}
		}
		l.Finish()
		checkSum(t, l.Account)
		if len(l.held) > 0 || l.heldBytes != 0 {
			t.Errorf("%d packets and %d bytes are held for ever", len(l.held), l.heldBytes)
		}
		r := l.Report(0)
		leaked := r.sum(Leaked) > 0
		if leaked != (len(r.Leaks) > 0) || leaked != (r.Verdict == Leaks) || r.sum(Missed) > 0 && r.Verdict == Clean {
			t.Errorf("%+v", r)
		}
	})
}
