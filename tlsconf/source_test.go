package tlsconf

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func config(t *testing.T) Config {
	t.Helper()
	c := Defaults()
	c.StateDir = t.TempDir()
	c.Names = []string{"pbx.example.com"}
	c.IPs = []netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::7")}
	return c
}

func mustSource(t *testing.T, c Config, now time.Time) (*Source, string) {
	t.Helper()
	var log bytes.Buffer
	s, err := newSource(c, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), now)
	if err != nil {
		t.Fatal(err)
	}
	return s, log.String()
}

func TestSelfSignedIsKeptAndRemade(t *testing.T) {
	cfg := config(t)
	first, log := mustSource(t, cfg, start)
	if !strings.Contains(log, "making a self-signed certificate") {
		t.Errorf("the log does not say that a certificate was made:\n%s", log)
	}
	for path, want := range map[string]os.FileMode{
		cfg.selfSignedCrt(): 0o644, cfg.selfSignedKey(): 0o600, cfg.selfSignedDir(): 0o700,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %04o, want %04o", path, info.Mode().Perm(), want)
		}
	}
	moved := cfg
	moved.Names = []string{"sip.example.net"}
	readdressed := cfg
	readdressed.IPs = []netip.Addr{netip.MustParseAddr("198.51.100.1")}
	rekeyed := cfg
	rekeyed.KeyType = RSA
	for _, tc := range []struct {
		name   string
		cfg    Config
		now    time.Time
		spoil  func(t *testing.T)
		reason string // in the log; empty: the first one is kept
		warns  string // in the log, of one that is kept
	}{
		{name: "restart", cfg: cfg, now: start.AddDate(1, 0, 0)},
		{name: "fewer addresses", cfg: Config{StateDir: cfg.StateDir, Names: cfg.Names}, now: start},
		{name: "name in capitals", cfg: Config{StateDir: cfg.StateDir, Names: []string{"PBX.Example.COM"}}, now: start},
		{name: "other name", cfg: moved, now: start, reason: "does not name sip.example.net"},
		{name: "other address", cfg: readdressed, now: start, reason: "does not name 198.51.100.1"},
		{name: "expired", cfg: cfg, now: start.AddDate(11, 0, 0), reason: "expires on 2036-03-01"},
		{name: "about to expire", cfg: cfg, now: start.AddDate(10, 0, -2), reason: "expires on 2036-03-01"},
		{name: "clock set back", cfg: cfg, now: start.AddDate(-1, 0, 0), warns: "the certificate is valid only from 2026-02-28T12:00:00Z: check this machine's clock"},
		{name: "clock not set yet", cfg: cfg, now: time.Unix(0, 0), warns: "check this machine's clock"},
		{name: "other kind of key", cfg: rekeyed, now: start, reason: "another kind of key than the kept one's, ECDSA P-256"},
		{name: "torn pair", cfg: cfg, now: start, reason: "does not load", spoil: func(t *testing.T) {
			other := config(t)
			mustSource(t, other, start)
			data, _ := os.ReadFile(other.selfSignedKey())
			if err := os.WriteFile(cfg.selfSignedKey(), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			keep(t, cfg.selfSignedCrt())
			keep(t, cfg.selfSignedKey())
			if tc.spoil != nil {
				tc.spoil(t)
			}
			plan, err := inspect(tc.cfg, tc.now)
			if err != nil {
				t.Fatal(err)
			}
			s, log := mustSource(t, tc.cfg, tc.now)
			kept := s.Describe()[0].Fingerprint == first.Describe()[0].Fingerprint
			if want := tc.reason == ""; kept != want || plan[0].Pending == want {
				t.Errorf("kept = %v, planned to make = %v, want kept = %v", kept, plan[0].Pending, want)
			}
			if !strings.Contains(log, tc.reason) || !strings.Contains(log, tc.warns) {
				t.Errorf("log does not say %q:\n%s", tc.reason+tc.warns, log)
			}
			if tc.reason+tc.warns == "" && strings.Contains(log, "needs attention") {
				t.Errorf("it complains:\n%s", log)
			}
		})
	}
}

// keep puts a file back as it was when the test ends.
func keep(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, _ := os.Stat(path)
	t.Cleanup(func() {
		if err := os.WriteFile(path, data, info.Mode().Perm()); err != nil {
			t.Error(err)
		}
	})
}

