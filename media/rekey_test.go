package media

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/media/packet"
	"net/netip"
)

func makeAddr(a netip.AddrPort) packet.Addr { return packet.MakeAddr(a) }

// rekey sets new keys, and gives the leg a phone that has them.
func (h *hot) rekey(t *testing.T, rx, tx Key) {
	t.Helper()
	h.l.rx, h.l.tx = rx, tx
	h.rehint(t, SecureParams{Hint: at(h.l.phone.conn)})
	p := newPhone(t, rx, tx, h.l.phone.ssrc)
	p.conn, p.seq = h.l.phone.conn, h.l.phone.seq
	h.l.phone = p
}

// srtcpIndex sends a report to the phone, and reads its index.
func (h *hot) srtcpIndex(t *testing.T) uint32 {
	t.Helper()
	out, _, ok := h.st.prot[kindRTP].tx.seal(h.st, append(make([]byte, 0, 256), senderReport(7)...), kindRTCP, 7, &h.w.scratch.headers)
	if !ok {
		t.Fatal("seal")
	}
	return binary.BigEndian.Uint32(out[len(out)-4:]) &^ (1 << 31)
}

// Going back to a key of ours, as a call that changes its suite twice does,
// must go on where it was: a fresh context would use its nonces again.
func TestOwnKeyIsNeverBegunAgain(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	rx, a, b := h.l.rx, h.l.tx, newKey(t, AEADAES128GCM)
	h.fromPBX(rtpPacket(7, 100, "under a"))
	first := h.srtcpIndex(t)
	h.rekey(t, rx, b)
	h.fromPBX(rtpPacket(7, 100, "under b"))
	if n := h.srtcpIndex(t); n != first+1 {
		t.Fatalf("under a new key SRTCP goes on at %d, want %d (RFC 3711 section 3.4)", n, first+1)
	}
	for range 3 {
		h.rekey(t, rx, a)
		h.rekey(t, rx, b)
	}
	h.rekey(t, rx, a)
	if n := h.srtcpIndex(t); n != first+2 {
		t.Errorf("SRTCP went on at index %d, want %d", n, first+2)
	}
	h.fromPBX(rtpPacket(7, 101, "under a"))
	h.rekey(t, rx, b)
	before := h.st.counts.dir[Outward].RTP
	h.fromPBX(rtpPacket(7, 101, "under b"))
	h.rekey(t, rx, a)
	h.fromPBX(rtpPacket(7, 100, "another payload"))
	if h.st.counts.dir[Outward].RTP != before || h.st.counts.drops[DropRepeated] != 3 {
		t.Error("a packet index was used twice")
	}
}

// What was seen under a key of the phone stays seen when it returns to it.
func TestPhoneReturnsToItsKey(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	a, tx := h.l.rx, h.l.tx
	phone := h.l.phone
	seen := phone.sealed("once")
	h.fromPhone(seen)
	for _, grace := range []bool{true, false} {
		h.rekey(t, newKey(t, AEADAES128GCM), tx)
		if !grace {
			h.w.now = h.st.prot[kindRTP].rx.until
			h.w.sweep()
		}
		h.rekey(t, a, tx)
		h.l.phone = phone
		h.fromPhone(seen)
		if h.st.counts.dir[Inward].RTP != 1 {
			t.Fatalf("replayed (within the grace: %v)", grace)
		}
	}
	h.fromPhone(phone.sealed("the control"))
	if h.st.counts.dir[Inward].RTP != 2 {
		t.Fatalf("nothing new is heard: %v", h.st.counts.drops)
	}
	for range 30 {
		h.rekey(t, newKey(t, AEADAES128GCM), tx)
	}
	if len(h.st.prot[kindRTP].rx.spent) > maxOldKeys {
		t.Errorf("%d old keys kept", len(h.st.prot[kindRTP].rx.spent))
	}
}

