package tlsconf

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	lifetime  = 10 // years
	clockSlip = 24 * time.Hour

	maxCommonName = 64 // ub-common-name, RFC 5280 appendix A.1; the names that count are the SANs
)

// paths of the self-signed pair under the state directory.
func (c Config) selfSignedDir() string { return filepath.Join(c.StateDir, "tls") }
func (c Config) selfSignedCrt() string { return filepath.Join(c.selfSignedDir(), "self-signed.crt") }
func (c Config) selfSignedKey() string { return filepath.Join(c.selfSignedDir(), "self-signed.key") }

// MakeSelfSigned makes the self-signed certificate of a Config if there is none
// that serves, or in any case when asked for it anew, and keeps it for New. An
// edge that runs takes it when it looks next.
func MakeSelfSigned(cfg Config, anew bool) (d Description, made bool, err error) {
	now := time.Now()
	switch {
	case cfg.ACME != nil:
		return d, false, errors.New("tls.acme: is true, so the edge makes a self-signed certificate by itself if it needs one; set it to false first")
	case !cfg.selfSigned():
		return d, false, fmt.Errorf("tls.cert: names %s, so a self-signed certificate would not be served; remove tls.cert and tls.key first", cfg.Files[0].Cert)
	}
	if err := cfg.Validate(); err != nil {
		return d, false, err
	}
	if !anew {
		p, _, err := loadSelfSigned(cfg, now)
		if err != nil {
			return d, false, err
		}
		if p != nil {
			return p.desc, false, nil
		}
	}
	if err := makeSelfSigned(cfg, now); err != nil {
		return d, false, err
	}
	p, _, err := loadSelfSigned(cfg, now)
	if err == nil && p == nil {
		err = fmt.Errorf("edge.state_dir: %s was changed while it was made; try again", cfg.selfSignedCrt())
	}
	if err != nil {
		return d, false, err
	}
	return p.desc, true, nil
}

// ensureSelfSigned loads the kept pair, or makes and keeps a new one.
func ensureSelfSigned(cfg Config, log *slog.Logger, now time.Time) (*pair, error) {
	p, why, err := loadSelfSigned(cfg, now)
	if err != nil {
		return nil, err
	}
	if p != nil {
		return p, nil
	}
	if why == "" {
		log.Info("making a self-signed certificate", "file", cfg.selfSignedCrt())
	} else {
		log.Warn("making a new self-signed certificate: phones that trust the former file need the new one",
			"file", cfg.selfSignedCrt(), "reason", why)
	}
	if err := makeSelfSigned(cfg, now); err != nil {
		return nil, err
	}
	p, err = loadPair(cfg.selfSignedCrt(), cfg.selfSignedKey())
	if err != nil {
		return nil, fmt.Errorf("edge.state_dir: load the certificate just made: %w", err)
	}
	p.desc = describe(p.cert.Leaf, cfg.selfSignedCrt(), true)
	return p, nil
}

// loadSelfSigned returns the kept pair, or nil and why it will not do; the
// reason is empty when there is none yet.
func loadSelfSigned(cfg Config, now time.Time) (p *pair, why string, err error) {
	for _, f := range []string{cfg.selfSignedCrt(), cfg.selfSignedKey()} {
		switch _, err := os.Lstat(f); {
		case errors.Is(err, os.ErrNotExist):
			return nil, "", nil
		case err != nil:
			return nil, "", fmt.Errorf("edge.state_dir: %w", readFault(f, err))
		}
	}
	p, err = loadPair(cfg.selfSignedCrt(), cfg.selfSignedKey())
	switch {
	case errors.Is(err, ErrKeyExposed), errors.Is(err, os.ErrPermission):
		// Not ours to repair in silence: someone opened it, or we are not
		// the user who made it.
		return nil, "", fmt.Errorf("edge.state_dir: %w", stripKey(err))
	case err != nil:
		return nil, "the kept pair does not load", nil
	}
	if why := unfit(cfg, p.cert.Leaf, now); why != "" {
		return nil, why, nil
	}
	p.desc = describe(p.cert.Leaf, cfg.selfSignedCrt(), true)
	return p, "", nil
}

// stripKey drops the "tls.key: " that names a key the operator did not set.
func stripKey(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}

