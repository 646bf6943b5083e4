package media

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

var pcmu = []Format{{PayloadType: 0, Codec: "PCMU", ClockRate: 8000}, {PayloadType: 101, Codec: "telephone-event", ClockRate: 8000}}

// stamped is an RTP packet with a timestamp and a payload type.
func stamped(seq uint16, stamp uint32, payload byte) []byte {
	p := rtpPacket(7, seq, "x")
	p[1] = payload
	binary.BigEndian.PutUint32(p[4:], stamp)
	return p
}

// RFC 3550 appendix A.3: expected are the packets between the lowest and the
// highest sequence number; appendix A.1: a great step is a new beginning.
func TestLossRFC3550(t *testing.T) {
	for _, c := range []struct {
		name               string
		seqs               []int
		received, expected uint64
	}{
		{"all come", []int{10, 11, 12, 13}, 4, 4},
		{"one is lost", []int{10, 11, 13}, 3, 4},
		{"across the wrap", []int{65534, 65535, 0, 2}, 4, 5},
		{"late ones are not lost", []int{10, 12, 11, 13}, 4, 4},
		{"before the first", []int{10, 9, 11}, 3, 3},
		{"begins again ahead", []int{10, 11, 9000, 9001}, 4, 4},
		{"begins again behind", []int{9000, 9001, 10, 11}, 4, 4},
		{"nothing", nil, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r reception
			for i, seq := range c.seqs {
				r.packet(stamped(uint16(seq), uint32(160*i), 0), int64(i)*int64(20*time.Millisecond), &figures{formats: pcmu})
			}
			var sum tally
			sum.add(&r)
			if sum.received != c.received || sum.expected != c.expected {
				t.Errorf("received %d of %d, want %d of %d", sum.received, sum.expected, c.received, c.expected)
			}
		})
	}
}

// RFC 3550 section 6.4.1: J(i) = J(i-1) + (|D(i-1,i)| - J(i-1))/16. A source
// whose packets come 5 ms early and late by turns has D = 10 ms throughout.
func TestJitterRFC3550(t *testing.T) {
	play := func(payload func(i int) byte, wave time.Duration, first uint32) time.Duration {
		var r reception
		for i := range 500 {
			at := time.Duration(i)*20*time.Millisecond + time.Hour
			if i%2 == 1 {
				at += wave
			}
			r.packet(stamped(uint16(i), first+uint32(160*i), payload(i)), int64(at), &figures{formats: pcmu})
		}
		var sum tally
		sum.add(&r)
		return time.Duration(sum.jitter * float64(time.Second))
	}
	voice := func(int) byte { return 0 }
	near := func(got, want time.Duration) bool {
		return got > want-want/20-time.Microsecond*200 && got < want+want/20+time.Microsecond*200
	}
	for _, first := range []uint32{0, math.MaxUint32 - 8000} { // across the timestamp's wrap, too
		if got := play(voice, 0, first); !near(got, 0) {
			t.Errorf("an even stream has a jitter of %s", got)
		}
		if got := play(voice, 10*time.Millisecond, first); !near(got, 10*time.Millisecond) {
			t.Errorf("jitter is %s, want 10ms", got)
		}
	}
	if got := play(func(i int) byte { return byte(101 * (i / 10 % 2)) }, 0, 0); !near(got, 0) {
		t.Errorf("events between the voice give a jitter of %s", got)
	}
}

// compound joins RTCP packets.
func compound(parts ...[]byte) []byte { return slices.Concat(parts...) }

