package media

import (
	"fmt"
	"net/netip"
	"testing"
)

// edge declares a call's phone to be another edge: at an address, by its SSRC alone.
func (h *hot) edge(t testing.TB, at netip.AddrPort) {
	t.Helper()
	h.rehint(t, SecureParams{Hint: at, RTCPMux: true, SSRCs: []uint32{h.l.phone.ssrc}, Sole: true, Fixed: true})
}

// crowd is many calls of one worker. Each of their phones is an SSRC of its own.
func crowd(t testing.TB, n int) []*hot {
	t.Helper()
	all := []*hot{newHot(t, AEADAES256GCM)}
	for len(all) < n {
		all = append(all, all[0].second(t, AEADAES256GCM))
	}
	for i, h := range all {
		h.l.phone.ssrc = uint32(0x10000 + i)
	}
	return all
}

// Five hundred calls of one edge begin within one tick of the budget, change their
// keys within another, and all move to another address in a third: none loses a packet.
// A flood takes the budget meanwhile.
func TestCallsOfAnEdgeNeedNoBudget(t *testing.T) {
	all := crowd(t, 400)
	w, edge := all[0].w, addr(9, 10000)
	for _, h := range all {
		h.edge(t, edge)
	}
	flood := func() {
		for i := range 2000 {
			all[0].from(edge, append(rtpPacket(uint32(0x900000+i), 1, "forged"), make([]byte, 16)...))
		}
	}
	want := uint64(0)
	round := func(what string) {
		t.Helper()
		flood()
		want++
		for i, h := range all {
			report, err := h.l.phone.seal.EncryptRTCP(nil, receiverReport(h.l.phone.ssrc), nil)
			if err != nil {
				t.Fatal(err)
			}
			h.from(edge, report) // RTCP may be first
			h.from(edge, h.l.phone.sealed("x"))
			if n := h.st.counts.dir[Inward]; n.RTP != want {
				t.Fatalf("%s: call %d heard %+v: %v", what, i, n, h.st.counts.drops)
			}
		}
	}
	round("at the beginning")
	for _, h := range all {
		tx, old := newKey(t, AEADAES256GCM), h.l.phone
		h.l.rx, h.l.tx = newKey(t, AEADAES256GCM), tx
		h.edge(t, edge)
		p := newPhone(t, h.l.rx, h.l.tx, old.ssrc)
		p.conn, p.seq = old.conn, old.seq
		h.l.phone = p
	}
	round("under new keys")
	edge = addr(10, 10000)
	round("from elsewhere")
	for i, h := range all {
		if h.st.target(kindRTP).to != makeAddr(addr(9, 10000)) {
			t.Fatalf("call %d follows to where its description is not", i)
		}
		h.edge(t, edge)
		if h.st.target(kindRTP).to != makeAddr(edge) {
			t.Fatalf("call %d does not go where its description says", i)
		}
	}
	round("as described")
	if w.budget.near != nearPerTick || w.budget.far != farPerTick {
		t.Errorf("the flood was tried on calls that it does not name: near %d, far %d", w.budget.near, w.budget.far)
	}
	if n := len(w.table.byAddr) + len(w.table.byHost) + len(w.table.fresh); n > 0 {
		t.Errorf("%d ways to search for calls that need no search", n)
	}
}

// A PBX that encrypts for itself has one address and a port for each call, and
// announces no SSRC. Its first packets find their calls all the same, in any order.
func TestCallsOfAPBXByTheirPorts(t *testing.T) {
	all := crowd(t, 300)
	w := all[0].w
	for i, h := range all {
		h.rehint(t, SecureParams{Hint: addr(9, uint16(10000+2*i)), RTCPHint: addr(9, uint16(10001+2*i))})
	}
	for n := range len(all) {
		i := n * 7 % len(all)
		h := all[i]
		if n%2 == 0 {
			report, err := h.l.phone.seal.EncryptRTCP(nil, receiverReport(h.l.phone.ssrc), nil)
			if err != nil {
				t.Fatal(err)
			}
			w.batch.Fill(0, report, addr(9, uint16(10001+2*i)))
			w.fromPhone(w.secure[1], 0)
			if len(h.st.lanes) != 1 {
				t.Fatalf("call %d did not hear its first report: %v", i, w.counts.drops)
			}
		}
		h.from(addr(9, uint16(10000+2*i)), h.l.phone.sealed("x"))
		if h.st.counts.dir[Inward].RTP != 1 {
			t.Fatalf("call %d did not hear its first packet: %v", i, w.counts.drops)
		}
	}
	if spent := nearPerTick - w.budget.near; spent > 2*len(all) || len(w.table.byHint) > 0 {
		t.Errorf("%d trials for %d calls, %d still expected", spent, len(all), len(w.table.byHint))
	}
}

