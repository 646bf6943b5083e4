package media

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRelayBothWays(t *testing.T) {
	for _, suite := range allSuite {
		t.Run(suite.String(), func(t *testing.T) {
			l := call(t, runEngine(t, testConfig()), suite, nil)
			write(t, l.pbx, l.addrs.Plain, rtpPacket(7, 1, "before the phone was heard"))
			l.phone.hears("before the phone was heard") // by the hint
			l.phone.send(l.secure, "hello PBX")
			wants(t, l.pbx, "hello PBX")
			write(t, l.pbx, l.addrs.Plain, rtpPacket(7, 2, "hello phone"))
			l.phone.hears("hello phone")
			st := l.s.Stats().Streams[0]
			if st.Inward.RTP != 1 || st.Outward.RTP != 2 || st.LastHeard.IsZero() {
				t.Fatalf("counted %+v", st)
			}
		})
	}
}

func TestRelayRTCP(t *testing.T) {
	for _, mux := range []bool{false, true} {
		t.Run(map[bool]string{false: "port+1", true: "mux"}[mux], func(t *testing.T) {
			l := call(t, runEngine(t, testConfig()), AEADAES128GCM, nil)
			pbx, phoneRTCP := udp(t), udp(t)
			if err := l.s.SetPlain(0, PlainParams{RTP: at(l.pbx), RTCP: at(pbx)}); err != nil {
				t.Fatal(err)
			}
			if err := l.s.SetSecure(0, SecureParams{Rx: l.rx, Tx: l.tx, RTCPMux: mux, Hint: at(l.phone.conn), RTCPHint: at(phoneRTCP)}); err != nil {
				t.Fatal(err)
			}
			from, to := phoneRTCP, netip.AddrPortFrom(l.secure.Addr(), l.secure.Port()+1)
			if mux {
				from, to = l.phone.conn, l.secure
			}
			sealed, err := l.phone.seal.EncryptRTCP(nil, senderReport(l.phone.ssrc), nil)
			if err != nil {
				t.Fatal(err)
			}
			write(t, from, to, sealed)
			if b, _ := read(pbx, longest); string(b) != string(senderReport(l.phone.ssrc)) {
				t.Fatalf("the PBX got RTCP %x", b)
			}
			write(t, pbx, netip.AddrPortFrom(l.addrs.Plain.Addr(), l.addrs.Plain.Port()+1), senderReport(9))
			b, _ := read(from, longest)
			if out, err := l.phone.open.DecryptRTCP(nil, b, nil); err != nil || string(out) != string(senderReport(9)) {
				t.Fatalf("the phone got RTCP %x (%v)", out, err)
			}
		})
	}
}

func TestWrongKeyIsHeardByNobody(t *testing.T) {
	l := call(t, runEngine(t, testConfig()), AESCM128HMACSHA180, nil)
	stranger := newPhone(t, newKey(t, AESCM128HMACSHA180), l.tx, 5)
	stranger.conn = l.phone.conn // from the phone's own address
	for range 5 {
		stranger.send(l.secure, "not to be heard")
	}
	quiet(t, l.pbx, "the PBX")
	if n := l.drops(DropAuth); n != 5 {
		t.Fatalf("auth_failed is %d, want 5", n)
	}
	l.phone.send(l.secure, "the control")
	wants(t, l.pbx, "the control")
}

