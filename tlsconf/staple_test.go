package tlsconf

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// responder is an OCSP responder in this process, whose answers a test decides.
type responder struct {
	t     *testing.T
	ca    *phoneCA
	url   string
	asked atomic.Int32

	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request, q *ocsp.Request)
}

func newResponder(t *testing.T) *responder {
	t.Helper()
	r := &responder{t: t, ca: newPhoneCA(t, "Our CA", nil)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.asked.Add(1)
		body, _ := io.ReadAll(req.Body)
		q, err := ocsp.ParseRequest(body)
		if err != nil || req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/ocsp-request" {
			http.Error(w, "no question", http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		answer := r.answer
		r.mu.Unlock()
		answer(w, req, q)
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	r.says(nil)
	return r
}

// says changes what it answers from now on.
func (r *responder) says(change func(*ocsp.Response)) {
	r.does(func(w http.ResponseWriter, _ *http.Request, q *ocsp.Request) {
		res := ocsp.Response{Status: ocsp.Good, SerialNumber: q.SerialNumber, ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(dayLong)}
		if change != nil {
			change(&res)
		}
		_, _ = w.Write(r.sign(r.ca.cert, r.ca.key, res))
	})
}

func (r *responder) does(answer func(http.ResponseWriter, *http.Request, *ocsp.Request)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *responder) sign(by *x509.Certificate, key crypto.Signer, res ocsp.Response) []byte {
	out, err := ocsp.CreateResponse(r.ca.cert, by, res, key)
	if err != nil {
		r.t.Error(err)
	}
	return out
}

// issued is a server's certificate that names the responder, and a Source of it.
func (r *responder) issued(change func(*x509.Certificate)) (Config, *Source, *bytes.Buffer) {
	r.t.Helper()
	cert := r.ca.issue(func(c *x509.Certificate) {
		c.URIs, c.DNSNames, c.ExtKeyUsage = nil, []string{"pbx.example.com"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		c.OCSPServer = []string{r.url}
		if change != nil {
			change(c)
		}
	})
	cfg := config(r.t)
	cfg.Files = []Files{chainFiles(r.t, cert.PrivateKey.(crypto.Signer), cert.Leaf, r.ca.cert)}
	log := &bytes.Buffer{}
	s, err := newSource(cfg, slog.New(slog.NewTextHandler(log, nil)), time.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	return cfg, s, log
}

// stapledTo is the answer that a client gets with the certificate.
func (r *responder) stapledTo(s *Source, version uint16) []byte {
	r.t.Helper()
	return r.servedBy(s, version).OCSPResponse
}

// servedBy is what a client sees of a Source.
func (r *responder) servedBy(s *Source, version uint16) (got tls.ConnectionState) {
	r.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(r.ca.cert)
	client := &tls.Config{RootCAs: roots, ServerName: "pbx.example.com", MaxVersion: version, VerifyConnection: func(state tls.ConnectionState) error {
		got = state
		return nil
	}}
	if _, err := seenClient(r.t, s.ServerConfig(Off), client); err != nil {
		r.t.Fatalf("a handshake without a staple must do: %v", err)
	}
	return got
}

func (r *responder) delegate(usage ...x509.ExtKeyUsage) tls.Certificate {
	return r.ca.issue(func(c *x509.Certificate) {
		c.URIs, c.ExtKeyUsage, c.Subject = nil, usage, pkix.Name{CommonName: "Delegate"}
	})
}

// What is good is stapled, and nothing else is; no handshake fails or waits for it.
func TestStaple(t *testing.T) {
	elsewhere := newResponder(t)
	for _, tc := range []struct {
		name   string
		does   func(r *responder)
		reason string // empty: stapled
	}{
		{"good", func(r *responder) { r.says(nil) }, ""},
		{"without nextUpdate", func(r *responder) { r.says(func(res *ocsp.Response) { res.NextUpdate = time.Time{} }) }, ""},
		{"by a delegate", func(r *responder) {
			d := r.delegate(x509.ExtKeyUsageOCSPSigning)
			r.does(func(w http.ResponseWriter, _ *http.Request, q *ocsp.Request) {
				_, _ = w.Write(r.sign(d.Leaf, d.PrivateKey.(crypto.Signer), ocsp.Response{Status: ocsp.Good, SerialNumber: q.SerialNumber, ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour), Certificate: d.Leaf}))
			})
		}, ""},
		{"by one who is no delegate", func(r *responder) {
			d := r.delegate(x509.ExtKeyUsageServerAuth)
			r.does(func(w http.ResponseWriter, _ *http.Request, q *ocsp.Request) {
				_, _ = w.Write(r.sign(d.Leaf, d.PrivateKey.(crypto.Signer), ocsp.Response{Status: ocsp.Good, SerialNumber: q.SerialNumber, ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour), Certificate: d.Leaf}))
			})
		}, "it is signed by CN=Delegate, which may not"},
		{"by another CA", func(r *responder) {
			r.does(func(w http.ResponseWriter, _ *http.Request, q *ocsp.Request) {
				_, _ = w.Write(r.sign(elsewhere.ca.cert, elsewhere.ca.key, ocsp.Response{Status: ocsp.Good, SerialNumber: q.SerialNumber, ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}))
			})
		}, "bad OCSP signature"},
		{"about another", func(r *responder) { r.says(func(res *ocsp.Response) { res.SerialNumber = big.NewInt(1) }) }, "no response matching"},
		{"revoked", func(r *responder) {
			r.says(func(res *ocsp.Response) { res.Status, res.RevokedAt = ocsp.Revoked, time.Now() })
		}, "our certificate is revoked: get another"},
		{"unknown", func(r *responder) { r.says(func(res *ocsp.Response) { res.Status = ocsp.Unknown }) }, "does not know the certificate"},
		{"stale", func(r *responder) {
			r.says(func(res *ocsp.Response) { res.NextUpdate = time.Now().Add(-2 * time.Second) })
		}, "it is stale since"},
		{"early", func(r *responder) { r.says(func(res *ocsp.Response) { res.ThisUpdate = time.Now().Add(time.Hour) }) }, "is yet to come"},
		{"elsewhere", func(r *responder) {
			r.does(func(w http.ResponseWriter, req *http.Request, _ *ocsp.Request) {
				http.Redirect(w, req, elsewhere.url, http.StatusTemporaryRedirect)
			})
		}, "it answers 307"},
		{"out of order", func(r *responder) {
			r.does(func(w http.ResponseWriter, _ *http.Request, _ *ocsp.Request) {
				http.Error(w, "no", http.StatusServiceUnavailable)
			})
		}, "it answers 503"},
		{"too large", func(r *responder) {
			r.does(func(w http.ResponseWriter, _ *http.Request, _ *ocsp.Request) {
				_, _ = w.Write(make([]byte, maxStaple+1))
			})
		}, "larger than 65536 bytes"},
		{"noise", func(r *responder) {
			r.does(func(w http.ResponseWriter, _ *http.Request, _ *ocsp.Request) { _, _ = io.WriteString(w, "good") })
		}, "read it: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newResponder(t)
			tc.does(r)
			_, s, log := r.issued(nil)
			if got := r.stapledTo(s, tls.VersionTLS13); got != nil || r.asked.Load() != 0 {
				t.Fatal("a handshake asks by itself")
			}
			p := s.current.Load().pairs[0]
			wait := s.staples.refresh(context.Background(), p)
			for version, v := range versions {
				got := r.stapledTo(s, v)
				if (got != nil) != (tc.reason == "") {
					t.Errorf("%s: stapled is %d bytes, want some: %v", version, len(got), tc.reason == "")
				}
				if got != nil {
					if res, err := ocsp.ParseResponseForCert(got, p.cert.Leaf, r.ca.cert); err != nil || res.Status != ocsp.Good {
						t.Errorf("%s: the client reads %v", version, err)
					}
				}
			}
			if !strings.Contains(log.String(), tc.reason) {
				t.Errorf("the log does not say %q:\n%s", tc.reason, log)
			}
			if tc.reason != "" && (wait < 5*time.Second || wait > time.Minute) {
				t.Errorf("it asks again in %s", wait)
			}
			if tc.name == "good" && (wait < 11*time.Hour || wait > 12*time.Hour) { // half of 25 hours, one of them past
				t.Errorf("it asks again in %s", wait)
			}
			asked := r.asked.Load()
			s.staples.refresh(context.Background(), p) // is not due
			if r.asked.Load() != asked {
				t.Error("it asks before it is due")
			}
		})
	}
	if elsewhere.asked.Load() != 0 {
		t.Error("one was asked whom the certificate does not name")
	}
}

// An answer is served as long as it holds, over a reload and a failure too, and is
// gone with a revocation.
func TestStapleGoesOn(t *testing.T) {
	r := newResponder(t)
	cfg, s, log := r.issued(nil)
	p := s.current.Load().pairs[0]
	s.staples.refresh(context.Background(), p)
	st := (*s.staples.kept.Load())[p.desc.Fingerprint]
	if st == nil {
		t.Fatal("nothing is stapled")
	}
	for at, want := range map[time.Time]bool{st.until.Add(-time.Second): true, st.until: false} {
		if got := s.staples.of(p, at).OCSPStaple != nil; got != want {
			t.Errorf("at %s it is stapled: %v", at, got)
		}
	}
	s.Reload()
	if r.stapledTo(s, tls.VersionTLS13) == nil {
		t.Error("it is lost by a reload")
	}
	more := encode("CERTIFICATE", newPhoneCA(t, "Above our CA", nil).cert.Raw)
	file, err := os.ReadFile(cfg.Files[0].Cert)
	if err == nil {
		err = os.WriteFile(cfg.Files[0].Cert, append(file, more...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.Reload()
	if got := r.servedBy(s, tls.VersionTLS13); len(got.PeerCertificates) != 3 || got.OCSPResponse == nil {
		t.Errorf("with another chain %d certificates are sent, want 3; stapled %v", len(got.PeerCertificates), got.OCSPResponse != nil)
	}
	r.does(func(w http.ResponseWriter, _ *http.Request, _ *ocsp.Request) {
		http.Error(w, "no", http.StatusInternalServerError)
	})
	var last time.Duration
	for range 4 {
		s.staples.tries[p.desc.Fingerprint].next = time.Now()
		wait := s.staples.refresh(context.Background(), p)
		if wait <= last/2 {
			t.Errorf("after a wait of %s it waits %s", last, wait)
		}
		last = wait
	}
	if n := strings.Count(log.String(), "no answer to staple"); n != 1 {
		t.Errorf("it is told %d times", n)
	}
	if r.stapledTo(s, tls.VersionTLS13) == nil {
		t.Error("it is lost by a failure")
	}
	r.says(func(res *ocsp.Response) { res.Status, res.RevokedAt = ocsp.Revoked, time.Now() })
	s.staples.tries[p.desc.Fingerprint].next = time.Now()
	s.staples.refresh(context.Background(), p)
	if r.stapledTo(s, tls.VersionTLS13) != nil || !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("after a revocation it is stapled still:\n%s", log)
	}
}

// A responder that says nothing keeps nobody waiting; and Run asks by itself, and
// ends in time.
func TestStapleBlocksNobody(t *testing.T) {
	r := newResponder(t)
	hold := make(chan struct{})
	r.does(func(http.ResponseWriter, *http.Request, *ocsp.Request) { <-hold })
	t.Cleanup(func() { close(hold) })
	_, s, _ := r.issued(nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	for deadline := time.Now().Add(10 * time.Second); r.asked.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody was asked")
		}
	}
	if r.stapledTo(s, tls.VersionTLS13) != nil { // it would wait for the hold
		t.Error("something is stapled")
	}
	s.Stats()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// feature has a certificate be stapled (RFC 7633).
func feature(c *x509.Certificate) {
	c.ExtraExtensions = []pkix.Extension{{Id: oidTLSFeature, Value: []byte{0x30, 3, 2, 1, 5}}}
}

// copyTo puts the files of a certificate in place of another's.
func (c Config) copyTo(t *testing.T, other Config) {
	t.Helper()
	for from, to := range map[string]string{c.Files[0].Cert: other.Files[0].Cert, c.Files[0].Key: other.Files[0].Key} {
		data, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// While a reload waits for the responder, nobody else does: not who reads metrics, nor
// a process that takes over, nor the list of revoked phones. The certificate of before is
// in force until then.
func TestReloadWaitsAlone(t *testing.T) {
	r := newResponder(t)
	cfg, _, _ := r.issued(feature)
	own, crl := newPhoneCA(t, "Phones", nil), filepath.Join(t.TempDir(), "crl.pem")
	own.list(crl, nil)
	cfg.Clients = Clients{CA: own.file, CRL: crl, TLS: Required}
	s, err := newSource(cfg, slog.New(slog.DiscardHandler), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	next, _, _ := r.issued(feature)
	next.copyTo(t, cfg)
	own.list(crl, nil, big.NewInt(7))
	clients := s.clients.Load()
	had, asked, hold := s.current.Load(), r.asked.Load(), make(chan struct{})
	r.does(func(http.ResponseWriter, *http.Request, *ocsp.Request) { <-hold })
	var reload sync.WaitGroup
	reload.Go(s.Reload)
	for deadline := time.Now().Add(10 * time.Second); r.asked.Load() == asked; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody was asked")
		}
	}
	if s.Stats(); s.current.Load() != had {
		t.Error("metrics wait for the responder")
	}
	if s.clients.Load() == clients {
		t.Error("who is revoked has the time that the responder takes")
	}
	if len(s.Tickets()) == 0 || s.current.Load() != had {
		t.Error("who takes over waits for the responder")
	}
	close(hold)
	reload.Wait()
	if s.Stats().Renewed != 2 || s.current.Load() == had { // with the list
		t.Error("the next is not taken")
	}
}

// A certificate that must be stapled is so from its first handshake on, at the start
// and when it replaces another; one that can't be is told.
func TestMustStaple(t *testing.T) {
	r := newResponder(t)
	cfg, s, log := r.issued(feature)
	if r.stapledTo(s, tls.VersionTLS12) == nil {
		t.Errorf("at the start it is not stapled:\n%s", log)
	}
	next, _, _ := r.issued(feature)
	next.copyTo(t, cfg)
	had := s.current.Load().pairs[0]
	s.Reload()
	if s.current.Load().pairs[0].desc.Fingerprint == had.desc.Fingerprint {
		t.Fatalf("the next is not taken:\n%s", log)
	}
	if r.stapledTo(s, tls.VersionTLS13) == nil {
		t.Error("the next is not stapled")
	}
	_, plain, _ := r.issued(nil) // the control: who need not, waits for nobody
	if r.stapledTo(plain, tls.VersionTLS13) != nil {
		t.Error("what need not be stapled is so at once")
	}
	alone := filepath.Join(t.TempDir(), "leaf.pem")
	writeLists(t, alone, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.current.Load().pairs[0].cert.Certificate[0]}))
	cfg.Files[0].Cert = alone
	certs, err := inspect(cfg, time.Now())
	if err != nil || !strings.Contains(strings.Join(certs[0].Warnings, "; "), "it must be stapled (RFC 7633)") {
		t.Errorf("without its issuer: %v, %v", certs, err)
	}
}
