package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"
)

// Inspect tells what New would serve, and reports the faults it would end with.
// It writes nothing and asks nobody: a certificate still to be made or fetched is
// described as Pending.
func Inspect(cfg Config) ([]Description, error) {
	return inspect(cfg, time.Now())
}

func inspect(cfg Config, now time.Time) ([]Description, error) {
	s, why, err := survey(cfg, now)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return []Description{cfg.pending(why)}, nil
	}
	return s.describeAll(cfg, now), nil
}

// survey loads without writing. The set is nil when a certificate is still to be
// made or fetched, and why says what is wrong with the kept one, if there is one.
func survey(cfg Config, now time.Time) (_ *set, why string, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, "", err
	}
	if _, err := loadClients(cfg, now); err != nil {
		return nil, "", err
	}
	if _, err := loadTrunks(cfg, now); err != nil {
		return nil, "", err
	}
	if cfg.ACME != nil {
		if _, err := newOrderer(cfg, slog.New(slog.DiscardHandler), nil); err != nil {
			return nil, "", err
		}
		p, why, err := loadACME(cfg, now)
		if err != nil || p == nil {
			return nil, why, err
		}
		return newSet(cfg, []*pair{p}), "", nil
	}
	if !cfg.selfSigned() {
		loaded, err := loadAll(cfg, now)
		if err != nil {
			return nil, "", err
		}
		return newSet(cfg, loaded), "", nil
	}
	p, why, err := loadSelfSigned(cfg, now)
	if err != nil || p == nil {
		return nil, why, err
	}
	return newSet(cfg, []*pair{p}), "", nil
}

// View is what one kind of phone gets.
type View struct {
	Phone       string // what it can do
	Name        string // what it asks for; empty: it sends no name
	Certificate int    // which it gets, in the order of the Config; from 0
	Version     string // of TLS
	Suite       string
	Fault       error // why it gets none
}

// Views shakes hands, in memory, as phones old and new would: by edge.domain,
// without a name, and by the first that each certificate carries. There are none
// while a certificate is still to be made.
func Views(cfg Config) ([]View, error) {
	s, _, err := survey(cfg, time.Now())
	if err != nil || s == nil {
		return nil, err
	}
	source := &Source{cfg: cfg, tickets: new(tickets), staples: newStapler(slog.New(slog.DiscardHandler))}
	source.current.Store(s)
	var names []string
	for _, name := range slices.Concat(cfg.Names, []string{""}, s.names()) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	var out []View
	for _, name := range names {
		for _, phone := range []struct {
			can    string
			config *tls.Config
		}{
			{"TLS 1.3", &tls.Config{MinVersion: tls.VersionTLS13}},
			{"TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}},
			{"TLS 1.2, RSA alone", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: rsaSuites()}},
			{"TLS 1.0, RSA alone", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10, CipherSuites: rsaSuites()}},
		} {
			v := source.view(name, phone.config)
			v.Phone, v.Name = phone.can, name
			out = append(out, v)
		}
	}
	return out, nil
}

// names are one of each certificate.
func (s *set) names() []string {
	var out []string
	for _, p := range s.pairs {
		out = append(out, p.desc.Names[:min(1, len(p.desc.Names))]...)
	}
	return out
}

// rsaSuites are those of a phone that knows RSA certificates alone.
func rsaSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA,
	}
}

func (s *Source) view(name string, client *tls.Config) View {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	deadline := time.Now().Add(10 * time.Second)
	_, _ = ours.SetDeadline(deadline), theirs.SetDeadline(deadline)
	ended := make(chan error, 1)
	go func() { // ends with the handshake or its deadline; waited for below
		err := tls.Server(ours, s.serverConfig(audience{demand: tls.NoClientCert})).Handshake()
		if err != nil {
			ours.Close()
		}
		ended <- err
	}()
	client.ServerName = name
	client.InsecureSkipVerify = true // it is seen, not trusted
	phone := tls.Client(theirs, client)
	failed := phone.Handshake()
	if failed != nil {
		theirs.Close()
	}
	if err := <-ended; err != nil {
		return View{Fault: err}
	}
	if failed != nil {
		return View{Fault: failed}
	}
	state := phone.ConnectionState()
	at := slices.IndexFunc(s.current.Load().pairs, func(p *pair) bool { return p.cert.Leaf.Equal(state.PeerCertificates[0]) })
	return View{Certificate: at, Version: tls.VersionName(state.Version), Suite: tls.CipherSuiteName(state.CipherSuite)}
}

