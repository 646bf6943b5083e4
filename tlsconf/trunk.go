package tlsconf

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// Trunk says how a peer on the secure side is known: by a name under a CA, by its key,
// or by a pairing.
type Trunk struct {
	Name     string
	Peer     string   // the host that is dialled, for SNI; empty: the peer dials
	Identity []string // SIP domains, one of which its certificate must have
	CA       string   // PEM file of who may issue it; empty: the system's roots
	CRL      string   // file of their revocation lists; empty: nothing is looked up
	Pins     []string // of its key, instead of a name and a CA; see ParsePin
}

// ByPairing tells whether the trunk stands on a pairing alone.
func (t Trunk) ByPairing() bool { return len(t.Identity) == 0 && len(t.Pins) == 0 }

func (t Trunk) key(name string) string { return fmt.Sprintf("trunk %q: %s", t.Name, name) }

// validate reports what can be seen without opening a file.
func (t Trunk) validate() error {
	var faults []error
	fault := func(key, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %w", t.key(key), fmt.Errorf(format, args...)))
	}
	for _, name := range t.Identity {
		if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err != nil && !plainName(name) {
			fault("identity", "%q is no name that a certificate is matched by; give a host name, whole and without a *", name)
		}
	}
	for _, text := range t.Pins {
		if _, err := ParsePin(text); err != nil {
			fault("pin", "%w", err)
		}
	}
	switch {
	case len(t.Pins) > 0 && len(t.Identity) > 0:
		fault("identity", "is not looked at beside pin; remove one of them")
	case t.CA != "" && len(t.Identity) == 0:
		fault("ca", "needs identity: whom of all that it may issue to; give the name in the peer's certificate")
	}
	if t.CRL != "" && t.CA == "" {
		fault("crl", "goes with ca; name the file of who may issue, too")
	}
	return errors.Join(faults...)
}

func (c Config) validateTrunks() error {
	var faults []error
	for i, t := range c.Trunks {
		faults = append(faults, t.validate())
		for _, other := range c.Trunks[:i] {
			for _, name := range t.Identity {
				if slices.ContainsFunc(other.Identity, func(s string) bool { return strings.EqualFold(s, name) }) && t.CA == other.CA {
					faults = append(faults, fmt.Errorf("%s: %s is trunk %q's too, and one certificate can't be both; give each names of its own", t.key("identity"), name, other.Name))
				}
			}
			for _, pin := range t.Pins {
				if slices.ContainsFunc(other.Pins, func(s string) bool { return samePin(s, pin) }) {
					faults = append(faults, fmt.Errorf("%s: %s is trunk %q's too, and one key can't be both", t.key("pin"), pin, other.Name))
				}
			}
		}
	}
	return errors.Join(faults...)
}

// Pin is the SHA-256 of a certificate's public key, as SubjectPublicKeyInfo.
type Pin [sha256.Size]byte

// PinOf is the pin of a certificate.
func PinOf(cert *x509.Certificate) Pin { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// String is a form that ParsePin reads.
func (p Pin) String() string { return pinPrefix + hex.EncodeToString(p[:]) }

const pinPrefix = "sha256:"

// ParsePin reads "sha256:" and a hash in hexadecimal digits, with or without colons,
// or in base64.
func ParsePin(s string) (Pin, error) {
	text, ok := strings.CutPrefix(s, pinPrefix)
	var p Pin
	if b, err := hex.DecodeString(strings.ReplaceAll(text, ":", "")); ok && err == nil && len(b) == len(p) {
		return Pin(b), nil
	}
	if b, err := base64.StdEncoding.DecodeString(text); ok && err == nil && len(b) == len(p) {
		return Pin(b), nil
	}
	return p, fmt.Errorf("%q is no pin; write it like \"sha256:\" and 64 hexadecimal digits, or 44 of base64: the SHA-256 of the peer's public key", s)
}

func samePin(a, b string) bool {
	p, errA := ParsePin(a)
	q, errB := ParsePin(b)
	return errA == nil && errB == nil && p == q
}

// peer is how one trunk is known. It is immutable once it is stored in a Source.
type peer struct {
	Trunk
	issuers *authority // nil: the system's roots
	pins    []Pin
	pairing *pairing         // nil: it has none
	ours    *tls.Certificate // of the pairing; nil: the edge's own
	forgot  bool             // its pairing was removed while the edge runs: it is nobody
}

// loadTrunks reads the files of all trunks, and reports the faults of all.
func loadTrunks(c Config, now time.Time) ([]*peer, error) {
	var out []*peer
	var faults []error
	for _, t := range c.Trunks {
		p, err := c.loadTrunk(t, now)
		out, faults = append(out, p), append(faults, err)
	}
	return out, errors.Join(faults...)
}

func (c Config) loadTrunk(t Trunk, now time.Time) (*peer, error) {
	p := &peer{Trunk: t}
	for _, text := range t.Pins {
		pin, err := ParsePin(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.key("pin"), err)
		}
		p.pins = append(p.pins, pin)
	}
	switch {
	case t.ByPairing():
		paired, err := c.readPairing(t.Name)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s: missing, and %w; run `sallyport trunk pair %s` here and the line that it prints at the peer, or give the name in the peer's certificate, or a pin",
				t.key("identity"), errUnpaired, t.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.key("name"), err)
		}
		cert, err := paired.certificate()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.key("name"), err)
		}
		p.pairing, p.ours, p.pins = paired, cert, []Pin{paired.theirs}
	case t.CA != "":
		issuers, err := loadIssuers(t, now)
		if err != nil {
			return nil, err
		}
		p.issuers = issuers
	}
	return p, nil
}