func TestInspectWritesNothing(t *testing.T) {
	cfg := config(t)
	d, err := inspect(cfg, start)
	if err != nil || !d[0].Pending || !strings.Contains(d[0].String(), "to be made") {
		t.Fatalf("inspect = %v, %v", d, err)
	}
	if _, err := os.Stat(cfg.selfSignedDir()); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("inspect made the state folder: %v", err)
	}
}

func TestSelfSignedIsItsOwnTrustAnchor(t *testing.T) {
	cfg := config(t)
	s, _ := mustSource(t, cfg, time.Now())
	roots := x509.NewCertPool()
	data, err := os.ReadFile(s.Describe()[0].File)
	if err != nil || !roots.AppendCertsFromPEM(data) {
		t.Fatal("the CA file does not parse", err)
	}
	for _, tc := range []struct {
		name    string
		host    string
		version uint16
		alpn    []string
		ok      bool
	}{
		{"by name", "pbx.example.com", tls.VersionTLS13, nil, true},
		{"by address", "203.0.113.7", tls.VersionTLS13, nil, true},
		{"by IPv6 address", "2001:db8::7", tls.VersionTLS13, nil, true},
		{"TLS 1.2", "pbx.example.com", tls.VersionTLS12, nil, true},
		{"protocol sip", "pbx.example.com", tls.VersionTLS13, []string{"sip"}, true},
		{"unknown protocol", "pbx.example.com", tls.VersionTLS12, []string{"sip/2", "x"}, true},
		{"other name", "other.example.com", tls.VersionTLS13, nil, false},
		{"TLS 1.1", "pbx.example.com", tls.VersionTLS11, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := handshake(t, s.ServerConfig(Off), &tls.Config{RootCAs: roots, ServerName: tc.host,
				MinVersion: tls.VersionTLS10, MaxVersion: tc.version, NextProtos: tc.alpn})
			if (err == nil) != tc.ok {
				t.Fatalf("handshake: %v, want success %v", err, tc.ok)
			}
		})
	}
	t.Run("weak suites", func(t *testing.T) {
		err := handshake(t, s.ServerConfig(Off), &tls.Config{RootCAs: roots, ServerName: "pbx.example.com", MaxVersion: tls.VersionTLS12,
			CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}})
		if err == nil {
			t.Fatal("a suite without forward secrecy or AEAD was accepted")
		}
	})
}

func handshake(t *testing.T, server, client *tls.Config) error {
	t.Helper()
	a, b := net.Pipe()
	deadline := time.Now().Add(10 * time.Second)
	_, _ = a.SetDeadline(deadline), b.SetDeadline(deadline)
	done := make(chan error, 1)
	go func() { // ends with the handshake or the deadline; waited for below
		srv := tls.Server(a, server)
		err := srv.Handshake()
		if err == nil {
			_, err = srv.Read(make([]byte, 1))
		} else {
			a.Close()
		}
		done <- err
	}()
	cl := tls.Client(b, client)
	err := cl.Handshake()
	if err == nil {
		_, err = cl.Write([]byte{'.'})
	}
	b.Close()
	if serverErr := <-done; err == nil {
		err = serverErr
	}
	return err
}

// A thief of the self-signed key must gain no trust beyond the edge's names.
func TestSelfSignedSignsForNoOtherName(t *testing.T) {
	cfg := config(t)
	s, _ := mustSource(t, cfg, time.Now())
	ca := s.current.Load().pairs[0].cert
	roots := x509.NewCertPool()
	roots.AddCert(ca.Leaf)
	for name, ok := range map[string]bool{"pbx.example.com": true, "bank.example": false} {
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(2), DNSNames: []string{name}, Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}, ca.Leaf, key.Public(), ca.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		leaf, _ := x509.ParseCertificate(der)
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); (err == nil) != ok {
			t.Errorf("a certificate for %s verifies: %v, want success %v", name, err, ok)
		}
	}
}

