package tlsconf

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// given is a certificate with its key, as an order brings it.
func given(t *testing.T, from, until time.Time, names ...string) []byte {
	t.Helper()
	crt, key := pairOf(t, func(c *x509.Certificate) { c.NotBefore, c.NotAfter, c.DNSNames = from, until, names })
	var out []byte
	for _, f := range []string{crt, key} {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, data...)
	}
	return out
}

// fakeCA is what an order brings, when it was asked, and what was logged.
type fakeCA struct {
	mu    sync.Mutex // guards the rest
	gives func() ([]byte, error)
	asked []time.Time
	log   bytes.Buffer
}

func (f *fakeCA) order(context.Context) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, time.Now())
	return f.gives()
}

// from now on the CA gives something else, and the log is empty.
func (f *fakeCA) from(gives func() ([]byte, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gives = gives
	f.log.Reset()
}

func (f *fakeCA) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.log.Write(p)
}

// seen is when the CA was asked, and what was logged.
func (f *fakeCA) seen() ([]time.Time, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked), f.log.String()
}

var (
	errDown    = &url.Error{Op: "Get", URL: "https://ca.example/dir", Err: &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}}
	errRefused = fmt.Errorf("solve: %w", acme.Problem{Type: acme.ProblemTypeConnection, Detail: "no route"})
)

// renewing runs the half of a Source that renews, until end is called; that the
// other half looks at files every two seconds would take long over months.
func renewing(t *testing.T, cfg Config, ca *fakeCA) (s *Source, end func()) {
	t.Helper()
	s, err := New(cfg, slog.New(slog.NewTextHandler(ca, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s.renewer.order, s.renewer.random = ca.order, func() float64 { return 0.5 }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { // ends with ctx; end waits
		defer close(ended)
		s.renewer.run(ctx)
	}()
	return s, func() {
		cancel()
		<-ended
	}
}

// Down at first, the CA is asked at growing intervals; the self-signed certificate
// serves. Then it gives one, and another after two thirds of its life; then it is
// down again, beyond the certificate's end.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := acmeConfig(t)
		ca := new(fakeCA)
		ca.from(func() ([]byte, error) { return nil, errDown })
		s, end := renewing(t, cfg, ca)
		defer end()
		day := 24 * time.Hour
		later := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		begin := time.Now()
		later(2*time.Minute + time.Second)
		asked, log := ca.seen()
		var gaps []time.Duration
		for i := 1; i < len(asked); i++ {
			gaps = append(gaps, asked[i].Sub(asked[i-1]))
		}
		if want := []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second}; asked[0] != begin || !slices.Equal(gaps, want) {
			t.Fatalf("the CA was asked after %v, want at once and after %v", gaps, want)
		}
		if d := s.Describe()[0]; !d.SelfSigned {
			t.Errorf("in force is %s, want the self-signed one", d)
		}
		for _, words := range []string{"serving a self-signed one until there is", "level=ERROR", "phones meanwhile get the self-signed one", "tls.acme_ca: the CA is not reached", "failures=4", "again_in=1m20s"} {
			if !strings.Contains(log, words) {
				t.Errorf("the log lacks %q:\n%s", words, log)
			}
		}
		if st := s.Stats().ACME; st.Failures != 4 || st.InARow != 4 || st.Fetched != 0 || st.Next <= 0 {
			t.Errorf("counted %+v", st)
		}

		// A good one, at once on SIGHUP.
		ca.from(func() ([]byte, error) {
			return given(t, time.Now(), time.Now().Add(90*day), "pbx.example.com"), nil
		})
		s.Reload()
		synctest.Wait()
		first := s.Describe()[0]
		if asked, _ = ca.seen(); first.SelfSigned || first.ACME != "https://ca.example/dir" || len(asked) != 5 {
			t.Fatalf("after SIGHUP, asked %d times, in force is %s", len(asked), first)
		}
		if info, err := os.Stat(first.File); err != nil || info.Mode().Perm() != 0o600 || !strings.HasPrefix(first.File, cfg.StateDir) {
			t.Errorf("it is kept as %s with %v (%v), want mode 0600 in the state folder", first.File, info, err)
		}
		s.Reload() // nothing failed: nothing to try
		later(50 * day)
		if asked, _ = ca.seen(); len(asked) != 5 {
			t.Fatalf("it was asked again %s later", asked[5].Sub(asked[4]))
		}
		later(9 * day) // 58.5 of 90
		s.look(time.Now())
		second := s.Describe()[0]
		asked, log = ca.seen()
		if len(asked) != 6 || second.Fingerprint == first.Fingerprint {
			t.Fatalf("after 59 of 90 days it was asked %d times, want 6", len(asked))
		}
		if strings.Contains(log, "needs attention") || strings.Contains(log, "level=WARN") {
			t.Errorf("a renewal in time is complained of:\n%s", log)
		}

		// Asked for by the operator.
		if err := Renew(cfg); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			s.look(time.Now())
			later(time.Second)
		}
		second = s.Describe()[0]
		if asked, _ = ca.seen(); len(asked) != 7 {
			t.Fatalf("after Renew it was asked %d times, want 7", len(asked))
		}

		// Refused from then on.
		ca.from(func() ([]byte, error) { return nil, errRefused })
		for range 91 {
			later(day)
			s.look(time.Now())
		}
		asked, log = ca.seen()
		if d := s.Describe()[0]; d.Fingerprint != second.Fingerprint {
			t.Errorf("in force is %s, want the former one", d)
		}
		for _, words := range []string{"level=WARN msg=\"no certificate from the CA; the one in force goes on\"", "edge.domain: the CA could not see that pbx.example.com is this edge (TLS-ALPN-01 on port 443)",
			"level=ERROR msg=\"no certificate from the CA; the one in force goes on\"", "the certificate expires in 13 days: it should have been renewed", "the one in force has expired"} {
			if !strings.Contains(log, words) {
				t.Errorf("the log lacks %q", words)
			}
		}
		if strings.Contains(log, "expires in 29 days") {
			t.Error("it is complained of while it is being renewed")
		}
		asked = asked[7:]
		for i := 1; i < len(asked); i++ {
			if gap := asked[i].Sub(asked[i-1]); gap < time.Minute || gap > 15*time.Hour || i > 10 && gap < 11*time.Hour {
				t.Fatalf("refusal %d was followed after %s", i, gap)
			}
		}

		// A restart goes on with what is kept.
		again, err := newSource(cfg, slog.New(slog.DiscardHandler), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if d := again.Describe()[0]; d.Fingerprint != second.Fingerprint {
			t.Errorf("after a restart in force is %s, want the former one", d)
		}
	})
}

