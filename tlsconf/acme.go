package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ACME says how to get the certificate from a CA (RFC 8555). To set it is to
// agree with the CA's terms of service (section 7.3.3).
type ACME struct {
	Directory string // of the CA, https; empty: Let's Encrypt
	Root      string // PEM file of who issued the CA's own certificate; empty: the system's roots
	Email     string // where the CA writes about the account; may be empty
	EABKey    string // identifier of an account held with the CA elsewhere (section 7.3.4); may be empty
	EABFile   string // file of its MAC key, in base64url

	KeyType KeyType // of the certificate; empty: ECDSA

	// By which of these the CA finds that the name is ours. One at least.
	TLS     bool             // TLS-ALPN-01 (RFC 8737): a listener of the Source's is on port 443
	HTTP    []netip.AddrPort // HTTP-01 (section 8.3): bound while a challenge is open
	Webroot string           // likewise, but the folder of a web server that is there
	DNSHook string           // DNS-01 (section 8.4) by this program, and none of the others
}

// LetsEncrypt is the directory of the CA that is asked if none is named.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

func (a *ACME) directory() string {
	if a.Directory == "" {
		return LetsEncrypt
	}
	return a.Directory
}

// challenges names those that the CA may choose from.
func (a *ACME) challenges() string {
	if a.DNSHook != "" {
		return "DNS-01 with " + a.DNSHook
	}
	var out []string
	if a.TLS {
		out = append(out, "TLS-ALPN-01 on port 443")
	}
	if len(a.HTTP) > 0 {
		out = append(out, fmt.Sprintf("HTTP-01 on port %d", a.HTTP[0].Port()))
	}
	if a.Webroot != "" {
		out = append(out, "HTTP-01 in "+a.Webroot)
	}
	return strings.Join(out, " or ")
}

func (c Config) validateACME() error {
	a := c.ACME
	if a == nil {
		return nil
	}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(c.Files) > 0 {
		fault("tls.acme: is true, and tls.cert names %s; keep one of the two", c.Files[0].Cert)
	}
	if len(c.Names) == 0 && len(c.IPs) > 0 {
		fault("tls.acme: edge.domain is an address, and the CA is asked for a name; give it one, or leave tls.acme out")
	}
	if u, err := url.Parse(a.directory()); err != nil || u.Scheme != "https" || u.Host == "" {
		fault("tls.acme_ca: is %q; give the https address of the CA's ACME directory", a.Directory)
	}
	if _, err := mail.ParseAddress(a.Email); a.Email != "" && (err != nil || strings.ContainsAny(a.Email, "<> ,")) {
		fault("tls.acme_email: %q is no address; write it like \"ops@example.com\"", a.Email)
	}
	if k := a.KeyType; k != "" && k != ECDSA && k != RSA {
		fault("tls.acme_key: is %q; give one of ecdsa, rsa", string(k))
	}
	if (a.EABKey == "") != (a.EABFile == "") {
		fault("tls.acme_eab_kid: and tls.acme_eab_file go together; give both as the CA gave them, or neither")
	}
	switch {
	case a.DNSHook != "" && !filepath.IsAbs(a.DNSHook):
		fault("tls.acme_dns_hook: is %q; give the whole path of a program", a.DNSHook)
	case a.DNSHook != "" && (len(a.HTTP) > 0 || a.Webroot != ""):
		fault("tls.acme_dns_hook: answers the CA by DNS alone; leave out tls.acme_http and tls.acme_webroot")
	case a.DNSHook != "":
	case len(a.HTTP) > 0 && a.Webroot != "":
		fault("tls.acme_webroot: and tls.acme_http exclude each other; keep the one that answers on port 80")
	case !a.TLS && len(a.HTTP) == 0 && a.Webroot == "":
		fault("tls.acme: the CA must reach this edge on port 443 or 80; set sip.wss_listen = \":443\", or tls.acme_http = \":80\", " +
			"or tls.acme_webroot to the folder of the web server on port 80, or tls.acme_dns_hook to a program that changes DNS")
	}
	return errors.Join(faults...)
}

// A certificate and its key are one file, so that a reader finds the two of one
// issue, and the account is another. Each CA has its own: a certificate for tests
// must not pass for the real one when tls.acme_ca changes.
func (c Config) acmeName() string {
	u, err := url.Parse(c.ACME.directory())
	if err != nil {
		return "acme" // Validate has refused it
	}
	return "acme-" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return '-'
	}, strings.Trim(u.Host+u.Path, "/"))
}

func (c Config) acmeFile() string {
	return filepath.Join(c.StateDir, "tls", c.acmeName()+".pem")
}

func (c Config) accountFile() string {
	return filepath.Join(c.StateDir, "tls", c.acmeName()+"-account.json")
}

// loadACME returns the kept certificate. One that has expired is served
// nevertheless: to phones it is no worse than one they never heard of, and some
// don't look at the date. It is nil if there is none for these names, and why
// says what is wrong with the one there is.
func loadACME(c Config, now time.Time) (p *pair, why string, err error) {
	file := c.acmeFile()
	if _, err := os.Lstat(file); errors.Is(err, os.ErrNotExist) {
		return nil, "", nil
	}
	data, err := readFile(file, true)
	if err != nil {
		return nil, "", fmt.Errorf("edge.state_dir: %w", err) // not ours to repair in silence
	}
	if p, err = parsePair(data); err != nil {
		return nil, "the kept one does not load", nil
	}
	if why := c.uncovered(p.cert.Leaf); why != "" {
		return nil, "the kept one " + why, nil
	}
	p.desc = describe(p.cert.Leaf, file, false)
	p.desc.ACME = c.ACME.directory()
	p.describeChain(file, now)
	return p, "", nil
}

// parsePair reads a certificate, its chain and its key from one file.
func parsePair(data []byte) (*pair, error) {
	cert, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, errors.New("it is no certificate with its key in PEM")
	}
	chain, err := parseChain(cert.Certificate)
	if err != nil {
		return nil, err
	}
	cert.Leaf = chain[0]
	return &pair{cert: cert, chain: chain}, nil
}

// uncovered says which name a certificate lacks, or nothing.
func (c Config) uncovered(leaf *x509.Certificate) string {
	for _, name := range c.Names {
		if leaf.VerifyHostname(name) != nil {
			return "does not name " + name
		}
	}
	return ""
}

// pendingACME describes the certificate that is still to be fetched.
func pendingACME(c Config, why string) Description {
	d := Description{Pending: true, ACME: c.ACME.directory(), File: c.acmeFile(), Names: slices.Clone(c.Names), Challenges: c.ACME.challenges()}
	if why != "" {
		d.Warnings = []string{why + ": another will be fetched"}
	}
	return d
}
