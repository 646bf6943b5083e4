package tlsconf

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Description is what may be shown of a certificate: nothing in it is secret.
type Description struct {
	SelfSigned  bool         // made by us
	ACME        string       // the directory of the CA it was fetched from; empty: it was not
	Challenges  string       // by which a pending one of these will be fetched
	Pending     bool         // will be made or fetched at the next start; the fields below are what it will hold
	File        string       // where the certificate is; for a self-signed one, the CA file for phones
	Subject     string       // distinguished name
	Issuer      string       // likewise, of who signed it
	Serial      string       // "0a:1b:…", as openssl shows it
	Key         string       // kind and size of its key, like "ECDSA P-256"
	Chain       []string     // what is sent behind it: the subject of each, and its last day
	Names       []string     // DNS names
	IPs         []netip.Addr // addresses
	NotBefore   time.Time
	NotAfter    time.Time
	Fingerprint string   // SHA-256 of the certificate, "AB:CD:…"
	Warnings    []string // what will trouble phones although the certificate loads

	client string // what it is, if it is about phones' certificates and not ours
}

// String is one line for an operator.
func (d Description) String() string {
	kind := "from " + d.File
	switch {
	case d.Pending && d.ACME != "":
		return fmt.Sprintf("for %s by ACME from %s, to be fetched at the next start by %s, and self-signed until then", d.holders(), d.ACME, d.Challenges)
	case d.Pending:
		return fmt.Sprintf("self-signed for %s, to be made at the next start as %s", d.holders(), d.File)
	case d.ACME != "":
		kind = fmt.Sprintf("by ACME from %s, kept as %s", d.ACME, d.File)
	case d.SelfSigned:
		kind = "self-signed, CA file for phones " + d.File
	}
	return fmt.Sprintf("%s (%s), valid until %s, SHA-256 %s",
		d.holders(), kind, d.NotAfter.UTC().Format(time.DateOnly), d.Fingerprint)
}

func (d Description) holders() string { return strings.Join(d.holderList(), ", ") }

// holderList is whom the certificate names: one at least.
func (d Description) holderList() []string {
	all := slices.Clone(d.Names)
	for _, ip := range d.IPs {
		all = append(all, ip.String())
	}
	if len(all) == 0 {
		all = []string{d.Subject}
	}
	return all
}

// LogValue implements slog.LogValuer.
func (d Description) LogValue() slog.Value {
	return slog.GroupValue(
		slog.Bool("self_signed", d.SelfSigned),
		slog.String("acme", d.ACME),
		slog.String("file", d.File),
		slog.String("subject", d.Subject),
		slog.String("holders", d.holders()),
		slog.String("key", d.Key),
		slog.String("serial", d.Serial),
		slog.Time("not_after", d.NotAfter),
		slog.String("sha256", d.Fingerprint),
	)
}

func describe(leaf *x509.Certificate, file string, selfSigned bool) Description {
	d := Description{
		SelfSigned:  selfSigned,
		File:        file,
		Subject:     leaf.Subject.String(),
		Issuer:      leaf.Issuer.String(),
		Serial:      serialText(leaf.SerialNumber),
		Key:         keyName(leaf.PublicKey),
		Names:       slices.Clone(leaf.DNSNames),
		NotBefore:   leaf.NotBefore,
		NotAfter:    leaf.NotAfter,
		Fingerprint: fingerprint(leaf.Raw),
	}
	for _, ip := range leaf.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			d.IPs = append(d.IPs, a.Unmap())
		}
	}
	return d
}

// fingerprint is written the way openssl and phones' menus write it.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return colons(strings.ToUpper(hex.EncodeToString(sum[:])))
}

// colons puts a colon after every second digit.
func colons(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(s[i : i+2])
	}
	return b.String()
}

// keyName is what an operator calls a public key.
func keyName(public any) string {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return "of an unknown kind"
}

// describeAll adds to what loading found what the operator should know of the
// certificates together, and by now.
func (s *set) describeAll(cfg Config, now time.Time) []Description {
	var out []Description
	for i, p := range s.pairs {
		d := p.desc
		d.Warnings = slices.Clone(d.Warnings)
		for _, name := range cfg.Names {
			if i == 0 && len(s.named(name)) == 0 {
				d.Warnings = append(d.Warnings, fmt.Sprintf("the certificate does not name edge.domain %s: phones that check it will not connect", name))
			}
		}
		if w := d.expiryWarning(now); w != "" {
			d.Warnings = append(d.Warnings, w)
		}
		out = append(out, d)
	}
	return out
}
