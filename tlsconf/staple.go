package tlsconf

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ocsp"
)

const (
	stapleTimeout = 10 * time.Second // of one question
	primeTimeout  = 5 * time.Second  // likewise, where a certificate waits for the answer
	maxStaple     = 64 << 10         // bytes; one is some 500 to 2,000
	undatedStaple = time.Hour        // that one without nextUpdate is served for
)

// stapler asks the responders that our certificates name whether they are revoked
// (OCSP, RFC 6960), and keeps the answers, which handshakes hand on (RFC 6066 section
// 8). A handshake waits for none, and gets none that is over. One goroutine of Run
// asks; prime does too, which a reload waits for.
type stapler struct {
	log    *slog.Logger
	client *http.Client
	random func() float64
	woken  chan struct{}                       // holds one
	kept   atomic.Pointer[map[string]*stapled] // by the certificate's fingerprint

	tries map[string]*stapleTry // likewise; the goroutine's own
}

// stapled is the answer about a certificate. It is immutable.
type stapled struct {
	answer []byte
	from   time.Time
	until  time.Time
}

type stapleTry struct {
	next     time.Time
	failures int
	told     string
}

func newStapler(log *slog.Logger) *stapler {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // questions are days apart
	s := &stapler{log: log, random: rand.Float64, woken: make(chan struct{}, 1), tries: make(map[string]*stapleTry), client: &http.Client{
		Transport: transport, Timeout: stapleTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the certificate names whom to ask, and nobody else does
	}}
	s.kept.Store(&map[string]*stapled{})
	return s
}

// of is a certificate as it is to be served now: with what is behind it now, which may
// be another chain than when the answer came.
func (s *stapler) of(p *pair, now time.Time) *tls.Certificate {
	st := (*s.kept.Load())[p.desc.Fingerprint]
	if st == nil || !now.Before(st.until) {
		return &p.cert
	}
	cert := p.cert
	cert.OCSPStaple = st.answer
	return &cert
}

// responder is whom to ask about a certificate, and who issued it; nil if nobody is
// to be asked.
func (p *pair) responder() (at *url.URL, issuer *x509.Certificate) {
	leaf := p.cert.Leaf
	if len(leaf.OCSPServer) == 0 || len(p.chain) < 2 || leaf.CheckSignatureFrom(p.chain[1]) != nil {
		return nil, nil
	}
	at, err := url.Parse(leaf.OCSPServer[0])
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" {
		return nil, nil
	}
	return at, p.chain[1]
}

var (
	oidTLSFeature = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}
	statusRequest = 5 // the extension's number
)

// mustStaple tells whether clients refuse a certificate without an answer (RFC 7633).
func mustStaple(leaf *x509.Certificate) bool {
	for _, e := range leaf.Extensions {
		var features []int
		if !e.Id.Equal(oidTLSFeature) {
			continue
		}
		if _, err := asn1.Unmarshal(e.Value, &features); err == nil && slices.Contains(features, statusRequest) {
			return true
		}
	}
	return false
}

// stapleWarning is what an operator must know of a certificate that must be stapled,
// or nothing.
func (p *pair) stapleWarning() string {
	if at, _ := p.responder(); at == nil && mustStaple(p.cert.Leaf) {
		return "it must be stapled (RFC 7633), and names no responder, or its issuer is not behind it in the file: phones that check it will not connect"
	}
	return ""
}

// run asks until ctx ends, whenever an answer is due for what is in force.
func (s *stapler) run(ctx context.Context, inForce func() []*pair) {
	for ctx.Err() == nil {
		wait := lookAgain
		seen := make(map[string]bool)
		for _, p := range inForce() {
			if at, _ := p.responder(); at != nil && ctx.Err() == nil {
				seen[p.desc.Fingerprint] = true
				wait = min(wait, s.refresh(ctx, p))
			}
		}
		s.forget(seen)
		timer := time.NewTimer(max(wait, time.Second))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.woken:
		}
		timer.Stop()
	}
}

// wake has it look at what is in force now.
func (s *stapler) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// forget drops what is about certificates that are in force no longer.
func (s *stapler) forget(but map[string]bool) {
	for name := range s.tries {
		if !but[name] {
			delete(s.tries, name)
			s.keep(name, nil)
		}
	}
}

