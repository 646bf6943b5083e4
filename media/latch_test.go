package media

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/srtp/v3"
)

// from gives a worker that does not run a packet of the secure side.
func (h *hot) from(addr netip.AddrPort, p []byte) {
	h.w.batch.Fill(0, p, addr)
	h.w.fromPhone(h.w.secure[0], 0)
}

func addr(host byte, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, host}), port)
}

// second adds a stream of another call to a hot worker.
func (h *hot) second(t testing.TB, suite Suite) *hot {
	t.Helper()
	o := &hot{w: h.w, l: call(t, h.l.s.engine, suite, nil)}
	o.st = o.l.s.streams[0]
	return o
}

func (h *hot) rehint(t testing.TB, p SecureParams) {
	t.Helper()
	p.Rx, p.Tx = h.l.rx, h.l.tx
	if err := h.l.s.SetSecure(0, p); err != nil {
		t.Fatal(err)
	}
}

func (h *hot) latched() netip.AddrPort { return h.st.peers[kindRTP].latched }

// A packet that an attacker held back, and that is newer than all of its SSRC,
// leads the leg to him. The phone's next packet, even of another SSRC that
// needs no search, must lead it back.
func TestNextPacketBringsTheLegBack(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	phone, thief := at(h.l.phone.conn), addr(66, 666)
	h.from(phone, h.l.phone.sealed("a"))
	kept := h.l.phone.sealed("kept")
	h.l.phone.ssrc++
	h.from(phone, h.l.phone.sealed("b"))
	h.from(thief, kept)
	if h.latched() != thief {
		t.Fatalf("the control failed: latched to %s", h.latched())
	}
	h.from(phone, h.l.phone.sealed("c"))
	if h.latched() != phone {
		t.Fatalf("still latched to %s", h.latched())
	}
	h.from(thief, kept)
	if h.latched() != phone {
		t.Fatal("a replay moved the leg")
	}
}

// A phone may be found without a hint, or with one as a dual-stack listener
// reports it.
func TestHints(t *testing.T) {
	for name, hint := range map[string]netip.AddrPort{
		"none":             {},
		"another host":     addr(1, 1),
		"mapped into IPv6": netip.AddrPortFrom(netip.MustParseAddr("::ffff:198.51.100.9"), 4000),
	} {
		t.Run(name, func(t *testing.T) {
			h := newHot(t, AESCM128HMACSHA180)
			h.rehint(t, SecureParams{Hint: hint})
			if to := h.st.target(kindRTP); (to == nil) != !hint.IsValid() {
				t.Fatalf("target %v with hint %s", to, hint)
			}
			far, phone := h.w.budget.far, addr(9, 4000)
			h.from(phone, h.l.phone.sealed("x"))
			if h.latched() != phone {
				t.Fatalf("latched to %s", h.latched())
			}
			if near := h.w.budget.far == far; near != (name == "mapped into IPv6") {
				t.Errorf("found near: %v", near)
			}
		})
	}
}

// RTCP goes where the phone says it wants it, else one port above its RTP,
// and with mux to the RTP port.
func TestWhereRTCPGoes(t *testing.T) {
	rtp, rtcp, moved := addr(9, 4000), addr(9, 4321), addr(9, 5000)
	for _, c := range []struct {
		name string
		p    SecureParams
		from netip.AddrPort // of RTP, if it was heard
		want netip.AddrPort
	}{
		{"hinted", SecureParams{Hint: rtp, RTCPHint: rtcp}, netip.AddrPort{}, rtcp},
		{"RTP hinted", SecureParams{Hint: rtp}, netip.AddrPort{}, addr(9, 4001)},
		{"heard where hinted", SecureParams{Hint: rtp, RTCPHint: rtcp}, rtp, rtcp},
		{"heard elsewhere", SecureParams{Hint: rtp, RTCPHint: rtcp}, moved, addr(9, 5001)},
		{"mux", SecureParams{Hint: rtp, RTCPHint: rtcp, RTCPMux: true}, moved, moved},
		{"no port above", SecureParams{Hint: addr(9, 65535)}, netip.AddrPort{}, netip.AddrPort{}},
		{"nothing known", SecureParams{}, netip.AddrPort{}, netip.AddrPort{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHot(t, AESCM128HMACSHA180)
			h.rehint(t, c.p)
			if c.from.IsValid() {
				h.from(c.from, h.l.phone.sealed("x"))
			}
			to := h.st.target(kindRTCP)
			if !c.want.IsValid() {
				if to != nil {
					t.Fatalf("goes to %v", to.to)
				}
				return
			}
			if to == nil || to.to != makeAddr(c.want) {
				t.Fatalf("goes to %+v, want %s", to, c.want)
			}
		})
	}
}

