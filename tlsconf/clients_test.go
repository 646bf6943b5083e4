package tlsconf

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// phoneCA issues certificates to phones in a test, in its own way.
type phoneCA struct {
	t    *testing.T
	cert *x509.Certificate
	key  crypto.Signer
	file string
	last int64
}

func newPhoneCA(t *testing.T, name string, parent *phoneCA) *phoneCA {
	t.Helper()
	key, err := ECDSA.generate()
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-2 * dayLong), NotAfter: time.Now().Add(300 * dayLong),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	c := &phoneCA{t: t, key: key, last: 100}
	by, byKey := tmpl, key
	if parent != nil {
		by, byKey = parent.cert, parent.key
		parent.last++
		tmpl.SerialNumber = big.NewInt(parent.last)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, by, key.Public(), byKey)
	if err != nil {
		t.Fatal(err)
	}
	c.cert, _ = x509.ParseCertificate(der)
	c.file = writePEM(t, "CERTIFICATE", der, 0o644)
	return c
}

func (c *phoneCA) issue(change func(*x509.Certificate)) tls.Certificate {
	c.t.Helper()
	key, _ := ECDSA.generate()
	c.last++
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(c.last), Subject: pkix.Name{CommonName: "phone"}, NotBefore: time.Now().Add(-dayLong), NotAfter: time.Now().Add(dayLong),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, URIs: []*url.URL{{Scheme: "sip", Opaque: "1001@pbx.example.com"}},
	}
	if change != nil {
		change(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, c.cert, key.Public(), c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// list writes a revocation list into a file, in place of the one there.
func (c *phoneCA) list(file string, change func(*x509.RevocationList), serials ...*big.Int) {
	c.t.Helper()
	writeLists(c.t, file, c.revokes(change, serials...))
}

func (c *phoneCA) revokes(change func(*x509.RevocationList), serials ...*big.Int) []byte {
	c.t.Helper()
	c.last++
	tmpl := &x509.RevocationList{Number: big.NewInt(c.last), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(dayLong)}
	for _, n := range serials {
		tmpl.RevokedCertificateEntries = append(tmpl.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: time.Now().Add(-time.Hour)})
	}
	if change != nil {
		change(tmpl)
	}
	der, err := x509.CreateRevocationList(rand.Reader, tmpl, c.cert, c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func writeLists(t *testing.T, file string, lists ...[]byte) {
	t.Helper()
	if err := errors.Join(os.WriteFile(file+".new", bytes.Join(lists, nil), 0o644), os.Rename(file+".new", file)); err != nil {
		t.Fatal(err)
	}
}

// seenClient shakes hands and lets a byte pass each way, so that tickets arrive, and
// returns what the server knows of the client.
func seenClient(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	a, b := tcpPair(t)
	deadline := time.Now().Add(10 * time.Second)
	_, _ = a.SetDeadline(deadline), b.SetDeadline(deadline)
	srv := tls.Server(a, server)
	done := make(chan error, 1)
	go func() { // ends with the exchange or the deadline; waited for below
		err := srv.Handshake()
		if err == nil {
			_, err = srv.Write([]byte{'.'})
		}
		if err == nil {
			_, err = srv.Read(make([]byte, 1))
		}
		a.Close()
		done <- err
	}()
	cl := tls.Client(b, client)
	if _, err := cl.Read(make([]byte, 1)); err == nil {
		_, _ = cl.Write([]byte{'.'})
	}
	b.Close()
	err := <-done
	return srv.ConnectionState(), err
}

// tcpPair is a connection: unlike a net.Pipe it lets both ends write at a time.
func tcpPair(t *testing.T) (server, client net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err == nil {
		server, err = ln.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	return server, client
}

func clientOf(t *testing.T, s *Source, certs ...tls.Certificate) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.current.Load().pairs[0].cert.Leaf)
	return &tls.Config{RootCAs: roots, ServerName: "pbx.example.com", Certificates: certs}
}

var versions = map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13}

func refusedAs(err error) string {
	var told interface{ Refused() string }
	if errors.As(err, &told) {
		return told.Refused()
	}
	return ""
}

func TestClientCertificates(t *testing.T) {
	own, foreign := newPhoneCA(t, "Phones", nil), newPhoneCA(t, "Others", nil)
	middle := newPhoneCA(t, "Middle", own)
	good := own.issue(nil)
	revoked := own.issue(nil)
	under := middle.issue(nil)
	under.Certificate = append(under.Certificate, middle.cert.Raw)
	crl := filepath.Join(t.TempDir(), "phones.crl")
	own.list(crl, nil, revoked.Leaf.SerialNumber)
	for _, tc := range []struct {
		name       string
		cert       []tls.Certificate
		reason     string // of ours
		words      string // in the error; empty: it is taken where it is asked for
		needs, opt bool   // taken if required, and if optional
		users      string
	}{
		{name: "none", words: "client didn't provide a certificate", opt: true},
		{name: "the right one", cert: []tls.Certificate{good}, needs: true, opt: true, users: "1001"},
		{name: "another CA's", cert: []tls.Certificate{foreign.issue(nil)}, words: "unknown authority"},
		{name: "expired", cert: []tls.Certificate{own.issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })}, words: "expired"},
		{name: "early", cert: []tls.Certificate{own.issue(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })}, words: "not yet valid"},
		{name: "revoked", cert: []tls.Certificate{revoked}, reason: "revoked", words: crl + " lists serial"},
		{name: "a server's", cert: []tls.Certificate{own.issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })}, words: "incompatible key usage"},
		{name: "of nobody", cert: []tls.Certificate{own.issue(func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "sip", Opaque: "1001@elsewhere.example"}} })}, reason: "no_user", words: "names no user of pbx.example.com"},
		{name: "of a CA between that has no list", cert: []tls.Certificate{under}, reason: "no_crl", words: "has no list by CN=Middle"},
	} {
		for version, v := range versions {
			for _, demand := range []Demand{Off, Optional, Required} {
				t.Run(fmt.Sprintf("%s, %s, %s", tc.name, version, demand), func(t *testing.T) {
					cfg := config(t)
					cfg.Clients = Clients{CA: own.file, CRL: crl, TLS: demand, WSS: Required}
					s, _ := mustSource(t, cfg, time.Now())
					client := clientOf(t, s)
					client.MaxVersion, client.MinVersion = v, v
					client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // whatever the server would take
						return &append(slices.Clone(tc.cert), tls.Certificate{})[0], nil
					}
					state, err := seenClient(t, s.ServerConfig(demand), client)
					want := map[Demand]bool{Off: true, Optional: tc.opt, Required: tc.needs}[demand]
					if (err == nil) != want {
						t.Fatalf("refused with %v, want it taken: %v", err, want)
					}
					if err == nil {
						users := s.Users(&state)
						if demand == Off {
							if users != nil {
								t.Errorf("nobody was asked, and it may be %q", users)
							}
						} else if strings.Join(users, ",") != tc.users {
							t.Errorf("it may be %q, want %q", users, tc.users)
						}
						return
					}
					if !strings.Contains(err.Error(), tc.words) || refusedAs(err) != tc.reason {
						t.Errorf("refused with %q (%v), want %q (%v)", err, refusedAs(err), tc.words, tc.reason)
					}
				})
			}
		}
	}
}

