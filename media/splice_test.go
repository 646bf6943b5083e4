package media

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

// announce has a stream speak with one voice, as a description says.
func (h *hot) announce(t testing.TB) {
	t.Helper()
	h.rehint(t, SecureParams{Hint: at(h.l.phone.conn), RTCPMux: true, CNAME: "us", Announced: true, Formats: []Format{{PayloadType: 0, Codec: "PCMU", ClockRate: 8000}}})
}

// next is what the phone gets, opened.
func (h *hot) next(t testing.TB) (p rtp.Packet) {
	t.Helper()
	b, _ := read(h.l.phone.conn, longest)
	out, err := h.l.phone.open.DecryptRTP(nil, b, nil)
	if err == nil {
		err = p.Unmarshal(out)
	}
	if err != nil {
		t.Fatalf("the phone opened %d bytes: %v", len(b), err)
	}
	return p
}

func timed(ssrc uint32, seq uint16, stamp uint32) []byte {
	p := rtpPacket(ssrc, seq, "sound")
	binary.BigEndian.PutUint32(p[4:], stamp)
	return p
}

// Music on hold and whoever is held come by two SSRCs of the PBX, in turn, and
// one of them begins again: the phone hears one source, which begins in the lower
// half of the numbers, goes on, and is marked where it changes.
func TestOneSource(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	h.announce(t)
	mine := h.st.splice.ssrc
	if mine == 0 || mine == 5 || mine == 6 {
		t.Fatalf("our SSRC is %d", mine)
	}
	var before uint32
	for i, c := range []struct {
		ssrc  uint32
		seq   uint16
		stamp uint32
		at    time.Duration
		want  uint16
		ticks uint32 // since the one before
	}{
		{5, 65534, 4294967200, 0, 32766, 0},
		{5, 65535, 64, 20 * time.Millisecond, 32767, 160},
		{6, 100, 7000, 1020 * time.Millisecond, 32768, 8000}, // the music
		{6, 101, 7160, 1020 * time.Millisecond, 32769, 160},
		{6, 103, 7480, 1060 * time.Millisecond, 32771, 320}, // a loss before us stays one
		{6, 102, 7320, 1060 * time.Millisecond, 32770, 1<<32 - 160},
		{5, 7, 9, 1060 * time.Millisecond, 32772, 160 + 80}, // back, in the same batch
		{5, 8, 169, 1080 * time.Millisecond, 32773, 160},
		{5, 40008, 9999, 2080 * time.Millisecond, 32774, 8000}, // it begins again
	} {
		h.w.now = int64(time.Hour + c.at)
		h.fromPBX(timed(c.ssrc, c.seq, c.stamp))
		p := h.next(t)
		if splices := i == 2 || i == 6 || i == 8; p.Marker != splices {
			t.Errorf("packet %d: marked %v", i, p.Marker)
		}
		if p.SSRC != mine || p.SequenceNumber != c.want || i > 0 && p.Timestamp-before != c.ticks || string(p.Payload) != "sound" {
			t.Errorf("packet %d: SSRC %d (ours is %d), number %d, %d ticks on; want number %d, %d ticks on",
				i, p.SSRC, mine, p.SequenceNumber, p.Timestamp-before, c.want, c.ticks)
		}
		before = p.Timestamp
	}
}

// To a phone that was announced nothing, the PBX's first source leaves as it is, bit
// by bit, and later ones as that one; what the phone tells of it, and the PBX of the
// newest, is about the other's.
func TestFirstSourceStays(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	plain := SecureParams{Hint: at(h.l.phone.conn), RTCPMux: true, CNAME: "us", Formats: []Format{{PayloadType: 0, Codec: "PCMU", ClockRate: 8000}}}
	h.rehint(t, plain)
	h.w.now = int64(time.Hour)
	for i, c := range []struct {
		ssrc         uint32
		seq          uint16
		stamp        uint32
		want         uint16
		wanted, wait uint32
	}{
		{5, 30582, 1000, 30582, 1000, 0},
		{5, 30583, 1160, 30583, 1160, 20},
		{6, 208, 70000, 30584, 1320, 20}, // chan_pjsip begins to pass packets on by itself
		{6, 209, 70160, 30585, 1480, 20},
	} {
		h.w.now += int64(time.Duration(c.wait) * time.Millisecond)
		if i == 3 {
			h.rehint(t, plain) // a re-INVITE changes nothing
		}
		h.fromPBX(timed(c.ssrc, c.seq, c.stamp))
		if p := h.next(t); p.SSRC != 5 || p.SequenceNumber != c.want || p.Timestamp != c.wanted || string(p.Payload) != "sound" {
			t.Errorf("packet %d left as %v", i, p.Header)
		}
	}
	if own := binary.BigEndian.Uint32(h.st.splice.sdes[4:]); own != 5 {
		t.Errorf("our description is of source %d", own)
	}
}