// refresh asks about a certificate if that is due, and returns when it will be.
func (s *stapler) refresh(ctx context.Context, p *pair) time.Duration {
	name, now := p.desc.Fingerprint, time.Now()
	try := s.tries[name]
	if try == nil {
		try = &stapleTry{next: now}
		if st := (*s.kept.Load())[name]; st != nil { // from prime
			try.next = st.due()
		}
		s.tries[name] = try
	}
	if wait := time.Until(try.next); wait > 0 {
		return wait
	}
	st, err := s.ask(ctx, p)
	if ctx.Err() != nil {
		return 0
	}
	if err == nil {
		s.keep(name, st)
		*try = stapleTry{next: maxTime(st.due(), now.Add(time.Minute))}
		s.log.Debug("certificate stapled", "file", p.desc.File, "until", st.until)
		return time.Until(try.next)
	}
	try.failures++
	wait := backoff(try.failures, err, s.random())
	try.next = now.Add(wait)
	if why := err.Error(); why != try.told {
		try.told = why
		level := slog.LevelWarn
		if errors.Is(err, errOurRevoked) || mustStaple(p.cert.Leaf) {
			level = slog.LevelError
		}
		s.log.Log(ctx, level, "no answer to staple to the certificate; the former one goes on until it is over", "file", p.desc.File, "reason", why, "again_in", wait.Round(time.Second))
	}
	if errors.Is(err, errOurRevoked) {
		s.keep(name, nil) // an answer from before would only say so later
	}
	return wait
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// due is when an answer is to be replaced: half-way, or the responder's outage of
// hours would be one of ours.
func (st *stapled) due() time.Time { return st.from.Add(st.until.Sub(st.from) / 2) }

func (s *stapler) keep(name string, st *stapled) {
	for { // prime and run may meet
		old := s.kept.Load()
		next := make(map[string]*stapled, len(*old)+1)
		for k, v := range *old {
			next[k] = v
		}
		if next[name] = st; st == nil {
			delete(next, name)
		}
		if s.kept.CompareAndSwap(old, &next) {
			return
		}
	}
}

// prime asks about those certificates that are refused without an answer, before
// they are put in force.
func (s *stapler) prime(pairs []*pair, now time.Time) {
	for _, p := range pairs {
		if at, _ := p.responder(); at == nil || !mustStaple(p.cert.Leaf) || s.of(p, now).OCSPStaple != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), primeTimeout)
		if st, err := s.ask(ctx, p); err == nil {
			s.keep(p.desc.Fingerprint, st)
		} // run asks again, and tells
		cancel()
	}
}

// ask asks the responder once, and verifies what it says.
func (s *stapler) ask(ctx context.Context, p *pair) (*stapled, error) {
	at, issuer := p.responder()
	question, err := ocsp.CreateRequest(p.cert.Leaf, issuer, nil)
	if err != nil {
		return nil, fmt.Errorf("make the question for %s: %w", at, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), bytes.NewReader(question))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", at, err)
	}
	req.Header.Set("Content-Type", "application/ocsp-request") // RFC 6960 appendix A.1
	req.Header.Set("User-Agent", "sallyport")
	res, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("the certificate's OCSP responder is not reached; see this machine's way out: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask %s: it answers %s", at, res.Status)
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxStaple+1))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", at, err)
	}
	if len(answer) > maxStaple {
		return nil, fmt.Errorf("ask %s: the answer is larger than %d bytes", at, maxStaple)
	}
	st := &stapled{answer: answer}
	if st.from, st.until, err = verifyStaple(answer, p.cert.Leaf, issuer, time.Now()); err != nil {
		return nil, fmt.Errorf("the answer of %s is not served: %w", at, err)
	}
	return st, nil
}

var errOurRevoked = errors.New("our certificate is revoked: get another")

// verifyStaple checks an answer as a client would (RFC 6960 section 3.2): by whom it
// is signed, about what, that it is good, and that its time is now.
func verifyStaple(answer []byte, leaf, issuer *x509.Certificate, now time.Time) (from, until time.Time, err error) {
	res, err := ocsp.ParseResponseForCert(answer, leaf, issuer)
	if err != nil {
		return from, until, fmt.Errorf("read it: %w", err)
	}
	if by := res.Certificate; by != nil && !by.Equal(issuer) { // section 4.2.2.2; the library looks at the signature alone
		switch {
		case !slices.Contains(by.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
			return from, until, fmt.Errorf("it is signed by %s, which may not", by.Subject)
		case now.Before(by.NotBefore) || now.After(by.NotAfter):
			return from, until, fmt.Errorf("it is signed by %s, whose time is over or yet to come", by.Subject)
		}
	}
	from, until = res.ThisUpdate, res.NextUpdate
	if until.IsZero() {
		from, until = now, now.Add(undatedStaple)
	}
	switch {
	case res.Status == ocsp.Revoked:
		err = errOurRevoked
	case res.Status != ocsp.Good:
		err = errors.New("the responder does not know the certificate")
	case res.ThisUpdate.After(now.Add(5 * time.Minute)):
		err = fmt.Errorf("it is of %s, which is yet to come; check this machine's clock", res.ThisUpdate.UTC().Format(time.RFC3339))
	case !now.Before(until):
		err = fmt.Errorf("it is stale since %s", until.UTC().Format(time.RFC3339))
	}
	return from, until, err
}
