package tlsconf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pollInterval is how often the files are looked at. What changed is taken one
// look later, when it has come to rest: certbot moves its links one by one.
const pollInterval = 2 * time.Second

// retryInterval is how often files that were refused are read again although
// they did not change: the fault may have been this machine's (its clock, or too
// many open files).
const retryInterval = time.Minute

// Run takes new certificates when their files change, fetches one by ACME when it
// is due, and warns of those that end, until ctx does. It returns nil.
func (s *Source) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	defer parts.Wait()
	serving, yield := context.WithCancel(ctx)
	defer yield()
	parts.Go(func() { s.staples.run(serving, func() []*pair { return s.current.Load().pairs }) })
	if s.renewer != nil {
		parts.Go(func() { s.renewer.run(serving) })
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	yielded := s.yielded
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-yielded:
			yield()
			yielded = nil
		case <-tick.C:
			s.look(time.Now())
		}
	}
}

// Yield leaves to a process after this one what only handshakes need, and what one
// process does at a time: to fetch certificates, to staple, to warn. It is called once.
// What is revoked is still told to OnTaken: phones with a call are still here.
func (s *Source) Yield() { close(s.yielded) }

func (s *Source) hasYielded() bool {
	select {
	case <-s.yielded:
		return true
	default:
		return false
	}
}

// Reload reads the files at once, whether they changed or not. Each certificate
// that is good is in force for the handshakes that begin when it returns; for
// each that is not, the former one stays. The log tells which. By ACME, what
// failed is tried again at once.
func (s *Source) Reload() {
	s.reload()
	if s.renewer != nil {
		s.renewer.nudge()
	}
}

func (s *Source) reload() {
	s.reloads.Lock()
	defer s.reloads.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takeAll(s.cfg.stamp(), time.Now())
}

func (s *Source) look(now time.Time) {
	s.reloads.Lock()
	defer s.reloads.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.cfg.stamp()
	switch {
	case at != s.files.taken && at == s.files.before:
		s.takeAll(at, now)
	case now.Sub(s.files.tried) >= retryInterval:
		s.take(now, func(i int) bool { return s.files.faults[i] != "" })
		if s.files.faults[len(s.files.faults)-1] != "" {
			s.takeClients(now)
		}
		if s.files.astray != "" {
			s.takeTrunks(now)
		}
	}
	if s.tickets.rotate(now) {
		s.rebuild()
	}
	s.files.before = at
	if s.hasYielded() {
		return
	}
	s.remind(now)
	if s.renewer != nil {
		s.renewer.ask()
	}
}

// takeAll loads the files whose stamp is at. The caller holds both locks.
func (s *Source) takeAll(at string, now time.Time) {
	s.files.taken, s.files.before = at, at
	clear(s.files.faults) // told again, as somebody did something
	s.files.astray = ""
	s.takeClients(now) // first: who is withdrawn must not have the time that a responder takes
	s.takeTrunks(now)
	s.take(now, func(int) bool { return true })
}

// take loads those certificates that are wanted. The caller holds both locks; mu is
// let go of while responders are asked. A fault is told once.
func (s *Source) take(now time.Time, wanted func(i int) bool) {
	s.files.tried = now
	old := s.current.Load()
	next := slices.Clone(old.pairs)
	for i, had := range old.pairs {
		if !wanted(i) {
			continue
		}
		p, err := s.cfg.load(i, now)
		if errors.Is(err, errNoneFetched) && had.desc.SelfSigned {
			continue // it stands in for what is to come
		}
		if err == nil {
			next[i], s.files.faults[i] = p, ""
			continue
		}
		if s.files.faults[i] == err.Error() {
			continue
		}
		s.files.faults[i] = err.Error()
		s.refused++
		s.log.Error("certificate refused; the one in force stays",
			"reason", err, "in_force", had.desc.Serial, "file", had.desc.File, "not_after", had.desc.NotAfter)
	}
	if slices.Equal(next, old.pairs) {
		return
	}
	s.mu.Unlock()
	s.staples.prime(next, now)
	s.mu.Lock()
	fresh := newSet(s.cfg, next)
	s.current.Store(fresh)
	s.staples.wake()
	for i, d := range fresh.describeAll(s.cfg, now) {
		switch had := old.pairs[i]; {
		case next[i] == had: // was not to be taken, and told so
		case d.Fingerprint == had.desc.Fingerprint:
			s.log.Info("certificate read anew: it is the one in force", "file", d.File, "serial", d.Serial)
		default:
			s.renewed++
			s.announce(d, now)
		}
	}
}

// load reads certificate i of the Config, and makes none.
func (c Config) load(i int, now time.Time) (*pair, error) {
	switch {
	case c.ACME != nil:
		p, why, err := loadACME(c, now)
		if err == nil && p == nil {
			if why == "" {
				why = "it is gone"
			}
			err = fmt.Errorf("edge.state_dir: %s: %w: %s; restart, and another is fetched", c.acmeFile(), errNoneFetched, why)
		}
		return p, err
	case !c.selfSigned():
		return loadNamed(c.Files[i], now)
	}
	p, why, err := loadSelfSigned(c, now)
	if err == nil && p == nil {
		if why == "" {
			why = "is gone"
		}
		err = fmt.Errorf("edge.state_dir: %s: %w: %s; run `sallyport cert self-signed` or restart, and a new one is made", c.selfSignedCrt(), errRemake, why)
	}
	return p, err
}

var (
	errRemake      = errors.New("the self-signed certificate no longer serves")
	errNoneFetched = errors.New("there is no certificate from the CA")
)

// stamp changes whenever a file does, or a link on the way to it. The time of the
// last change of the inode, unlike that of the content, is nobody's to set, and
// tells of chmod too.
func (c Config) stamp() string {
	files := c.Files
	switch {
	case c.ACME != nil:
		files = []Files{{Cert: c.acmeFile()}}
	case c.selfSigned():
		files = []Files{{c.selfSignedCrt(), c.selfSignedKey()}}
	}
	if c.Clients.Asked() {
		ca, crl := c.clientFiles()
		files = append(slices.Clone(files), Files{ca, crl})
	}
	for _, t := range c.Trunks {
		f := Files{t.CA, t.CRL}
		if t.ByPairing() {
			f = Files{Cert: c.pairingFile(t.Name)}
		}
		files = append(slices.Clone(files), f)
	}
	var b strings.Builder
	for _, f := range files {
		for _, path := range []string{f.Cert, f.Key} {
			if path == "" { // both are one file
				continue
			}
			var st unix.Stat_t
			if err := unix.Stat(path, &st); err != nil {
				fmt.Fprintln(&b, err)
				continue
			}
			fmt.Fprintln(&b, st.Dev, st.Ino, st.Size, st.Ctim)
		}
	}
	return b.String()
}
