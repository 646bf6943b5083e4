package media

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// FuzzFromPhone gives the secure side arbitrary bytes: nothing without a good
// tag changes a table, or is relayed.
func FuzzFromPhone(f *testing.F) {
	h := newHot(f, AESCM128HMACSHA180)
	f.Add(h.sealed(f, 1, false)[0][:20], true)
	f.Add(rtpPacket(7, 1, "plain"), false)
	f.Add(senderReport(7), true)
	f.Add([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, false)
	f.Add([]byte{22, 254, 253, 0}, false)
	h.fromPhone(h.sealed(f, 1, false)[0])
	f.Fuzz(func(t *testing.T, p []byte, known bool) {
		relayed, lanes := h.w.counts.dir[Inward], len(h.w.table.lanes)
		peer := h.st.peers[kindRTP].latched
		from := at(h.l.pbx) // a stranger's address
		if known {
			from = at(h.l.phone.conn)
		}
		h.w.budget.refill(h.w.budget.ends)
		h.w.batch.Fill(0, p, from)
		h.w.fromPhone(h.w.secure[0], 0)
		if h.w.counts.dir[Inward] != relayed || len(h.w.table.lanes) != lanes || h.st.peers[kindRTP].latched != peer {
			t.Fatalf("%x without a good tag changed something", p)
		}
	})
}

// FuzzFromPBX gives the plain side arbitrary bytes: what is relayed is sound,
// and opens to the same bytes at the phone but for its sequence number.
func FuzzFromPBX(f *testing.F) {
	h := newHot(f, AEADAES128GCM)
	h.st.mux = true // so that the phone has one port to read
	f.Add(rtpPacket(7, 1, "hello"))
	f.Add(senderReport(7))
	f.Add([]byte{0xbf, 0, 0, 1})
	f.Add([]byte{0xb0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0xbe, 0xde, 0, 1, 0x10, 0xff, 0, 0, 'x', 0, 0, 3})
	f.Add([]byte{0x90, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0xc2, 0xde, 0, 0, 'x'}) // phones drop it
	f.Fuzz(func(t *testing.T, p []byte) {
		kind, _, ok := classify(p)
		before := h.w.counts.dir[Outward]
		h.w.batch.Fill(0, p, at(h.l.pbx))
		h.w.fromPBX(h.st, kindRTP, 0)
		if h.w.counts.dir[Outward] == before {
			return
		}
		h.w.flush()
		if !ok || !sound(p, kind) {
			t.Fatalf("%x is no RTP or RTCP, and was relayed", p)
		}
		out := h.atPhone(t, kind)
		if kind == kindRTP && len(out) == len(p) {
			setSequence(out, sequence(p))
		}
		if !bytes.Equal(out, p) {
			t.Fatalf("%x reached the phone as %x", p, out)
		}
	})
}

// FuzzRTCP reads and filters compound packets: of sound ones the rest is sound,
// holds no feedback, and filtering it again changes nothing.
func FuzzRTCP(f *testing.F) {
	f.Add(senderReport(7))
	f.Add(unhex(f, "80c9 0001 01020304 81ce 0002 01020304 05060708"))
	f.Add(unhex(f, "80c9 0001 01020304 8fce 0004 01020304 00000000 52454d42 01000000"))
	f.Add(unhex(f, "81c8 000c 01020304 0000000000000000 00000000 00000000 00000000 05060708 20000001 00000001 00000002 00000003 00000004"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if !soundRTCP(p) {
			return
		}
		var read figures
		read.readReports(p, Inward, 1)
		read.readReports(p, Outward, 2)
		left := withoutFeedback(bytes.Clone(p))
		if len(left) > len(p) || len(left) > 0 && len(left) < 4 {
			t.Fatalf("%x became %x", p, left)
		}
		for rest := left; len(rest) > 0; rest = rest[4+4*int(binary.BigEndian.Uint16(rest[2:])):] {
			if format := rest[0] & 0x1f; rest[1] == rtcpRTPFB || rest[1] == rtcpPSFB && format != psfbPLI && format != psfbFIR {
				t.Fatalf("%x still holds feedback: %x", p, left)
			}
		}
		if again := withoutFeedback(bytes.Clone(left)); !bytes.Equal(again, left) {
			t.Fatalf("%x filtered again is %x", left, again)
		}
	})
}
