package tlsconf

import (
	"crypto/rsa"
	"crypto/tls"
	"slices"
)

// set is the certificates in force, in the order they are configured in. It is
// immutable once it is stored in a Source.
type set struct {
	pairs []*pair
	all   []*pair // likewise, in order of preference
	home  []*pair // for who names none of them, in order of preference
}

// newSet sorts the certificates. Several for one name differ in their keys:
// those that are not RSA are cheaper for both sides, and every phone that can't
// use them says so in its hello.
func newSet(cfg Config, pairs []*pair) *set {
	s := &set{pairs: pairs}
	for _, rsaTurn := range []bool{false, true} {
		for _, p := range pairs {
			if _, isRSA := p.cert.Leaf.PublicKey.(*rsa.PublicKey); isRSA == rsaTurn {
				s.all = append(s.all, p)
			}
		}
	}
	// Phones that send no name, and those that connect by the address, mean
	// edge.domain.
	wanted := slices.Clone(cfg.Names)
	for _, ip := range cfg.IPs {
		wanted = append(wanted, ip.String())
	}
	wanted = append(wanted, pairs[0].cert.Leaf.DNSNames...) // if none names it: the first, and its like
	for _, name := range wanted {
		if s.home = s.named(name); len(s.home) > 0 {
			return s
		}
	}
	s.home = pairs[:1]
	return s
}

// named are the certificates that carry a name, wildcards included.
func (s *set) named(name string) []*pair {
	var out []*pair
	for _, p := range s.all {
		if p.cert.Leaf.VerifyHostname(name) == nil {
			out = append(out, p)
		}
	}
	return out
}

// choose picks the certificate for a handshake: by the name the client asks for,
// and among several by the kinds of keys it can use. If it can use none of them
// it gets the first, and crypto/tls says what was missing.
func (s *set) choose(hello *tls.ClientHelloInfo) *pair {
	among := s.home
	if hello.ServerName != "" {
		if named := s.named(hello.ServerName); len(named) > 0 {
			among = named
		}
	}
	if len(among) > 1 {
		anyName := *hello
		anyName.ServerName = "" // is settled; what is left are versions, suites, curves and signatures
		for _, p := range among {
			if anyName.SupportsCertificate(&p.cert) == nil {
				return p
			}
		}
	}
	return among[0]
}
