package media

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"log/slog"

	"github.com/pion/srtp/v3"
)

// Suite is an SRTP crypto suite by its SDES name.
type Suite uint8

// The suites: RFC 4568 section 6.2, RFC 6188, RFC 7714.
const (
	AESCM128HMACSHA180 Suite = iota + 1
	AESCM128HMACSHA132
	AESCM256HMACSHA180
	AESCM256HMACSHA132
	AEADAES128GCM
	AEADAES256GCM
)

// suiteInfo has lengths in bytes. rtcpTail is what stands behind the SRTCP
// index and the MKI: the tag of AES_CM; that of GCM stands before them.
type suiteInfo struct {
	name     string
	key      int
	salt     int
	rtpTag   int
	rtcpTag  int
	rtcpTail int
	profile  srtp.ProtectionProfile
}

var suites = [...]suiteInfo{
	AESCM128HMACSHA180: {"AES_CM_128_HMAC_SHA1_80", 16, 14, 10, 10, 10, srtp.ProtectionProfileAes128CmHmacSha1_80},
	AESCM128HMACSHA132: {"AES_CM_128_HMAC_SHA1_32", 16, 14, 4, 10, 10, srtp.ProtectionProfileAes128CmHmacSha1_32},
	AESCM256HMACSHA180: {"AES_256_CM_HMAC_SHA1_80", 32, 14, 10, 10, 10, srtp.ProtectionProfileAes256CmHmacSha1_80},
	AESCM256HMACSHA132: {"AES_256_CM_HMAC_SHA1_32", 32, 14, 4, 10, 10, srtp.ProtectionProfileAes256CmHmacSha1_32},
	AEADAES128GCM:      {"AEAD_AES_128_GCM", 16, 12, 16, 16, 0, srtp.ProtectionProfileAeadAes128Gcm},
	AEADAES256GCM:      {"AEAD_AES_256_GCM", 32, 12, 16, 16, 0, srtp.ProtectionProfileAeadAes256Gcm},
}

func (s Suite) info() suiteInfo {
	if int(s) < len(suites) {
		return suites[s]
	}
	return suiteInfo{}
}

// ParseSuite finds a suite by its SDES name.
func ParseSuite(name string) (Suite, bool) {
	for i, s := range suites {
		if i > 0 && s.name == name {
			return Suite(i), true
		}
	}
	return 0, false
}

// suiteOf finds a suite of DTLS-SRTP by its protection profile.
func suiteOf(profile uint16) (Suite, bool) {
	for i, s := range suites {
		if suite := Suite(i); suite.DTLS() && uint16(s.profile) == profile {
			return suite, true
		}
	}
	return 0, false
}

// DTLS tells whether DTLS-SRTP has a profile for the suite (RFC 5764 section
// 4.1.2, RFC 7714 section 14.2): AES_256_CM has none.
func (s Suite) DTLS() bool {
	return s.info().name != "" && s != AESCM256HMACSHA180 && s != AESCM256HMACSHA132
}

// String is the SDES name.
func (s Suite) String() string { return s.info().name }

// KeyLen is the length of the master key in bytes.
func (s Suite) KeyLen() int { return s.info().key }

// SaltLen is the length of the master salt in bytes.
func (s Suite) SaltLen() int { return s.info().salt }

// Key is a master key with its salt. It does not print.
type Key struct {
	Suite   Suite
	KeySalt []byte // master key, then master salt
	MKI     []byte // carried by each packet if not nil
}

// maxMKI bounds an MKI, as packets carry it (RFC 4568 section 6.1).
const maxMKI = 128

// NewKey makes a random key.
func NewKey(s Suite) (Key, error) {
	if s.info().name == "" {
		return Key{}, fmt.Errorf("make key: %w: unknown suite", ErrKey)
	}
	k := Key{Suite: s, KeySalt: make([]byte, s.KeyLen()+s.SaltLen())}
	_, _ = rand.Read(k.KeySalt) // never fails (crypto/rand)
	return k, nil
}

// Equal tells whether two keys protect alike.
func (k Key) Equal(o Key) bool {
	return k.Suite == o.Suite && bytes.Equal(k.KeySalt, o.KeySalt) && bytes.Equal(k.MKI, o.MKI)
}

// Format keeps keys out of logs and errors, whatever the verb.
func (k Key) Format(s fmt.State, _ rune) { _, _ = fmt.Fprintf(s, "%s (key not shown)", k.Suite) }

// LogValue does the same for log/slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(k)) }

// context makes an SRTP context for one direction.
func (k Key) context(options ...srtp.ContextOption) (*srtp.Context, error) {
	i := k.Suite.info()
	if i.name == "" || len(k.KeySalt) != i.key+i.salt {
		return nil, fmt.Errorf("%w: %d bytes for %q", ErrKey, len(k.KeySalt), i.name)
	}
	if len(k.MKI) > maxMKI {
		return nil, fmt.Errorf("%w: its MKI has %d bytes", ErrKey, len(k.MKI))
	}
	if len(k.MKI) > 0 {
		options = append(options, srtp.MasterKeyIndicator(k.MKI))
	}
	c, err := srtp.CreateContext(k.KeySalt[:i.key], k.KeySalt[i.key:], i.profile, options...)
	if err != nil {
		return nil, fmt.Errorf("make SRTP context for %s: %w", k.Suite, err)
	}
	return c, nil
}