// rtcpPart is one RTCP packet: words are what follows the SSRC.
func rtcpPart(kind, count byte, ssrc uint32, words ...uint32) []byte {
	b := []byte{0x80 | count, kind, 0, byte(1 + len(words))}
	for _, w := range append([]uint32{ssrc}, words...) {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

// RFC 3550 section 6.4.1, figure 2: A - LSR - DLSR is the round trip. Its
// example has 6.125 s.
func TestRoundTripRFC3550(t *testing.T) {
	var f figures
	const ntp = 0xb44db705_20000000                    // of the sender report
	sent := int64(0x20000000) * 1_000_000_000 >> 32    // its fraction, as our clock
	a := sent + int64(11_250*time.Millisecond) + 1_000 // when the answer came: 5.25 s + 6 s later
	const delay = uint32(5*65536 + 65536/8)            // 5.125 s
	sr := rtcpPart(rtcpSR, 0, 7, ntp>>32, ntp&0xffffffff, 0, 0, 0)
	f.readReports(compound(rtcpPart(rtcpRR, 0, 7), sr), Outward, sent)
	answer := rtcpPart(rtcpRR, 1, 9, 7, 64<<24|5, 1000, 160, 0xb7052000, delay)
	f.readReports(answer, Inward, a)
	r := f.reports[Outward]
	if want := int64(6_125 * time.Millisecond); r.trip < want-100_000 || r.trip > want+100_000 {
		t.Errorf("round trip is %s, want 6.125s", time.Duration(r.trip))
	}
	if r.count != 1 || r.lost != 64 || r.jitter != 160 {
		t.Errorf("read %+v", r)
	}
	// The other direction was not told of, and what answers no report of ours,
	// or was cut short, gives no round trip.
	if f.reports[Inward].count != 0 {
		t.Error("the other direction has reports")
	}
	f.reports[Outward].trip = 0
	for name, words := range map[string][]uint32{
		"another report": {7, 0, 0, 0, 0xb7052001, delay},
		"none yet":       {7, 0, 0, 0, 0, 0},
		"cut short":      {7, 0, 0},
	} {
		f.readReports(rtcpPart(rtcpRR, 31, 9, words...), Inward, a)
		if trip := f.reports[Outward].trip; trip != 0 {
			t.Errorf("%s gives a round trip of %s", name, time.Duration(trip))
		}
	}
}

// RFC 4585 section 4: feedback messages belong to the AVPF profiles.
func TestFeedbackIsRemovedRFC4585(t *testing.T) {
	rr, sdes := rtcpPart(rtcpRR, 0, 9), rtcpPart(202, 1, 9, 0)
	nack, remb := rtcpPart(rtcpRTPFB, 1, 9, 7, 0x00010000), rtcpPart(rtcpPSFB, 15, 9, 0, 0x52454d42, 0x01000000, 7)
	pli, fir := rtcpPart(rtcpPSFB, psfbPLI, 9, 7), rtcpPart(rtcpPSFB, psfbFIR, 9, 0, 7, 0x01000000)
	for _, c := range []struct {
		name     string
		in, want []byte
	}{
		{"nothing to remove", compound(rr, sdes), compound(rr, sdes)},
		{"behind", compound(rr, sdes, remb), compound(rr, sdes)},
		{"between", compound(rr, nack, sdes, remb, rr), compound(rr, sdes, rr)},
		{"before", compound(nack, remb, rr), rr},
		{"nothing else", compound(nack, remb), nil},
		{"a whole picture is asked for", compound(rr, sdes, pli, nack, fir, remb), compound(rr, sdes, pli, fir)},
	} {
		if got := withoutFeedback(c.in); string(got) != string(c.want) {
			t.Errorf("%s: left %x, want %x", c.name, got, c.want)
		}
	}
	h := newHot(t, AEADAES128GCM)
	for i, p := range [][]byte{compound(rtcpPart(rtcpRR, 0, h.l.phone.ssrc), nack), compound(nack, remb)} {
		out, err := h.l.phone.seal.EncryptRTCP(nil, p, nil)
		if err != nil {
			t.Fatal(err)
		}
		h.st.plain[kindRTCP].to = makeAddr(at(h.l.pbx))
		h.fromPhone(out)
		if got := h.st.counts.drops[DropFeedback]; got != uint64(i) || h.st.counts.dir[Inward].RTCP != 1 {
			t.Errorf("packet %d: %d dropped, %d relayed", i, got, h.st.counts.dir[Inward].RTCP)
		}
	}
}

// What was measured of a stream stays with it, whatever its keys come by after.
func TestQualityOutlivesKeys(t *testing.T) {
	c := newWeb(t, runEngine(t, testConfig()), 1)
	rx, tx := newKey(t, AEADAES128GCM), newKey(t, AEADAES128GCM)
	phone := newPhone(t, rx, tx, 5)
	seq := uint16(0)
	plays := func(packets int, hears func(string)) {
		t.Helper()
		for range packets {
			seq++
			write(t, c.pbx[0], c.plain[0].Plain, rtpPacket(77, seq, "sound"))
			hears("sound")
		}
	}
	want := func(n uint64) {
		t.Helper()
		if q := c.s.Stats().Streams[0].Quality[Outward]; q.Received != n || q.Expected != n {
			t.Errorf("%d packets of %d are in the figures, want %d", q.Received, q.Expected, n)
		}
	}
	bySDES := func() {
		t.Helper()
		if err := c.s.SetSecure(0, SecureParams{Rx: rx, Tx: tx, Hint: at(phone.conn), Formats: pcmu}); err != nil {
			t.Fatal(err)
		}
	}
	bySDES()
	plays(10, phone.hears)
	want(10)
	c.start(Passive, true, AEADAES128GCM)
	want(10)
	c.nominate(c.tr.Credentials())
	if err := c.handshake(Active, allSuite, c.tr.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	c.event(Secured)
	plays(100, c.hears)
	want(110)
	c.tr.Close()
	want(110)
	bySDES()
	plays(10, phone.hears)
	want(120)
}

// The table of ITU-T G.107 annex B.
func TestScoreG107(t *testing.T) {
	for r, want := range map[float64]float64{93.2: 4.41, 90: 4.34, 80: 4.03, 70: 3.60, 60: 3.10, 50: 2.58, 0: 1, -10: 1, 100: 4.5, 200: 4.5} {
		if got := score(r); math.Abs(got-want) > 0.01 {
			t.Errorf("R = %.1f is a score of %.2f, want %.2f", r, got, want)
		}
	}
}

// R is 93.2 by default, less what G.113 appendix I and G.107 equation 7-29
// take for the codec and its losses, and less what delay takes.
func TestRatingG107(t *testing.T) {
	for _, c := range []struct {
		name  string
		codec string
		loss  float64
		delay time.Duration
		want  float64
	}{
		{"the defaults", "PCMU", 0, 0, 93.2},
		{"G.729", "G729", 0, 0, 82.2},
		{"G.723.1 at 6.3 kbit/s", "g723", 0, 0, 78.2},
		{"GSM", "GSM", 0, 0, 73.2},
		{"iLBC", "iLBC", 0, 0, 82.2},
		{"G.711 with 5 % of loss", "PCMU", 0.05, 0, 93.2 - 95*5/30.1},
		{"G.729 with 5 % of loss", "G729", 0.05, 0, 82.2 - 84*5/24.},
		{"150 ms", "PCMA", 0, 150 * time.Millisecond, 93.2 - 3.6},
		{"400 ms", "PCMA", 0, 400 * time.Millisecond, 93.2 - 9.6 - 0.11*222.7},
	} {
		if got := rating(c.codec, c.loss, c.delay); math.Abs(got-c.want) > 0.01 {
			t.Errorf("%s: R is %.2f, want %.2f", c.name, got, c.want)
		}
	}
}

// A whole call: what is lost and told on both sides ends up in its record.
func TestQualityOfACall(t *testing.T) {
	h := newHot(t, AEADAES128GCM)
	h.st.figures.formats = pcmu
	for i := range 100 {
		h.w.now += int64(20 * time.Millisecond)
		p := h.l.phone.sealed("x")
		if i%10 != 5 { // one of ten is lost before us
			h.fromPhone(p)
		}
		h.fromPBX(rtpPacket(7, uint16(i), "x"))
	}
	sr := rtcpPart(rtcpSR, 0, 7, 1, 0x80000000, 0, 0, 0)
	h.fromPBX(sr)
	h.w.now += int64(30 * time.Millisecond)
	out, err := h.l.phone.seal.EncryptRTCP(nil, rtcpPart(rtcpRR, 1, h.l.phone.ssrc, 7, 51<<24, 0, 80, 0x00018000, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	h.fromPhone(out)
	st := h.w.sessionStats([]*stream{h.st}).Streams[0]
	in, to := st.Quality[Inward], st.Quality[Outward]
	if in.Received != 90 || in.Expected != 100 || in.Told || to.Received != 100 || to.Expected != 100 || !to.Told {
		t.Fatalf("from the phone %+v, to it %+v", in, to)
	}
	if to.FarTrip != 30*time.Millisecond || to.FarJitter != 10*time.Millisecond || math.Abs(to.WholeLoss()-0.2) > 0.001 {
		t.Errorf("to the phone: %+v", to)
	}
	text := strings.Trim(fmt.Sprint(SessionStats{Streams: []StreamStats{{}, st, st}}.Attrs()), "[]")
	for _, want := range []string{" loss_from_phone 10.0%", "loss_to_phone 19.9%", "round_trip_phone 30ms", "jitter_to_phone 10ms", " stream2_loss_from_phone 10.0%",
		"keyed_by SDES suite AEAD_AES_128_GCM"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the record: %s", want, text)
		}
	}
	if in.MOS < 3 || in.MOS > 4 || to.MOS >= in.MOS || to.MOS <= 1 {
		t.Errorf("MOS from the phone %.2f, to it %.2f", in.MOS, to.MOS)
	}
}
