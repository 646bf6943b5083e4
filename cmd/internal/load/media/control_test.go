package media

import (
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/srtp/v3"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
)

// muted takes away that RTCP may come to the port of RTP.
func muted(description string) string { return strings.ReplaceAll(description, "a=rtcp-mux\r\n", "") }

// reporting are two sessions that speak with each other; muxed or not.
func reporting(t *testing.T, kind Kind, mux bool) (a, b *Session) {
	t.Helper()
	e, err := New(Config{Kind: kind, Suites: Suites(), Codecs: Codecs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	a, b = session(t, e, Tones{400, 1050}), session(t, e, Tones{1050, 400})
	offer, err := a.Offer()
	if err != nil {
		t.Fatal(err)
	}
	if !mux {
		offer = muted(offer)
	}
	answer, err := b.Answer(offer)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Contains(answer, "a=rtcp-mux"); got != mux {
		t.Errorf("the answer has rtcp-mux: %v, and the offer %v (RFC 5761 section 5.1.1)", got, mux)
	}
	if err := a.Accept(answer, true); err != nil {
		t.Fatal(err)
	}
	heard(t, a, b)
	return a, b
}

// reports has a session report now, and waits until the other one has heard.
func reports(t *testing.T, from, to *Session) {
	t.Helper()
	before := told(to).Received
	from.mu.Lock()
	from.control.due = time.Now()
	from.mu.Unlock()
	until(t, "a report", func() bool { return told(to).Received > before })
}

func told(s *Session) measure.Control {
	sound, _ := s.Sound()
	return sound.Control
}

// Both ends report, to the port of RTP or to one of its own, and learn from it what
// the other end has of them, and how far it is.
func TestReports(t *testing.T) {
	for _, c := range []struct {
		name string
		kind Kind
		mux  bool
	}{
		{"SDES", SDES, true}, {"SDES, ports of their own", SDES, false}, {"DTLS", DTLS, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := reporting(t, c.kind, c.mux)
			if own := a.control.conn != nil && b.control.conn != nil; own == c.mux {
				t.Errorf("there are ports of their own: %v", own)
			}
			reports(t, a, b) // b learns when
			reports(t, b, a) // and tells
			got := told(a)
			if !got.Told || !got.Measured || got.Lost != 0 || got.Bad != 0 || got.RoundTrip > time.Minute {
				t.Errorf("the one that offers was told %+v", got)
			}
			if b.control.theirs.at.IsZero() {
				t.Error("no sender report came of one that speaks")
			}
			before := told(a).Received
			b.Close()
			until(t, "a goodbye", func() bool { return told(a).Received > before })
		})
	}
}

// What another key made is not believed, and nothing that is sent can be read
// without the key.
func TestReportsAreSecret(t *testing.T) {
	a, b := reporting(t, SDES, true)
	other := a.keys.ours[0]
	other.key = suites[other.suite].newKey()
	wrong, err := other.context()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := rtcp.Marshal([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 7, Reports: []rtcp.ReceptionReport{{SSRC: a.speech.ssrc(), TotalLost: 99}}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string][]byte{"in clear": plain, "by another key": seal(t, wrong, plain)} {
		before := told(a)
		if _, err := b.conn.WriteToUDPAddrPort(p, a.at); err != nil {
			t.Fatal(err)
		}
		until(t, "it to be refused "+name, func() bool { return told(a).Bad > before.Bad })
		if got := told(a); got.Received != before.Received || got.Lost != 0 || got.Told != before.Told {
			t.Errorf("a report %s was taken: %+v", name, got)
		}
	}
	right, err := b.keys.ours[0].context()
	if err != nil {
		t.Fatal(err)
	}
	right.SetIndex(7, 1000)
	if _, err := b.conn.WriteToUDPAddrPort(seal(t, right, plain), a.at); err != nil { // the control: the same by the key
		t.Fatal(err)
	}
	until(t, "it to be taken by the key", func() bool { return told(a).Lost == 99 })
}

func seal(t *testing.T, c *srtp.Context, plain []byte) []byte {
	t.Helper()
	b, err := c.EncryptRTCP(nil, plain, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Of ten packets four are lost, of the next ten none: the share counts from one
// report to the next, the sum from the start (RFC 3550 section 6.4.1).
func TestReception(t *testing.T) {
	c, r, now := &control{}, &received{}, time.Now()
	take := func(from, to uint16, lost ...uint16) {
		for seq := from; seq != to; seq++ {
			h := header(5, seq)
			skip := false
			for _, l := range lost {
				skip = skip || l == seq
			}
			if !skip {
				r.take(&h, now, now)
			}
		}
	}
	if c.reception(r, now) != nil {
		t.Error("there is a report of nothing")
	}
	take(65530, 4, 65531, 65532, 65535, 0)
	c.theirs.stamp, c.theirs.at = 0x12345678, now.Add(-1500*time.Millisecond)
	got := c.reception(r, now)[0]
	if got.SSRC != 5 || got.TotalLost != 4 || got.FractionLost != 4*256/10 || got.LastSequenceNumber != 65536+3 || got.LastSenderReport != 0x12345678 || got.Delay != 3<<15 {
		t.Errorf("after ten packets the report is %+v", got)
	}
	take(4, 14)
	if got = c.reception(r, now)[0]; got.TotalLost != 4 || got.FractionLost != 0 || got.LastSequenceNumber != 65536+13 {
		t.Errorf("after ten more it is %+v", got)
	}
	r.pause()
	take(40, 50)
	if got = c.reception(r, now)[0]; got.TotalLost != 4 || got.FractionLost != 0 || got.LastSequenceNumber != 65536+49 {
		t.Errorf("after a rest it is %+v", got)
	}
}

// Reports keep their distance (RFC 3550 section 6.3.1), and are not all at once.
func TestInterval(t *testing.T) {
	for _, first := range []bool{true, false} {
		least, most := time.Hour, time.Duration(0)
		for range 10_000 {
			d := interval(first)
			least, most = min(least, d), max(most, d)
		}
		mean := minimum.Seconds() / (math.E - 1.5)
		if first {
			mean /= 2
		}
		if least.Seconds() < 0.5*mean-0.001 || most.Seconds() > 1.5*mean+0.001 || most-least < minimum/4 {
			t.Errorf("first %v: from %s to %s", first, least, most)
		}
	}
}

func TestNTP(t *testing.T) {
	at := time.Date(1970, 1, 1, 0, 0, 1, int(time.Second/4), time.UTC)
	if got := ntp(at); got != 2_208_988_801<<32|1<<30 {
		t.Errorf("%s is %#x", at, got)
	}
	if got := fixed(1500 * time.Millisecond); got != 3<<15 {
		t.Errorf("1.5 s are %#x", got)
	}
}

func TestWhereReportsGo(t *testing.T) {
	const above = "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/SAVP 0\r\n"
	for lines, want := range map[string]string{
		"": "192.0.2.1:4001", "a=rtcp:5000\r\n": "192.0.2.1:5000", "a=rtcp:5000 IN IP4 192.0.2.7\r\n": "192.0.2.7:5000",
	} {
		if d, err := parse(above + lines); err != nil || d.control != netip.MustParseAddrPort(want) || d.mux {
			t.Errorf("%q: %+v, %v", lines, d, err)
		}
	}
	if d, err := parse(above + "a=rtcp:none\r\n"); err != nil || usable(d.control) {
		t.Errorf("reports go to %v, %v", d, err)
	}
}