// openssl's verifier is the one most phones and test tools share. It is a second
// opinion: Go's own, above, is asked always.
func TestSelfSignedByOpenSSL(t *testing.T) {
	bin, err := exec.LookPath("openssl")
	if err != nil {
		t.Log("openssl is not installed; Go's verifier alone was asked")
		return
	}
	s, _ := mustSource(t, config(t), time.Now())
	file := s.Describe()[0].File
	for _, host := range [][]string{
		{"-verify_hostname", "pbx.example.com"}, {"-verify_ip", "203.0.113.7"}, {"-verify_ip", "2001:db8::7"},
	} {
		args := append([]string{"verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", file}, append(host, file)...)
		if out, err := exec.Command(bin, args...).CombinedOutput(); err != nil {
			t.Errorf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	out, err := exec.Command(bin, "verify", "-CAfile", file, "-verify_hostname", "other.example.com", file).CombinedOutput()
	if err == nil {
		t.Errorf("openssl accepts a name the certificate does not hold:\n%s", out)
	}
}

// pairOf writes a certificate and its key, and returns their paths.
func pairOf(t *testing.T, change func(*x509.Certificate)) (crt, key string) {
	t.Helper()
	k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"pbx.example.com"},
		NotBefore: start.AddDate(0, -1, 0), NotAfter: start.AddDate(0, 3, 0),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, _ := x509.MarshalPKCS8PrivateKey(k)
	return writePEM(t, "CERTIFICATE", der, 0o644), writePEM(t, "PRIVATE KEY", keyDER, 0o600)
}

func writePEM(t *testing.T, block string, der []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der}), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNamedFiles(t *testing.T) {
	crt, key := pairOf(t, nil)
	_, otherKey := pairOf(t, nil)
	expired, expiredKey := pairOf(t, func(c *x509.Certificate) { c.NotAfter = start.AddDate(0, 0, -1) })
	early, earlyKey := pairOf(t, func(c *x509.Certificate) { c.NotBefore = start.AddDate(0, 0, 1) })
	client, clientKey := pairOf(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	stranger, strangerKey := pairOf(t, func(c *x509.Certificate) { c.DNSNames = []string{"www.example.org"} })
	ending, endingKey := pairOf(t, func(c *x509.Certificate) { c.NotAfter = start.AddDate(0, 0, 5) })
	short, shortKey := rsaPair(t, 1024)
	open := func(mode os.FileMode) string {
		_, k := pairOf(t, nil)
		if err := os.Chmod(k, mode); err != nil {
			t.Fatal(err)
		}
		return k
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("not PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name      string
		crt, key  string
		is        error
		says      []string
		warnsThat string
	}{
		{name: "good", crt: crt, key: key},
		{name: "no key", crt: crt, is: ErrHalfPair, says: []string{"tls.key: "}},
		{name: "no certificate", key: key, is: ErrHalfPair, says: []string{"tls.cert: "}},
		{name: "mismatch", crt: crt, key: otherKey, is: ErrMismatch, says: []string{"tls.cert: "}},
		{name: "swapped", crt: key, key: key, says: []string{"tls.cert: ", "holds no certificate"}},
		{name: "key is a certificate", crt: crt, key: writeCopy(t, crt), says: []string{"tls.key: ", "no unencrypted private key"}},
		{name: "text", crt: text, key: key, says: []string{"tls.cert: ", "holds no certificate"}},
		{name: "text as key", crt: crt, key: text, says: []string{"tls.key: "}},
		{name: "missing", crt: "/nonexistent/x.crt", key: key, is: os.ErrNotExist, says: []string{"tls.cert: ", "check the path"}},
		{name: "missing key", crt: crt, key: "/nonexistent/x.key", is: os.ErrNotExist, says: []string{"tls.key: "}},
		{name: "folder", crt: t.TempDir(), key: key, says: []string{"tls.cert: ", "not a regular file"}},
		{name: "world readable", crt: crt, key: open(0o644), is: ErrKeyExposed, says: []string{"tls.key: ", "type: chmod 640 "}},
		{name: "world readable only", crt: crt, key: open(0o604), is: ErrKeyExposed, says: []string{"type: chmod 600 "}},
		{name: "group writable", crt: crt, key: open(0o660), is: ErrKeyExposed, says: []string{"type: chmod 640 "}},
		{name: "expired", crt: expired, key: expiredKey, is: ErrExpired, says: []string{"tls.cert: ", "expired on 2026-02-28"}},
		{name: "not yet", crt: early, key: earlyKey, is: ErrExpired, says: []string{"tls.cert: ", "clock"}},
		{name: "client only", crt: client, key: clientKey, is: ErrUnfit, says: []string{"tls.cert: "}},
		{name: "short RSA", crt: short, key: shortKey, is: ErrUnfit, says: []string{"tls.cert: ", "1024"}},
		{name: "other name", crt: stranger, key: strangerKey, warnsThat: "does not name edge.domain pbx.example.com"},
		{name: "ends soon", crt: ending, key: endingKey, warnsThat: "expires in 5 days"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := config(t)
			cfg.Files = []Files{{tc.crt, tc.key}}
			d, err := inspect(cfg, start)
			if tc.is == nil && tc.says == nil {
				if err != nil {
					t.Fatal(err)
				}
				if got := strings.Join(d[0].Warnings, "; "); !strings.Contains(got, tc.warnsThat) || (tc.warnsThat == "") != (got == "") {
					t.Fatalf("warnings %q, want %q", got, tc.warnsThat)
				}
				_, log := mustSource(t, cfg, start)
				if !strings.Contains(log, tc.warnsThat) {
					t.Fatalf("the log does not warn:\n%s", log)
				}
				return
			}
			if err == nil || (tc.is != nil && !errors.Is(err, tc.is)) {
				t.Fatalf("error %v, want %v", err, tc.is)
			}
			for _, s := range tc.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error %q does not say %q", err, s)
				}
			}
		})
	}
}

