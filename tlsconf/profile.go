package tlsconf

import (
	"crypto/tls"
	"fmt"
)

// Profile is how old a phone may be.
type Profile string

// The profiles there are.
const (
	Modern     Profile = "modern"     // TLS 1.3 alone
	Compatible Profile = "compatible" // TLS 1.2 with forward secrecy and an AEAD, and 1.3
	Legacy     Profile = "legacy"     // TLS 1.0, and suites without either
)

func (p Profile) validate() error {
	switch p {
	case "", Modern, Compatible, Legacy:
		return nil
	}
	return fmt.Errorf("tls.profile: is %q; give one of modern, compatible, legacy", string(p))
}

// String tells which versions it serves.
func (p Profile) String() string {
	switch p {
	case Modern:
		return "TLS 1.3"
	case Legacy:
		return "TLS 1.0 or later"
	}
	return "TLS 1.2 or later"
}

// Warning is what must be said at each start, or nothing.
func (p Profile) Warning() string {
	if p == Legacy {
		return "tls.profile is legacy: TLS 1.0 and 1.1, and suites without forward secrecy, are served; whoever records such a call " +
			"and later gets the key can decrypt its signalling, and with it the media keys. Replace the phones that need it"
	}
	return ""
}

func (p Profile) minVersion() uint16 {
	switch p {
	case Modern:
		return tls.VersionTLS13
	case Legacy:
		return tls.VersionTLS10
	}
	return tls.VersionTLS12
}

// suites are those below TLS 1.3; that version's own are all of the better kind
// and are not configurable. crypto/tls puts them in order itself, the better
// ones first, so legacy serves a newer phone as compatible does.
func (p Profile) suites() []uint16 {
	strong := []uint16{ // forward secrecy with an AEAD, RFC 9325 section 4.2
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
	if p != Legacy {
		return strong
	}
	// No RC4 and no 3DES even so: phones that know no AES can't be helped.
	return append(strong,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_RSA_WITH_AES_256_CBC_SHA,
	)
}
