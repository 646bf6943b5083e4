package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// vouch tells why certificates that a peer showed are not this trunk's; nil if they
// are. It is asked at each handshake, also at one that resumes a session.
func (p *peer) vouch(shown []*x509.Certificate, now time.Time) error {
	if len(shown) == 0 {
		return refusal("none", "trunk %q: the peer showed no certificate", p.Name)
	}
	if err := p.known(shown, now); err != nil {
		return err
	}
	return p.unrevoked(shown, now, func(chain []*x509.Certificate) error { return p.issuers.unrevoked(chain, now) })
}

// unrevoked asks for each way to a CA; one that is good is enough.
func (p *peer) unrevoked(shown []*x509.Certificate, at time.Time, ask func(chain []*x509.Certificate) error) error {
	if p.issuers == nil {
		return nil
	}
	chains, why := p.chains(shown, at)
	for _, chain := range chains {
		if why = ask(chain); why == nil {
			return nil
		}
	}
	var r *Refusal
	if errors.As(why, &r) {
		return refusal(r.Reason, "trunk %q: %s", p.Name, r.text)
	}
	return why
}

// known tells why it is not the trunk's certificate, be it revoked or not. Validity is
// judged as of the time given.
func (p *peer) known(shown []*x509.Certificate, at time.Time) error {
	leaf := shown[0]
	switch {
	case p.forgot:
		return refusal("unpaired", "trunk %q: its pairing was removed here; pair anew with `sallyport trunk pair %s`", p.Name, p.Name)
	case len(p.pins) > 0 && !slices.Contains(p.pins, PinOf(leaf)):
		step := "if that is the peer's present key, add it to pin"
		if p.pairing != nil {
			step = fmt.Sprintf("pair anew with `sallyport trunk pair %s`", p.Name)
		}
		return refusal("pin", "trunk %q: the peer's key is another than the one we know: it showed %s of %s; %s", p.Name, PinOf(leaf), holder(leaf), step)
	case len(p.pins) == 0 && !speaksFor(leaf, p.Identity):
		return refusal("name", "trunk %q: the peer's certificate (%s) is for %s, and not for %s; see identity, or who answers there",
			p.Name, holder(leaf), quoted(domains(leaf)), strings.Join(p.Identity, " or "))
	case at.After(leaf.NotAfter):
		return refusal("expired", "trunk %q: the peer's certificate (%s) expired on %s; the peer must renew it", p.Name, holder(leaf), day(leaf.NotAfter))
	case at.Before(leaf.NotBefore):
		return refusal("expired", "trunk %q: the peer's certificate (%s) is valid from %s; see the clocks of both machines", p.Name, holder(leaf), day(leaf.NotBefore))
	case len(p.pins) > 0:
		return nil
	case !forSIP(leaf):
		return refusal("usage", "trunk %q: the peer's certificate (%s) was issued for something else than TLS or SIP", p.Name, holder(leaf))
	}
	_, err := p.chains(shown, at)
	var unknown x509.UnknownAuthorityError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown):
		return refusal("unknown_ca", "trunk %q: the peer's certificate (%s), issued by %q, leads to none of %s; name its CA in ca, or have the peer send its intermediates",
			p.Name, holder(leaf), shortened(leaf.Issuer.String()), p.anchorNames())
	}
	return refusal("invalid", "trunk %q: the peer's certificate (%s) does not hold: %s", p.Name, holder(leaf), shortened(err.Error()))
}

// chains are the ways from the peer's certificate to who may issue it. What it is for
// is forSIP's to say.
func (p *peer) chains(shown []*x509.Certificate, at time.Time) ([][]*x509.Certificate, error) {
	var roots *x509.CertPool
	if p.issuers != nil {
		roots = p.issuers.pool
	}
	return chainsTo(roots, shown, at, x509.ExtKeyUsageAny)
}

func (p *peer) anchorNames() string {
	if p.issuers == nil {
		return "the system's CAs"
	}
	return p.CA
}

