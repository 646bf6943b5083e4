package sdp

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// key is a base64 key of n bytes, none of them zero.
func key(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + 1)
	}
	return base64.StdEncoding.EncodeToString(b)
}

func TestSuites(t *testing.T) {
	for suite, n := range map[string]int{
		"AES_CM_128_HMAC_SHA1_80": 30, "AES_CM_128_HMAC_SHA1_32": 30,
		"AES_256_CM_HMAC_SHA1_80": 46, "AES_256_CM_HMAC_SHA1_32": 46,
		"AEAD_AES_128_GCM": 28, "AEAD_AES_256_GCM": 44,
	} {
		for length, want := range map[int]bool{n - 1: false, n: true, n + 1: false} {
			for _, text := range []string{key(length), strings.TrimRight(key(length), "=")} {
				c := parseCrypto("1 " + suite + " inline:" + text)
				if got := c.Usable() == nil; got != want {
					t.Errorf("%s with %d bytes: %v", suite, length, c.Usable())
				}
				if want && len(c.Keys[0].KeySalt) != n {
					t.Errorf("%s: key of %d bytes", suite, len(c.Keys[0].KeySalt))
				}
				if want && string(c.appendTo(nil)) != "1 "+suite+" inline:"+key(n) {
					t.Errorf("%s is written as %s", suite, c.appendTo(nil))
				}
			}
		}
	}
}

const suite = "AES_CM_128_HMAC_SHA1_80"

var good = "1 " + suite + " inline:" + key(30)

var cryptoLines = []struct {
	name, value string
	why         string // empty: usable
}{
	{"plain", good, ""},
	{"lifetime", good + "|2^20", ""},
	{"lifetime as a number", good + "|1048577", ""},
	{"MKI", good + "|1:4", ""},
	{"both", good + "|2^48|255:1", ""},
	{"two spaces", strings.ReplaceAll(good, " ", "  ") + " ", ""},
	{"window", good + " WSH=64", ""},
	{"unknown but optional", good + " -FOO=1", ""},
	{"key derivation rate", good + " KDR=1", "KDR is not supported"},
	{"forward error correction", good + " FEC_ORDER=FEC_SRTP", "FEC_ORDER is not supported"},
	{"unknown", good + " FOO", "FOO is not supported"},
	{"unencrypted", good + " UNENCRYPTED_SRTP", "turns protection off"},
	{"unencrypted RTCP", good + " UNENCRYPTED_SRTCP", "turns protection off"},
	{"unauthenticated", good + " WSH=64 UNAUTHENTICATED_SRTP", "turns protection off"},
	{"unencrypted, said to be optional", good + " -UNENCRYPTED_SRTP", "turns protection off"},
	{"in small", good + " unencrypted_srtp", "not a word"},
	{"empty parameter", good + " =", "not a word"},
	{"unknown suite", "1 F8_128_HMAC_SHA1_80 inline:" + key(30), "F8_128_HMAC_SHA1_80 is not known"},
	{"no encryption", "1 NULL_HMAC_SHA1_80 inline:" + key(30), "is not known"},
	{"suite in small", "1 aes_cm_128_hmac_sha1_80 inline:" + key(30), "suite is not a word"},
	{"two keys", good + "|2^20|1:4;inline:" + key(30) + "|2^20|2:4", "2 keys, one is supported"},
	{"nine keys", good + strings.Repeat(";inline:"+key(30), 8), "too many keys"},
	{"empty key after another", good + ";", "key is not inline"},
	{"nothing", "", "not tag, suite and key"},
	{"no key", "1 " + suite, "not tag, suite and key"},
	{"tag with a word", "x" + good, "tag is not a number"},
	{"tag below 0", "-" + good, "tag is not a number"},
	{"tag of ten digits", "123456789" + good, "tag is not a number"},
	{"other method", "1 " + suite + " uri:" + key(30), "key is not inline"},
	{"empty key", "1 " + suite + " inline:", "key is not base64"},
	{"key of another alphabet", "1 " + suite + " inline:" + strings.Repeat("-_", 20), "key is not base64"},
	{"padding too short", "1 AEAD_AES_128_GCM inline:" + strings.TrimSuffix(key(28), "="), "key is not base64"},
	{"padding too long", "1 " + suite + " inline:" + key(30) + "=", "key is not base64"},
	{"key of a kilobyte", "1 " + suite + " inline:" + key(1024), "key is not base64"},
	{"lifetime 0", good + "|0", "bad lifetime"},
	{"lifetime empty", good + "|", "bad lifetime"},
	{"lifetime above 2^48", good + "|2^49", "bad lifetime"},
	{"lifetime beyond 64 bits", good + "|99999999999999999999", "bad lifetime"},
	{"lifetime twice", good + "|2^20|2^20", "bad MKI"},
	{"MKI before lifetime", good + "|1:4|2^20", "too many fields"},
	{"MKI longer than said", good + "|256:1", "bad MKI"},
	{"MKI of no bytes", good + "|1:0", "bad MKI"},
	{"MKI of 129 bytes", good + "|1:129", "bad MKI"},
	{"MKI below 0", good + "|-1:4", "bad MKI"},
	{"MKI without length", good + "|1:", "bad MKI"},
	{"parameter beyond ASCII", good + " \u00e9", "not ASCII"},
}