// Who has our key only after the first packets has missed no roll-over, however high the
// PBX's numbers begin, and what it tells of them is of the PBX's.
func TestLateListenerMissesNoRollover(t *testing.T) {
	for _, suite := range allSuite {
		h := newHot(t, suite)
		h.rehint(t, SecureParams{Hint: at(h.l.phone.conn), RTCPMux: true, CNAME: "us"})
		for i := range uint16(10) {
			h.fromPBX(timed(5, 65530+i, uint32(i)*160))
			if b, _ := read(h.l.phone.conn, longest); b == nil {
				t.Fatal("the phone got nothing")
			}
		}
		h.fromPBX(timed(5, 4, 1600))
		if p := h.next(t); p.SSRC != 5 || p.SequenceNumber != 32772 || string(p.Payload) != "sound" {
			t.Errorf("%s: the first that it opens is %v", suite, p.Header)
		}
		report := rtcpPart(rtcpRR, 1, 9, 5, 0, 32772, 0, 0, 0)
		h.st.splice.told(report)
		if seq := binary.BigEndian.Uint32(report[16:]); seq != 4 {
			t.Errorf("%s: the PBX is told of number %d", suite, seq)
		}
	}
}

// Without a name for our source the PBX's are as they are.
func TestSourcesAsTheyCome(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	for _, ssrc := range []uint32{5, 6} {
		h.fromPBX(timed(ssrc, 100, 7))
		if p := h.next(t); p.SSRC != ssrc || p.SequenceNumber != 100 || p.Timestamp != 7 {
			t.Errorf("SSRC %d left as %v", ssrc, p.Header)
		}
	}
}

// Reports tell of the source that the phone hears, and what it tells of that
// one reaches the PBX as of its own.
func TestReportsOfOneSource(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	h.announce(t)
	mine := h.st.splice.ssrc
	h.st.plain[kindRTCP].to = makeAddr(at(h.l.pbx))
	h.w.now = int64(time.Hour)
	for _, p := range [][]byte{timed(5, 10, 1000), timed(6, 1000, 50)} {
		h.fromPBX(p)
		h.next(t)
	}
	whole, err := rtcp.Marshal([]rtcp.Packet{
		&rtcp.SenderReport{SSRC: 6, NTPTime: 1 << 40, RTPTime: 210, PacketCount: 1, OctetCount: 5, Reports: []rtcp.ReceptionReport{{SSRC: 77, FractionLost: 3}}},
		&rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{Source: 6, Items: []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: "asterisk@secret.example"}}}}},
		&rtcp.Goodbye{Sources: []uint32{6}},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.fromPBX(whole)
	b, _ := read(h.l.phone.conn, longest)
	out, err := h.l.phone.open.DecryptRTCP(nil, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	all, err := rtcp.Unmarshal(out)
	if err != nil || len(all) != 2 {
		t.Fatalf("the phone got %v (%v)", all, err)
	}
	sr, _ := all[0].(*rtcp.SenderReport)
	if sr == nil || sr.SSRC != mine || sr.RTPTime != 1000+80+160 || sr.PacketCount != 2 || sr.OctetCount != 10 || sr.NTPTime != 1<<40 ||
		len(sr.Reports) != 1 || sr.Reports[0].SSRC != 77 || sr.Reports[0].FractionLost != 3 {
		t.Errorf("the sender report is %+v", sr)
	}
	if sdes, _ := all[1].(*rtcp.SourceDescription); sdes == nil || sdes.Chunks[0].Source != mine || sdes.Chunks[0].Items[0].Text != "us" {
		t.Errorf("the description is %v", all[1])
	}
	// Of a source that speaks no longer, and alone, nothing is left.
	h.fromPBX(senderReport(5))
	if n := h.st.counts.drops[DropSource]; n != 1 {
		t.Errorf("%d dropped as another source's", n)
	}

	answer, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: h.l.phone.ssrc, Reports: []rtcp.ReceptionReport{
		{SSRC: mine, LastSequenceNumber: 11, TotalLost: 4}, {SSRC: 99, LastSequenceNumber: 11}}},
		&rtcp.PictureLossIndication{SenderSSRC: h.l.phone.ssrc, MediaSSRC: mine},
		&rtcp.FullIntraRequest{SenderSSRC: h.l.phone.ssrc, FIR: []rtcp.FIREntry{{SSRC: 99, SequenceNumber: 1}, {SSRC: mine, SequenceNumber: 2}}}})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := h.l.phone.seal.EncryptRTCP(nil, answer, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.fromPhone(sealed)
	b, _ = read(h.l.pbx, longest)
	all, err = rtcp.Unmarshal(b)
	if err != nil || len(all) != 3 {
		t.Fatalf("the PBX got %v (%v)", all, err)
	}
	rr, _ := all[0].(*rtcp.ReceiverReport)
	if rr == nil || rr.Reports[0].SSRC != 6 || rr.Reports[0].LastSequenceNumber != 1000 || rr.Reports[0].TotalLost != 4 ||
		rr.Reports[1].SSRC != 99 || rr.Reports[1].LastSequenceNumber != 11 {
		t.Errorf("the PBX got %v", rr)
	}
	if pli, _ := all[1].(*rtcp.PictureLossIndication); pli == nil || pli.MediaSSRC != 6 || pli.SenderSSRC != h.l.phone.ssrc {
		t.Errorf("the PBX got %v", all[1])
	}
	if fir, _ := all[2].(*rtcp.FullIntraRequest); fir == nil || fir.FIR[0].SSRC != 99 || fir.FIR[1].SSRC != 6 || fir.FIR[1].SequenceNumber != 2 {
		t.Errorf("the PBX got %v", all[2])
	}

	// What the PBX asks of the phone's source reaches it as ours.
	asked, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 6}, &rtcp.FullIntraRequest{SenderSSRC: 6, FIR: []rtcp.FIREntry{{SSRC: h.l.phone.ssrc}}}})
	if err != nil {
		t.Fatal(err)
	}
	h.fromPBX(asked)
	b, _ = read(h.l.phone.conn, longest)
	if out, err = h.l.phone.open.DecryptRTCP(nil, b, nil); err == nil {
		all, err = rtcp.Unmarshal(out)
	}
	if err != nil || len(all) != 2 {
		t.Fatalf("the phone got %v (%v)", all, err)
	}
	if fir, _ := all[1].(*rtcp.FullIntraRequest); fir == nil || fir.SenderSSRC != mine || fir.FIR[0].SSRC != h.l.phone.ssrc {
		t.Errorf("the phone got %v", all[1])
	}
}

