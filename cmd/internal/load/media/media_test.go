package media

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/sound"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Two sessions speak with each other, by each way of keying and by each codec; one
// that expects another tone must not be content.
func TestSessions(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   Kind
		codecs []string // that the one that answers speaks
		hear   float64  // of the one that offers
		want   error
	}{
		{"SDES", SDES, Codecs(), 1050, nil},
		{"DTLS", DTLS, Codecs(), 1050, nil},
		{"PCMA alone", SDES, []string{"pcma"}, 1050, nil},
		{"another tone", SDES, Codecs(), 1100, ErrWrong},
		{"another tone by PCMA", SDES, []string{"PCMA"}, 1100, ErrWrong},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := New(Config{Kind: c.kind, Suites: Suites()[:2], Codecs: Codecs()})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			other, err := New(Config{Kind: c.kind, Suites: Suites()[:2], Codecs: c.codecs})
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			a, b := session(t, e, Tones{400, c.hear}), session(t, other, Tones{1050, 400})
			agree(t, a, b)
			if want := other.codecs[0]; a.speech.codec != want || b.speech.codec != want {
				t.Errorf("they speak %s and %s, want %s", a.speech.codec, b.speech.codec, want)
			}
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

// Without sound a call is described as a phone or a browser does, and no packet is sent;
// what has no key is refused all the same.
func TestDescribedOnly(t *testing.T) {
	for describe, proto := range map[Kind]string{"": "RTP/SAVP ", SDES: "RTP/SAVP ", DTLS: "UDP/TLS/RTP/SAVPF "} {
		e, err := New(Config{Kind: None, Describe: describe, Suites: Suites(), Codecs: Codecs()})
		if err != nil {
			t.Fatal(err)
		}
		a, b := session(t, e, Tones{400, 450}), session(t, e, Tones{450, 400})
		offer, err := a.Offer()
		if err != nil || !strings.Contains(offer, proto) || strings.Contains(offer, "a=ice-ufrag:") != (describe == DTLS) {
			t.Errorf("%s is described as %v\n%s", describe, err, offer)
		}
		agree(t, a, b)
		if a.dtls != nil || a.conn != nil {
			t.Error("it does more than to describe")
		}
		if _, err := b.Answer("v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 4000 " + proto + "0\r\n"); !errors.Is(err, ErrUnkeyed) {
			t.Errorf("an offer without a key: %v", err)
		}
		a.Close()
		b.Close()
		e.Close()
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
		err = a.Accept(answer, true)
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
			return s.ear.tone.Right+s.ear.tone.Wrong > 3
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
		e, err := New(Config{Kind: kind, Suites: Suites(), Codecs: Codecs()})
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
		if err := s.Accept(sdp, true); err == nil {
			t.Errorf("%s: an answer without a key was taken", kind)
		}
		s.Close()
		e.Close()
	}
}

// A certificate that is not the description's gives no keys.
func TestFingerprint(t *testing.T) {
	e, err := New(Config{Kind: DTLS, Codecs: Codecs()})
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
		err = a.Accept(answer, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the handshake to end", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.state.err != nil
	})
	if _, err := b.Sound(); !errors.Is(err, ErrFingerprint) || b.keys.out != nil {
		t.Errorf("it ended with %v", err)
	}
}