// Packets without a good tag change nothing: not before the phone was heard,
// and not after.
func TestStrangersMoveNothing(t *testing.T) {
	e := runEngine(t, testConfig())
	l := call(t, e, AEADAES128GCM, nil)
	spray := func() {
		stranger := udp(t)
		for i := range 50 {
			write(t, stranger, l.secure, rtpPacket(l.phone.ssrc, uint16(2000+i), "plain RTP"))
			write(t, stranger, l.secure, append(rtpPacket(uint32(i), uint16(i), "bad tag"), make([]byte, 16)...))
			write(t, stranger, l.secure, []byte{0x80, 200, 0, 1, 0, 0, 0, 0})
			write(t, stranger, l.addrs.Plain, rtpPacket(7, uint16(i), "from 127.0.0.1, which the PBX has too"))
		}
		quiet(t, stranger, "the stranger")
	}
	if err := l.s.SetPlain(0, PlainParams{RTP: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), 9)}); err != nil {
		t.Fatal(err)
	}
	spray()
	quiet(t, l.phone.conn, "the phone")
	if n := l.drops(DropStranger); n != 50 {
		t.Fatalf("plain_stranger is %d, want 50", n)
	}
	if err := l.s.SetPlain(0, PlainParams{RTP: at(l.pbx)}); err != nil {
		t.Fatal(err)
	}
	l.phone.send(l.secure, "a")
	wants(t, l.pbx, "a")
	stranger := udp(t)
	for i := range 50 {
		write(t, stranger, l.secure, rtpPacket(l.phone.ssrc, uint16(2000+i), "plain RTP with the phone's SSRC"))
	}
	quiet(t, stranger, "the stranger")
	write(t, l.pbx, l.addrs.Plain, rtpPacket(7, 1, "still to the phone"))
	l.phone.hears("still to the phone")
	quiet(t, l.pbx, "the PBX")
}

func TestReplay(t *testing.T) {
	l := call(t, runEngine(t, testConfig()), AESCM128HMACSHA180, nil)
	first := l.phone.sealed("once")
	write(t, l.phone.conn, l.secure, first)
	wants(t, l.pbx, "once")
	write(t, l.phone.conn, l.secure, first)
	thief := udp(t)
	write(t, thief, l.secure, first) // from another address: must not move the leg
	quiet(t, l.pbx, "the PBX")
	write(t, l.pbx, l.addrs.Plain, rtpPacket(7, 1, "to the phone"))
	l.phone.hears("to the phone")
	quiet(t, thief, "the thief")
	if n := l.drops(DropReplay); n != 2 {
		t.Fatalf("replayed is %d, want 2: from both addresses", n)
	}
}

// An old packet that never arrived, sent on from elsewhere, is genuine, but
// moves nothing.
func TestDelayedPacketDoesNotMoveTheLeg(t *testing.T) {
	l := call(t, runEngine(t, testConfig()), AEADAES128GCM, nil)
	kept := l.phone.sealed("held back")
	l.phone.send(l.secure, "newer")
	wants(t, l.pbx, "newer")
	thief := udp(t)
	write(t, thief, l.secure, kept)
	wants(t, l.pbx, "held back")
	write(t, l.pbx, l.addrs.Plain, rtpPacket(7, 1, "to the phone"))
	l.phone.hears("to the phone")
	quiet(t, thief, "the thief")
}

func TestPhoneChangesNetworks(t *testing.T) {
	l := call(t, runEngine(t, testConfig()), AEADAES128GCM, nil)
	l.phone.send(l.secure, "from home")
	wants(t, l.pbx, "from home")
	home := l.phone.conn
	l.phone.conn = udp(t)
	l.phone.send(l.secure, "from the train")
	wants(t, l.pbx, "from the train")
	write(t, l.pbx, l.addrs.Plain, rtpPacket(7, 1, "follow"))
	l.phone.hears("follow")
	quiet(t, home, "the old network")
	l.phone.conn = home
	l.phone.send(l.secure, "home again")
	wants(t, l.pbx, "home again")
	write(t, l.pbx, l.addrs.Plain, rtpPacket(7, 2, "welcome"))
	l.phone.hears("welcome")
}

// Several calls from one address and port are told apart by their SSRCs.
func TestCallsFromOneAddress(t *testing.T) {
	e := runEngine(t, testConfig())
	var legs []*leg
	shared := udp(t)
	for range 5 {
		l := call(t, e, AEADAES128GCM, nil)
		l.phone.conn = shared
		legs = append(legs, l)
	}
	for round := range 3 {
		for i, l := range legs {
			text := string(rune('a'+i)) + string(rune('0'+round))
			l.phone.send(l.secure, text)
			wants(t, l.pbx, text)
		}
	}
	for i, l := range legs {
		write(t, l.pbx, l.addrs.Plain, rtpPacket(7, 1, string(rune('A'+i))))
		l.phone.hears(string(rune('A' + i)))
	}
}

