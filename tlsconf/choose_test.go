package tlsconf

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// issued writes a certificate for names, with the named kind of key. Its subject
// is what a test knows it by.
func issued(t *testing.T, kind KeyType, subject string, names ...string) Files {
	t.Helper()
	k, err := kind.generate()
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: subject}, DNSNames: names,
		NotBefore: start.AddDate(0, -1, 0), NotAfter: start.AddDate(0, 3, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, _ := x509.MarshalPKCS8PrivateKey(k)
	return Files{writePEM(t, "CERTIFICATE", der, 0o644), writePEM(t, "PRIVATE KEY", keyDER, 0o600)}
}

// seen is the subject of the certificate that a client gets, or nothing.
func seen(t *testing.T, s *Source, client *tls.Config) string {
	t.Helper()
	var subject string
	client.InsecureSkipVerify = true
	client.VerifyConnection = func(state tls.ConnectionState) error {
		subject = state.PeerCertificates[0].Subject.CommonName
		return nil
	}
	if handshake(t, s.ServerConfig(Off), client) != nil {
		return ""
	}
	return subject
}

func TestChoice(t *testing.T) {
	home := issued(t, ECDSA, "home", "pbx.example.com")
	homeRSA := issued(t, RSA, "home, RSA", "pbx.example.com", "old.example.com")
	branch := issued(t, ECDSA, "branch", "pbx.example.net")
	wild := issued(t, ECDSA, "wild", "*.example.org")
	wildRSA := issued(t, RSA, "wild, RSA", "*.example.org")
	all := []Files{branch, homeRSA, home, wild}
	rsaOnly := func() *tls.Config {
		return &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
	}
	noP256 := func() *tls.Config {
		return &tls.Config{MaxVersion: tls.VersionTLS12, CurvePreferences: []tls.CurveID{tls.X25519}}
	}
	newest := func() *tls.Config { return &tls.Config{} }
	for _, tc := range []struct {
		name   string
		files  []Files
		client func() *tls.Config
		sni    string
		want   string
	}{
		{"by name", all, newest, "pbx.example.com", "home"},
		{"by name, RSA alone", all, rsaOnly, "pbx.example.com", "home, RSA"},
		{"by name, without the curve", all, noP256, "pbx.example.com", "home, RSA"},
		{"other name", all, newest, "pbx.example.net", "branch"},
		{"other name, no key it can use", all, rsaOnly, "pbx.example.net", ""},
		{"name in capitals", all, newest, "PBX.Example.NET", "branch"},
		{"wildcard", all, newest, "sip.example.org", "wild"},
		{"wildcard is one label", all, newest, "a.sip.example.org", "home"},
		{"name of one of two", all, newest, "old.example.com", "home, RSA"},
		{"unknown name", all, newest, "other.example", "home"},
		{"unknown name, RSA alone", all, rsaOnly, "other.example", "home, RSA"},
		{"no name", all, newest, "", "home"},
		{"no name, RSA alone", all, rsaOnly, "", "home, RSA"},
		{"none names edge.domain", []Files{wild, branch, wildRSA}, newest, "", "wild"},
		{"none names edge.domain, RSA alone", []Files{wild, branch, wildRSA}, rsaOnly, "", "wild, RSA"},
		{"one", []Files{branch}, newest, "pbx.example.com", "branch"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := config(t)
			cfg.Files = tc.files
			s, _ := mustSource(t, cfg, start)
			client := tc.client()
			client.ServerName = tc.sni
			if got := seen(t, s, client); got != tc.want {
				t.Errorf("the client gets %q, want %q", got, tc.want)
			}
		})
	}
}

