package peers

import (
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/pion/srtp/v3"
)

// profiles are the suites by their SDES names (RFC 4568 section 6.2, RFC
// 6188, RFC 7714), with the lengths of master key and salt in bytes.
var profiles = map[string]struct {
	profile   srtp.ProtectionProfile
	key, salt int
}{
	"AES_CM_128_HMAC_SHA1_80": {srtp.ProtectionProfileAes128CmHmacSha1_80, 16, 14},
	"AES_CM_128_HMAC_SHA1_32": {srtp.ProtectionProfileAes128CmHmacSha1_32, 16, 14},
	"AES_256_CM_HMAC_SHA1_80": {srtp.ProtectionProfileAes256CmHmacSha1_80, 32, 14},
	"AES_256_CM_HMAC_SHA1_32": {srtp.ProtectionProfileAes256CmHmacSha1_32, 32, 14},
	"AEAD_AES_128_GCM":        {srtp.ProtectionProfileAeadAes128Gcm, 16, 12},
	"AEAD_AES_256_GCM":        {srtp.ProtectionProfileAeadAes256Gcm, 32, 12},
}

// RandomKey is a master key with its salt.
func RandomKey(suite string) []byte { return random(profiles[suite].key + profiles[suite].salt) }

// CryptoLine is a line with a key and nothing else (RFC 4568 section 9.1).
func CryptoLine(tag int, suite string, key []byte) string {
	return fmt.Sprintf("a=crypto:%d %s inline:%s", tag, suite, base64.StdEncoding.EncodeToString(key))
}

// Guard is one direction of SRTP: it seals what a phone sends, or opens what
// comes to it, RTP and RTCP. It borrows the packet, and returns one of its own.
type Guard func(packet []byte) ([]byte, error)

// Key is what a Guard works with.
type Key struct {
	Suite   string
	KeySalt []byte // master key, then salt
	MKI     []byte // in each packet, if not nil
	Seals   bool   // it seals; else it opens
}

// Stack makes a phone's guards: Pion, the library that the edge has as well,
// or Libsrtp, which shares nothing with it.
type Stack func(p *Phone, k Key) (Guard, error)

// Pion is the SRTP of pion.
func Pion(_ *Phone, k Key) (Guard, error) {
	info := profiles[k.Suite]
	var options []srtp.ContextOption
	if k.MKI != nil {
		options = append(options, srtp.MasterKeyIndicator(k.MKI))
	}
	ctx, err := srtp.CreateContext(k.KeySalt[:info.key], k.KeySalt[info.key:], info.profile, options...)
	if err != nil {
		return nil, fmt.Errorf("make SRTP context: %w", err)
	}
	return func(packet []byte) ([]byte, error) {
		switch rtcp := isRTCP(packet); {
		case k.Seals && rtcp:
			return ctx.EncryptRTCP(nil, packet, nil)
		case k.Seals:
			return ctx.EncryptRTP(nil, packet, nil)
		case rtcp:
			return ctx.DecryptRTCP(nil, packet, nil)
		}
		return ctx.DecryptRTP(nil, packet, nil)
	}, nil
}

// isRTCP tells RTCP from RTP (RFC 5761 section 4).
func isRTCP(packet []byte) bool { return len(packet) > 1 && packet[1] >= 192 && packet[1] <= 223 }

// unguarded is no SRTP at all: somebody else does it.
func unguarded(packet []byte) ([]byte, error) { return slices.Clone(packet), nil }
