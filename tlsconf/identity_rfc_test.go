package tlsconf

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"slices"
	"testing"
)

func sipURI(opaque string) *url.URL { return &url.URL{Scheme: "sip", Opaque: opaque} }

// The domains of a certificate, as RFC 5922 section 7.1 finds them, and their
// comparison of section 7.2.
func TestDomains(t *testing.T) {
	ca := newPhoneCA(t, "CA", nil)
	for _, tc := range []struct {
		name   string
		change func(*x509.Certificate)
		want   []string
		is     string // a name that it speaks for
		not    []string
	}{
		{name: "a SIP URI", change: func(c *x509.Certificate) { c.URIs = []*url.URL{sipURI("Bar.Example.com")} },
			want: []string{"bar.example.com"}, is: "BAR.example.com", not: []string{"example.com", "sip.bar.example.com"}},
		{name: "a SIP URI goes before DNS", change: func(c *x509.Certificate) {
			c.URIs, c.DNSNames = []*url.URL{sipURI("example.com")}, []string{"sip1.example.com"}
		}, want: []string{"example.com"}, is: "example.com", not: []string{"sip1.example.com"}},
		{name: "several URIs", change: func(c *x509.Certificate) {
			c.URIs = []*url.URL{sipURI("a.example.com"), sipURI("b.example.com;transport=tls")}
		}, want: []string{"a.example.com", "b.example.com"}, is: "b.example.com"},
		{name: "a URI with a port", change: func(c *x509.Certificate) { c.URIs = []*url.URL{sipURI("bar.example.com:5061")} },
			want: []string{"bar.example.com"}, is: "bar.example.com"},
		{name: "a user's URI", change: func(c *x509.Certificate) { c.URIs = []*url.URL{sipURI("1001@bar.example.com")} },
			not: []string{"bar.example.com", "1001@bar.example.com"}},
		{name: "a user's URI, and DNS", change: func(c *x509.Certificate) {
			c.URIs, c.DNSNames = []*url.URL{sipURI("1001@example.com")}, []string{"bar.example.com"}
		}, want: []string{"bar.example.com"}, is: "bar.example.com", not: []string{"example.com"}},
		{name: "sips is no domain's", change: func(c *x509.Certificate) {
			c.URIs = []*url.URL{{Scheme: "sips", Opaque: "bar.example.com"}}
		}, not: []string{"bar.example.com"}},
		{name: "https is no domain's", change: func(c *x509.Certificate) {
			c.URIs = []*url.URL{{Scheme: "https", Host: "bar.example.com"}}
		}, not: []string{"bar.example.com"}},
		{name: "DNS", change: func(c *x509.Certificate) { c.DNSNames = []string{"bar.example.com", "www.example.com"} },
			want: []string{"bar.example.com", "www.example.com"}, is: "www.example.com", not: []string{"example.com"}},
		{name: "a wildcard is nobody", change: func(c *x509.Certificate) { c.DNSNames = []string{"*.example.com"} },
			want: []string{"*.example.com"}, not: []string{"bar.example.com", "example.com", ".example.com"}},
		{name: "a wildcard in a URI", change: func(c *x509.Certificate) { c.URIs = []*url.URL{sipURI("*.example.com")} },
			want: []string{"*.example.com"}, not: []string{"bar.example.com"}},
		{name: "an address", change: func(c *x509.Certificate) {
			c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1), net.ParseIP("2001:db8::1")}
		},
			want: []string{"192.0.2.1", "2001:db8::1"}, is: "[2001:db8::1]"},
		{name: "CN alone", change: func(c *x509.Certificate) { c.Subject.CommonName = "bar.example.com" }, want: []string{"bar.example.com"}, is: "bar.example.com"},
		{name: "CN beside DNS", change: func(c *x509.Certificate) {
			c.Subject.CommonName, c.DNSNames = "bar.example.com", []string{"www.example.com"}
		}, want: []string{"www.example.com"}, not: []string{"bar.example.com"}},
		{name: "CN beside a user's URI", change: func(c *x509.Certificate) {
			c.Subject.CommonName, c.URIs = "bar.example.com", []*url.URL{sipURI("1001@bar.example.com")}
		}, not: []string{"bar.example.com"}},
		{name: "CN beside a name of another kind", change: func(c *x509.Certificate) {
			c.Subject.CommonName = "bar.example.com" // the other is a registered ID
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: []byte{0x30, 4, 0x88, 2, 0x2a, 3}}}
		}, not: []string{"bar.example.com"}},
		{name: "CN that is no host name", change: func(c *x509.Certificate) { c.Subject.CommonName = "Bar Inc." }, not: []string{"Bar Inc.", "bar"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cert := ca.issue(func(c *x509.Certificate) {
				c.URIs = nil
				tc.change(c)
			}).Leaf
			if got := domains(cert); !slices.Equal(got, tc.want) {
				t.Errorf("domains %q, want %q", got, tc.want)
			}
			if tc.is != "" && !speaksFor(cert, []string{"other.example", tc.is}) {
				t.Errorf("does not speak for %s", tc.is)
			}
			for _, name := range tc.not {
				if speaksFor(cert, []string{name}) {
					t.Errorf("speaks for %s", name)
				}
			}
		})
	}
}

// What a certificate was issued for (RFC 5924 section 4, and what public CAs issue).
func TestUsageForSIP(t *testing.T) {
	ca := newPhoneCA(t, "CA", nil)
	for _, tc := range []struct {
		name    string
		uses    []x509.ExtKeyUsage
		unknown []asn1.ObjectIdentifier
		want    bool
	}{
		{"none stated", nil, nil, true},
		{"a server", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, nil, true},
		{"a client", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, nil, true},
		{"any", []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, nil, true},
		{"SIP domain", nil, []asn1.ObjectIdentifier{sipDomain}, true},
		{"signing code", []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, nil, false},
		{"signing code and SIP domain", []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, []asn1.ObjectIdentifier{sipDomain}, true},
		{"something unknown", nil, []asn1.ObjectIdentifier{{1, 2, 3}}, false},
	} {
		cert := ca.issue(func(c *x509.Certificate) { c.ExtKeyUsage, c.UnknownExtKeyUsage = tc.uses, tc.unknown }).Leaf
		if got := forSIP(cert); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}