// The PBX may point two phones' legs at each other: at our own plain ports.
func TestHairpin(t *testing.T) {
	e := runEngine(t, testConfig())
	a, b := call(t, e, AEADAES128GCM, nil), call(t, e, AESCM128HMACSHA180, nil)
	for _, pair := range [][2]*leg{{a, b}, {b, a}} {
		if err := pair[0].s.SetPlain(0, PlainParams{RTP: pair[1].addrs.Plain}); err != nil {
			t.Fatal(err)
		}
	}
	a.phone.send(a.secure, "from a")
	b.phone.hears("from a")
	b.phone.send(b.secure, "from b")
	a.phone.hears("from b")
}

func TestSameKeyAgainKeepsItsState(t *testing.T) {
	l := call(t, runEngine(t, testConfig()), AESCM128HMACSHA180, nil)
	l.phone.seq = 65533 // across the wrap: the roll-over counter is in the context
	for range 6 {
		l.phone.send(l.secure, "x")
		wants(t, l.pbx, "x")
		write(t, l.pbx, l.addrs.Plain, rtpPacket(7, l.phone.seq, "y"))
		l.phone.hears("y")
	}
	kept := l.phone.sealed("z")
	write(t, l.phone.conn, l.secure, kept)
	wants(t, l.pbx, "z")
	l.protect(t) // a re-INVITE that repeats the key
	write(t, l.phone.conn, l.secure, kept)
	quiet(t, l.pbx, "the PBX") // still known as seen
	l.phone.send(l.secure, "after")
	wants(t, l.pbx, "after")
	write(t, l.pbx, l.addrs.Plain, rtpPacket(7, l.phone.seq, "after"))
	l.phone.hears("after")
}

func TestNewKey(t *testing.T) {
	l := call(t, runEngine(t, testConfig()), AEADAES128GCM, nil)
	l.phone.send(l.secure, "old key")
	wants(t, l.pbx, "old key")
	late := l.phone.sealed("old key, on its way")
	l.rx, l.tx = newKey(t, AEADAES128GCM), newKey(t, AEADAES128GCM)
	l.protect(t)
	write(t, l.phone.conn, l.secure, late)
	wants(t, l.pbx, "old key, on its way")
	fresh := newPhone(t, l.rx, l.tx, l.phone.ssrc)
	fresh.conn, fresh.seq = l.phone.conn, l.phone.seq
	fresh.send(l.secure, "new key")
	wants(t, l.pbx, "new key")
	write(t, l.pbx, l.addrs.Plain, rtpPacket(7, 1, "answer"))
	fresh.hears("answer")
}

func TestShortPackets(t *testing.T) {
	e := runEngine(t, testConfig())
	l := call(t, e, AESCM128HMACSHA180, nil)
	l.phone.send(l.secure, "latched")
	wants(t, l.pbx, "latched")
	rtcp := netip.AddrPortFrom(l.secure.Addr(), l.secure.Port()+1)
	for n := range 41 {
		for _, second := range []byte{0, 200, 201} {
			b := make([]byte, n)
			copy(b, []byte{0x80, second, 0, 1})
			for _, to := range []netip.AddrPort{l.secure, rtcp} {
				write(t, l.phone.conn, to, b)
			}
			write(t, l.pbx, l.addrs.Plain, b[:min(n, 11)])
		}
	}
	quiet(t, l.pbx, "the PBX")
	l.phone.send(l.secure, "still there")
	wants(t, l.pbx, "still there")
}