// withdrawn tells why who is connected is no longer this trunk's peer: expiry is no
// reason, nor is a list that has become stale.
func (p *peer) withdrawn(shown []*x509.Certificate) error {
	at := whileGood(shown, time.Now())
	if err := p.known(shown, at); err != nil {
		return err
	}
	return p.unrevoked(shown, at, func(chain []*x509.Certificate) error { return p.issuers.revoked(chain) })
}

// whileGood is now, or the last moment at which none of the certificates had expired.
func whileGood(shown []*x509.Certificate, now time.Time) time.Time {
	for _, cert := range shown {
		if cert.NotAfter.Before(now) {
			now = cert.NotAfter
		}
	}
	return now
}

// quoted lists names that a stranger wrote.
func quoted(names []string) string {
	if len(names) == 0 {
		return "no domain at all"
	}
	const most = 10
	var out []string
	for _, name := range names[:min(len(names), most)] {
		out = append(out, fmt.Sprintf("%q", shortened(name)))
	}
	if len(names) > most {
		out = append(out, "…")
	}
	return strings.Join(out, ", ")
}

func shortened(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most]
	}
	return s
}

// whose finds the trunk that certificates belong to: the first of the configuration,
// should there be more.
func whose(peers []*peer, shown []*x509.Certificate, now time.Time) *peer {
	for _, p := range peers {
		if p.vouch(shown, now) == nil {
			return p
		}
	}
	return nil
}

// Audience is who connects to one listener: phones, of whom a certificate is demanded
// or not, and trunks if it takes them.
type Audience struct {
	s      *Source
	demand Demand
	trunks bool
}

// Audience returns that of a listener.
func (s *Source) Audience(demand Demand, trunks bool) Audience {
	return Audience{s, demand, trunks && len(s.cfg.Trunks) > 0}
}

// Config is the listener's. Each call gives a new one, which the caller owns; all
// follow what the Source has in force.
func (a Audience) Config() *tls.Config { return a.s.config(audience{a.demand.auth(), a.trunks}) }

// Shows tells whether anybody is asked for a certificate.
func (a Audience) Shows() bool { return a.trunks || a.demand.auth() != tls.NoClientCert }

// Trunk is the name of the trunk whose certificate a client showed; empty: no trunk's.
func (a Audience) Trunk(state *tls.ConnectionState) string {
	if !a.trunks || len(state.PeerCertificates) == 0 {
		return ""
	}
	now, peers := time.Now(), a.s.trunks()
	p := whose(peers, state.PeerCertificates, now)
	if p == nil {
		return ""
	}
	rest := peers[slices.Index(peers, p)+1:]
	if other := whose(rest, state.PeerCertificates, now); other != nil {
		if _, told := a.s.doubles.LoadOrStore([2]string{p.Name, other.Name}, true); !told {
			a.s.log.Warn("a certificate is that of two trunks, and taken for the first; give them other identities, or pins",
				"trunk", p.Name, "other", other.Name, "certificate", holder(state.PeerCertificates[0]))
		}
	}
	return p.Name
}

// Users are those that a phone's certificate may speak for; nil if it showed none, or
// none was demanded: nobody has verified it then.
func (a Audience) Users(state *tls.ConnectionState) []string {
	if a.demand.auth() == tls.NoClientCert || a.Trunk(state) != "" {
		return nil
	}
	return a.s.Users(state)
}

// Withdrawn tells why a phone that is connected would not be taken any longer. Of trunks
// TrunkWithdrawn does.
func (a Audience) Withdrawn(state *tls.ConnectionState) error {
	if a.demand.auth() == tls.NoClientCert || a.Trunk(state) != "" {
		return nil
	}
	return a.s.Withdrawn(state)
}

// trunks are those in force.
func (s *Source) trunks() []*peer {
	if all := s.peers.Load(); all != nil {
		return *all
	}
	return nil
}

