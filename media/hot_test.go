package media

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/media/packet"
)

// hot is a worker that does not run, with one stream set up, whose packet
// functions a test calls itself.
type hot struct {
	w  *worker
	st *stream
	l  *leg
}

func newHot(tb testing.TB, suite Suite) *hot {
	tb.Helper()
	e, err := New(testConfig())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		for _, w := range e.workers {
			w.close()
		}
	})
	h := &hot{w: e.workers[0], l: call(tb, e, suite, nil)}
	for st := range h.w.table.all {
		h.st = st
	}
	return h
}

// sealed makes n packets of the phone, as they are on the wire.
func (h *hot) sealed(tb testing.TB, n int, rtcp bool) [][]byte {
	tb.Helper()
	all := make([][]byte, n)
	for i := range all {
		if rtcp {
			out, err := h.l.phone.seal.EncryptRTCP(nil, senderReport(h.l.phone.ssrc), nil)
			if err != nil {
				tb.Fatal(err)
			}
			all[i] = out
			continue
		}
		all[i] = h.l.phone.sealed(string(make([]byte, 160)))
	}
	return all
}

func (h *hot) fromPhone(p []byte) {
	h.w.batch.Fill(0, p, at(h.l.phone.conn))
	h.w.fromPhone(h.w.secure[0], 0)
}

func (h *hot) fromPBX(p []byte) {
	h.w.batch.Fill(0, p, at(h.l.pbx))
	h.w.fromPBX(h.st, kindRTP, 0)
	h.w.flush()
}

// No RTP that is relayed allocates, and no RTCP but under GCM, where pion/srtp
// makes the additional data of each SRTCP packet anew: one in some 250 packets.
func TestRelayAllocatesNothing(t *testing.T) {
	const runs = 200
	for _, suite := range allSuite {
		t.Run(suite.String(), func(t *testing.T) {
			h := newHot(t, suite)
			rtcp := packet.MakeAddr(at(h.l.pbx))
			h.st.plain[kindRTCP].to = rtcp
			for name, packets := range map[string][][]byte{
				"RTP from the phone":  h.sealed(t, runs+10, false),
				"RTCP from the phone": h.sealed(t, runs+10, true),
			} {
				i := 0
				next := func() { h.fromPhone(packets[i]); i++ }
				next() // latches, which may allocate
				if n := testing.AllocsPerRun(runs, next); n > allowed(suite, name) {
					t.Errorf("%s: %v allocations a packet", name, n)
				}
			}
			if got := h.st.counts.dir[Inward]; got.RTP < runs || got.RTCP < runs {
				t.Fatalf("relayed only %+v: drops %v", got, h.st.counts.drops)
			}
			plain := rtpPacket(7, 1, string(make([]byte, 160)))
			report := senderReport(7)
			h.fromPBX(plain)
			h.fromPBX(report)
			if n := testing.AllocsPerRun(runs, func() { plain[3]++; h.fromPBX(plain) }); n != 0 {
				t.Errorf("RTP from the PBX: %v allocations a packet", n)
			}
			if n := testing.AllocsPerRun(runs, func() { h.fromPBX(report) }); n > allowed(suite, "RTCP") {
				t.Errorf("RTCP from the PBX: %v allocations a packet", n)
			}
			if got := h.st.counts.dir[Outward]; got.RTP < runs || got.RTCP < runs {
				t.Fatalf("relayed only %+v: drops %v", got, h.st.counts.drops)
			}
		})
	}
}

func allowed(s Suite, kind string) float64 {
	if strings.HasPrefix(kind, "RTCP") && (s == AEADAES128GCM || s == AEADAES256GCM) {
		return 1
	}
	return 0
}

func BenchmarkFromPhone(b *testing.B) {
	for _, suite := range allSuite {
		b.Run(suite.String(), func(b *testing.B) {
			h := newHot(b, suite)
			packets := h.sealed(b, b.N+1, false)
			h.fromPhone(packets[0])
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				h.fromPhone(packets[1+i])
			}
		})
	}
}

func BenchmarkFromPBX(b *testing.B) {
	for _, suite := range allSuite {
		b.Run(suite.String(), func(b *testing.B) {
			h := newHot(b, suite)
			plain := rtpPacket(7, 1, string(make([]byte, 160)))
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				plain[2], plain[3] = byte(i>>8), byte(i)
				h.w.batch.Fill(i%slots, plain, at(h.l.pbx))
				h.w.fromPBX(h.st, kindRTP, i%slots)
				if i%slots == slots-1 {
					h.w.flush()
				}
			}
		})
	}
}
