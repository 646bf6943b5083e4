package media

import (
	"testing"
	"time"
)

// renew gives a leg new keys of both ends, and a phone that has them, which goes on
// with its number and whose roll-over counter is roc. It returns the phone of before.
func (h *hot) renew(t *testing.T, suite Suite, roc uint32) (old *phone) {
	t.Helper()
	old = h.l.phone
	h.rekey(t, newKey(t, suite), newKey(t, suite))
	h.l.phone.seal.SetROC(old.ssrc, roc)
	return old
}

// rolled sends so much that the phone's roll-over counter is 2, in strides, and its
// number seq.
func (h *hot) rolled(t *testing.T, seq uint16) {
	t.Helper()
	for _, s := range []uint16{60000, 20000, 45000, 10000, 35000, seq - 20000, seq - 10000, seq - 1} {
		h.l.phone.seq = s - 1
		h.fromPhone(h.l.phone.sealed("x"))
	}
	if roc, _ := h.st.prot[kindRTP].rx.now.ctx.ROC(h.l.phone.ssrc); roc != 2 {
		t.Fatalf("the roll-over counter is %d: %v", roc, h.st.counts.drops)
	}
}

// After a change of key the roll-over counter of a source goes on (RFC 3711 section
// 3.3.1), and many begin again at zero all the same. Both are heard from the first
// packet on, also where a roll-over is just then, or the source was silent until the
// old key was forgotten.
func TestRolloverOverAChangeOfKey(t *testing.T) {
	for name, c := range map[string]struct {
		seq  uint16 // of the phone's last packet under the old key
		roc  uint32 // of its first under the new one
		wait bool
	}{
		"goes on":                        {40000, 2, false},
		"begins again":                   {40000, 0, false},
		"goes on, over a roll-over":      {65535, 3, false},
		"begins again, over a roll-over": {65535, 0, false},
		"goes on after a silence":        {40000, 2, true},
		"begins again after a silence":   {40000, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, suite := range []Suite{AEADAES256GCM, AESCM128HMACSHA180} {
				h := newHot(t, suite)
				h.rolled(t, c.seq)
				h.l.phone.seq = c.seq - 1
				seen := h.l.phone.sealed("x")
				h.fromPhone(seen)
				old := h.renew(t, suite, c.roc)
				if c.wait {
					h.w.now = h.st.prot[kindRTP].rx.until
					h.w.sweep()
				}
				before := h.st.counts.dir[Inward].RTP
				var first []byte
				for i := range 5 {
					p := h.l.phone.sealed("y")
					if i == 0 {
						first = p
					}
					h.fromPhone(p)
				}
				if n := h.st.counts.dir[Inward].RTP - before; n != 5 {
					t.Fatalf("%s: heard %d packets of 5: %v", suite, n, h.st.counts.drops)
				}
				h.fromPhone(first)
				h.fromPhone(seen)
				if n := h.st.counts.dir[Inward].RTP - before; n != 5 {
					t.Fatalf("%s: %d packets were replayed", suite, n-5)
				}
				if c.wait {
					continue
				}
				late := old.sealed("on its way") // numbered beyond what was heard, by its old key
				h.fromPhone(late)
				if n := h.st.counts.dir[Inward].RTP - before; n != 6 {
					t.Fatalf("%s: a late packet was not heard: %v", suite, h.st.counts.drops)
				}
				h.fromPhone(late)
				h.w.now = h.st.prot[kindRTP].rx.until
				h.w.sweep()
				h.fromPhone(late)
				h.fromPhone(old.sealed("recorded, and played when the grace is over"))
				if n := h.st.counts.dir[Inward].RTP - before; n != 6 {
					t.Fatalf("%s: %d packets of the old key were taken again", suite, n-6)
				}
				h.fromPhone(h.l.phone.sealed("the control"))
				if n := h.st.counts.dir[Inward].RTP - before; n != 7 {
					t.Fatalf("%s: nothing is heard any more: %v", suite, h.st.counts.drops)
				}
			}
		})
	}
}

// What we send goes on likewise: the phone's context is told the counter, and a
// roll-over between the keys, with packets that are late, confuses nobody.
func TestOurRolloverOverAChangeOfKey(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	for _, seq := range []uint16{60000, 62000, 64000, 65533, 65534} {
		h.fromPBX(rtpPacket(7, seq, "x"))
		h.atPhone(t, kindRTP)
	}
	for i, c := range []struct {
		seq uint16
		roc uint32
	}{{0, 1}, {65535, 0}, {1, 1}, {2, 1}} {
		if i < 3 { // a new key for each: the second one's first packet is a late one
			h.renew(t, AEADAES128GCM, 0)
			h.l.phone.open.SetROC(7, c.roc)
		}
		h.fromPBX(rtpPacket(7, c.seq, "x"))
		if p := h.atPhone(t, kindRTP); sequence(p) != c.seq {
			t.Fatalf("packet %d arrived as %d", c.seq, sequence(p))
		}
	}
}

