package media

import (
	"fmt"
	"strings"
	"testing"
)

// The lengths of RFC 4568 section 6.2, RFC 6188 section 4 and RFC 7714
// section 14.2.
func TestSuitesOfTheRFCs(t *testing.T) {
	for _, c := range []struct {
		name      string
		key, salt int
	}{
		{"AES_CM_128_HMAC_SHA1_80", 16, 14},
		{"AES_CM_128_HMAC_SHA1_32", 16, 14},
		{"AES_256_CM_HMAC_SHA1_80", 32, 14},
		{"AES_256_CM_HMAC_SHA1_32", 32, 14},
		{"AEAD_AES_128_GCM", 16, 12},
		{"AEAD_AES_256_GCM", 32, 12},
	} {
		s, ok := ParseSuite(c.name)
		if !ok || s.String() != c.name || s.KeyLen() != c.key || s.SaltLen() != c.salt {
			t.Errorf("%s is %v, %d and %d bytes (known: %v)", c.name, s, s.KeyLen(), s.SaltLen(), ok)
		}
		k, err := NewKey(s)
		if err != nil || len(k.KeySalt) != c.key+c.salt {
			t.Errorf("%s: key of %d bytes, %v", c.name, len(k.KeySalt), err)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			if text := fmt.Sprintf(verb, k); !strings.Contains(text, "not shown") || strings.Contains(text, fmt.Sprintf("%x", k.KeySalt)) {
				t.Errorf("%s prints a key as %q", verb, text)
			}
		}
	}
	for _, name := range []string{"", "F8_128_HMAC_SHA1_80", "aes_cm_128_hmac_sha1_80", "NULL_HMAC_SHA1_80"} {
		if _, ok := ParseSuite(name); ok {
			t.Errorf("%q is taken for a suite", name)
		}
	}
}