// A process that was replaced still tells what was revoked, of which its phones are told;
// it warns and fetches no more.
func TestRevokedAfterYield(t *testing.T) {
	own := newPhoneCA(t, "Phones", nil)
	crl := filepath.Join(t.TempDir(), "phones.crl")
	own.list(crl, nil)
	cfg := config(t)
	cfg.Clients = Clients{CA: own.file, CRL: crl, TLS: Required}
	s, said := watchedAt(t, cfg, time.Now())
	taken := make(chan struct{}, 9)
	s.OnTaken(func() { taken <- struct{}{} })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }() // ends with ctx; waited for below
	s.Yield()
	own.list(crl, nil, own.issue(nil).Leaf.SerialNumber)
	select {
	case <-taken:
	case <-time.After(20 * pollInterval):
		t.Error("nobody is told that a certificate was revoked")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	said()
	serving, warned := watchedAt(t, cfg, time.Now())
	late := s.Describe()[0].NotAfter.Add(-time.Hour)
	s.look(late)
	serving.look(late)
	if log := said(); log != "" || warned() == "" {
		t.Errorf("it warns, or nobody does:\n%s", log)
	}
}

// A session that is resumed is looked at anew: its chain is there, what was revoked
// since is refused, and what was not goes on, over a change of our certificate too.
func TestResumedClients(t *testing.T) {
	for version, v := range versions {
		t.Run(version, func(t *testing.T) {
			own := newPhoneCA(t, "Phones", nil)
			other := newPhoneCA(t, "Others", nil)
			crl := filepath.Join(t.TempDir(), "phones.crl")
			own.list(crl, nil)
			cfg := config(t)
			cfg.Clients = Clients{CA: writeCopy(t, own.file), CRL: crl, TLS: Required}
			s, _ := mustSource(t, cfg, time.Now())
			server := s.ServerConfig(Required) // of one listener, all along
			phone, stays := own.issue(nil), own.issue(nil)
			client, control := clientOf(t, s, phone), clientOf(t, s, stays)
			for _, c := range []*tls.Config{client, control} {
				c.MaxVersion, c.ClientSessionCache = v, tls.NewLRUClientSessionCache(1)
			}
			check := func(step string, c *tls.Config, resumed bool, reason string) {
				t.Helper()
				state, err := seenClient(t, server, c)
				if refusedAs(err) != reason || (err != nil) != (reason != "") {
					t.Fatalf("%s: %v, want the reason %q", step, err, reason)
				}
				if err == nil && (state.DidResume != resumed || len(state.VerifiedChains) == 0 || strings.Join(s.Users(&state), "") != "1001") {
					t.Fatalf("%s: resumed %v with %d chains for %q, want resumed %v", step, state.DidResume, len(state.VerifiedChains), s.Users(&state), resumed)
				}
			}
			check("first", client, false, "")
			check("second", client, true, "")
			check("the control's first", control, false, "")
			if _, made, err := MakeSelfSigned(cfg, true); err != nil || !made {
				t.Fatal(err)
			}
			s.Reload()
			check("after another certificate of ours", control, true, "")

			taken := 0
			s.OnTaken(func() { taken++ })
			own.list(crl, nil, phone.Leaf.SerialNumber)
			s.Reload()
			if taken != 1 {
				t.Errorf("told of %d lists, want 1", taken)
			}
			check("revoked since", client, true, "revoked")
			client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			client.RootCAs = clientOf(t, s).RootCAs
			check("revoked, without a ticket", client, false, "revoked")
			check("the control's", control, true, "")

			if err := os.WriteFile(crl, other.revokes(nil), 0o644); err != nil { // a broken one
				t.Fatal(err)
			}
			s.Reload()
			check("with a list by another", control, true, "")
			check("revoked, and the list broken", client, false, "revoked")

			data, _ := os.ReadFile(other.file)
			own.list(crl, nil) // and another CA: neither alone would load
			writeLists(t, crl, other.revokes(nil))
			if err := os.WriteFile(cfg.Clients.CA, data, 0o644); err != nil {
				t.Fatal(err)
			}
			s.Reload()
			control.RootCAs = clientOf(t, s).RootCAs
			if _, err := seenClient(t, server, control); err == nil || !strings.Contains(err.Error(), "unknown authority") && !strings.Contains(err.Error(), "didn't provide") {
				t.Fatalf("its CA is trusted no longer: %v", err)
			}
		})
	}
}

