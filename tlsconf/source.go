package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Source is the certificates in force. It is safe for concurrent use.
type Source struct {
	cfg     Config
	log     *slog.Logger
	current atomic.Pointer[set]
	clients atomic.Pointer[authority]                // nil if no listener asks
	peers   atomic.Pointer[[]*peer]                  // trunks, in the order of the Config
	serving atomic.Pointer[map[audience]*tls.Config] // of handshakes, made from the three above
	renewer *renewer                                 // nil without ACME
	staples *stapler
	doubles sync.Map      // pairs of trunks that one certificate was told to be both of
	onTaken func()        // the client CA or its list changed
	yielded chan struct{} // closed by Yield

	reloads sync.Mutex // one at a time; locked before mu
	mu      sync.Mutex // guards the rest; never held by a handshake, nor while a responder is asked
	tickets *tickets   // behind a pointer: no dump of a Source shows the keys
	files   fileState
	expiry  map[string]int // by fingerprint: the threshold last told, in days
	renewed uint64
	refused uint64
}

// fileState is what was seen of the files at the last looks.
type fileState struct {
	taken  string    // stamp of those that were last read
	before string    // stamp at the last look
	astray string    // why those of trunks were refused, or nothing
	faults []string  // for each certificate, and then the client CA: why its files were refused, or nothing
	tried  time.Time // when what is refused was last read
}

// pair is one certificate with its key and what may be said of it. It is
// immutable once it is stored in a Source.
type pair struct {
	cert  tls.Certificate
	chain []*x509.Certificate // what cert sends, parsed
	desc  Description
}

// New loads the certificates the Config names, or loads or makes the self-signed
// one, and says in log which they are.
func New(cfg Config, log *slog.Logger) (*Source, error) {
	return newSource(cfg, log, time.Now())
}

func newSource(cfg Config, log *slog.Logger, now time.Time) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Source{cfg: cfg, log: log, expiry: make(map[string]int), files: fileState{faults: make([]string, max(1, len(cfg.Files))+1)}, tickets: new(tickets), staples: newStapler(log), yielded: make(chan struct{})}
	s.files.taken = cfg.stamp() // before reading: what changes meanwhile is read again
	s.files.before = s.files.taken
	var loaded []*pair
	var err error
	switch {
	case cfg.ACME != nil:
		var p *pair
		p, err = keptOrStandIn(cfg, log, now)
		loaded = []*pair{p}
	case cfg.selfSigned():
		var p *pair
		p, err = ensureSelfSigned(cfg, log, now)
		loaded = []*pair{p}
		s.files.taken = cfg.stamp() // it may just have been made
	default:
		loaded, err = loadAll(cfg, now)
	}
	if err != nil {
		return nil, err
	}
	s.staples.prime(loaded, now)
	s.current.Store(newSet(cfg, loaded))
	clients, err := loadClients(cfg, now)
	if err != nil {
		return nil, err
	}
	s.clients.Store(clients)
	peers, err := loadTrunks(cfg, now)
	if err != nil {
		return nil, err
	}
	s.peers.Store(&peers)
	s.tickets.rotate(now)
	s.rebuild()
	if cfg.ACME != nil {
		if s.renewer, err = newRenewer(s); err != nil {
			return nil, err
		}
	}
	if w := cfg.Profile.Warning(); w != "" {
		log.Warn(w)
	}
	for _, d := range s.current.Load().describeAll(cfg, now) {
		s.announce(d, now)
	}
	if clients != nil {
		s.announceClients(clients, now)
	}
	for _, p := range peers {
		s.log.Info("trunk is known", "trunk", p.Name, "by", p.String())
	}
	return s, nil
}

// keptOrStandIn is the certificate fetched by ACME, or the self-signed one for as
// long as there is none.
func keptOrStandIn(cfg Config, log *slog.Logger, now time.Time) (*pair, error) {
	p, why, err := loadACME(cfg, now)
	if err != nil || p != nil {
		return p, err
	}
	if why == "" {
		why = "none was fetched yet"
	}
	log.Warn("no certificate from the CA; serving a self-signed one until there is", "ca", cfg.ACME.directory(), "reason", why)
	return ensureSelfSigned(cfg, log, now)
}

// loadAll loads every pair of files, and reports the faults of all.
func loadAll(cfg Config, now time.Time) ([]*pair, error) {
	var loaded []*pair
	var faults []error
	for _, f := range cfg.Files {
		p, err := loadNamed(f, now)
		loaded, faults = append(loaded, p), append(faults, err)
	}
	return loaded, errors.Join(faults...)
}

// certificate is asked at each handshake.
func (s *Source) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	for _, p := range s.trunks() {
		if p.pairing != nil && hello.ServerName == p.pairing.OurName {
			return p.ours, nil
		}
	}
	return s.staples.of(s.current.Load().choose(hello), time.Now()), nil
}

// Describe tells what certificates are in force, in the order of the Config.
func (s *Source) Describe() []Description { return s.current.Load().describeAll(s.cfg, time.Now()) }
