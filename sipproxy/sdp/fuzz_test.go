package sdp

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
)

// FuzzParse: any bytes are refused with a reason, or read as a model that is
// bounded, is written without a control character, is read again as the same,
// is what another implementation reads, and does not print its keys.
func FuzzParse(f *testing.F) {
	for _, in := range samples(f) {
		f.Add(in)
	}
	for _, lines := range []string{
		"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + key(30) + "|2^20|1:4;inline:" + key(30) + "|2^20|2:4 KDR=1",
		"a=crypto:999999999 X inline:AAAA|281474976710656|1:128 -Y",
		"a=rtcp-fb:* nack\r\na=rtpmap:0 x/1/0\r\na=fmtp:0 a  b",
		"a=ssrc:1\r\na=ssrc:1 cname:x\r\na=ssrc-group:FID 1 2\r\na=extmap:1/inactive u a b",
		"b=AS:1\r\nc=IN IP6 ::ffff:0.0.0.0\r\na=rtcp:1 IN IP4 x.example",
		"m=* 0/2 x *\r\na=rtcp-fb:* y\r\na=fmtp:* z\r\nm=audio 0 rtp/savp 127",
		"b=AS\r\na=crypto:\r\na=fmtp:\r\na=rtpmap:",
	} {
		f.Add(audio(lines))
	}
	for _, c := range malformed { // one for each way to be refused
		if len(c.in) < 2048 {
			f.Add([]byte(c.in))
		}
	}
	for _, lines := range []string{ // keys and attributes that are off, and in other forms than they are written in
		"a=crypto:1 S\r\na=crypto:x S inline:AAAA\r\na=crypto:1 s inline:AAAA\r\na=crypto:1 S key\r\na=crypto:1 S inline:!\r\na=crypto:1 S inline:AAAA \u00e9",
		"a=crypto:1 S inline:AAAA|3|1:0\r\na=crypto:1 S inline:AAAA|2^49\r\na=crypto:1 S inline:AAAA|3|256:1\r\na=crypto:1 S inline:AAAA|3|1:1|x\r\na=crypto:1 S inline:AA|3\r\na=crypto:1 S inline:AA",
		"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + key(30) + " -X WSH=64 a\r\na=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:" + key(16),
		"a=ssrc:x\r\na=ssrc-group:FID\r\na=ssrc-group:FID x\r\na=extmap:1/x u\r\na=content:a,b\r\na=bundle-only\r\na=candidate:1 1 UDP 1 h 1 x y\r\nm=audio 65535/1 RTP/AVP 0 0",
		"a=fingerprint:sha-1 " + strings.Repeat("ab:", 19) + "ab\r\na=fingerprint:md5 00\r\ni=x\r\nk=x\r\na=rtpmap:99 x/1",
	} {
		f.Add(audio(lines))
	}
	f.Add([]byte("v=0\r\no=-1 -18446744073709551616 IN IP4 h\r\ns= \r\nb=AS:1\r\na=ice-lite\r\n"))
	f.Add([]byte(head + "a=inactive \r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := Parse(in)
		if err != nil {
			if !errors.Is(err, ErrSyntax) && !errors.Is(err, ErrLimit) {
				t.Fatalf("error of no kind: %v", err)
			}
			if s != nil || len(err.Error()) > 256 {
				t.Fatalf("%v, error of %d bytes", s, len(err.Error()))
			}
			return
		}
		if len(s.Media) > maxMedia {
			t.Fatalf("%d m-lines", len(s.Media))
		}
		checkRoundTrip(t, s)
		checkPion(t, in, s)
		checkCharacters(t, s)
		checkKeys(t, s)
	})
}

func checkCharacters(t *testing.T, s *Session) {
	out := strings.ReplaceAll(string(s.Marshal()), "\r\n", "")
	if i := strings.IndexFunc(out, unicode.IsControl); i >= 0 {
		t.Fatalf("control character %q written", out[i])
	}
}

func checkKeys(t *testing.T, s *Session) {
	var shown string
	for _, m := range s.Media {
		for _, c := range m.Crypto {
			for _, k := range c.Keys {
				if len(k.KeySalt) < 16 {
					continue // so short that it may be part of anything
				}
				if shown == "" {
					shown = fmt.Sprintf("%v %+v %#v", s.Media[0].Crypto, m.Crypto, m.Crypto)
				}
				if text := base64.RawStdEncoding.EncodeToString(k.KeySalt); strings.Contains(shown, text) {
					t.Fatalf("key shown: %s", shown)
				}
			}
			if err := c.Usable(); err != nil && len(err.Error()) > 256 {
				t.Fatalf("reason of %d bytes", len(err.Error()))
			}
		}
	}
}