// Who is connected is withdrawn by a list or a change of the CA, and by nothing else.
func TestWithdrawn(t *testing.T) {
	own := newPhoneCA(t, "Phones", nil)
	other := newPhoneCA(t, "Others", nil)
	crl := filepath.Join(t.TempDir(), "phones.crl")
	own.list(crl, nil)
	cfg := config(t)
	cfg.Clients = Clients{CA: writeCopy(t, own.file), CRL: crl, TLS: Optional}
	s, _ := mustSource(t, cfg, time.Now())
	phone := own.issue(nil)
	state, err := seenClient(t, s.ServerConfig(Optional), clientOf(t, s, phone))
	if err != nil {
		t.Fatal(err)
	}
	none, err := seenClient(t, s.ServerConfig(Optional), clientOf(t, s))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name   string
		do     func()
		reason string
	}{
		{"nothing", func() {}, ""},
		{"the list is stale", func() { own.list(crl, func(l *x509.RevocationList) { l.NextUpdate = time.Now().Add(-time.Second) }) }, ""},
		{"revoked", func() { own.list(crl, nil, phone.Leaf.SerialNumber) }, "revoked"},
		{"another CA", func() {
			data, _ := os.ReadFile(other.file)
			_ = os.WriteFile(cfg.Clients.CA, data, 0o644)
			writeLists(t, crl, other.revokes(nil))
		}, "unknown_ca"},
	} {
		step.do()
		s.Reload()
		if err := s.Withdrawn(&state); refusedAs(err) != step.reason || (err != nil) != (step.reason != "") {
			t.Errorf("%s: %v, want the reason %q", step.name, err, step.reason)
		}
		if err := s.Withdrawn(&none); err != nil {
			t.Errorf("%s: who showed none is withdrawn: %v", step.name, err)
		}
	}
}
