package tlsconf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Config says where the certificates come from and whom they must name.
type Config struct {
	Files []Files // one for each certificate; none: self-signed, or
	ACME  *ACME   // from a CA by ACME, and self-signed until there is one

	StateDir string       // where what is made or fetched is kept, in a folder "tls"
	Names    []string     // DNS names that a certificate must carry
	IPs      []netip.Addr // addresses that a self-signed certificate must carry
	KeyType  KeyType      // of the self-signed certificate; empty: ECDSA

	Profile Profile // how old a phone may be; empty: Compatible

	Clients Clients // certificates of phones
	Trunks  []Trunk // and of peers
}

// Files are one certificate and its key.
type Files struct {
	Cert string // PEM, leaf first, then its intermediates
	Key  string // PEM, not encrypted
}

// KeyType is the kind of key that a self-signed certificate gets.
type KeyType string

// The kinds there are.
const (
	ECDSA KeyType = "ecdsa" // P-256
	RSA   KeyType = "rsa"   // 2048 bits, for phones that know nothing newer
)

// Defaults returns a Config that makes a self-signed certificate.
func Defaults() Config {
	return Config{StateDir: "/var/lib/sallyport", KeyType: ECDSA, Profile: Compatible}
}

// Validate reports every fault that can be seen without opening a file.
func (c Config) Validate() error {
	var faults []error
	for i, f := range c.Files {
		switch {
		case f.Key == "":
			faults = append(faults, fmt.Errorf("tls.key: %w; name the private key of %s", ErrHalfPair, f.Cert))
		case f.Cert == "":
			faults = append(faults, fmt.Errorf("tls.cert: %w; name the certificate of %s", ErrHalfPair, f.Key))
		case slices.ContainsFunc(c.Files[:i], func(g Files) bool { return g.Cert == f.Cert }):
			faults = append(faults, fmt.Errorf("tls.cert: names %s twice; name each certificate once", f.Cert))
		}
	}
	if len(c.Files) == 0 && c.StateDir == "" {
		faults = append(faults, errors.New("edge.state_dir: is empty; name a folder to keep the certificate in"))
	}
	if k := c.KeyType; k != "" && k != ECDSA && k != RSA {
		faults = append(faults, fmt.Errorf("tls.self_signed_key: is %q; give one of ecdsa, rsa", string(k)))
	}
	if err := c.Profile.validate(); err != nil {
		faults = append(faults, err)
	}
	faults = append(faults, c.validateACME(), c.validateClients(), c.validateTrunks())
	if len(c.Files) == 0 && len(c.Names) == 0 && len(c.IPs) == 0 {
		faults = append(faults, errors.New("edge.domain: is empty; a certificate needs a name"))
	}
	for _, name := range c.Names {
		if !plainName(name) {
			faults = append(faults, fmt.Errorf("edge.domain: %q can't be put in a certificate; give a host name", name))
		}
	}
	return errors.Join(faults...)
}

func (c Config) selfSigned() bool { return len(c.Files) == 0 && c.ACME == nil }

// plainName reports whether s is a host name of letters, digits, hyphens and
// dots, as RFC 1123 has them: what every TLS library agrees to match.
func plainName(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			b := label[i] | 0x20
			if !(b >= 'a' && b <= 'z') && !(label[i] >= '0' && label[i] <= '9') && label[i] != '-' {
				return false
			}
		}
	}
	return true
}