// Who only listens is found by its RTCP where that has the port of its RTP, and found
// again by the next, until there is RTP.
func TestMuxedRTCPLatches(t *testing.T) {
	hint, moved, thief, spoke := addr(9, 4000), addr(9, 5000), addr(66, 666), addr(9, 6000)
	for _, c := range []struct {
		name   string
		mux    bool
		socket int // that the RTCP comes to
		first  netip.AddrPort
		second netip.AddrPort
	}{
		{"muxed", true, kindRTP, thief, moved},
		{"muxed by its word alone", true, kindRTCP, hint, hint},
		{"not muxed", false, kindRTP, hint, hint},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHot(t, AESCM128HMACSHA180)
			h.rehint(t, SecureParams{Hint: hint, RTCPMux: c.mux})
			report := func(from netip.AddrPort) {
				h.w.batch.Fill(0, h.sealed(t, 1, true)[0], from)
				h.w.fromPhone(h.w.secure[c.socket], 0)
			}
			goesTo := func(want netip.AddrPort) {
				t.Helper()
				if to := h.st.target(kindRTP); to == nil || to.to != makeAddr(want) {
					t.Fatalf("RTP goes to %+v, want %s", to, want)
				}
			}
			report(thief) // who has held it back
			goesTo(c.first)
			report(moved)
			goesTo(c.second)
			h.from(spoke, h.l.phone.sealed("x"))
			report(moved)
			goesTo(spoke)
		})
	}
}

// An Asterisk takes another SSRC at each transfer. Each is heard, whoever else still
// is, and the state of none is given up, or its packets could be replayed; so there
// is an end of them.
func TestSSRCsAreBounded(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	h.st.plain[kindRTCP].to = makeAddr(at(h.l.pbx))
	steady := h.l.phone.ssrc
	speak := func(ssrc uint32, rtcp bool) []byte {
		t.Helper()
		h.w.now += int64(time.Millisecond)
		h.w.budget.refill(h.w.budget.ends)
		h.l.phone.ssrc = ssrc
		p := h.sealed(t, 1, rtcp)[0]
		h.fromPhone(p)
		if len(h.st.lanes) > maxLanes || len(h.w.table.lanes) > maxLanes {
			t.Fatalf("%d lanes, %d to be found", len(h.st.lanes), len(h.w.table.lanes))
		}
		return p
	}
	first := speak(1000, false)
	speak(1000, true)
	speak(steady, false)
	kept := h.st.lane(steady, kindRTP)
	for ssrc := uint32(1001); ssrc < 1100; ssrc++ {
		speak(ssrc, false)
		speak(ssrc, true)
		speak(steady, false)
	}
	if n := h.st.counts.dir[Inward]; n.RTP != 200 || n.RTCP != 100 {
		t.Errorf("relayed %d packets of RTP, %d of RTCP; want 200 and 100: drops %v", n.RTP, n.RTCP, h.st.counts.drops)
	}
	if h.st.lane(steady, kindRTP) != kept || h.st.lane(1000, kindRTP) != nil {
		t.Error("who speaks made room, or who is silent did not")
	}
	if q := h.st.quality(Inward); q.Received != 200 {
		t.Errorf("%d packets are in the figures", q.Received)
	}
	h.fromPhone(first)
	if n := h.st.counts.dir[Inward].RTP; n != 200 || h.st.lane(1000, kindRTP) != nil {
		t.Error("a packet of an SSRC that made room was replayed")
	}
	for i := range uint32(4 * maxLanes) { // that come again and again count once
		speak(1000+i%(2*maxLanes), false)
	}
	if h.st.own.rx.verified != 201 {
		t.Errorf("%d SSRCs counted, want 201", h.st.own.rx.verified)
	}
	before := h.st.counts.dir[Inward].RTP
	for ssrc := uint32(2000); ssrc < 2000+maxVerified; ssrc++ {
		speak(ssrc, false)
	}
	if n := h.st.counts.dir[Inward].RTP - before; n != maxVerified-201 {
		t.Errorf("relayed %d SSRCs more, want %d", n, maxVerified-201)
	}
	if n := h.w.counts.drops[DropSSRCLimit]; n != 201 {
		t.Errorf("ssrc_limit is %d, want 201", n)
	}
	if h.st.own.rx.now.knows(2000+maxVerified-1, kindRTP) {
		t.Error("the context keeps a state beyond the bound")
	}
	before = h.st.counts.dir[Inward].RTP
	if speak(1000, false); h.st.counts.dir[Inward].RTP != before+1 {
		t.Error("an SSRC that was heard before is refused")
	}
	h.rehint(t, SecureParams{SSRCs: make([]uint32, 5000)})
	if len(h.st.declared) > maxDeclared {
		t.Errorf("%d declared SSRCs kept", len(h.st.declared))
	}
}

