package tlsconf

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// lookAgain is the longest that the renewer sleeps: clocks are set, and machines
// suspended.
const lookAgain = time.Hour

// renewer fetches the certificate when it is due, and tries again when that
// fails. It never ends the edge, and never takes a certificate out of force.
type renewer struct {
	cfg        Config
	log        *slog.Logger
	source     *Source
	challenges *tlsChallenges
	order      func(context.Context) ([]byte, error)
	random     func() float64 // in [0, 1)
	nudged     chan struct{}  // holds one
	given      []byte         // by the CA, and not in force yet; run's goroutine's own

	mu       sync.Mutex // guards the rest
	next     time.Time
	wanted   bool // by the operator, whatever the certificate's age
	inARow   int  // failures
	fetched  uint64
	failures uint64
}

func newRenewer(s *Source) (*renewer, error) {
	r := &renewer{cfg: s.cfg, log: s.log, source: s, challenges: &tlsChallenges{}, random: rand.Float64, nudged: make(chan struct{}, 1)}
	o, err := newOrderer(s.cfg, s.log, r.challenges)
	if err != nil {
		return nil, err
	}
	r.order = o.order
	return r, nil
}

// run fetches until ctx ends. What the operator has asked for and not got is asked for
// again then, of the next process: the one after an upgrade, perhaps.
func (r *renewer) run(ctx context.Context) {
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.wanted {
			return
		}
		if err := Renew(r.cfg); err != nil {
			r.log.Warn("the renewal that was asked for is forgotten", "reason", err)
		}
	}()
	r.plan(time.Now())
	for ctx.Err() == nil {
		r.mu.Lock()
		wait := time.Until(r.next)
		r.mu.Unlock()
		if wait <= 0 {
			r.attempt(ctx)
			continue
		}
		timer := time.NewTimer(min(wait, lookAgain))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-r.nudged:
			r.mu.Lock()
			if r.inARow > 0 || r.wanted {
				r.next = time.Now()
			}
			r.mu.Unlock()
		}
		timer.Stop()
	}
}

// nudge lets it try at once what failed before: the operator may have mended it.
func (r *renewer) nudge() {
	select {
	case r.nudged <- struct{}{}:
	default:
	}
}

// renewalWanted is the name of a file in the folder "tls" that asks for a renewal.
const renewalWanted = "acme-renew"

// Renew asks for a new certificate before the one in force is due: by a file that
// the edge finds within seconds if it runs, and else at its start.
func Renew(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	if cfg.ACME == nil {
		return errors.New("tls.acme: is not true, so there is nothing to renew by ACME; for a self-signed certificate run `sallyport cert self-signed -anew`")
	}
	if err := cfg.keep(kept{renewalWanted, nil, 0o600}); err != nil {
		return fmt.Errorf("edge.state_dir: ask for a renewal: %w; run it as root, or as the user sallyport runs as", err)
	}
	return nil
}

// ask looks whether Renew was called.
func (r *renewer) ask() {
	err := os.Remove(filepath.Join(r.cfg.StateDir, "tls", renewalWanted))
	if err != nil { // there is none; or it can't be taken away, and would be found again and again
		return
	}
	r.log.Info("a renewal was asked for, by `sallyport cert renew`")
	r.mu.Lock()
	r.wanted = true
	r.mu.Unlock()
	r.nudge()
}

// plan sets the time for the next attempt by the certificate in force.
func (r *renewer) plan(now time.Time) {
	in := r.source.current.Load().pairs[0]
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next = now
	if in.desc.ACME != "" && r.cfg.ACME.KeyType.made(in.cert.Leaf.PublicKey) {
		r.next = due(in.cert.Leaf, r.random())
	}
}

// due is when a certificate is to be replaced: after two thirds of its life, as
// CAs advise, or somewhat before, so that not all of a day's come back on one.
func due(leaf *x509.Certificate, random float64) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return leaf.NotBefore.Add(time.Duration(float64(life) * (2.0/3 - random/30)))
}

// attempt orders once, and sets the time for the next.
func (r *renewer) attempt(ctx context.Context) {
	r.mu.Lock()
	wanted := r.wanted
	r.wanted = false
	r.mu.Unlock()
	err := r.fetch(ctx)
	if ctx.Err() != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.wanted = r.wanted || wanted && err != nil
		return
	}
	now := time.Now()
	if err == nil {
		r.mu.Lock()
		r.fetched, r.inARow = r.fetched+1, 0
		r.mu.Unlock()
		r.plan(now)
		return
	}
	r.mu.Lock()
	r.failures++
	r.inARow++
	wait := backoff(r.inARow, err, r.random())
	r.next = now.Add(wait)
	inARow := r.inARow
	r.mu.Unlock()
	in := r.source.current.Load().pairs[0].desc
	level, serves := slog.LevelWarn, "the one in force goes on"
	switch {
	case in.ACME == "":
		level, serves = slog.LevelError, "phones meanwhile get the self-signed one, which they must be given as their CA file"
	case now.After(in.NotAfter):
		level, serves = slog.LevelError, "the one in force has expired"
	case in.NotAfter.Sub(now) < in.NotAfter.Sub(in.NotBefore)/6: // half of the time for it is over
		level = slog.LevelError
	}
	r.log.Log(ctx, level, "no certificate from the CA; "+serves, "reason", r.cfg.ACME.why(err, r.cfg.Names), "failures", inARow,
		"again_in", wait.Round(time.Second), "file", in.File, "not_after", in.NotAfter)
}

