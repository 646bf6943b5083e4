package tlsconf

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Config says where the certificate comes from and whom it must name.
type Config struct {
	Cert string // PEM file, leaf first, then its intermediates; empty: self-signed
	Key  string // PEM file with the private key; empty: self-signed

	StateDir string       // where the self-signed pair is kept, in a folder "tls"
	Names    []string     // DNS names the certificate must carry
	IPs      []netip.Addr // addresses the certificate must carry

	Profile Profile // how old a phone may be; empty: Compatible
}

// Defaults returns a Config that makes a self-signed certificate.
func Defaults() Config {
	return Config{StateDir: "/var/lib/sallyport", Profile: Compatible}
}

// Validate reports every fault that can be seen without opening a file.
func (c Config) Validate() error {
	var faults []error
	switch {
	case c.Cert != "" && c.Key == "":
		faults = append(faults, fmt.Errorf("tls.key: %w; name the private key of tls.cert", ErrHalfPair))
	case c.Cert == "" && c.Key != "":
		faults = append(faults, fmt.Errorf("tls.cert: %w; name the certificate of tls.key", ErrHalfPair))
	case c.Cert == "" && c.StateDir == "":
		faults = append(faults, errors.New("edge.state_dir: is empty; name a folder to keep the self-signed certificate in"))
	}
	if err := c.Profile.validate(); err != nil {
		faults = append(faults, err)
	}
	if c.selfSigned() && len(c.Names) == 0 && len(c.IPs) == 0 {
		faults = append(faults, errors.New("edge.domain: is empty; a certificate needs a name"))
	}
	for _, name := range c.Names {
		if !plainName(name) {
			faults = append(faults, fmt.Errorf("edge.domain: %q can't be put in a certificate; give a host name", name))
		}
	}
	return errors.Join(faults...)
}

func (c Config) selfSigned() bool { return c.Cert == "" && c.Key == "" }

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
