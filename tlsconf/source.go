package tlsconf

import (
	"crypto/tls"
	"log/slog"
	"sync/atomic"
	"time"
)

// Source is the certificate in force. It is safe for concurrent use.
type Source struct {
	profile Profile
	current atomic.Pointer[pair]
}

// pair is one certificate with its key and what may be said of it. It is
// immutable once it is stored in a Source.
type pair struct {
	cert tls.Certificate
	desc Description
}

// New loads the certificate the Config names, or loads or makes the self-signed
// one, and says in log which it is.
func New(cfg Config, log *slog.Logger) (*Source, error) {
	return newSource(cfg, log, time.Now())
}

func newSource(cfg Config, log *slog.Logger, now time.Time) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	var p *pair
	var err error
	if cfg.selfSigned() {
		p, err = ensureSelfSigned(cfg, log, now)
	} else {
		p, err = loadNamed(cfg, now)
	}
	if err != nil {
		return nil, err
	}
	p.desc.Warnings = warnings(cfg, p.cert.Leaf, now)
	s := &Source{profile: cfg.Profile}
	s.current.Store(p)
	log.Info("certificate in force", "certificate", p.desc)
	if w := cfg.Profile.warning(); w != "" {
		log.Warn(w)
	}
	for _, w := range p.desc.Warnings {
		log.Warn("certificate needs attention", "reason", w)
	}
	return s, nil
}

// ServerConfig returns a configuration for a listener. Each call gives a new
// one, which the caller owns; all follow the Source's certificate.
func (s *Source) ServerConfig() *tls.Config {
	return &tls.Config{
		MinVersion:   s.profile.minVersion(),
		MaxVersion:   tls.VersionTLS13,
		CipherSuites: s.profile.suites(),
		// NextProtos stays empty on purpose: phones offer no protocol, "sip" or
		// "sip/2", and a list of ours would turn the others away (RFC 7301
		// section 3.2). The SIP reader refuses whatever is not SIP.
		GetCertificate: s.certificate,
	}
}

// certificate is asked at each handshake. The name the client asked for does
// not choose yet: there is one certificate.
func (s *Source) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &s.current.Load().cert, nil
}

// Describe tells what certificate is in force.
func (s *Source) Describe() Description { return s.current.Load().desc }

// Inspect tells what New would serve, and reports the fault it would end with.
// It writes nothing: a self-signed certificate still to be made is described as
// Pending.
func Inspect(cfg Config) (Description, error) {
	return inspect(cfg, time.Now())
}

func inspect(cfg Config, now time.Time) (Description, error) {
	if err := cfg.Validate(); err != nil {
		return Description{}, err
	}
	if !cfg.selfSigned() {
		p, err := loadNamed(cfg, now)
		if err != nil {
			return Description{}, err
		}
		p.desc.Warnings = warnings(cfg, p.cert.Leaf, now)
		return p.desc, nil
	}
	p, why, err := loadSelfSigned(cfg, now)
	if err != nil {
		return Description{}, err
	}
	if p == nil {
		return pending(cfg, why), nil
	}
	return p.desc, nil
}
