package tlsconf

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// tlsChallenges answers TLS-ALPN-01 on the listeners that are there (RFC 8737).
type tlsChallenges struct {
	mu    sync.Mutex
	certs map[string]*tls.Certificate // by name, while its challenge is open
}

// Present implements acmez.Solver.
func (s *tlsChallenges) Present(_ context.Context, c acme.Challenge) error {
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return fmt.Errorf("make the challenge's certificate: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.certs == nil {
		s.certs = make(map[string]*tls.Certificate)
	}
	s.certs[strings.ToLower(c.Identifier.Value)] = cert
	return nil
}

// CleanUp implements acmez.Solver.
func (s *tlsChallenges) CleanUp(_ context.Context, c acme.Challenge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.certs, strings.ToLower(c.Identifier.Value))
	return nil
}

// answer is the configuration for a handshake that is the CA's question about a
// name whose challenge is open, and nil for all others. Anyone may ask: what is
// shown proves the name to this CA's order and to no one else.
func (s *tlsChallenges) answer(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if len(hello.SupportedProtos) != 1 || hello.SupportedProtos[0] != acmez.ACMETLS1Protocol { // RFC 8737 section 3
		return nil, nil
	}
	s.mu.Lock()
	cert := s.certs[strings.ToLower(hello.ServerName)]
	s.mu.Unlock()
	if cert == nil {
		return nil, nil
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS12, // RFC 8737 section 4
		Certificates:           []tls.Certificate{*cert},
		NextProtos:             []string{acmez.ACMETLS1Protocol},
		SessionTicketsDisabled: true,
	}, nil
}

const (
	maxChallengers   = 64 // connections at a time; a CA makes a handful
	challengeTimeout = 10 * time.Second
)

// httpChallenges answers HTTP-01 (RFC 8555 section 8.3) on a port that it holds
// only while a challenge is open. Who connects is unauthenticated.
type httpChallenges struct {
	at  []netip.AddrPort
	log *slog.Logger

	mu      sync.Mutex        // guards the rest
	answers map[string]string // by path
	server  *http.Server
	serving sync.WaitGroup
}

// Present implements acmez.Solver.
func (s *httpChallenges) Present(ctx context.Context, c acme.Challenge) error {
	if !plainToken(c.Token) {
		return errBadToken
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		if err := s.open(ctx); err != nil {
			return err
		}
		s.answers = make(map[string]string)
	}
	s.answers[c.HTTP01ResourcePath()] = c.KeyAuthorization
	return nil
}

// open binds every address. The caller holds the lock.
func (s *httpChallenges) open(ctx context.Context) error {
	var bound []net.Listener
	for _, at := range s.at {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at.String())
		if err != nil {
			for _, l := range bound {
				l.Close()
			}
			return fmt.Errorf("tls.acme_http: %w; free the port, or name its web server's folder in tls.acme_webroot", err)
		}
		bound = append(bound, l)
	}
	var here atomic.Int32
	s.server = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: challengeTimeout, ReadTimeout: challengeTimeout, WriteTimeout: challengeTimeout, IdleTimeout: challengeTimeout,
		MaxHeaderBytes: 8 << 10,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnState: func(nc net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				if here.Add(1) > maxChallengers {
					nc.Close()
				}
			case http.StateClosed:
				here.Add(-1)
			}
		},
	}
	for _, l := range bound {
		s.serving.Go(func() { _ = s.server.Serve(l) }) // ends with the server; close waits
	}
	return nil
}

// CleanUp implements acmez.Solver.
func (s *httpChallenges) CleanUp(_ context.Context, c acme.Challenge) error {
	s.mu.Lock()
	delete(s.answers, c.HTTP01ResourcePath())
	server := s.server
	if len(s.answers) > 0 || server == nil {
		s.mu.Unlock()
		return nil
	}
	s.server = nil
	s.mu.Unlock() // a request being answered may wait for it
	err := server.Close()
	s.serving.Wait()
	return err
}

// ServeHTTP answers the CA, and nobody else's questions.
func (s *httpChallenges) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	answer, open := s.answers[r.URL.Path]
	s.mu.Unlock()
	w.Header().Set("Connection", "close")
	if !open || r.Method != http.MethodGet {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream") // RFC 8555 section 8.3
	_, _ = io.WriteString(w, answer)
}

// webroot answers HTTP-01 through a web server that serves a folder.
type webroot string

// Present implements acmez.Solver.
func (s webroot) Present(_ context.Context, c acme.Challenge) error {
	return s.in(c, func(root *os.Root, path string) error {
		// The web server is another user, whatever our umask.
		for _, dir := range []string{".well-known", ".well-known/acme-challenge"} {
			err := root.Mkdir(dir, 0o755)
			if err == nil {
				err = root.Chmod(dir, 0o755)
			}
			if err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
		}
		return errors.Join(root.WriteFile(path, []byte(c.KeyAuthorization), 0o644), root.Chmod(path, 0o644))
	})
}

// CleanUp implements acmez.Solver.
func (s webroot) CleanUp(_ context.Context, c acme.Challenge) error {
	return s.in(c, func(root *os.Root, path string) error {
		if err := root.Remove(path); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	})
}

func (s webroot) in(c acme.Challenge, do func(root *os.Root, path string) error) error {
	if !plainToken(c.Token) {
		return errBadToken
	}
	root, err := os.OpenRoot(string(s))
	if err == nil {
		defer root.Close()
		err = do(root, strings.TrimPrefix(c.HTTP01ResourcePath(), "/"))
	}
	if err != nil {
		return fmt.Errorf("tls.acme_webroot: %w; let the user sallyport runs as write there", err)
	}
	return nil
}

var errBadToken = errors.New("the CA's challenge has a token that is no base64url (RFC 8555 section 8.1)")

// plainToken reports whether a token may be part of a path: base64url, as section
// 8.1 demands. It is the CA's word for a file of ours.
func plainToken(s string) bool {
	if len(s) == 0 || len(s) > 255 {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}) < 0
}