// A renewal that was asked for, and is under way when the process ends or another follows
// it, is made by the next; and once.
func TestRenewalOutlivesProcess(t *testing.T) {
	cfg := acmeConfig(t)
	synctest.Test(t, func(t *testing.T) {
		good := func() ([]byte, error) {
			return given(t, time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour), "pbx.example.com"), nil
		}
		ca := &fakeCA{gives: good}
		s, end := renewing(t, cfg, ca)
		synctest.Wait()
		ca.from(func() ([]byte, error) {
			time.Sleep(time.Minute)
			return nil, errDown
		})
		if err := Renew(cfg); err != nil {
			t.Fatal(err)
		}
		s.look(time.Now())
		synctest.Wait()
		end() // in the middle of the order
		ca.from(good)
		s, end = renewing(t, cfg, ca)
		defer end()
		for range 3 {
			s.look(time.Now())
			synctest.Wait()
		}
		if asked, log := ca.seen(); len(asked) != 3 {
			t.Errorf("the CA was asked %d times, want 3:\n%s", len(asked), log)
		}
	})
}

// What can't serve is not taken, and counts as a failure: or it would be ordered
// again and again.
func TestRefusedGifts(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		name string
		data func(t *testing.T) []byte
		says string
	}{
		{"another name", func(t *testing.T) []byte { return given(t, now, now.AddDate(0, 3, 0), "other.example.com") }, "the CA's certificate does not name pbx.example.com"},
		{"expired", func(t *testing.T) []byte {
			return given(t, now.AddDate(0, -3, 0), now.AddDate(0, 0, -1), "pbx.example.com")
		}, "check this machine's clock"},
		{"due already", func(t *testing.T) []byte {
			return given(t, now.AddDate(0, 0, -70), now.AddDate(0, 0, 20), "pbx.example.com")
		}, "check this machine's clock"},
		{"no key", func(t *testing.T) []byte {
			data := given(t, now, now.AddDate(0, 3, 0), "pbx.example.com")
			return data[:bytes.Index(data, []byte("-----BEGIN PRIVATE KEY"))]
		}, "it is no certificate with its key"},
		{"nothing", func(*testing.T) []byte { return nil }, "it is no certificate with its key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := acmeConfig(t)
			s, _ := mustSource(t, cfg, now)
			if err := s.renewer.take(tc.data(t), now); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("take: %v, want an error with %q", err, tc.says)
			}
			if _, err := os.Stat(cfg.acmeFile()); err == nil {
				t.Error("it was kept")
			}
			if d := s.Describe()[0]; !d.SelfSigned {
				t.Errorf("in force is %s", d)
			}
			if err := s.renewer.take(given(t, now, now.AddDate(0, 3, 0), "pbx.example.com"), now); err != nil { // and a good one is
				t.Errorf("a good one: %v", err)
			}
		})
	}
}

