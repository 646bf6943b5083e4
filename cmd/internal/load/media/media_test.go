package media

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Two sessions speak with each other, by each way of keying; one that expects
// another tone must not be content.
func TestSessions(t *testing.T) {
	for _, c := range []struct {
		name string
		kind Kind
		hear float64 // of the one that offers
		want error
	}{
		{"SDES", SDES, 1050, nil},
		{"DTLS", DTLS, 1050, nil},
		{"another tone", SDES, 1100, ErrWrong},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := New(Config{Kind: c.kind, Suites: Suites()[:2]})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			a, b := session(t, e, Tones{400, c.hear}), session(t, e, Tones{1050, 400})
			agree(t, a, b)
			heard(t, a, b)
			a.Rest(true)
			b.Rest(true)
			a.Hold(true)
			agree(t, a, b)
			a.Hold(false)
			agree(t, a, b)
			a.Rest(false)
			b.Rest(false)
			before, _ := a.Sound()
			until(t, "sound after the hold", func() bool {
				s, _ := a.Sound()
				return s.Received > before.Received+10
			})
			a.Close()
			b.Close()
			sa, err := a.Sound()
			if !errors.Is(err, c.want) || c.want == nil && err != nil || sa.Bad > 0 {
				t.Errorf("the one that offers: %v, %+v; want %v", err, sa, c.want)
			}
			if sb, err := b.Sound(); err != nil || sb.Verdict != measure.Right || sb.Bad > 0 {
				t.Errorf("the one that answers: %v, %+v", err, sb)
			}
		})
	}
}

func session(t *testing.T, e *Engine, tones Tones) *Session {
	t.Helper()
	s, err := e.Session(netip.MustParseAddr("127.0.0.1"), tones)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// agree has one offer, and the other answer.
func agree(t *testing.T, a, b *Session) {
	t.Helper()
	offer, err := a.Offer()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := b.Answer(offer)
	if err == nil {
		err = a.Accept(answer)
	}
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, offer, answer)
	}
}

// heard waits until both have judged some of what they hear.
func heard(t *testing.T, all ...*Session) {
	t.Helper()
	for _, s := range all {
		until(t, "something to judge", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.ear.Right+s.ear.Wrong > 3
		})
	}
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s", what)
		}
	}
}

// Nothing is spoken without a key.
func TestUnkeyed(t *testing.T) {
	for kind, sdp := range map[Kind]string{
		SDES: "v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 4000 RTP/AVP 0\r\n",
		DTLS: "v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 4000 UDP/TLS/RTP/SAVPF 0\r\na=setup:active\r\n",
	} {
		e, err := New(Config{Kind: kind, Suites: Suites()})
		if err != nil {
			t.Fatal(err)
		}
		s := session(t, e, Tones{400, 0})
		if _, err := s.Answer(sdp); err == nil {
			t.Errorf("%s: an offer without a key was answered", kind)
		}
		if _, err = s.Offer(); err != nil {
			t.Fatal(err)
		}
		if err := s.Accept(sdp); err == nil {
			t.Errorf("%s: an answer without a key was taken", kind)
		}
		s.Close()
		e.Close()
	}
}

