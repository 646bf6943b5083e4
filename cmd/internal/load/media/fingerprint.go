package media

import (
	"crypto/sha1" //nolint:gosec // some still describe themselves by it, and RFC 8122 section 5 has it
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"strings"
)

// hashes are those of fingerprints, the best first (RFC 8122 section 5).
var hashes = []struct {
	name string
	make func() hash.Hash
}{
	{"SHA-512", sha512.New}, {"SHA-384", sha512.New384}, {"SHA-256", sha256.New}, {"SHA-1", sha1.New},
}

// fingerprint is that of a certificate: AB:CD…
func fingerprint(h hash.Hash, der []byte) string {
	h.Write(der)
	var b strings.Builder
	for i, c := range h.Sum(nil) {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02X", c)
	}
	return b.String()
}

// matches tells whether a certificate is one that a description tells of: by the
// best hash that it has fingerprints of. prints are in upper case, with commas.
func matches(prints string, der []byte) bool {
	for _, h := range hashes {
		known, right := false, false
		for _, p := range strings.Split(prints, ",") {
			name, value, _ := strings.Cut(p, " ")
			if name == h.name {
				known, right = true, right || value == fingerprint(h.make(), der)
			}
		}
		if known {
			return right
		}
	}
	return false
}
