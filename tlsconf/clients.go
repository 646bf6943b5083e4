package tlsconf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Demand is whether a listener asks clients for a certificate.
type Demand string

// The demands there are.
const (
	Off      Demand = "off"      // it does not
	Optional Demand = "optional" // one that is shown must be good
	Required Demand = "required" // and one must be shown
)

func (d Demand) validate(key string) error {
	switch d {
	case "", Off, Optional, Required:
		return nil
	}
	return fmt.Errorf("%s: is %q; give one of off, optional, required", key, string(d))
}

func (d Demand) auth() tls.ClientAuthType {
	switch d {
	case Optional:
		return tls.VerifyClientCertIfGiven
	case Required:
		return tls.RequireAndVerifyClientCert
	}
	return tls.NoClientCert
}

// Clients says which certificates of phones are good.
type Clients struct {
	CA  string // PEM file of those who may issue them; empty: the device CA in StateDir
	CRL string // file of their revocation lists, PEM or DER; empty: the device CA's, or none beside a CA

	TLS, WSS Demand // of the listeners; empty: off
}

// Asked tells whether any listener asks.
func (c Clients) Asked() bool {
	return c.TLS.auth() != tls.NoClientCert || c.WSS.auth() != tls.NoClientCert
}

func (c Config) validateClients() error {
	faults := []error{c.Clients.TLS.validate("sip.tls_client_cert"), c.Clients.WSS.validate("sip.wss_client_cert")}
	if c.Clients.CRL != "" && c.Clients.CA == "" {
		faults = append(faults, errors.New("tls.client_crl: goes with tls.client_ca; the device CA has a list of its own"))
	}
	return errors.Join(faults...)
}

// clientFiles are the files of who may issue, and of what is revoked; the second
// may be empty.
func (c Config) clientFiles() (ca, crl string) {
	if c.Clients.CA != "" {
		return c.Clients.CA, c.Clients.CRL
	}
	return c.deviceFile(deviceCACrt), c.deviceFile(deviceCRL)
}

// authority is who may issue clients' certificates, and what of it is revoked. It
// is immutable once it is stored in a Source.
type authority struct {
	pool    *x509.CertPool
	anchors []*x509.Certificate
	lists   []*revocations
	listed  bool // every certificate needs a list that could name it
	domains []string
	caFile  string
	crlFile string
}

// loadClients reads the files of the client CA; nil if no listener asks.
func loadClients(c Config, now time.Time) (*authority, error) {
	if !c.Clients.Asked() {
		return nil, nil
	}
	a := &authority{pool: x509.NewCertPool()}
	a.caFile, a.crlFile = c.clientFiles()
	a.listed = a.crlFile != ""
	for _, name := range c.Names {
		a.domains = append(a.domains, strings.ToLower(name))
	}
	for _, ip := range c.IPs {
		a.domains = append(a.domains, ip.String())
	}
	key, step := "tls.client_ca", "give the certificates of those who may issue, in PEM"
	if c.Clients.CA == "" {
		key, step = "edge.state_dir", "run `sallyport cert device NAME`, which makes the device CA, or name another in tls.client_ca"
	}
	data, err := readFile(a.caFile, false)
	if err != nil {
		if c.Clients.CA == "" {
			return nil, fmt.Errorf("%s: client certificates are asked for, and there is no CA for them: %w; %s", key, err, step)
		}
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if a.anchors, err = parseAnchors(data, now); err != nil {
		return nil, fmt.Errorf("%s: %s %w; %s", key, a.caFile, err, step)
	}
	for _, cert := range a.anchors {
		a.pool.AddCert(cert)
	}
	if !a.listed {
		return a, nil
	}
	if key == "tls.client_ca" {
		key = "tls.client_crl"
	}
	if data, err = readList(a.crlFile); err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if a.lists, err = parseLists(data, a.anchors, now); err != nil {
		return nil, fmt.Errorf("%s: %s %w", key, a.crlFile, err)
	}
	return a, nil
}

// parseAnchors reads CA certificates. One that could issue nothing is refused
// rather than passed over: somebody meant it.
func parseAnchors(data []byte, now time.Time) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %s", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			return nil, fmt.Errorf("holds a certificate that can't be read: %w", err)
		case !cert.IsCA || cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
			return nil, fmt.Errorf("holds %s, which is no CA", cert.Subject)
		case now.After(cert.NotAfter):
			return nil, fmt.Errorf("holds %s, which expired on %s", cert.Subject, day(cert.NotAfter))
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, errors.New("holds no certificate")
	}
	return out, nil
}

// Refusal is why a client's certificate is not taken.
type Refusal struct {
	Reason string // a word for counting
	text   string
}

// Error implements error.
func (r *Refusal) Error() string { return r.text }

// Refused is the Reason, for who knows of this package nothing but an error.
func (r *Refusal) Refused() string { return r.Reason }

func refusal(reason, format string, args ...any) *Refusal {
	return &Refusal{reason, fmt.Sprintf(format, args...)}
}

// admits looks at what crypto/tls does not: revocation, and whom the certificate
// names. It is asked at every handshake, and at those that resume a session too,
// whose chains were verified when that began. One chain that is good is enough.
func (a *authority) admits(state *tls.ConnectionState, now time.Time) error {
	leaf := state.PeerCertificates[0]
	if len(users(leaf, a.domains)) == 0 {
		return refusal("no_user", "the client's certificate (%s) names no user of %s", holder(leaf), strings.Join(a.domains[:min(1, len(a.domains))], ""))
	}
	var why error = refusal("unknown_ca", "the client's certificate (%s) leads to none of %s", holder(leaf), a.caFile)
	for _, chain := range state.VerifiedChains {
		if !a.anchored(chain) {
			continue
		}
		if why = a.unrevoked(chain, now); why == nil {
			return nil
		}
	}
	return why
}