func TestCloseFreesEverything(t *testing.T) {
	e := runEngine(t, testConfig())
	before := descriptors(t)
	for range 20 {
		l := call(t, e, AEADAES128GCM, nil)
		l.phone.send(l.secure, "x")
		wants(t, l.pbx, "x")
		l.s.Close()
		if s := l.s.Close(); s.Streams[0].Inward.RTP != 1 {
			t.Fatalf("the last figures are %+v", s)
		}
		if _, err := l.s.AddStream(); !errors.Is(err, ErrClosed) {
			t.Fatalf("adding to a closed session gave %v", err)
		}
		l.phone.conn.Close()
		l.pbx.Close()
	}
	if s := e.Stats(); s.Sessions != 0 || s.Streams != 0 || s.Inward.RTP != 20 {
		t.Fatalf("held %+v", s)
	}
	if after := descriptors(t); after > before {
		t.Fatalf("%d descriptors before, %d after", before, after)
	}
	w := e.workers[0]
	w.do(func() {
		if len(w.table.lanes)+len(w.table.bySSRC)+len(w.table.byAddr)+len(w.table.fresh)+len(w.table.all) != 0 {
			t.Errorf("the table still holds %+v", w.table.lanes)
		}
	})
}

func descriptors(t *testing.T) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

func TestPortsRunOut(t *testing.T) {
	c := testConfig()
	c.PlainPorts = PortRange{30100, 30103}
	e := runEngine(t, c)
	a, b := call(t, e, AEADAES128GCM, nil), call(t, e, AEADAES128GCM, nil)
	s, _ := e.Open(nil)
	defer s.Close()
	if _, err := s.AddStream(); !errors.Is(err, ErrNoPorts) {
		t.Fatalf("a third stream on two pairs gave %v", err)
	}
	a.s.Close()
	if addrs, err := s.AddStream(); err != nil || addrs.Plain != a.addrs.Plain {
		t.Fatalf("got %v, %v; want the freed pair", addrs, err)
	}
	_ = b
}

func TestSilence(t *testing.T) {
	c := testConfig()
	c.Silence = 1500 * time.Millisecond
	e := runEngine(t, c)
	silent, held := make(chan Event, 4), make(chan Event, 4)
	a := call(t, e, AEADAES128GCM, func(ev Event) { silent <- ev })
	b := call(t, e, AEADAES128GCM, func(ev Event) { held <- ev })
	if err := b.s.SetSecure(0, SecureParams{Rx: b.rx, Tx: b.tx, Inactive: true}); err != nil {
		t.Fatal(err)
	}
	a.phone.send(a.secure, "x")
	if ev := <-silent; ev.Kind != Latched || ev.Remote != at(a.phone.conn) {
		t.Fatalf("told %+v, want Latched", ev)
	}
	select {
	case ev := <-silent:
		if ev.Kind != Silence {
			t.Fatalf("told %+v, want Silence", ev)
		}
	case <-time.After(longest):
		t.Fatal("silence was not told")
	}
	select {
	case ev := <-held:
		t.Fatalf("a held call was told %+v", ev)
	case ev := <-silent:
		t.Fatalf("told again: %+v", ev)
	default:
	}
}

func TestIPv6(t *testing.T) {
	c := testConfig()
	six := netip.MustParseAddr("::1")
	c.SecureIPs = []netip.Addr{loopback, six}
	c.PublicIPs = []netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::7")}
	e := runEngine(t, c)
	l := call(t, e, AEADAES128GCM, nil)
	if l.addrs.Secure[0].Addr() != c.PublicIPs[0] || l.addrs.Secure[1].Addr() != c.PublicIPs[1] {
		t.Fatalf("shown %v, want the public addresses", l.addrs.Secure)
	}
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l.phone.conn = conn
	l.protect(t)
	l.phone.send(netip.AddrPortFrom(six, l.addrs.Secure[1].Port()), "over IPv6")
	wants(t, l.pbx, "over IPv6")
	write(t, l.pbx, l.addrs.Plain, rtpPacket(7, 1, "back"))
	l.phone.hears("back")
}

// Control must not hang before Run or after it.
func TestControlWithoutRun(t *testing.T) {
	e, err := New(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	l := call(t, e, AEADAES128GCM, nil)
	_ = l.s.Stats()
	_ = e.Stats()
	l.s.Close()
	for _, w := range e.workers {
		w.close()
	}
}