func writeCopy(t *testing.T, of string) string {
	t.Helper()
	data, err := os.ReadFile(of)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// rsaPair is one with an RSA key; one of 1024 bits is too short to trust.
func rsaPair(t *testing.T, bits int) (crt, key string) {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"pbx.example.com"},
		NotBefore: start.AddDate(0, -1, 0), NotAfter: start.AddDate(0, 3, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, _ := x509.MarshalPKCS8PrivateKey(k)
	return writePEM(t, "CERTIFICATE", der, 0o644), writePEM(t, "PRIVATE KEY", keyDER, 0o600)
}

func TestValidateReportsAllFaults(t *testing.T) {
	err := Config{Profile: "old", Names: []string{"not a name", "-x.example"}}.Validate()
	for _, want := range []string{"edge.state_dir: ", "tls.profile: ", `edge.domain: "not a name"`, `edge.domain: "-x.example"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("faults %v do not name %q", err, want)
		}
	}
}

func TestKeptKeyOpenedToOthers(t *testing.T) {
	cfg := config(t)
	mustSource(t, cfg, start)
	if err := os.Chmod(cfg.selfSignedKey(), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := inspect(cfg, start)
	if !errors.Is(err, ErrKeyExposed) || !strings.HasPrefix(err.Error(), "edge.state_dir: ") {
		t.Fatalf("error %v, want ErrKeyExposed under edge.state_dir", err)
	}
}

// No word of ours may carry a key: neither a log line nor an error, whatever
// happens to the files.
func TestNoKeyInWords(t *testing.T) {
	cfg := config(t)
	var words bytes.Buffer
	log := slog.New(slog.NewTextHandler(&words, &slog.HandlerOptions{Level: slog.LevelDebug}))
	try := func(c Config) {
		s, err := newSource(c, log, start)
		if err != nil {
			words.WriteString(err.Error())
			return
		}
		log.Info("source", "source", s, "description", s.Describe())
	}
	try(cfg)
	keyPEM, err := os.ReadFile(cfg.selfSignedKey())
	if err != nil {
		t.Fatal(err)
	}
	swapped := cfg
	swapped.Files = []Files{{cfg.selfSignedKey(), cfg.selfSignedKey()}}
	try(swapped)
	block, _ := pem.Decode(keyPEM)
	damaged := cfg
	damaged.Files = []Files{{cfg.selfSignedCrt(), writePEM(t, "PRIVATE KEY", block.Bytes[:len(block.Bytes)-3], 0o600)}}
	try(damaged)
	for _, line := range strings.Split(string(keyPEM), "\n") {
		if len(line) > 20 && !strings.HasPrefix(line, "---") && strings.Contains(words.String(), line) {
			t.Fatalf("a line of the key was written out:\n%s", words.String())
		}
	}
	key, _ := x509.ParsePKCS8PrivateKey(block.Bytes)
	raw, err := key.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if d := new(big.Int).SetBytes(raw).String(); strings.Contains(words.String(), d) {
		t.Fatal("the key's number was written out")
	}
}