func TestSpliceAllocatesNothing(t *testing.T) {
	h := newHot(t, AESCM128HMACSHA180)
	h.announce(t)
	plain, report := rtpPacket(7, 1, string(make([]byte, 160))), senderReport(7)
	h.fromPBX(plain)
	h.fromPBX(report)
	for name, next := range map[string]func(){
		"RTP":  func() { plain[3]++; h.fromPBX(plain) },
		"RTCP": func() { h.fromPBX(report) },
	} {
		if n := testing.AllocsPerRun(200, next); n != 0 {
			t.Errorf("%s: %v allocations a packet", name, n)
		}
	}
	if got := h.st.counts.dir[Outward]; got.RTP < 200 || got.RTCP < 200 {
		t.Fatalf("relayed only %+v: drops %v", got, h.st.counts.drops)
	}
}

// Whatever compound packet is sound stays so; and a packet of RTP stays what it is, but of
// our source.
func FuzzSplice(f *testing.F) {
	f.Add(senderReport(7))
	f.Add([]byte{0xa1, rtcpRR, 0, 2, 0, 0, 0, 7, 1, 2, 3, 4})
	f.Add([]byte{0x80, rtcpRR, 0, 1, 0, 0, 0, 7, 0x81, rtcpSDES, 0, 2, 0, 0, 0, 7, 1, 1, 65, 0, 0x81, rtcpBYE, 0, 1, 0, 0, 0, 7})
	f.Add([]byte{0x81, rtcpRR, 0, 7, 0, 0, 0, 7, 1, 2, 3, 4, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 23: 0, 31: 0}) // on the source that we announce
	f.Add([]byte{0xa1, rtcpPSFB, 0, 2, 0, 0, 0, 7, 1, 2, 3, 4})                                           // of padding alone
	f.Add([]byte{0x84, rtcpPSFB, 0, 4, 0, 0, 0, 7, 0, 0, 0, 0, 1, 2, 3, 4, 1, 0, 0, 0})
	f.Add(append(senderReport(8), 0xa0, rtcpSR, 0, 1, 0, 0, 0, 4)) // of others, and nothing but padding
	f.Add([]byte{0xb1, 0x80, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 7, 1, 2, 3, 4, 0xbe, 0xde, 0, 1, 0, 0, 0, 0, 'x', 0, 0, 3})
	f.Fuzz(func(t *testing.T, p []byte) {
		if kind, _, ok := classify(p); ok && kind == kindRTP && sound(p, kind) && len(p) <= 1500 {
			for _, announced := range []bool{true, false} {
				s := splice{ssrc: 0x01020304}
				s.begin("us", announced)
				for i := range 3 { // as the first, another source's, and one that jumps
					q := bytes.Clone(p)
					q[11] += byte(i & 1)
					q[2] += byte(i << 6)
					out := s.all(q, kind, int64(i), &figures{})
					n, _ := headerLen(p)
					if got, ssrc, ok := classify(out); !ok || got != kind || ssrc != s.own || announced && s.own != s.ssrc || !sound(out, kind) || !bytes.Equal(out[12:n], p[12:n]) || !bytes.Equal(out[n:], p[n:]) {
						t.Fatalf("%x became %x", p, out)
					}
				}
			}
		}
		if !soundRTCP(p) || len(p) > 1500 {
			return
		}
		s := splice{ssrc: 0x01020304, begun: true, from: 7, tickShift: 5}
		s.begin("us", true)
		told := bytes.Clone(p)
		s.told(told)
		if !soundRTCP(told) || len(told) != len(p) {
			t.Fatalf("told: %x became %x", p, told)
		}
		out := s.rtcp(append(make([]byte, 0, 2048), p...))
		if len(out) > 0 && !soundRTCP(out) {
			t.Fatalf("%x became %x", p, out)
		}
	})
}