// A certificate that is not the description's gives no keys.
func TestFingerprint(t *testing.T) {
	e, err := New(Config{Kind: DTLS})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	a, b := session(t, e, Tones{400, 450}), session(t, e, Tones{450, 400})
	offer, err := a.Offer()
	if err != nil {
		t.Fatal(err)
	}
	i := strings.Index(offer, "fingerprint:sha-256 ") + len("fingerprint:sha-256 ")
	other := byte('0')
	if offer[i] == other {
		other = '1'
	}
	answer, err := b.Answer(offer[:i] + string(other) + offer[i+1:])
	if err == nil {
		err = a.Accept(answer)
	}
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the handshake to end", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.err != nil
	})
	if _, err := b.Sound(); !errors.Is(err, errFingerprint) || b.out != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestDescription(t *testing.T) {
	offer := "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=ice-lite\r\n" +
		"m=video 5000 RTP/SAVP 96\r\na=mid:0\r\n" +
		"m=audio 4000 RTP/SAVP 8 0 96\r\nc=IN IP4 192.0.2.2\r\na=mid:1\r\na=rtpmap:96 telephone-event/8000\r\na=sendonly\r\n" +
		"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2hvcnQ=\r\na=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA|2^20\r\n" +
		"a=candidate:1 1 UDP 10 192.0.2.3 6000 typ host\r\na=candidate:2 1 UDP 20 192.0.2.4 6001 typ host\r\na=candidate:3 1 TCP 30 192.0.2.5 9 typ host\r\n"
	d, err := parse(offer)
	if err != nil {
		t.Fatal(err)
	}
	if d.addr.String() != "192.0.2.2:4000" || d.digits != "96" || d.wants != "sendonly" || !d.lite || d.mid != "1" ||
		len(d.crypto) != 1 || d.crypto[0].tag != "2" || len(d.paths) != 2 || d.paths[0].String() != "192.0.2.4:6001" {
		t.Errorf("it was read as %+v", d)
	}
	answer := write(netip.MustParseAddrPort("192.0.2.9:7000"), 1, d.proto, mirrored[d.wants], nil, d)
	for _, want := range []string{"m=video 0 RTP/SAVP 96\r\nm=audio 7000 RTP/SAVP 0 96\r\n", "a=recvonly\r\n", "a=group:BUNDLE 1\r\n", "a=mid:1\r\n"} {
		if !strings.Contains(answer, want) {
			t.Errorf("the answer lacks %q:\n%s", want, answer)
		}
	}
	for name, text := range map[string]string{
		"no audio": "v=0\r\nc=IN IP4 192.0.2.1\r\n", "refused": "c=IN IP4 192.0.2.1\r\nm=audio 0 RTP/SAVP 0\r\n",
		"no codec": "c=IN IP4 192.0.2.1\r\nm=audio 1 RTP/SAVP 9\r\n", "no address": "m=audio 1 RTP/SAVP 0\r\n", "cut": "m=audio 1\r\n",
	} {
		if _, err := parse(text); err == nil {
			t.Errorf("%s: it was read", name)
		}
	}
}

// FuzzDescription: the answer to what was understood is understood too, and has a
// line for each line.
func FuzzDescription(f *testing.F) {
	f.Add("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/SAVP 0 101\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAA\r\nm=video 1 RTP/AVP 96\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parse(text)
		if err != nil {
			return
		}
		answer := write(netip.MustParseAddrPort("192.0.2.9:7000"), 1, d.proto, mirrored[d.wants], nil, d)
		back, err := parse(answer)
		if err != nil || len(back.sections) != len(d.sections) || back.audio != d.audio || back.addr.Port() != 7000 {
			t.Fatalf("%v: %q was answered %q", err, text, answer)
		}
	})
}

func TestLoss(t *testing.T) {
	r := &received{}
	now := time.Now()
	for _, seq := range []uint16{65533, 65534, 0, 2, 1, 4} { // 65535 and 3 are lost; 1 is late
		h := header(1, seq)
		r.take(&h, now, now)
	}
	if r.packets != 6 || r.lost() != 2 {
		t.Errorf("of %d packets %d were lost, want 6 and 2", r.packets, r.lost())
	}
	r.pause()
	for _, seq := range []uint16{400, 401} { // what was held back is not lost
		h := header(1, seq)
		r.take(&h, now, now)
	}
	h := header(2, 9) // nor is a new source
	if r.take(&h, now, now); r.lost() != 2 {
		t.Errorf("%d were lost, want 2", r.lost())
	}
}

func header(ssrc uint32, seq uint16) rtp.Header {
	return rtp.Header{Version: 2, SSRC: ssrc, SequenceNumber: seq, Timestamp: uint32(seq) * 160}
}