// withdrawn tells why a certificate that was admitted is not good any longer. A
// list that has become stale since is no reason: that would end all connections at
// one stroke, and tells nothing of any of them. Nor is expiry.
func (a *authority) withdrawn(state *tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	leaf := state.PeerCertificates[0]
	var why error = refusal("unknown_ca", "the client's certificate (%s) leads to none of %s any longer", holder(leaf), a.caFile)
	chains := state.VerifiedChains
	if chains == nil { // where trunks are asked for theirs too, crypto/tls verifies none
		chains, _ = a.verify(state.PeerCertificates, whileGood(state.PeerCertificates, time.Now()))
	}
	for _, chain := range chains {
		if !a.anchored(chain) {
			continue
		}
		if why = a.revoked(chain); why == nil {
			return nil
		}
	}
	return why
}

func (a *authority) anchored(chain []*x509.Certificate) bool {
	return slices.ContainsFunc(a.anchors, chain[len(chain)-1].Equal)
}

// holder names a certificate to an operator. The words are the client's: a CA that
// is not trusted may have signed them, so they are quoted and bounded.
func holder(cert *x509.Certificate) string {
	name := cert.Subject.CommonName
	if len(name) > maxCommonName {
		name = name[:maxCommonName]
	}
	return fmt.Sprintf("%q, serial %s", name, serialText(cert.SerialNumber))
}

// Clients of a Source: what the listeners know of who connects.

// Users are those that a client's certificate may speak for; nil if it showed none.
func (s *Source) Users(state *tls.ConnectionState) []string {
	a := s.clients.Load()
	if a == nil || len(state.PeerCertificates) == 0 {
		return nil
	}
	return users(state.PeerCertificates[0], a.domains)
}

// Withdrawn tells why a client that is connected would not be taken any longer:
// its certificate was revoked since, or its CA is no longer trusted.
func (s *Source) Withdrawn(state *tls.ConnectionState) error {
	a := s.clients.Load()
	if a == nil {
		return nil
	}
	return a.withdrawn(state)
}

func (s *Source) verifyClient(state tls.ConnectionState) error {
	a := s.clients.Load()
	if a == nil || len(state.PeerCertificates) == 0 { // optional: crypto/tls refuses who must show one
		return nil
	}
	return a.admits(&state, time.Now())
}

// takeClients reads the files of the client CA. The caller holds the lock. A fault
// is told once, and what was in force stays so.
func (s *Source) takeClients(now time.Time) {
	had := s.clients.Load()
	if had == nil {
		return
	}
	fault := &s.files.faults[len(s.files.faults)-1]
	a, err := loadClients(s.cfg, now)
	if err != nil {
		if *fault != err.Error() {
			*fault = err.Error()
			s.refused++
			s.log.Error("client CA or revocation list refused; those in force stay", "reason", err, "in_force", had.String())
		}
		return
	}
	*fault = ""
	if a.same(had) {
		return
	}
	s.renewed++
	s.clients.Store(a)
	s.rebuild()
	s.announceClients(a, now)
	if s.onTaken != nil {
		s.onTaken()
	}
}

// OnTaken has f called whenever another client CA or revocation list is in force:
// who is connected may be withdrawn now. It is set once, before Run; f must call
// nothing of the Source but Withdrawn.
func (s *Source) OnTaken(f func()) { s.onTaken = f }

func (a *authority) same(b *authority) bool {
	return slices.EqualFunc(a.anchors, b.anchors, (*x509.Certificate).Equal) &&
		slices.EqualFunc(a.lists, b.lists, func(x, y *revocations) bool { return bytes.Equal(x.raw, y.raw) })
}

// String is one line for an operator.
func (a *authority) String() string {
	var names []string
	for _, cert := range a.anchors {
		names = append(names, cert.Subject.String())
	}
	text := fmt.Sprintf("issued by %s (%s)", strings.Join(names, " or "), a.caFile)
	if !a.listed {
		return text + ", without a revocation list"
	}
	n := 0
	for _, l := range a.lists {
		n += len(l.since)
	}
	return fmt.Sprintf("%s, %d revoked (%s)", text, n, a.crlFile)
}

func (s *Source) announceClients(a *authority, now time.Time) {
	s.log.Info("client certificates", "tls", string(s.cfg.Clients.TLS), "wss", string(s.cfg.Clients.WSS), "taken", a.String())
	for _, e := range a.endings() {
		s.expiry[e.Fingerprint] = e.ending(now)
		if w := e.expiryWarning(now); w != "" {
			s.log.Warn("client certificates need attention", "file", e.File, "reason", w)
		}
	}
}

// endings describes what of it ends.
func (a *authority) endings() []Description {
	var out []Description
	for _, cert := range a.anchors {
		d := describe(cert, a.caFile, false)
		d.client = "the client CA " + d.Subject
		out = append(out, d)
	}
	for _, l := range a.lists {
		if !l.nextUpdate.IsZero() {
			out = append(out, Description{
				File: a.crlFile, Subject: l.issuer.String(), NotBefore: l.thisUpdate, NotAfter: l.nextUpdate,
				Fingerprint: fingerprint(l.raw), client: "the revocation list by " + l.issuer.String(),
			})
		}
	}
	return out
}