func (s *Source) peer(name string) *peer {
	for _, p := range s.trunks() {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// verifyShown judges what a client of a listener shows where there are trunks. Who is
// no trunk is a phone: its certificate is judged if phones are asked for one, and else
// is nobody's business. But one that has a trunk's name and does not hold is told, as
// it is meant for one.
func (s *Source) verifyShown(asked bool, state *tls.ConnectionState, now time.Time) error {
	shown := state.PeerCertificates
	if len(shown) == 0 {
		return nil // crypto/tls refuses who must show one
	}
	peers := s.trunks()
	if whose(peers, shown, now) != nil {
		return nil
	}
	var err error
	if a := s.clients.Load(); asked && a != nil {
		if err = a.judge(state, now); err == nil {
			return nil
		}
	}
	if meant := meant(peers, shown, now); meant != nil {
		return meant
	}
	return err
}

// judge is what crypto/tls and admits do together for a listener without trunks.
func (a *authority) judge(state *tls.ConnectionState, now time.Time) error {
	chains, err := a.verify(state.PeerCertificates, now)
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	judged := *state
	judged.VerifiedChains = chains
	return a.admits(&judged, now)
}

// meant tells why a certificate that has a trunk's name, or its key, is not taken for
// it; nil: it has no trunk's.
func meant(peers []*peer, shown []*x509.Certificate, now time.Time) error {
	for _, p := range peers {
		if slices.Contains(p.pins, PinOf(shown[0])) || len(p.pins) == 0 && speaksFor(shown[0], p.Identity) {
			return p.vouch(shown, now)
		}
	}
	return nil
}

// verify finds the ways from a phone's certificate to who may issue it.
func (a *authority) verify(shown []*x509.Certificate, at time.Time) ([][]*x509.Certificate, error) {
	return chainsTo(a.pool, shown, at, x509.ExtKeyUsageClientAuth)
}

// chainsTo finds the ways from the first of certificates to a CA, by way of the others;
// nil are the system's CAs.
func chainsTo(roots *x509.CertPool, shown []*x509.Certificate, at time.Time, use x509.ExtKeyUsage) ([][]*x509.Certificate, error) {
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{use}}
	for _, cert := range shown[1:] {
		opts.Intermediates.AddCert(cert)
	}
	return shown[0].Verify(opts)
}

// DialConfig is how the edge dials a trunk, where ServerName is to be set for each
// connection: a pairing made anew has another. It shows the edge's own certificate, or
// that of the pairing; what comes later into force holds for the next connection.
func (s *Source) DialConfig(name string) *tls.Config {
	return &tls.Config{
		ServerName:   s.ServerName(name),
		MinVersion:   max(s.cfg.Profile.minVersion(), tls.VersionTLS12), // legacy is for phones
		CipherSuites: Compatible.suites(),
		// The chain is verified below, by the trunk's own rules: by domain, which
		// is not the host's name that is dialled, or by pin.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			p := s.peer(name)
			if p == nil {
				return fmt.Errorf("trunk %q: %w", name, errNoTrunk)
			}
			return p.vouch(state.PeerCertificates, time.Now())
		},
		GetClientCertificate: func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if p := s.peer(name); p != nil && p.ours != nil {
				return p.ours, nil
			}
			return s.ownFor(r), nil
		},
	}
}

// ownFor is the edge's own certificate for a peer: the first that suits it. One that
// names CAs may be content with another by pin, so it gets the first if none does.
func (s *Source) ownFor(r *tls.CertificateRequestInfo) *tls.Certificate {
	home := s.current.Load().home
	for _, p := range home {
		if r.SupportsCertificate(&p.cert) == nil {
			return &p.cert
		}
	}
	return &home[0].cert
}

var errNoTrunk = errors.New("is not configured")

// ServerName is what a trunk's peer is asked for now: by its pairing's name it knows
// which certificate to show.
func (s *Source) ServerName(trunk string) string {
	p := s.peer(trunk)
	switch {
	case p == nil:
		return ""
	case p.pairing != nil:
		return p.pairing.TheirName
	}
	return p.Peer
}

// TrunkWithdrawn tells why the peer of a trunk that is connected would not be taken any
// longer.
func (s *Source) TrunkWithdrawn(name string) func(*tls.ConnectionState) error {
	return func(state *tls.ConnectionState) error {
		p := s.peer(name)
		if p == nil || len(state.PeerCertificates) == 0 {
			return nil
		}
		return p.withdrawn(state.PeerCertificates)
	}
}