// fetch orders a certificate and puts it in force. One that can't be kept here is not
// ordered again, but waits: CAs give few for the same names (Let's Encrypt five a week).
func (r *renewer) fetch(ctx context.Context) error {
	if r.given == nil {
		r.log.Info("asking the CA for a certificate", "names", strings.Join(r.cfg.Names, ", "), "ca", r.cfg.ACME.directory(), "challenges", r.cfg.ACME.challenges())
		data, err := r.order(ctx)
		if err != nil {
			return err
		}
		r.given = data
	}
	err := r.take(r.given, time.Now())
	var useless giftError
	if err == nil || errors.As(err, &useless) {
		r.given = nil
	}
	return err
}

// take keeps a certificate and puts it in force. A giftError says that it never will be.
func (r *renewer) take(data []byte, now time.Time) error {
	fresh, err := parsePair(data)
	if err != nil {
		return giftError{fmt.Errorf("read what the CA gave: %w", err)}
	}
	leaf := fresh.cert.Leaf
	if lacks := r.cfg.uncovered(leaf); lacks != "" {
		return giftError{fmt.Errorf("the CA's certificate %s", lacks)}
	}
	if at := due(leaf, 1); !now.Before(at) { // or it would be ordered again at once, and again
		return giftError{fmt.Errorf("the CA's certificate is valid from %s to %s, which is over or nearly so; check this machine's clock",
			leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339))}
	}
	if err := r.cfg.keep(kept{r.cfg.acmeName() + ".pem", data, 0o600}); err != nil {
		return fmt.Errorf("edge.state_dir: keep the certificate: %w; let the user sallyport runs as write there", err)
	}
	r.source.reload()
	if in := r.source.current.Load().pairs[0]; in.desc.ACME == "" || !in.cert.Leaf.Equal(leaf) {
		return fmt.Errorf("edge.state_dir: %s was kept and does not load; see the line before", r.cfg.acmeFile())
	}
	return nil
}

// backoff is how long to wait after so many failures in a row. A CA that was not
// reached may be soon. One that answered and refused counts: Let's Encrypt takes
// five failed validations an hour of an account and name. One that gave what is of no
// use counts more: the next would be no other, and Let's Encrypt gives five a week.
func backoff(failures int, err error, random float64) time.Duration {
	wait, factor, most := 10*time.Second, 2, time.Hour
	var refusal acme.Problem
	var useless giftError
	switch {
	case errors.As(err, &useless):
		wait, factor, most = 12*time.Hour, 2, 48*time.Hour
	case errors.As(err, &refusal):
		wait, factor, most = time.Minute, 3, 12*time.Hour
	}
	for range failures - 1 {
		wait = min(wait*time.Duration(factor), most)
	}
	return time.Duration(float64(wait) * (0.75 + random/2)) // many edges that lost one CA must not come back as one
}

// why says in an operator's words what kept the CA from giving a certificate.
func (a *ACME) why(err error, names []string) string {
	var p acme.Problem
	var unknown x509.UnknownAuthorityError
	var network *url.Error // a net.Error is a full disk's too
	step := ""
	switch {
	case errors.As(err, &p):
		step = a.step(p, names)
	case errors.As(err, &unknown):
		step = "tls.acme_ca_root: the CA's own certificate is from an issuer this machine does not know; name the issuer's file"
	case errors.As(err, &network):
		step = "tls.acme_ca: the CA is not reached; check the address, and this machine's way out"
	}
	if step == "" {
		return err.Error()
	}
	return step + ": " + err.Error()
}

// step is what to do about a CA's problem (RFC 8555 section 6.7), or nothing.
func (a *ACME) step(p acme.Problem, names []string) string {
	switch p.Type {
	case acme.ProblemTypeConnection, acme.ProblemTypeDNS, acme.ProblemTypeUnauthorized, acme.ProblemTypeTLS, acme.ProblemTypeIncorrectResponse:
		return fmt.Sprintf("edge.domain: the CA could not see that %s is this edge (%s); see that DNS leads here, and the port is open", strings.Join(names, ", "), a.challenges())
	case acme.ProblemTypeCAA:
		return "edge.domain: a CAA record in DNS forbids this CA; change it, or tls.acme_ca"
	case acme.ProblemTypeRejectedIdentifier, acme.ProblemTypeUnsupportedIdentifier:
		return "edge.domain: the CA gives no certificate for such a name"
	case acme.ProblemTypeExternalAccountRequired:
		return "tls.acme_eab_kid: the CA wants an account that you have with it; give what it gave you"
	case acme.ProblemTypeInvalidContact, acme.ProblemTypeUnsupportedContact:
		return "tls.acme_email: the CA does not take the address"
	case acme.ProblemTypeRateLimited:
		return "the CA has given or refused too many of late"
	}
	return ""
}

// ACMEStats are what a renewer counts.
type ACMEStats struct {
	Fetched  uint64
	Failures uint64        // attempts that brought none
	InARow   int           // of those, since the last that did
	Next     time.Duration // until the next attempt
}

func (r *renewer) stats() *ACMEStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &ACMEStats{Fetched: r.fetched, Failures: r.failures, InARow: r.inARow, Next: max(0, time.Until(r.next))}
}