// Check looks for what would keep phones away: the faults New would end with, a
// name that is not carried, a chain that does not hold, an expiry within so many
// days. Notes are what may be meant so.
func Check(cfg Config, days int) (notes []string, err error) {
	return check(cfg, days, time.Now())
}

func check(cfg Config, within int, now time.Time) (notes []string, err error) {
	s, why, err := survey(cfg, now)
	if err != nil {
		return nil, err
	}
	if s == nil {
		note := "no certificate was made yet; the next start makes one, or `sallyport cert self-signed`"
		if cfg.ACME != nil {
			note = "no certificate was fetched yet; the edge does so when it runs, by " + cfg.ACME.challenges()
		}
		return append(cfg.pending(why).Warnings, note), nil
	}
	var faults []error
	for _, name := range cfg.Names {
		if len(s.named(name)) == 0 {
			faults = append(faults, fmt.Errorf("edge.domain: no certificate carries %s; get one that does, or change the domain", name))
		}
	}
	for _, p := range s.pairs {
		for _, w := range p.desc.Warnings {
			faults = append(faults, fmt.Errorf("%s: %s", p.key(), w))
		}
		if w := p.desc.expiryWarning(now); p.desc.NotAfter.Sub(now) < time.Duration(within)*dayLong {
			faults = append(faults, fmt.Errorf("%s: %s expires in %s; renew it", p.key(), p.desc.File, days(p.desc.NotAfter.Sub(now))))
		} else if w != "" {
			notes = append(notes, fmt.Sprintf("%s: %s", p.desc.File, w))
		}
		note, fault := p.trusted(now)
		if note != "" {
			notes = append(notes, note)
		}
		faults = append(faults, fault)
	}
	clients, err := loadClients(cfg, now)
	faults = append(faults, err)
	if clients != nil {
		for _, d := range clients.endings() {
			if d.NotAfter.Sub(now) < time.Duration(within)*dayLong {
				faults = append(faults, fmt.Errorf("sip.tls_client_cert: %s ends on %s; put the CA's present one into %s", d.client, day(d.NotAfter), d.File))
			}
		}
	}
	return notes, errors.Join(faults...)
}

// key is the one in the configuration that the certificate comes from.
func (p *pair) key() string {
	switch {
	case p.desc.ACME != "":
		return "tls.acme"
	case p.desc.SelfSigned:
		return "edge.state_dir"
	}
	return "tls.cert"
}

// trusted verifies the chain against the roots of this machine, which are much
// like a phone's.
func (p *pair) trusted(now time.Time) (note string, fault error) {
	if p.desc.SelfSigned {
		return fmt.Sprintf("it is self-signed: phones need %s as their CA file", p.desc.File), nil
	}
	between := x509.NewCertPool()
	for _, c := range p.chain[1:] {
		between.AddCert(c)
	}
	_, err := p.cert.Leaf.Verify(x509.VerifyOptions{Intermediates: between, CurrentTime: now})
	var unknown x509.UnknownAuthorityError
	var none x509.SystemRootsError
	switch {
	case err == nil:
		return "", nil
	case errors.As(err, &none):
		return "this machine has no list of CAs, so the chain is not verified", nil
	case errors.As(err, &unknown):
		return fmt.Sprintf("%s: this machine knows no CA that leads to it: if it is a CA of your own, phones need its file; if not, the intermediates are missing (the file holds %d of them)",
			p.desc.File, len(p.chain)-1), nil
	}
	return "", fmt.Errorf("%s: the chain in %s does not hold: %w; request a new certificate", p.key(), p.desc.File, err)
}