// A certificate is compared by the best hash that is known: one that another hash
// would let pass is not the description's.
func TestMatches(t *testing.T) {
	der := []byte("a certificate")
	of := func(h int, der string) string {
		return hashes[h].name + " " + fingerprint(hashes[h].make(), []byte(der))
	}
	for name, c := range map[string]struct {
		prints string
		want   bool
	}{
		"SHA-1 alone":                  {of(3, "a certificate"), true},
		"SHA-512 beside SHA-256":       {of(2, "a certificate") + "," + of(0, "a certificate"), true},
		"two certificates":             {of(2, "another") + "," + of(2, "a certificate"), true},
		"the better one is another's":  {of(2, "a certificate") + "," + of(0, "another"), false},
		"another's":                    {of(2, "another"), false},
		"a hash that nobody knows":     {"MD9 AB:CD", false},
		"one that is known beside one": {"MD9 AB:CD," + of(2, "a certificate"), true},
	} {
		if got := matches(c.prints, der); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// Session parameters that change nothing that is sent are taken, others are not.
func TestCryptoParameters(t *testing.T) {
	const line = "1 AES_CM_128_HMAC_SHA1_80 inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for more, want := range map[string]bool{
		"": true, "|2^31": true, " WSH=64": true, " KDR=0 WSH=128": true,
		"|2^31|1:4": true, "|1:1": true, "|2^31|255:1": true, "|2^31|256:1": false, "|1:0": false, "|1:129": false, "|-1:4": false, "|1:x": false, "|:4": false,
		"|2^31|1:4;inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA|2^31|2:4": false, ";inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA": false,
		" UNENCRYPTED_SRTCP": false, " KDR=1": false, " WSH=64 UNAUTHENTICATED_SRTP": false,
	} {
		if _, ok := readCrypto(line + more); ok != want {
			t.Errorf("%q is taken: %v, want %v", more, ok, want)
		}
	}
}

// Packets of one whose a=crypto has an MKI have that behind what is encrypted, before a
// tag that does not cover it (RFC 3711 section 3.1); with AEAD, behind the tag (RFC 7714
// sections 8.2 and 9.3). Without it, or with another, they are not taken.
func TestMKI(t *testing.T) {
	for _, name := range Suites() {
		t.Run(name, func(t *testing.T) {
			e, err := New(Config{Kind: SDES, Suites: []string{name}, Codecs: Codecs()})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			s := session(t, e, Tones{Speak: 400})
			theirs := crypto{tag: "1", suite: name, key: suites[name].newKey()}
			answer, err := s.Answer("v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 9 RTP/SAVP 0\r\na=rtcp-mux\r\na=" + theirs.String() + "|2^31|258:4\r\n")
			if err != nil || strings.Contains(answer, "|") {
				t.Fatalf("%v: its own key has none:\n%s", err, answer)
			}
			out, err := theirs.context() // which knows of no MKI
			if err != nil {
				t.Fatal(err)
			}
			tag := map[string]int{"AES_CM_128_HMAC_SHA1_80": 10, "AES_CM_128_HMAC_SHA1_32": 4}[name]
			for _, c := range []struct {
				mki  string
				well bool
			}{{"", false}, {"\x00\x00\x01\x03", false}, {"\x00\x00\x01\x02", true}} {
				h := header(7, 1)
				plain, err := (&rtp.Packet{Header: h, Payload: make([]byte, 160)}).Marshal()
				if err != nil {
					t.Fatal(err)
				}
				sound, err := out.EncryptRTP(nil, plain, nil)
				if err != nil {
					t.Fatal(err)
				}
				s.hear(slices.Insert(sound, len(sound)-tag, []byte(c.mki)...), nil)
				report := seal(t, out, []byte{0x80, 201, 0, 1, 0, 0, 0, 7})
				s.reported(slices.Insert(report, len(report)-max(tag, 10)*min(tag, 1), []byte(c.mki)...), nil) // that of SRTCP is never shorter
				got, _ := s.Sound()
				if (got.Received > 0) != c.well || (got.Control.Received > 0) != c.well {
					t.Errorf("with an MKI of %x it took %+v", c.mki, got)
				}
			}
		})
	}
}

// A key may come with its padding or without it, as rtpengine writes it.
func TestPadding(t *testing.T) {
	for _, name := range Suites() {
		c := crypto{tag: "1", suite: name, key: suites[name].newKey()}
		line := strings.TrimPrefix(c.String(), "crypto:")
		for _, value := range []string{line, strings.TrimRight(line, "="), strings.TrimRight(line, "=") + "|2^31"} {
			if got, ok := readCrypto(value); !ok || string(got.key) != string(c.key) {
				t.Errorf("%s: taken %v, as %v", value, ok, got)
			}
		}
	}
}

// What has no codec that we speak is refused by name, not by silence.
func TestStrange(t *testing.T) {
	e, err := New(Config{Kind: SDES, Suites: Suites(), Codecs: []string{"PCMU"}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	s := session(t, e, Tones{400, 0})
	if _, err := s.Offer(); err != nil {
		t.Fatal(err)
	}
	const above = "v=0\r\nc=IN IP4 192.0.2.1\r\n"
	for text, says := range map[string]string{
		above + "m=audio 4000 RTP/SAVP 111\r\na=rtpmap:111 opus/48000/2\r\n": "it has opus/48000/2",
		above + "m=audio 4000 RTP/SAVP 8\r\n":                                "it has [PCMA], and [PCMU] may be spoken",
		above + "m=audio 0 RTP/SAVP 0\r\n":                                   "it refuses audio",
		above + "m=video 4000 RTP/SAVP 0\r\n":                                "it has none at all",
	} {
		if err := s.Accept(text, true); !errors.Is(err, ErrNoAudio) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v; want that %s", text, err, says)
		}
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
		!slices.Equal(d.codecs, []sound.Codec{sound.PCMA, sound.PCMU}) || len(d.crypto) != 1 || d.crypto[0].tag != "2" || len(d.paths) != 2 || d.paths[0].String() != "192.0.2.4:6001" {
		t.Errorf("it was read as %+v", d)
	}
	answer := written{netip.MustParseAddrPort("192.0.2.9:7000"), 1, d.proto, mirrored[d.wants], d.codecs[:1], nil, d}.write()
	for _, want := range []string{"m=video 0 RTP/SAVP 96\r\nm=audio 7000 RTP/SAVP 8 96\r\n", "a=recvonly\r\n", "a=group:BUNDLE 1\r\n", "a=mid:1\r\n"} {
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
	f.Add("a=group:BUNDLE 0\na=ice-lite\nm=audio 4000 RTP/SAVP 0\na=mid:0\na=rtcp-mux\na=rtcp:4001 IN IP4 192.0.2.1\na=setup:active\na=fingerprint:x y\na=ice-ufrag:u\na=ice-pwd:p\n" +
		"a=rtpmap:101\u00a0x telephone-event/8000\na=rtpmap:101 telephone-event/8000\na=recvonly\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAA|1:1\na=crypto:1 S inline:AAAA KDR=1\n" +
		"a=candidate:1 1 UDP 9223372036854775807 192.0.2.3 6000 typ host\na=candidate:2 1 UDP -9223372036854775808 192.0.2.4 1 typ host\na=candidate:3 1 UDP 1 x\n") // all that is read
	for _, text := range []string{"m=audio\n", "m=audio 0 RTP/AVP 0\n", "m=video 1 RTP/AVP 0\n", "m=audio 1 RTP/AVP 9\na=rtpmap:9 x\n", "m=audio x RTP/AVP 0\n", "m=audio 1 RTP/AVP 0\na=rtcp:0\n"} {
		f.Add(text) // one for each way to be refused
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parse(text)
		if err != nil {
			return
		}
		answer := written{netip.MustParseAddrPort("192.0.2.9:7000"), 1, d.proto, mirrored[d.wants], d.codecs[:1], nil, d}.write()
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

// Sound whose clock is set anew is no jitter; what is late is.
func TestJitter(t *testing.T) {
	for name, c := range map[string]struct {
		by   uint32 // that the clock jumps
		well bool
	}{"on time": {0, true}, "another clock": {1<<31 + 5, true}, "half of all": {1 << 31, true}, "late": {8000, false}} {
		r, now := &received{}, time.Now()
		for seq := range uint16(20) {
			h := header(1, seq)
			if seq >= 10 {
				h.Timestamp -= c.by
			}
			r.take(&h, now.Add(time.Duration(seq)*20*time.Millisecond), now)
		}
		if got := r.delay(); (got < time.Millisecond) != c.well {
			t.Errorf("%s: the jitter is %s", name, got)
		}
	}
}

func header(ssrc uint32, seq uint16) rtp.Header {
	return rtp.Header{Version: 2, SSRC: ssrc, SequenceNumber: seq, Timestamp: uint32(seq) * 160}
}