// Floods of what can't be verified cost a bounded number of trials a tick,
// and take none from a phone at the address it is expected at.
func TestFloodLeavesTheBudgetToPhones(t *testing.T) {
	h := newHot(t, AESCM128HMACSHA180)
	for range 40 {
		h.second(t, AESCM128HMACSHA180)
	}
	h.rehint(t, SecureParams{Hint: addr(9, 4000)})
	flood := func(n int, from func(i int) netip.AddrPort) {
		for i := range n {
			p := append(rtpPacket(uint32(i), uint16(i), "forged"), make([]byte, 10)...)
			h.from(from(i), p)
		}
	}
	flood(20000, func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), 9)
	})
	if h.w.budget.far != 0 || h.w.budget.near < nearPerTick*9/10 {
		t.Fatalf("left: far %d, near %d", h.w.budget.far, h.w.budget.near)
	}
	flood(1000, func(int) netip.AddrPort { return addr(9, 1) }) // from behind the phone's NAT
	if spent := nearPerTick - h.w.budget.near; spent > perPort+nearPerTick/10 {
		t.Fatalf("one address spent %d trials", spent)
	}
	if n := h.w.counts.drops[DropBudget]; n < 15000 {
		t.Errorf("budget is %d", n)
	}
	h.from(addr(9, 4000), h.l.phone.sealed("x"))
	if h.latched() != addr(9, 4000) {
		t.Fatal("the phone was not heard")
	}
	h.w.budget.refill(h.w.budget.ends)
	if h.w.budget.far != farPerTick || h.w.budget.near != nearPerTick {
		t.Error("the next tick has another budget")
	}
}

// Another stream's lane may stand where a phone's packets come from, by
// chance or by intent. The phone must be heard all the same.
func TestTakenLane(t *testing.T) {
	a := newHot(t, AEADAES128GCM)
	b := a.second(t, AEADAES128GCM)
	phone := addr(9, 4000)
	a.l.phone.ssrc = b.l.phone.ssrc
	a.rehint(t, SecureParams{Hint: phone})
	a.from(phone, a.l.phone.sealed("a was first"))
	b.rehint(t, SecureParams{Hint: phone})
	for range doubtAfter + 1 {
		b.from(phone, b.l.phone.sealed("b"))
	}
	if b.latched() != phone || b.st.counts.dir[Inward].RTP != 1 {
		t.Fatalf("b is latched to %s, drops %v", b.latched(), b.w.counts.drops)
	}
	if len(a.w.table.lanes) != 1 {
		t.Fatalf("%d lanes for one source", len(a.w.table.lanes))
	}
	a.l.s.Close() // must not take b's place with it
	b.from(phone, b.l.phone.sealed("b goes on"))
	if b.st.counts.dir[Inward].RTP != 2 {
		t.Fatal("b ended with a")
	}
}

// Forged packets with a call's address and SSRC, however many, neither end
// the call nor cost more than their verification.
func TestForgedPacketsOnALane(t *testing.T) {
	for _, suite := range []Suite{AEADAES128GCM, AESCM128HMACSHA132} {
		h := newHot(t, suite)
		phone := at(h.l.phone.conn)
		h.from(phone, h.l.phone.sealed("x"))
		near, far := h.w.budget.near, h.w.budget.far
		forged := append(rtpPacket(h.l.phone.ssrc, h.l.phone.seq+1, "forged"), make([]byte, 16)...)
		const n = 100000
		for i := range n {
			binary.BigEndian.PutUint16(forged[2:], uint16(i))
			h.from(phone, forged)
		}
		c := h.st.counts
		if got := c.drops[DropAuth] + c.drops[DropReplay]; got != n || c.dir[Inward].RTP != 1 {
			t.Fatalf("%s: %d of %d dropped, %d relayed", suite, got, n, c.dir[Inward].RTP)
		}
		if h.w.budget.near != near || h.w.budget.far != far {
			t.Errorf("%s: forged packets spent %d trials", suite, near+far-h.w.budget.near-h.w.budget.far)
		}
		h.from(phone, h.l.phone.sealed("still there"))
		if h.st.counts.dir[Inward].RTP != 2 {
			t.Fatalf("%s: the call is silent", suite)
		}
	}
}