func TestSelfSignedRSA(t *testing.T) {
	cfg := config(t)
	cfg.KeyType, cfg.Profile = RSA, Legacy
	s, _ := mustSource(t, cfg, time.Now())
	if d := s.Describe()[0]; d.Key != "RSA 2048" {
		t.Errorf("its key is %s", d.Key)
	}
	roots := x509.NewCertPool()
	data, _ := os.ReadFile(cfg.selfSignedCrt())
	roots.AppendCertsFromPEM(data)
	for name, suite := range map[string]uint16{"ECDHE": tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "RSA key exchange": tls.TLS_RSA_WITH_AES_128_CBC_SHA} {
		if err := handshake(t, s.ServerConfig(Off), &tls.Config{RootCAs: roots, ServerName: "pbx.example.com",
			MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	again, log := mustSource(t, cfg, time.Now())
	if again.Describe()[0].Fingerprint != s.Describe()[0].Fingerprint {
		t.Errorf("it was not kept:\n%s", log)
	}
}

// ca makes a certificate signed by parent, or by itself.
func ca(t *testing.T, name string, until time.Time, parent *x509.Certificate, by crypto.Signer) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"pbx.example.com"},
		NotBefore: start.AddDate(-1, 0, 0), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
	}
	if parent == nil {
		parent, by = tmpl, k
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, k.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := x509.ParseCertificate(der)
	return c, k
}

// chainFiles writes certificates into one file, with a key.
func chainFiles(t *testing.T, key crypto.Signer, chain ...*x509.Certificate) Files {
	t.Helper()
	var data []byte
	for _, c := range chain {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	path := filepath.Join(t.TempDir(), "chain.pem")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	keyDER, _ := x509.MarshalPKCS8PrivateKey(key)
	return Files{path, writePEM(t, "PRIVATE KEY", keyDER, 0o600)}
}

func TestChain(t *testing.T) {
	later := start.AddDate(5, 0, 0)
	root, rootKey := ca(t, "Root", later, nil, nil)
	middle, middleKey := ca(t, "Middle", later, root, rootKey)
	old, oldKey := ca(t, "Old middle", start.AddDate(0, 0, -1), root, rootKey)
	leaf, key := ca(t, "leaf", later, middle, middleKey)
	other, otherKey := ca(t, "leaf of old", later, old, oldKey)
	for _, tc := range []struct {
		name  string
		files Files
		says  string // empty: all is well
	}{
		{"whole", chainFiles(t, key, leaf, middle, root), ""},
		{"without the root", chainFiles(t, key, leaf, middle), ""},
		{"out of order", chainFiles(t, key, leaf, root, middle), "certificate 2 in "},
		{"another's intermediate", chainFiles(t, key, leaf, old), "did not issue the one before it (CN=leaf)"},
		{"an expired intermediate", chainFiles(t, otherKey, other, old), "(CN=Old middle) expired on 2026-02-28"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := config(t)
			cfg.Files = []Files{tc.files}
			d, err := inspect(cfg, start)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(d[0].Warnings, "; "); !strings.Contains(got, tc.says) || (tc.says == "") != (got == "") {
				t.Errorf("warnings %q, want %q", got, tc.says)
			}
		})
	}
}

// The faults of all files are told, each under its key.
func TestFaultsOfSeveralFiles(t *testing.T) {
	good, other := issued(t, ECDSA, "good", "pbx.example.com"), issued(t, RSA, "other", "pbx.example.com")
	cfg := config(t)
	third := issued(t, ECDSA, "third", "pbx.example.com")
	cfg.Files = []Files{{good.Cert, other.Key}, third, {other.Cert, "/nonexistent"}}
	_, err := inspect(cfg, start)
	for _, want := range []string{"tls.cert: the key does not belong", "tls.key: read /nonexistent"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("faults %v do not hold %q", err, want)
		}
	}
	cfg.Files = []Files{good, good, {Cert: "a.pem"}, {Key: "b.pem"}}
	cfg.KeyType = "dsa"
	err = cfg.Validate()
	for _, want := range []string{"names " + good.Cert + " twice", "the private key of a.pem", "the certificate of b.pem", `tls.self_signed_key: is "dsa"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("faults %v do not hold %q", err, want)
		}
	}
	if !RSA.made(&rsa.PublicKey{}) || ECDSA.made(&rsa.PublicKey{}) {
		t.Error("kinds of keys are confused")
	}
}