func TestBackoffIsApart(t *testing.T) {
	for _, err := range []error{errDown, errRefused} {
		for n := 1; n < 40; n++ {
			least, most := backoff(n, err, 0), backoff(n, err, 1)
			if least <= 0 || most < least*5/3 || most > 15*time.Hour || n > 1 && backoff(n, err, 0.5) < backoff(n-1, err, 0.5) {
				t.Fatalf("%v: after %d failures between %s and %s", err, n, least, most)
			}
		}
	}
	within := 0 // Let's Encrypt takes five failed validations an hour
	for at, n := time.Duration(0), 1; at < time.Hour; n++ {
		within++
		at += backoff(n, errRefused, 0)
	}
	if within > 5 {
		t.Errorf("%d attempts that the CA refuses within an hour, want at most 5", within)
	}
}

// What is kept, and what of it is served after a restart.
func TestKeptByACME(t *testing.T) {
	now := time.Now()
	good := given(t, now, now.AddDate(0, 3, 0), "pbx.example.com")
	write := func(data []byte, mode os.FileMode) func(*testing.T, *Config) {
		return func(t *testing.T, c *Config) {
			if err := os.MkdirAll(filepath.Dir(c.acmeFile()), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(c.acmeFile(), data, mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(c.acmeFile(), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tc := range []struct {
		name   string
		has    func(*testing.T, *Config)
		serves bool
		says   string // in the error, or the log
	}{
		{"good", write(good, 0o600), true, "certificate in force"},
		{"none", func(*testing.T, *Config) {}, false, "none was fetched yet"},
		{"expired", write(given(t, now.AddDate(0, -3, 0), now.AddDate(0, 0, -1), "pbx.example.com"), 0o600), true, "the certificate has expired"},
		{"of another name", write(given(t, now, now.AddDate(0, 3, 0), "old.example.com"), 0o600), false, "the kept one does not name pbx.example.com"},
		{"damaged", write(good[:len(good)/2], 0o600), false, "the kept one does not load"},
		{"open to others", write(good, 0o644), false, "edge.state_dir: the private key is open to other users"},
		{"of another CA", func(t *testing.T, c *Config) {
			write(good, 0o600)(t, c)
			other := *c.ACME
			other.Directory = "https://staging.ca.example/dir"
			c.ACME = &other
		}, false, "none was fetched yet"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := acmeConfig(t)
			tc.has(t, &cfg)
			var log bytes.Buffer
			s, err := newSource(cfg, slog.New(slog.NewTextHandler(&log, nil)), now)
			if err != nil {
				fmt.Fprint(&log, err)
			} else if d := s.Describe()[0]; (d.ACME != "") != tc.serves {
				t.Errorf("in force is %s", d)
			}
			if !strings.Contains(log.String(), tc.says) {
				t.Errorf("it does not say %q:\n%s", tc.says, log.String())
			}
			views, why, err := survey(cfg, now)
			if (views != nil) != tc.serves || err == nil && views == nil && tc.name != "none" && tc.name != "of another CA" && why == "" {
				t.Errorf("inspection finds %v, %q, %v", views, why, err)
			}
		})
	}
}

// What is in force stays when its file goes, and the stand-in is not complained of.
func TestACMEFileGoes(t *testing.T) {
	cfg := acmeConfig(t)
	now := time.Now()
	var log bytes.Buffer
	s, err := newSource(cfg, slog.New(slog.NewTextHandler(&log, nil)), now)
	if err != nil {
		t.Fatal(err)
	}
	log.Reset()
	s.reload()
	if log.Len() > 0 {
		t.Errorf("of the stand-in it says\n%s", log.String())
	}
	if err := s.renewer.take(given(t, now, now.AddDate(0, 3, 0), "pbx.example.com"), now); err != nil {
		t.Fatal(err)
	}
	had := s.Describe()[0].Fingerprint
	os.Remove(cfg.acmeFile())
	s.reload()
	if s.Describe()[0].Fingerprint != had || !strings.Contains(log.String(), "certificate refused; the one in force stays") || !strings.Contains(log.String(), "it is gone") {
		t.Errorf("after its file went it says\n%s", log.String())
	}
}

func TestValidateACME(t *testing.T) {
	good := acmeConfig(t)
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		change func(*Config)
		says   string
	}{
		{"files too", func(c *Config) { c.Files = []Files{{"a.crt", "a.key"}} }, "tls.acme: is true, and tls.cert names a.crt"},
		{"an address", func(c *Config) { c.Names = nil }, "tls.acme: edge.domain is an address"},
		{"http", func(c *Config) { c.ACME.Directory = "http://ca.example/dir" }, "tls.acme_ca: is \"http://ca.example/dir\"; give the https address"},
		{"no URL", func(c *Config) { c.ACME.Directory = "letsencrypt" }, "tls.acme_ca: "},
		{"no address", func(c *Config) { c.ACME.Email = "ops" }, "tls.acme_email: \"ops\" is no address"},
		{"half a binding", func(c *Config) { c.ACME.EABKey = "kid" }, "tls.acme_eab_kid: and tls.acme_eab_file go together"},
		{"unknown key", func(c *Config) { c.ACME.KeyType = "dsa" }, "tls.acme_key: is \"dsa\"; give one of ecdsa, rsa"},
		{"no way", func(c *Config) { c.ACME.TLS = false }, "tls.acme: the CA must reach this edge on port 443 or 80"},
		{"two ways on 80", func(c *Config) { c.ACME.Webroot, c.ACME.HTTP = "/srv", []netip.AddrPort{{}} }, "tls.acme_webroot: and tls.acme_http exclude each other"},
		{"no state", func(c *Config) { c.StateDir = "" }, "edge.state_dir: is empty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := acmeConfig(t)
			tc.change(&c)
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want %q", err, tc.says)
			}
		})
	}
}

// What a file of secrets holds is in no error.
func TestACMEFilesAtFault(t *testing.T) {
	secret := "c2VjcmV0c2VjcmV0"
	open := writeCopy(t, writePEM(t, secret, nil, 0o600))
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	garbage := writePEM(t, secret, nil, 0o600)
	for _, tc := range []struct {
		name   string
		change func(*ACME)
		says   string
	}{
		{"no root", func(a *ACME) { a.Root = "/none" }, "tls.acme_ca_root: read /none: "},
		{"root without a certificate", func(a *ACME) { a.Root = garbage }, "holds no certificate in PEM"},
		{"binding open to others", func(a *ACME) { a.EABKey, a.EABFile = "kid", open }, "tls.acme_eab_file: the private key is open to other users"},
		{"binding that is none", func(a *ACME) { a.EABKey, a.EABFile = "kid", garbage }, "tls.acme_eab_file: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := acmeConfig(t)
			tc.change(cfg.ACME)
			_, err := New(cfg, slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), secret) {
				t.Errorf("New: %v, want %q and no secret", err, tc.says)
			}
			if _, err := Inspect(cfg); err == nil {
				t.Error("inspection finds no fault")
			}
		})
	}
	t.Run("account", func(t *testing.T) {
		cfg := acmeConfig(t)
		if err := cfg.keep(kept{cfg.acmeName() + "-account.json", []byte(`{"key":"` + secret + `"}`), 0o600}); err != nil {
			t.Fatal(err)
		}
		o, err := newOrderer(cfg, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.order(t.Context()); err == nil || !strings.Contains(err.Error(), "holds no ACME account; remove it") || strings.Contains(err.Error(), secret) {
			t.Errorf("order: %v", err)
		}
	})
}
