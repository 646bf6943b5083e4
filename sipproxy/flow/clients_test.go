package flow

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// register of who is known: it withdraws all certificates once it is told to.
type register struct{ withdraws atomic.Bool }

func (r *register) Users(state *tls.ConnectionState) []string {
	return []string{state.PeerCertificates[0].Subject.CommonName}
}

type withdrawn struct{ error }

func (withdrawn) Refused() string { return "revoked" }

func (r *register) Trunk(*tls.ConnectionState) string { return "" }

func (r *register) Withdrawn(*tls.ConnectionState) error {
	if r.withdraws.Load() {
		return withdrawn{errors.New("the certificate is revoked since")}
	}
	return nil
}

// phoneCertificate is one by parent, or by itself.
func phoneCertificate(t *testing.T, parent *tls.Certificate, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "1001"}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	if change != nil {
		change(tmpl)
	}
	by, signer := tmpl, any(key)
	if parent != nil {
		by, signer = parent.Leaf, parent.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, by, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func asking(t *testing.T, ca tls.Certificate, auth tls.ClientAuthType, by Clients) (*Listener, *inbox, *said) {
	t.Helper()
	config := serverConfig(t)
	config.ClientAuth, config.ClientCAs = auth, x509.NewCertPool()
	config.ClientCAs.AddCert(ca.Leaf)
	log, h := new(said), newInbox()
	ln, err := ListenTLS(netip.MustParseAddrPort("127.0.0.1:0"), config, DefaultLimits(), h, nil, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ln.Know(by)
	run(t, ln.Run)
	return ln, h, log
}

func newCA(t *testing.T) tls.Certificate {
	return phoneCertificate(t, nil, func(c *x509.Certificate) { c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign, nil })
}

// Each way to show a bad certificate is told in plain words and counted by a word.
func TestClientRefusals(t *testing.T) {
	ca := newCA(t)
	other := newCA(t)
	for _, tc := range []struct {
		word, reason string
		certs        []tls.Certificate
	}{
		{"none", "no client certificate: the listener asks for one", nil},
		{"unknown_ca", "unknown CA: the phone's certificate was not issued", []tls.Certificate{phoneCertificate(t, &other, nil)}},
		{"expired", "expired: the phone's certificate is over", []tls.Certificate{phoneCertificate(t, &ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}},
		{"usage", "was not issued for client authentication", []tls.Certificate{phoneCertificate(t, &ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })}},
		{"", "", []tls.Certificate{phoneCertificate(t, &ca, nil)}}, // the control
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			ln, h, log := asking(t, ca, tls.RequireAndVerifyClientCert, new(register))
			c, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: version,
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					return &append(slices.Clone(tc.certs), tls.Certificate{})[0], nil
				}})
			if err == nil {
				t.Cleanup(func() { c.Close() })
				_, _ = io.WriteString(c, options)
			}
			if tc.word == "" {
				until(t, "the message", func() bool { n, _ := h.count(); return n == 1 })
				if users := h.flows[0].Users(); !slices.Equal(users, []string{"1001"}) {
					t.Errorf("the flow is of %q", users)
				}
				continue
			}
			until(t, "a refusal for "+tc.word, func() bool { return ln.Stats().Clients[tc.word] == 1 })
			until(t, "the reason "+tc.reason, func() bool { return log.has(tc.reason) && log.has("ja4=t1") })
		}
	}
}

// What is withdrawn ends the connections that showed it, and those that are just
// beginning; who showed none stays.
func TestRecheck(t *testing.T) {
	ca := newCA(t)
	by := new(register)
	ln, h, log := asking(t, ca, tls.VerifyClientCertIfGiven, by)
	dialWith := func(certs ...tls.Certificate) *tls.Conn {
		c, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true, Certificates: certs})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	cert := phoneCertificate(t, &ca, nil)
	shows, none := dialWith(cert), dialWith()
	send(t, shows, options)
	send(t, none, options)
	until(t, "both messages", func() bool { n, _ := h.count(); return n == 2 })
	ln.Recheck() // nothing is withdrawn
	if ln.Stats().Open != 2 {
		t.Fatal("a connection is gone though nothing is withdrawn")
	}
	by.withdraws.Store(true)
	ln.Recheck()
	rest(t, shows)
	until(t, "one to be left", func() bool { return ln.Stats().Open == 1 })
	if !log.has("the certificate is revoked since") || ln.Stats().Clients["revoked"] != 1 {
		t.Errorf("counted %v", ln.Stats().Clients)
	}
	late := dialWith(cert) // verified before, seen by Recheck never
	rest(t, late)
	until(t, "one to be left", func() bool { return ln.Stats().Open == 1 })
	send(t, none, options)
	until(t, "who showed none", func() bool { n, _ := h.count(); return n == 3 })
}
