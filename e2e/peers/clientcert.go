package peers

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// Device has the edge's device CA issue a certificate to a phone, and returns the
// file of it and its key, and the passphrase that was printed.
func (e *Edge) Device(name string, args ...string) (file, passphrase string) {
	e.lab.t.Helper()
	folder := e.lab.t.TempDir()
	said := e.Run(append([]string{"cert", "device", name, "-out", folder}, args...)...)
	found := regexp.MustCompile(`passphrase ([A-Z2-7]{16}) `).FindStringSubmatch(said)
	if found == nil {
		e.lab.t.Fatalf("cert device printed no passphrase:\n%s", said)
	}
	return filepath.Join(folder, name+".pem"), found[1]
}

// DeviceCA is the edge's own, in the hands of a thief of its key.
func (e *Edge) DeviceCA() *Issuer {
	e.lab.t.Helper()
	pair := keyPair(e.lab.t, filepath.Join(e.State, "tls", "device-ca.crt"), filepath.Join(e.State, "tls", "device-ca.key"))
	return &Issuer{t: e.lab.t, dir: e.lab.t.TempDir(), cert: pair.Leaf, key: pair.PrivateKey.(*ecdsa.PrivateKey)}
}

// Client makes a certificate for a phone's user that ends then, in one file with its
// key.
func (i *Issuer) Client(user string, until time.Time) string {
	i.t.Helper()
	i.last++
	key := ecdsaKey(i.t)
	der := i.sign(&x509.Certificate{
		SerialNumber: big.NewInt(2000 + i.last), Subject: pkix.Name{CommonName: user}, NotBefore: until.AddDate(0, -1, 0), NotAfter: until,
		URIs:        []*url.URL{{Scheme: "sip", Opaque: user + "@pbx.example.com"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, key.Public(), i.cert)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		i.t.Fatal(err)
	}
	name := fmt.Sprintf("client%d.pem", i.last)
	i.write(name, "CERTIFICATE", der, 0o600)
	file := filepath.Join(i.dir, name)
	data, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, append(data, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...), 0o600)
	}
	if err != nil {
		i.t.Fatal(err)
	}
	return file
}

func keyPair(t testing.TB, cert, key string) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatalf("load a pair: %v", err)
	}
	return pair
}

// show has a client show the certificate of a file, whoever the server would take
// one from; "" is none.
func show(t testing.TB, config *tls.Config, file string) *tls.Config {
	t.Helper()
	if file != "" {
		pair := keyPair(t, file, file)
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return config
}

// NewPhoneWith connects to the edge with the certificate of a file.
func NewPhoneWith(h *Host, e *Edge, user, file string) *Phone {
	p := &Phone{t: h.lab.t, Host: h, User: user, cert: file, cseq: 1, tag: Random(4), id: Random(8)}
	p.Connect(e)
	return p
}

// NewPhoneNameless connects to the edge without its name (SNI), and checks the
// certificate for it all the same.
func NewPhoneNameless(h *Host, e *Edge, user string) *Phone {
	p := &Phone{t: h.lab.t, Host: h, User: user, nameless: true, cseq: 1, tag: Random(4), id: Random(8)}
	p.Connect(e)
	return p
}

// unnamed leaves the name out of a hello, and checks for it afterwards.
func unnamed(config *tls.Config) *tls.Config {
	name := config.ServerName
	config.ServerName, config.InsecureSkipVerify = "", true // crypto/tls checks the name that it sends, or nothing
	config.VerifyConnection = func(state tls.ConnectionState) error {
		_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: name, Roots: config.RootCAs})
		return err
	}
	return config
}

// Gone waits until the edge has closed the phone's connection.
func (p *Phone) Gone(timeout time.Duration) {
	p.t.Helper()
	if !p.Left(timeout) {
		p.t.Fatalf("the connection of phone %s is open still", p.User)
	}
}

// Left tells whether the edge closes it within a time.
func (p *Phone) Left(timeout time.Duration) bool {
	_ = p.conn.SetReadDeadline(time.Now().Add(timeout))
	_, err := io.Copy(io.Discard, p.r)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// Resumer is a TLS client that keeps its session, and a certificate.
type Resumer struct {
	host   *Host
	config *tls.Config
}

// NewResumer prepares one. It speaks TLS 1.2, or else 1.3.
func NewResumer(h *Host, e *Edge, file string, tls12 bool) *Resumer {
	h.lab.t.Helper()
	config := show(h.lab.t, e.trust(h.lab.t), file)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	if tls12 {
		config.MaxVersion = tls.VersionTLS12
	}
	return &Resumer{h, config}
}

// Knock shakes hands and pings (RFC 5626 section 4.4.1): with TLS 1.3 only the answer
// tells that a certificate was taken.
func (r *Resumer) Knock() (resumed bool, err error) {
	r.host.lab.t.Helper()
	raw := r.host.dial(net.JoinHostPort(EdgeOutside, "5061"))
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(5 * time.Second))
	conn := tls.Client(raw, r.config)
	if _, err = io.WriteString(conn, "\r\n\r\n"); err != nil {
		return false, err
	}
	pong := make([]byte, 2)
	if _, err = io.ReadFull(conn, pong); err == nil && !bytes.Equal(pong, []byte("\r\n")) {
		err = fmt.Errorf("the ping was answered %q", pong)
	}
	return conn.ConnectionState().DidResume, err
}
