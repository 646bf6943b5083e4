package tlsconf

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

func challenge(kind string) acme.Challenge {
	return acme.Challenge{Type: kind, Token: "t0ken-_", KeyAuthorization: "t0ken-_.thumb", Identifier: acme.Identifier{Type: "dns", Value: "pbx.example.com"}}
}

func acmeConfig(t *testing.T) Config {
	t.Helper()
	c := config(t)
	c.ACME = &ACME{Directory: "https://ca.example/dir", TLS: true}
	return c
}

// The CA's question is answered in the handshakes of a listener that is there,
// while it is open, and whoever asks otherwise gets what phones get.
func TestTLSChallenge(t *testing.T) {
	s, _ := mustSource(t, acmeConfig(t), time.Now())
	listener := s.ServerConfig(Off)
	c := challenge(acme.ChallengeTypeTLSALPN01)
	asks := func(name string, protocols ...string) (protocol string, answered bool) {
		t.Helper()
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		deadline := time.Now().Add(10 * time.Second)
		_, _ = a.SetDeadline(deadline), b.SetDeadline(deadline)
		go func() { _ = tls.Server(a, listener).Handshake() }() // ends with the pipe
		conn := tls.Client(b, &tls.Config{ServerName: name, NextProtos: protocols, InsecureSkipVerify: true})
		if err := conn.Handshake(); err != nil {
			t.Fatalf("%s %q: %v", name, protocols, err)
		}
		state := conn.ConnectionState()
		for _, e := range state.PeerCertificates[0].Extensions {
			answered = answered || e.Id.String() == "1.3.6.1.5.5.7.1.31" && e.Critical // RFC 8737 section 3
		}
		return state.NegotiatedProtocol, answered
	}
	for _, tc := range []struct {
		name, sni string
		protocols []string
		open      bool
		answered  bool
	}{
		{"the CA", "pbx.example.com", []string{"acme-tls/1"}, true, true},
		{"the CA, in capitals", "PBX.Example.com", []string{"acme-tls/1"}, true, true},
		{"another name", "other.example.com", []string{"acme-tls/1"}, true, false},
		{"a phone", "pbx.example.com", nil, true, false},
		{"a phone with protocols", "pbx.example.com", []string{"sip"}, true, false},
		{"both at once", "pbx.example.com", []string{"acme-tls/1", "sip"}, true, false},
		{"no challenge", "pbx.example.com", []string{"acme-tls/1"}, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.open {
				if err := s.renewer.challenges.Present(t.Context(), c); err != nil {
					t.Fatal(err)
				}
			}
			protocol, answered := asks(tc.sni, tc.protocols...)
			if answered != tc.answered || (protocol == "acme-tls/1") != tc.answered {
				t.Errorf("answered %v by protocol %q, want %v", answered, protocol, tc.answered)
			}
			if err := s.renewer.challenges.CleanUp(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
}

var (
	firstPort  = rand.Uint32N(5000) // two runs side by side begin apart
	portsGiven atomic.Uint32
)

// freeAddr was free a moment ago, and is given once. Its port is none of those that the
// kernel gives to whoever asks for any, nor of another package's tests, which run
// meanwhile.
func freeAddr(t *testing.T) netip.AddrPort {
	t.Helper()
	for range 100 {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(20000+(firstPort+portsGiven.Add(1))%5000))
		if l, err := net.Listen("tcp", at.String()); err == nil {
			l.Close()
			return at
		}
	}
	t.Fatal("no port is free")
	return netip.AddrPort{}
}

// The port is ours while a challenge is open, and tells its answer alone.
func TestHTTPChallenge(t *testing.T) {
	at := freeAddr(t)
	s := &httpChallenges{at: []netip.AddrPort{at}, log: slog.New(slog.DiscardHandler)}
	first, second := challenge(acme.ChallengeTypeHTTP01), challenge(acme.ChallengeTypeHTTP01)
	second.Token, second.KeyAuthorization = "other", "other.thumb"
	if _, err := net.Dial("tcp", at.String()); err == nil {
		t.Fatal("the port is open before there is a challenge")
	}
	for _, c := range []acme.Challenge{first, second} {
		if err := s.Present(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(method, path string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, fmt.Sprintf("http://%s%s", at, path), nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return fmt.Sprintf("%d %s", res.StatusCode, strings.TrimSpace(string(body)))
	}
	const dir = "/.well-known/acme-challenge/"
	if got, want := ask("GET", dir+first.Token), "200 "+first.KeyAuthorization; got != want {
		t.Errorf("the CA gets %q, want %q", got, want)
	}
	for _, other := range []string{"/", dir, dir + "none", "/" + first.Token, dir + first.Token + "/"} {
		if got := ask("GET", other); got != "404 404 page not found" {
			t.Errorf("GET %s gets %q", other, got)
		}
	}
	if got := ask("POST", dir+first.Token); !strings.HasPrefix(got, "404 ") {
		t.Errorf("POST gets %q", got)
	}
	if err := s.CleanUp(t.Context(), first); err != nil {
		t.Error(err)
	}
	if got := ask("GET", dir+first.Token); !strings.HasPrefix(got, "404 ") {
		t.Errorf("after its end the challenge gets %q", got)
	}
	if got, want := ask("GET", dir+second.Token), "200 "+second.KeyAuthorization; got != want {
		t.Errorf("the other challenge gets %q, want %q", got, want)
	}
	for range 2 { // the second is of one that was never begun
		if err := s.CleanUp(t.Context(), second); err != nil {
			t.Error(err)
		}
	}
	l, err := net.Listen("tcp", at.String()) // it is free again, and now taken
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := s.Present(t.Context(), first); err == nil || !strings.Contains(err.Error(), "tls.acme_http: ") || !strings.Contains(err.Error(), "free the port") {
		t.Errorf("on a port that is taken: %v", err)
	}
	if err := s.CleanUp(t.Context(), first); err != nil {
		t.Error(err)
	}
}

// The web server's folder is given the answer, and no file beyond it is touched,
// whatever the CA calls its token and wherever links lead.
func TestWebroot(t *testing.T) {
	dir, c := t.TempDir(), challenge(acme.ChallengeTypeHTTP01)
	s := webroot(dir)
	defer syscall.Umask(syscall.Umask(0o077)) // as the service has it
	if err := s.Present(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, ".well-known", "acme-challenge", c.Token)
	if got, err := os.ReadFile(file); err != nil || string(got) != c.KeyAuthorization {
		t.Errorf("%q, %v, want %q", got, err, c.KeyAuthorization)
	}
	for path, want := range map[string]os.FileMode{file: 0o644, filepath.Dir(file): 0o755, filepath.Dir(filepath.Dir(file)): 0o755} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v (%v), want %04o: the web server can't read it", path, info.Mode(), err, want)
		}
	}
	for range 2 {
		if err := s.CleanUp(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the answer stays when the challenge is over")
	}
	for _, token := range []string{"", "..", "../../x", "a/b", "a b", "a\x00b", strings.Repeat("a", 256)} {
		bad := c
		bad.Token = token
		if err := s.Present(t.Context(), bad); err == nil {
			t.Errorf("a token %q was taken", token)
		}
		if err := (&httpChallenges{}).Present(t.Context(), bad); err == nil {
			t.Errorf("a token %q was taken", token)
		}
	}
	outside := t.TempDir()
	if err := os.RemoveAll(filepath.Join(dir, ".well-known")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, ".well-known")); err != nil {
		t.Fatal(err)
	}
	if err := s.Present(t.Context(), c); err == nil || !strings.Contains(err.Error(), "tls.acme_webroot: ") {
		t.Errorf("a link that leads out of the folder is followed: %v", err)
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("beyond the folder there are now %v", slices.Collect(func(yield func(string) bool) {
			for _, e := range left {
				if !yield(e.Name()) {
					return
				}
			}
		}))
	}
}