// A new key of ours that waits is used when the phone uses the one that it came with,
// or has acknowledged the answer, or enough time is gone; and not for less.
func TestNewKeyWaits(t *testing.T) {
	for name, prove := range map[string]func(h *hot, old *phone){
		"heard":     func(h *hot, _ *phone) { h.fromPhone(h.l.phone.sealed("new")) },
		"confirmed": func(h *hot, _ *phone) { _ = h.l.s.Confirm(0) },
		"patience":  func(h *hot, _ *phone) { h.w.now += int64(patience); h.w.sweep() },
		"":          func(h *hot, old *phone) { h.fromPhone(old.sealed("old")); h.w.now += int64(patience) - 1; h.w.sweep() },
		"forged": func(h *hot, old *phone) {
			for range 20 {
				p := h.l.phone.sealed("new")
				p[len(p)-1] ^= 1
				h.fromPhone(p)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHot(t, AEADAES128GCM)
			h.fromPhone(h.l.phone.sealed("before"))
			old := h.l.phone
			h.l.rx, h.l.tx = newKey(t, AEADAES128GCM), newKey(t, AEADAES128GCM)
			for range 2 { // a 183 and a 200
				h.rehint(t, SecureParams{Hint: at(old.conn), Await: true})
			}
			p := newPhone(t, h.l.rx, h.l.tx, old.ssrc)
			p.conn, p.seq = old.conn, old.seq
			h.l.phone = p
			h.fromPBX(rtpPacket(7, 100, "waits"))
			old.hears("waits")
			if a, err := h.l.s.KeyAges(0); err != nil || !a.Waiting || !a.Old || a.Tx.Packets != 1 || a.Rx.Packets != 0 {
				t.Fatalf("%+v (%v)", a, err)
			}
			prove(h, old)
			h.fromPBX(rtpPacket(7, 101, "goes on"))
			if name == "" || name == "forged" {
				old.hears("goes on")
				return
			}
			h.l.phone.hears("goes on")
			if a, err := h.l.s.KeyAges(0); err != nil || a.Waiting || a.Tx.Packets != 1 {
				t.Fatalf("%+v (%v)", a, err)
			}
		})
	}
}

// The ages of keys are those of the ones in force.
func TestKeyAges(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	h.fromPhone(h.l.phone.sealed("x"))
	h.fromPBX(rtpPacket(7, 1, "y"))
	h.fromPBX(senderReport(7))
	first, err := h.l.s.KeyAges(0)
	if err != nil || first.Rx.Packets != 1 || first.Tx.Packets != 2 || first.Tx.Since.IsZero() {
		t.Fatalf("%+v (%v)", first, err)
	}
	h.w.now += int64(time.Hour)
	h.rehint(t, SecureParams{Hint: at(h.l.phone.conn)}) // the same keys
	if again, _ := h.l.s.KeyAges(0); again != first {
		t.Errorf("by the same keys %+v became %+v", first, again)
	}
	h.renew(t, AEADAES128GCM, 0)
	h.fromPhone(h.l.phone.sealed("x"))
	next, err := h.l.s.KeyAges(0)
	if err != nil || next.Rx.Packets != 1 || next.Tx.Packets != 0 || next.Tx.Since.Sub(first.Tx.Since) != time.Hour || next.Rx.Since.Sub(first.Rx.Since) != time.Hour {
		t.Errorf("%+v became %+v (%v)", first, next, err)
	}
	if _, err := h.l.s.KeyAges(1); err == nil {
		t.Error("a stream that is none has keys")
	}
}

// Where the phone keeps its key, what it sends proves nothing: not by another source
// of it either.
func TestSameKeyProvesNothing(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	h.fromPhone(h.l.phone.sealed("before"))
	h.l.tx = newKey(t, AEADAES128GCM)
	h.rehint(t, SecureParams{Hint: at(h.l.phone.conn), Await: true})
	h.l.phone.ssrc++
	h.fromPhone(h.l.phone.sealed("another source"))
	if a, err := h.l.s.KeyAges(0); err != nil || !a.Waiting || a.Rx.Packets != 2 {
		t.Fatalf("%+v (%v)", a, err)
	}
}

// A call whose keys change before it was heard hears what its phone still sends under
// the first ones, if that was declared: once, and nowhere is it led by that.
func TestFirstPacketUnderTheOldKey(t *testing.T) {
	for _, declared := range []bool{true, false} {
		h := newHot(t, AEADAES128GCM)
		old := h.renew(t, AEADAES128GCM, 0)
		p := SecureParams{Hint: addr(9, 4000)}
		if declared {
			p.SSRCs = []uint32{old.ssrc}
		}
		h.rehint(t, p)
		early := old.sealed("early")
		h.from(addr(8, 4000), early)
		h.from(addr(8, 4000), early)
		if n := h.st.counts.dir[Inward].RTP; (n == 1) != declared || n > 1 {
			t.Fatalf("declared %v: heard %d", declared, n)
		}
		if h.latched().IsValid() || h.st.target(kindRTP).to != makeAddr(addr(9, 4000)) {
			t.Fatal("an old key leads astray")
		}
		h.from(addr(9, 4000), h.l.phone.sealed("new"))
		if h.latched() != addr(9, 4000) {
			t.Fatalf("declared %v: latched to %s", declared, h.latched())
		}
	}
}