// During the grace the old key is good for what is on its way, and moves
// nothing; after it, it is good for nothing.
func TestGrace(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	phone, old := at(h.l.phone.conn), h.l.phone
	h.from(phone, old.sealed("before"))
	h.rekey(t, newKey(t, AESCM128HMACSHA132), newKey(t, AESCM128HMACSHA132)) // another suite, too
	report, err := old.seal.EncryptRTCP(nil, senderReport(old.ssrc), nil)
	if err != nil {
		t.Fatal(err)
	}
	h.from(phone, old.sealed("on its way"))
	h.from(addr(66, 6), old.sealed("on another way"))
	h.from(phone, report) // of a lane not known: refused, as it would be a new source
	if n := h.st.counts.dir[Inward]; n.RTP != 2 || n.RTCP != 0 || h.latched() != phone {
		t.Fatalf("relayed %+v, latched to %s", n, h.latched())
	}
	h.from(phone, h.l.phone.sealed("new key"))
	h.from(phone, old.sealed("still on its way"))
	if n := h.st.counts.dir[Inward].RTP; n != 4 {
		t.Fatalf("relayed %d", n)
	}
	h.w.now = h.st.prot[kindRTP].rx.until
	h.w.sweep()
	if h.st.prot[kindRTP].rx.changing() || len(h.st.lanes) != 1 {
		t.Fatalf("after the grace: old key kept %v, %d lanes", h.st.prot[kindRTP].rx.changing(), len(h.st.lanes))
	}
	h.from(phone, old.sealed("too late"))
	h.from(phone, h.l.phone.sealed("new key"))
	if n := h.st.counts.dir[Inward].RTP; n != 5 {
		t.Fatalf("relayed %d", n)
	}
}

// RTCP of another suite has its E bit elsewhere.
func TestGraceReadsRTCPByItsOwnSuite(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	h.st.plain[kindRTCP].to = makeAddr(at(h.l.pbx))
	old := h.l.phone
	send := func(p *phone) {
		t.Helper()
		out, err := p.seal.EncryptRTCP(nil, senderReport(p.ssrc), nil)
		if err != nil {
			t.Fatal(err)
		}
		h.from(at(p.conn), out)
	}
	send(old)
	h.rekey(t, newKey(t, AESCM256HMACSHA132), newKey(t, AESCM256HMACSHA132))
	send(old)
	send(h.l.phone)
	if n := h.st.counts.dir[Inward].RTCP; n != 3 {
		t.Fatalf("relayed %d of 3: %v", n, h.st.counts.drops)
	}
}

// A phone on hold may be silent through the grace. It must be found again.
func TestHoldOverTheGrace(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	phone := at(h.l.phone.conn)
	h.from(phone, h.l.phone.sealed("before"))
	h.rekey(t, newKey(t, AEADAES128GCM), h.l.tx)
	h.w.now = h.st.prot[kindRTP].rx.until
	h.w.sweep()
	if to := h.st.target(kindRTP); to == nil || to.to != makeAddr(phone) {
		t.Fatal("music on hold has nowhere to go")
	}
	h.from(addr(9, 4000), h.l.phone.sealed("back, from elsewhere"))
	if h.latched() != addr(9, 4000) {
		t.Fatalf("latched to %s", h.latched())
	}
}

func TestMKI(t *testing.T) {
	for _, suite := range allSuite {
		h := newHot(t, suite)
		rx, tx := newKey(t, suite), newKey(t, suite)
		rx.MKI, tx.MKI = []byte{1, 2, 3, 4}, []byte{9}
		h.rekey(t, rx, tx)
		h.from(at(h.l.phone.conn), h.l.phone.sealed("x"))
		report, err := h.l.phone.seal.EncryptRTCP(nil, senderReport(h.l.phone.ssrc), nil)
		if err != nil {
			t.Fatal(err)
		}
		h.from(at(h.l.phone.conn), report)
		if h.st.counts.dir[Inward].RTP != 1 || len(h.st.lanes) != 2 {
			t.Errorf("%s: %d packets, %d lanes", suite, h.st.counts.dir[Inward].RTP, len(h.st.lanes))
		}
		h.fromPBX(rtpPacket(7, 1, "to the phone"))
		h.l.phone.hears("to the phone")
	}
}

func TestKeysThatDoNotFit(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	good, other := newKey(t, AEADAES128GCM), newKey(t, AEADAES128GCM)
	short := Key{Suite: AEADAES128GCM, KeySalt: good.KeySalt[1:]}
	long := Key{Suite: AEADAES128GCM, KeySalt: good.KeySalt, MKI: make([]byte, maxMKI+1)}
	for name, p := range map[string]SecureParams{
		"none":            {Rx: good},
		"short":           {Rx: short, Tx: good},
		"of no suite":     {Rx: good, Tx: Key{Suite: 99, KeySalt: good.KeySalt}},
		"a long MKI":      {Rx: good, Tx: long},
		"the same twice":  {Rx: good, Tx: good},
		"the same, again": {Rx: other, Tx: Key{Suite: other.Suite, KeySalt: other.KeySalt, MKI: []byte{1}}},
	} {
		err := h.l.s.SetSecure(0, p)
		if !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
		if text := fmt.Sprint(err); strings.Contains(text, fmt.Sprintf("%x", good.KeySalt[:4])) {
			t.Errorf("%s: the error shows the key: %s", name, text)
		}
	}
	if !h.st.prot[kindRTP].rx.now.key.Equal(h.l.rx) {
		t.Error("a refused key changed the stream")
	}
}
