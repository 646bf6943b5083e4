package media

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"

	"github.com/pion/srtp/v3"
)

// suite is an SRTP crypto suite, with the lengths of master key and salt in bytes.
type suite struct {
	profile   srtp.ProtectionProfile
	key, salt int
}

// suites are by their SDES names (RFC 4568 section 6.2, RFC 6188, RFC 7714).
var suites = map[string]suite{
	"AES_CM_128_HMAC_SHA1_80": {srtp.ProtectionProfileAes128CmHmacSha1_80, 16, 14},
	"AES_CM_128_HMAC_SHA1_32": {srtp.ProtectionProfileAes128CmHmacSha1_32, 16, 14},
	"AEAD_AES_128_GCM":        {srtp.ProtectionProfileAeadAes128Gcm, 16, 12},
	"AEAD_AES_256_GCM":        {srtp.ProtectionProfileAeadAes256Gcm, 32, 12},
}

// Suites are the names of all, the most common first.
func Suites() []string {
	return []string{"AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM", "AEAD_AES_256_GCM", "AES_CM_128_HMAC_SHA1_32"}
}

// newKey draws a master key with its salt.
func (s suite) newKey() []byte {
	b := make([]byte, s.key+s.salt)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return b
}

// context is that of one direction.
func (c crypto) context() (*srtp.Context, error) {
	s := suites[c.suite]
	made, err := srtp.CreateContext(c.key[:s.key], c.key[s.key:], s.profile, srtp.MasterKeyIndicator(c.mki))
	if err != nil {
		return nil, fmt.Errorf("make SRTP context: %w", err)
	}
	return made, nil
}

func (c crypto) String() string {
	return fmt.Sprintf("crypto:%s %s inline:%s", c.tag, c.suite, base64.StdEncoding.EncodeToString(c.key))
}

// Known tells whether a suite is one of Suites.
func Known(name string) bool {
	_, ok := suites[name]
	return ok
}