// unfit says why a kept certificate no longer serves, or nothing. One whose time is yet
// to come does: the clock is behind, as after a start without a battery, and to make
// another would take away the one that phones trust.
func unfit(cfg Config, leaf *x509.Certificate, now time.Time) string {
	if now.Add(soon).After(leaf.NotAfter) {
		return "the kept one expires on " + day(leaf.NotAfter)
	}
	if !cfg.KeyType.made(leaf.PublicKey) {
		return "tls.self_signed_key asks for another kind of key than the kept one's, " + keyName(leaf.PublicKey)
	}
	names, ips := holders(cfg)
	for _, name := range names {
		if !slices.Contains(leaf.DNSNames, name) {
			return "the kept one does not name " + name
		}
	}
	for _, ip := range ips {
		if !slices.ContainsFunc(leaf.IPAddresses, ip.Equal) {
			return "the kept one does not name " + ip.String()
		}
	}
	return ""
}

// holders is whom the self-signed certificate names: what the Config asks for,
// and this machine to itself, for tests on the spot.
func holders(cfg Config) (names []string, ips []net.IP) {
	for _, n := range append(slices.Clone(cfg.Names), "localhost") {
		if n = strings.ToLower(n); !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	loopback := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	for _, a := range append(slices.Clone(cfg.IPs), loopback...) {
		ip := net.IP(a.Unmap().WithZone("").AsSlice())
		if !slices.ContainsFunc(ips, ip.Equal) {
			ips = append(ips, ip)
		}
	}
	return names, ips
}

// generate makes a key. Its errors are the system's: there was no randomness.
func (k KeyType) generate() (crypto.Signer, error) {
	if k == RSA {
		return rsa.GenerateKey(rand.Reader, minRSABits)
	}
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// made reports whether a public key is of this kind.
func (k KeyType) made(public any) bool {
	_, isRSA := public.(*rsa.PublicKey)
	return isRSA == (k == RSA)
}

func makeSelfSigned(cfg Config, now time.Time) error {
	key, err := cfg.KeyType.generate()
	if err != nil {
		return fmt.Errorf("generate key: %w", err)
	}
	tmpl, err := template(cfg, now)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return fmt.Errorf("sign certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	// The key goes first. A crash in between leaves a pair that does not
	// match, which the next start replaces.
	err = cfg.keep(
		kept{"self-signed.key", encode("PRIVATE KEY", keyDER), 0o600},
		kept{"self-signed.crt", encode("CERTIFICATE", der), 0o644},
	)
	if err != nil {
		return fmt.Errorf("edge.state_dir: keep the self-signed certificate: %w; let the user sallyport runs as write there", err)
	}
	return nil
}

// template is a leaf and its own trust anchor in one: phones' menus and several
// TLS libraries take a CA file only if it says CA:TRUE. That would let a thief of
// the key sign for any name at all, hence the name constraints and the path
// length. They are not marked critical, because libraries on phones that don't
// know them would then refuse the file (RFC 5280 section 4.2.1.10).
func template(cfg Config, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	names, ips := holders(cfg)
	ranges := make([]*net.IPNet, len(ips))
	for i, ip := range ips {
		ranges[i] = &net.IPNet{IP: ip, Mask: net.CIDRMask(8*len(ip), 8*len(ip))}
	}
	subject := names[0]
	if len(subject) > maxCommonName {
		subject = "sallyport"
	}
	usage := x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign
	if cfg.KeyType == RSA {
		usage |= x509.KeyUsageKeyEncipherment // RSA key exchange, in the profile legacy
	}
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: subject, Organization: []string{"sallyport self-signed"}},
		NotBefore:             now.Add(-clockSlip),
		NotAfter:              now.AddDate(lifetime, 0, 0),
		DNSNames:              names,
		IPAddresses:           ips,
		KeyUsage:              usage,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		PermittedDNSDomains:   names,
		PermittedIPRanges:     ranges,
	}, nil
}

// pending describes the certificate that the next start will make or fetch.
func (c Config) pending(why string) Description {
	if c.ACME != nil {
		return pendingACME(c, why)
	}
	names, ips := holders(c)
	d := Description{SelfSigned: true, Pending: true, File: c.selfSignedCrt(), Names: names}
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip); ok {
			d.IPs = append(d.IPs, a)
		}
	}
	if why != "" {
		d.Warnings = []string{why + ": a new one will be made, and phones that trust the former file need the new one"}
	}
	return d
}
