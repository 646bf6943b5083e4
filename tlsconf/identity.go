package tlsconf

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/netip"
	"slices"
	"strings"
)

// domains are the SIP domains that a certificate speaks for (RFC 5922 section 7.1):
// the hosts of URIs of the scheme sip that have no user, as one with a user is that
// user's; if there is none, its DNS names; and only if it has no alternative name at
// all, its common name, where that is a host name.
func domains(cert *x509.Certificate) []string {
	var out []string
	for _, u := range cert.URIs {
		if !strings.EqualFold(u.Scheme, "sip") { // sips is none, says the section
			continue
		}
		address, _, _ := strings.Cut(u.Opaque, ";")
		host := strings.ToLower(withoutPort(address))
		if host != "" && !strings.Contains(address, "@") {
			out = append(out, strings.Trim(host, "[]"))
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, name := range cert.DNSNames {
		out = append(out, strings.ToLower(name))
	}
	for _, ip := range cert.IPAddresses { // RFC 5922 has none; a peer that is dialled by its address has no other name
		if a, ok := netip.AddrFromSlice(ip); ok {
			out = append(out, a.Unmap().String())
		}
	}
	if len(out) > 0 || len(cert.URIs)+len(cert.EmailAddresses) > 0 || hasAlternatives(cert) {
		return out
	}
	if cn := cert.Subject.CommonName; plainName(cn) {
		out = append(out, strings.ToLower(cn))
	}
	return out
}

// hasAlternatives tells whether a certificate has the extension, if only with names
// of kinds that say nothing here.
func hasAlternatives(cert *x509.Certificate) bool {
	return slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(subjectAltName) })
}

var subjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// speaksFor tells whether one of the names is a domain of the certificate. Names are
// compared whole: a wildcard is no more than a name that nobody has (RFC 5922
// section 7.2).
func speaksFor(cert *x509.Certificate, names []string) bool {
	has := domains(cert)
	return slices.ContainsFunc(names, func(name string) bool {
		return slices.Contains(has, strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), ".")))
	})
}

// forSIP tells whether a certificate may be that of a SIP peer. RFC 5924 section 4
// wants sipDomain, or any usage, or none stated. A server's is taken too, from who
// dials as well: that is what public CAs issue, and clientAuth is no longer in it, as
// the roots that browsers trust are to issue for serverAuth alone (Chrome Root Program
// Policy, section 3.2.2; https://letsencrypt.org/2025/05/14/ending-tls-client-authentication).
// That one for something else, like signing code, is not taken, stays.
func forSIP(cert *x509.Certificate) bool {
	if len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.ContainsFunc(cert.ExtKeyUsage, func(u x509.ExtKeyUsage) bool {
		return u == x509.ExtKeyUsageAny || u == x509.ExtKeyUsageServerAuth || u == x509.ExtKeyUsageClientAuth
	}) || slices.ContainsFunc(cert.UnknownExtKeyUsage, sipDomain.Equal)
}

var sipDomain = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 20} // id-kp-sipDomain
