package tlsconf

import (
	"crypto/x509"
	"net/url"
	"slices"
	"strings"
)

// users are those of our domains that a certificate names. Its alternative names
// say so, each by itself:
//
//	URI:sip:1001@pbx.example.com     (or sips:)
//	email:1001@pbx.example.com
//	DNS:1001.pbx.example.com
//
// and only if it has none at all, of whatever kind, its common name does: 1001, or
// 1001@pbx.example.com. Those of other domains name nobody here. A URI without a
// user is a domain's own (RFC 5922 section 7.1), and names no user either.
func users(cert *x509.Certificate, domains []string) []string {
	var out []string
	add := func(user, host string) {
		if user == "" || !slices.Contains(domains, strings.ToLower(strings.Trim(host, "[]"))) {
			return
		}
		if !slices.Contains(out, user) {
			out = append(out, user)
		}
	}
	for _, u := range cert.URIs {
		if scheme := strings.ToLower(u.Scheme); scheme != "sip" && scheme != "sips" {
			continue
		}
		address, _, _ := strings.Cut(u.Opaque, ";") // without parameters; url.Parse has cut off the headers
		user, host, ok := strings.Cut(address, "@")
		if ok {
			user, _, _ = strings.Cut(user, ":") // a password, deprecated by RFC 3261 section 19.1.1
			if plain, err := url.PathUnescape(user); err == nil {
				add(plain, withoutPort(host))
			}
		}
	}
	for _, address := range cert.EmailAddresses {
		if user, host, ok := strings.Cut(address, "@"); ok {
			add(user, host)
		}
	}
	for _, name := range cert.DNSNames {
		if user, host, ok := strings.Cut(name, "."); ok && user != "*" {
			add(user, host)
		}
	}
	if len(cert.URIs)+len(cert.EmailAddresses)+len(cert.DNSNames)+len(cert.IPAddresses) > 0 || hasAlternatives(cert) {
		return out
	}
	user, host, ok := strings.Cut(cert.Subject.CommonName, "@")
	if !ok && len(domains) > 0 {
		host = domains[0]
	}
	add(user, host)
	return out
}

// withoutPort is the host of a host and port, IPv6 addresses in their brackets.
func withoutPort(s string) string {
	if end := strings.IndexByte(s, ']'); end >= 0 {
		return s[:end+1]
	}
	host, _, _ := strings.Cut(s, ":")
	return host
}