var errUnpaired = errors.New("there is no pairing")

// loadIssuers reads who may issue a trunk's certificate, and what they revoked.
func loadIssuers(t Trunk, now time.Time) (*authority, error) {
	a := &authority{pool: x509.NewCertPool(), caFile: t.CA, crlFile: t.CRL, listed: t.CRL != ""}
	data, err := readFile(t.CA, false)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.key("ca"), err)
	}
	if a.anchors, err = parseAnchors(data, now); err != nil {
		return nil, fmt.Errorf("%s: %s %w; give the certificates of those who may issue, in PEM", t.key("ca"), t.CA, err)
	}
	for _, cert := range a.anchors {
		a.pool.AddCert(cert)
	}
	if !a.listed {
		return a, nil
	}
	if data, err = readList(t.CRL); err != nil {
		return nil, fmt.Errorf("%s: %w", t.key("crl"), err)
	}
	if a.lists, err = parseLists(data, a.anchors, now); err != nil {
		return nil, fmt.Errorf("%s: %s %w", t.key("crl"), t.CRL, err)
	}
	return a, nil
}

// same tells whether nothing of a trunk's files has changed.
func (p *peer) same(q *peer) bool {
	return p.forgot == q.forgot && (p.issuers == nil) == (q.issuers == nil) && (p.issuers == nil || p.issuers.same(q.issuers)) &&
		(p.pairing == nil) == (q.pairing == nil) && (p.pairing == nil || *p.pairing == *q.pairing)
}

// String is how it is known, in a line for an operator.
func (p *peer) String() string {
	switch {
	case p.forgot:
		return "nothing, as its pairing was removed"
	case p.pairing != nil:
		return "its pairing of " + day(p.pairing.Made)
	case len(p.pins) > 0:
		return "its key"
	case p.issuers != nil:
		return strings.Join(p.Identity, " or ") + ", " + p.issuers.String()
	}
	return strings.Join(p.Identity, " or ") + ", issued by one of the system's CAs"
}

// KnownBy tells how the peer of a trunk is known, in a line for an operator.
func KnownBy(cfg Config, t Trunk) (string, error) {
	p, err := cfg.loadTrunk(t, time.Now())
	if err != nil {
		return "", err
	}
	return p.String(), nil
}

// takeTrunks reads the files of trunks. The caller holds the lock. A fault is told
// once, and what was in force of that trunk stays so; only a pairing that is removed is
// over at once.
func (s *Source) takeTrunks(now time.Time) {
	had := s.trunks()
	peers := slices.Clone(had)
	var faults []error
	for i, t := range s.cfg.Trunks {
		p, err := s.cfg.loadTrunk(t, now)
		switch {
		case err == nil:
			peers[i] = p
		case errors.Is(err, errUnpaired):
			peers[i] = &peer{Trunk: t, forgot: true}
		default:
			faults = append(faults, err)
		}
	}
	s.tellAstray(errors.Join(faults...))
	if slices.EqualFunc(had, peers, (*peer).same) {
		return
	}
	for i, p := range peers {
		if !p.same(had[i]) {
			s.log.Info("trunk is known anew", "trunk", p.Name, "by", p.String())
		}
	}
	s.renewed++
	s.peers.Store(&peers)
	s.rebuild()
	if s.onTaken != nil {
		s.onTaken()
	}
}

// tellAstray tells of files of trunks at fault, once. The caller holds the lock.
func (s *Source) tellAstray(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != s.files.astray {
		s.refused++
		s.log.Error("files of a trunk refused; those in force stay", "reason", err)
	}
	s.files.astray = text
}
