package peers

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
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Issuer is a CA, and a folder of its certificates laid out as certbot does:
// versions, and one link for each file to the version that is meant.
type Issuer struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	last int64 // serial
}

// NewIssuer makes a CA whose folder goes with the test.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{t: t, dir: t.TempDir()}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	i.key = ecdsaKey(t)
	der := i.sign(tmpl, i.key.Public(), tmpl)
	i.cert, _ = x509.ParseCertificate(der)
	i.write("ca.pem", "CERTIFICATE", der, 0o644)
	return i
}

// CAFile is what phones must trust.
func (i *Issuer) CAFile() string { return filepath.Join(i.dir, "ca.pem") }

// Cert is the link to the certificate.
func (i *Issuer) Cert() string { return filepath.Join(i.dir, "fullchain.pem") }

// Key is the link to the key.
func (i *Issuer) Key() string { return filepath.Join(i.dir, "privkey.pem") }

// Issue makes another certificate for the edge, of three months, and returns its
// serial. No link leads to it yet.
func (i *Issuer) Issue() int64 {
	i.t.Helper()
	i.last++
	serial := 1000 + i.last
	i.issue(serial, ecdsaKey(i.t), &x509.Certificate{DNSNames: []string{"pbx.example.com"}, NotAfter: time.Now().AddDate(0, 3, 0)})
	return serial
}

// Pair makes a certificate for a name, in a folder of its own, with an RSA key or
// an ECDSA one.
func (i *Issuer) Pair(name string, withRSA bool) Pair {
	i.t.Helper()
	var key crypto.Signer = ecdsaKey(i.t)
	if withRSA {
		var err error
		if key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			i.t.Fatal(err)
		}
	}
	i.last++
	apart := *i
	apart.dir = i.t.TempDir()
	serial := 1000 + i.last
	cert, keyFile := apart.issue(serial, key, &x509.Certificate{DNSNames: []string{name}, NotAfter: time.Now().AddDate(0, 3, 0)})
	return Pair{serial, cert, keyFile}
}

// Become has the files of a pair be those of another: who reads them next has that.
func (i *Issuer) Become(p, other Pair) {
	i.t.Helper()
	for to, from := range map[string]string{p.Cert: other.Cert, p.Key: other.Key} {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, b, 0o600)
		}
		if err != nil {
			i.t.Fatal(err)
		}
	}
}

// Pair is one certificate and its key.
type Pair struct {
	Serial    int64
	Cert, Key string // files
}

// Peer makes a certificate for a name, as Pair does with an ECDSA key, that is good for
// one who connects, too: OpenSSL demands that of it (RFC 5280 section 4.2.1.12).
func (i *Issuer) Peer(name string) Pair {
	i.t.Helper()
	i.last++
	apart := *i
	apart.dir = i.t.TempDir()
	serial := 1000 + i.last
	cert, key := apart.issue(serial, ecdsaKey(i.t), &x509.Certificate{
		DNSNames: []string{name}, NotAfter: time.Now().AddDate(0, 3, 0), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return Pair{serial, cert, key}
}

// Server makes a certificate for a server other than the edge, of a day.
func (i *Issuer) Server(at netip.Addr) (cert, key string) {
	i.t.Helper()
	return i.issue(2, ecdsaKey(i.t), &x509.Certificate{IPAddresses: []net.IP{at.AsSlice()}, NotAfter: time.Now().AddDate(0, 0, 1)})
}

func (i *Issuer) issue(serial int64, key crypto.Signer, tmpl *x509.Certificate) (certFile, keyFile string) {
	i.t.Helper()
	tmpl.SerialNumber = big.NewInt(serial)
	tmpl.NotBefore = time.Now().Add(-time.Hour)
	tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	der := i.sign(tmpl, key.Public(), i.cert)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		i.t.Fatal(err)
	}
	certFile, keyFile = fmt.Sprintf("fullchain%d.pem", serial), fmt.Sprintf("privkey%d.pem", serial)
	i.write(certFile, "CERTIFICATE", der, 0o644)
	i.write(keyFile, "PRIVATE KEY", keyDER, 0o600)
	return filepath.Join(i.dir, certFile), filepath.Join(i.dir, keyFile)
}

// UseCert leads the link of the certificate to one that was issued.
func (i *Issuer) UseCert(serial int64) {
	i.t.Helper()
	i.link(fmt.Sprintf("fullchain%d.pem", serial), i.Cert())
}

// UseKey leads the link of the key to that of one that was issued.
func (i *Issuer) UseKey(serial int64) {
	i.t.Helper()
	i.link(fmt.Sprintf("privkey%d.pem", serial), i.Key())
}

func (i *Issuer) link(to, name string) {
	i.t.Helper()
	if err := errors.Join(os.Symlink(to, name+".new"), os.Rename(name+".new", name)); err != nil {
		i.t.Fatal(err)
	}
}

func ecdsaKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign makes a certificate that the CA signs.
func (i *Issuer) sign(tmpl *x509.Certificate, key crypto.PublicKey, parent *x509.Certificate) []byte {
	i.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key, i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	return der
}

func (i *Issuer) write(name, block string, der []byte, mode os.FileMode) {
	i.t.Helper()
	if err := os.WriteFile(filepath.Join(i.dir, name), pem.EncodeToMemory(&pem.Block{Type: block, Bytes: der}), mode); err != nil {
		i.t.Fatal(err)
	}
}

// Serial is that of the certificate which a new connection from the host gets
// and finds good.
func (e *Edge) Serial(h *Host) int64 {
	e.lab.t.Helper()
	cert, err := e.Shows(h, e.CAFile(), "pbx.example.com")
	if err != nil {
		e.lab.t.Fatalf("shake hands with the edge: %v", err)
	}
	return cert.SerialNumber.Int64()
}

// Shows is the certificate which a new connection from the host gets when it asks
// for a name and trusts the CA of a file alone, or why it finds it bad.
func (e *Edge) Shows(h *Host, caFile, name string) (*x509.Certificate, error) {
	e.lab.t.Helper()
	raw := h.dial(net.JoinHostPort(EdgeOutside, "5061"))
	defer raw.Close()
	config := trust(e.lab.t, caFile)
	config.ServerName = name
	conn := tls.Client(raw, config)
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates[0], nil
}