// SRTCP may say of itself that it is not encrypted (RFC 3711 section 3.4),
// with a good tag. Nothing of the secure side is relayed that is not.
func TestUnencryptedSRTCPIsRefused(t *testing.T) {
	for _, suite := range allSuite {
		h := newHot(t, suite)
		plainly, err := h.l.rx.context(srtp.SRTCPNoEncryption())
		if err != nil {
			t.Fatal(err)
		}
		for i, seal := range []*srtp.Context{plainly, h.l.phone.seal} {
			p, err := seal.EncryptRTCP(nil, senderReport(h.l.phone.ssrc), nil)
			if err != nil {
				t.Fatal(err)
			}
			h.from(at(h.l.phone.conn), p)
			if n := len(h.st.lanes); n != i { // the second is the control
				t.Errorf("%s: %d lanes after packet %d", suite, n, i)
			}
		}
	}
}

// A phone that changes networks and begins again there, with a new SSRC, says
// so in a re-INVITE. A packet still on its way from the old network must not
// end the search for the new one.
func TestNewNetworkNewSSRC(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	old, now := at(h.l.phone.conn), addr(9, 4000)
	h.from(old, h.l.phone.sealed("old"))
	h.rehint(t, SecureParams{Hint: now})
	h.from(old, h.l.phone.sealed("late"))
	h.l.phone.ssrc++
	h.from(now, h.l.phone.sealed("new"))
	if h.latched() != now {
		t.Fatalf("latched to %s", h.latched())
	}
	if h.st.fresh || len(h.w.table.fresh) != 0 || len(h.w.table.byHost) != 0 {
		t.Error("the search goes on")
	}
}

// Phones behind one NAT: all that tells them apart before they are heard is
// their keys.
func TestManyPhonesBehindOneNAT(t *testing.T) {
	first := newHot(t, AEADAES128GCM)
	all := []*hot{first}
	for range 99 {
		all = append(all, first.second(t, AEADAES128GCM))
	}
	for _, h := range all {
		h.rehint(t, SecureParams{Hint: addr(9, 5004)}) // as they all say of themselves
	}
	ticks := 0
	for left := len(all); left > 0 && ticks < 20; ticks++ {
		left = 0
		for i, h := range all {
			h.from(addr(9, uint16(10000+i)), h.l.phone.sealed("x"))
			if h.latched() != addr(9, uint16(10000+i)) {
				left++
			}
		}
		first.w.budget.refill(first.w.budget.ends)
	}
	if ticks >= 20 {
		t.Fatalf("not all phones were heard in %d ticks", ticks)
	}
	if n := first.w.counts.drops[DropAuth] + first.w.counts.drops[DropBudget] + first.w.counts.drops[DropNoStream]; n > 1000 {
		t.Errorf("%d packets lost until all were heard", n)
	}
}

// RTP does not belong on the RTCP port, and oversize packets nowhere.
func TestWrongSocket(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	h.w.batch.Fill(0, h.l.phone.sealed("x"), at(h.l.phone.conn))
	h.w.fromPhone(h.w.secure[1], 0)
	h.from(at(h.l.phone.conn), make([]byte, 3000))
	h.w.batch.Fill(0, rtpPacket(7, 1, "x"), at(h.l.pbx))
	h.st.plain[kindRTCP].from = at(h.l.pbx).Addr()
	h.w.fromPBX(h.st, kindRTCP, 0)
	h.w.batch.Fill(0, make([]byte, 3000), at(h.l.pbx))
	h.w.fromPBX(h.st, kindRTP, 0)
	if d := h.w.counts.drops; d[DropMalformed] != 2 || d[DropOversize] != 2 || len(h.st.lanes) != 0 {
		t.Errorf("drops %v", d)
	}
}

// The time between two ticks of the budget is what its size was chosen for.
func TestBudgetRefillsByTime(t *testing.T) {
	b := newBudget()
	b.refill(0)
	p := b.purse(addr(1, 1))
	p.open()
	for p.pay(true) {
	}
	if left := nearPerTick - b.near; left != perPacket {
		t.Fatalf("one packet paid for %d trials", left)
	}
	b.refill(int64(trialTick) - 1)
	if b.near == nearPerTick {
		t.Fatal("refilled before its time")
	}
	b.refill(int64(100 * time.Millisecond))
	if b.near != nearPerTick || *p.host != 0 || *p.port != 0 {
		t.Fatal("not refilled in time")
	}
}