// Two calls of one address with one SSRC, which is against all rules, are told
// apart by their tags: each packet reaches its own call.
func TestOneSSRCOfTwoCalls(t *testing.T) {
	all := crowd(t, 3)
	a, b, other := all[0], all[1], all[2]
	edge := addr(9, 10000)
	b.l.phone.ssrc = a.l.phone.ssrc
	for _, h := range all {
		h.edge(t, edge)
	}
	const packets = 50
	for n := range uint64(packets) {
		for i, h := range []*hot{a, b, other} {
			h.from(edge, h.l.phone.sealed(fmt.Sprint(i)))
			if h.st.counts.dir[Inward].RTP != n+1 {
				t.Fatalf("packet %d of call %d was not heard: %v", n, i, a.w.counts.drops)
			}
			report, err := h.l.phone.seal.EncryptRTCP(nil, receiverReport(h.l.phone.ssrc), nil)
			if err != nil {
				t.Fatal(err)
			}
			before := a.w.counts.dir[Inward].RTCP + a.w.counts.drops[DropNowhere]
			h.from(edge, report)
			if a.w.counts.dir[Inward].RTCP+a.w.counts.drops[DropNowhere] != before+1 {
				t.Fatalf("report %d of call %d was not heard: %v", n, i, a.w.counts.drops)
			}
		}
		a.w.budget.refill(a.w.budget.ends) // 100 ms are many packets
	}
	for i, h := range all {
		for range packets {
			wants(t, h.l.pbx, fmt.Sprint(i))
		}
		quiet(t, h.l.pbx, "the PBX")
	}
	a.l.s.Close()
	near := b.w.budget.near
	for range 10 {
		b.from(edge, b.l.phone.sealed("alone"))
	}
	if b.st.counts.dir[Inward].RTP != packets+10 || b.w.budget.near != near {
		t.Errorf("with the other gone, heard %+v for %d trials", b.st.counts.dir[Inward], near-b.w.budget.near)
	}
}

// Whoever is on the path of a trunk and has no key changes nothing: neither what is
// heard, nor where anything is sent, by packets under a wrong key, kept, doubled,
// overtaken, or sent on from his own address.
func TestOnTheTrunksPath(t *testing.T) {
	all := crowd(t, 2)
	h, other := all[0], all[1]
	edge, thief := addr(9, 10000), addr(66, 666)
	h.edge(t, edge)
	other.edge(t, edge)
	wrong := newPhone(t, newKey(t, AEADAES256GCM), h.l.tx, h.l.phone.ssrc)
	stays := func(what string, relayed uint64) {
		t.Helper()
		if n := h.st.counts.dir[Inward].RTP; n != relayed || h.st.target(kindRTP).to != makeAddr(edge) || h.st.target(kindRTCP).to != makeAddr(edge) {
			t.Fatalf("%s: %d packets heard of %d, sent to %v", what, n, relayed, h.st.target(kindRTP))
		}
		if other.st.counts.dir[Inward].RTP != 0 || len(other.st.lanes) != 0 {
			t.Fatalf("%s: another call heard it", what)
		}
	}
	for range 20 {
		h.from(edge, wrong.sealed("forged"))
		h.from(thief, wrong.sealed("forged"))
	}
	stays("a wrong key", 0)
	if len(h.st.lanes) != 0 {
		t.Fatal("a wrong key has a lane")
	}
	first := h.l.phone.sealed("first")
	h.from(edge, first)
	stays("the control", 1)
	h.from(edge, first)
	h.from(thief, first)
	stays("replayed", 1)
	raced := h.l.phone.sealed("raced")
	h.from(thief, raced)
	stays("raced from elsewhere", 2)
	h.from(edge, raced)
	stays("its original", 2)
	h.from(edge, h.l.phone.sealed("next"))
	stays("the next one", 3)
	renamed := h.l.phone.sealed("renamed")
	renamed[11] ^= 1 // the other call's SSRC
	h.from(edge, renamed)
	stays("with another call's SSRC", 3)
	report, err := h.l.phone.seal.EncryptRTCP(nil, receiverReport(h.l.phone.ssrc), nil)
	if err != nil {
		t.Fatal(err)
	}
	h.from(thief, report)
	stays("a report from elsewhere", 3)
	edge = addr(9, 12000) // as its NAT has it
	h.from(edge, h.l.phone.sealed("from another port"))
	stays("another port of its host", 4)
	h.edge(t, addr(9, 10000))
	stays("described as before", 4)
	edge = addr(9, 14000)
	h.edge(t, edge)
	stays("described at another port", 4)
}

// The SSRCs that we announce are one call's each, and free again after it.
func TestOwnSSRCs(t *testing.T) {
	all := crowd(t, 100)
	w, seen := all[0].w, make(map[uint32]bool)
	for _, h := range all {
		if seen[h.l.addrs.SSRC] || h.l.addrs.SSRC == 0 || h.l.addrs.SSRC != h.st.splice.ssrc {
			t.Fatalf("SSRC %d is two calls'", h.l.addrs.SSRC)
		}
		seen[h.l.addrs.SSRC] = true
	}
	if len(w.table.own) != len(all) {
		t.Fatalf("%d SSRCs for %d calls", len(w.table.own), len(all))
	}
	for _, h := range all {
		h.l.s.Close()
	}
	if len(w.table.own) != 0 {
		t.Errorf("%d SSRCs are kept", len(w.table.own))
	}
}
