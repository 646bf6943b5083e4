package media

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"testing"
)

// A description that names another certificate begins another handshake, whoever
// begins it; until that is done the keys before go on (RFC 8842 section 4).
func TestPhoneRenewsItsCertificate(t *testing.T) {
	e := runEngine(t, testConfig())
	for _, ice := range []bool{true, false} {
		for _, role := range []Role{Active, Passive} {
			t.Run(fmt.Sprintf("ICE %v, role %d", ice, role), func(t *testing.T) {
				c := newWeb(t, e, 1)
				c.start(role, ice, allSuite...)
				if ice {
					c.nominate(c.tr.Credentials())
				}
				if err := c.handshake(other(role), allSuite, c.tr.Fingerprint()); err != nil {
					t.Fatal(err)
				}
				c.talks()
				before := c.browser
				c.browser = newBrowser(t, before.to)
				c.start(role, ice, allSuite...)
				before.says(0, "under the key before")
				wants(t, c.pbx[0], "under the key before")
				if ice {
					c.nominate(c.tr.Credentials())
				}
				if err := c.handshake(other(role), allSuite, c.tr.Fingerprint()); err != nil {
					t.Fatal(err)
				}
				c.talks()
			})
		}
	}
}

// A phone that asks for the certificate of a CA that it knows gets ours all the same:
// that is the one whose fingerprint it was told.
func TestPhoneNamesItsCA(t *testing.T) {
	c := newWeb(t, runEngine(t, testConfig()), 1)
	c.start(Active, true, allSuite...)
	c.nominate(c.tr.Credentials())
	named := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the phone's own"}, IsCA: true}
	key := c.cert.tls.PrivateKey.(*ecdsa.PrivateKey)
	der, err := x509.CreateCertificate(rand.Reader, named, named, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c.cas = x509.NewCertPool()
	c.cas.AddCert(ca)
	if err := c.handshake(Passive, allSuite, c.tr.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	c.talks()
}
