package demo

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"

	"github.com/pion/srtp/v3"
)

// Suite is an SRTP crypto suite by its SDES name (RFC 4568, RFC 7714).
type Suite string

// The suites the demo's phone speaks, one in each of its calls.
const (
	AESCM80 Suite = "AES_CM_128_HMAC_SHA1_80"
	AESGCM  Suite = "AEAD_AES_128_GCM"
)

// profile returns pion's name of the suite, and the lengths of key and salt.
func (s Suite) profile() (p srtp.ProtectionProfile, key, salt int, err error) {
	switch s {
	case AESCM80:
		return srtp.ProtectionProfileAes128CmHmacSha1_80, 16, 14, nil
	case AESGCM:
		return srtp.ProtectionProfileAeadAes128Gcm, 16, 12, nil
	}
	return 0, 0, 0, fmt.Errorf("the demo's phone does not speak %s", s)
}

// newKey draws a master key and salt, as "inline:" carries them.
func (s Suite) newKey() (string, error) {
	_, key, salt, err := s.profile()
	if err != nil {
		return "", err
	}
	b := make([]byte, key+salt)
	rand.Read(b) // never fails (crypto/rand)
	return base64.StdEncoding.EncodeToString(b), nil
}

// context makes the SRTP context of one direction.
func (s Suite) context(inline string) (*srtp.Context, error) {
	profile, key, salt, err := s.profile()
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.DecodeString(inline)
	if err != nil || len(b) != key+salt {
		return nil, fmt.Errorf("read SDES key: it is not %d bytes in base64", key+salt) // never the key itself
	}
	c, err := srtp.CreateContext(b[:key], b[key:], profile)
	if err != nil {
		return nil, fmt.Errorf("make SRTP context: %w", err)
	}
	return c, nil
}