func TestUsable(t *testing.T) {
	for _, tt := range cryptoLines {
		t.Run(tt.name, func(t *testing.T) {
			s := mustParse(t, audio("a=crypto:"+tt.value)) // never an error of the whole
			if len(s.Media[0].Crypto) != 1 {
				t.Fatalf("%d lines", len(s.Media[0].Crypto))
			}
			c := s.Media[0].Crypto[0]
			err := c.Usable()
			switch {
			case tt.why == "" && err != nil:
				t.Errorf("not usable: %v", err)
			case tt.why != "" && (!errors.Is(err, ErrCrypto) || !strings.Contains(err.Error(), tt.why)):
				t.Errorf("got %v, want %s", err, tt.why)
			case err == nil && len(c.Keys) != 1:
				t.Errorf("usable with %d keys", len(c.Keys))
			}
			checkRoundTrip(t, s)
		})
	}
}

func TestUsableBuilt(t *testing.T) {
	if err := (Crypto{}).Usable(); !errors.Is(err, ErrCrypto) {
		t.Errorf("the zero line: %v", err)
	}
	if err := (Crypto{Tag: 1, Suite: "AEAD_AES_128_GCM"}).Usable(); !errors.Is(err, ErrCrypto) {
		t.Errorf("a line without a key: %v", err)
	}
}

func TestTagTwice(t *testing.T) {
	line := "a=crypto:1 AEAD_AES_128_GCM inline:" + key(28)
	lines := mustParse(t, audio(line, line, strings.Replace(line, ":1", ":2", 1))).Media[0].Crypto
	if lines[0].Usable() != nil || lines[1].Usable() == nil || lines[2].Usable() != nil {
		t.Errorf("got %v, %v, %v", lines[0].Usable(), lines[1].Usable(), lines[2].Usable())
	}
}

func TestMKI(t *testing.T) {
	for text, want := range map[string][]byte{
		"1:1":          {1},
		"1:4":          {0, 0, 0, 1},
		"258:2":        {1, 2},
		"4294967296:8": {0, 0, 0, 1, 0, 0, 0, 0},
		"340282366920938463463374607431768211455:16": bytes.Repeat([]byte{255}, 16),
		"1:128": append(make([]byte, 127), 1),
	} {
		c := parseCrypto("1 AEAD_AES_128_GCM inline:" + key(28) + "|" + text)
		if c.Usable() != nil || !bytes.Equal(c.Keys[0].MKI, want) || c.Keys[0].MKILen != len(want) {
			t.Errorf("%s: %v %x", text, c.Usable(), c.Keys)
			continue
		}
		if got := string(c.appendTo(nil)); !strings.HasSuffix(got, "|"+text) {
			t.Errorf("%s is written as %s", text, got)
		}
	}
}

func TestLifetime(t *testing.T) {
	for text, want := range map[string]uint64{"1": 1, "2^0": 1, "2^31": 1 << 31, "2^48": 1 << 48, "281474976710656": 1 << 48, "3": 3} {
		if got := parseLifetime(text); got != want {
			t.Errorf("%s is %d", text, got)
		}
	}
	for _, text := range []string{"", "0", "2^", "2^-1", "2^49", "2^99999", "281474976710657", "-1", "+1", "1e3", "2^2^2"} {
		if got := parseLifetime(text); got != 0 {
			t.Errorf("%q is %d", text, got)
		}
	}
}

// TestCryptoBreaksNothing holds a long key against the next line.
func TestCryptoBreaksNothing(t *testing.T) {
	huge := fmt.Sprintf("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:%s", strings.Repeat("A", 3000))
	m := mustParse(t, audio(huge, "a=sendonly")).Media[0]
	if m.Crypto[0].Usable() == nil || m.Direction != SendOnly {
		t.Errorf("got %v, %s", m.Crypto[0].Usable(), m.Direction)
	}
}
