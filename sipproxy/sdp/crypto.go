package sdp

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"math/bits"
	"strconv"
	"strings"
)

// Crypto is an a=crypto line (RFC 4568 section 4).
type Crypto struct {
	Tag    int
	Suite  string
	Keys   []InlineKey
	Params []string // session parameters, as they came
	broken string   // why the line can't be used, if its own syntax is off
}

// InlineKey is one "inline:" key.
type InlineKey struct {
	KeySalt  []byte // master key, then master salt
	Lifetime uint64 // packets; 0: not said
	MKI      []byte // nil: none
}

// suites are the lengths of key and salt together: RFC 4568 section 6.2, RFC
// 6188 section 4, RFC 7714 section 14.2.
var suites = map[string]int{
	"AES_CM_128_HMAC_SHA1_80": 16 + 14,
	"AES_CM_128_HMAC_SHA1_32": 16 + 14,
	"AES_256_CM_HMAC_SHA1_80": 32 + 14,
	"AES_256_CM_HMAC_SHA1_32": 32 + 14,
	"AEAD_AES_128_GCM":        16 + 12,
	"AEAD_AES_256_GCM":        32 + 12,
}

// Usable tells why a line can't be used, or nil. An unknown suite, a key of
// another length, a parameter that turns protection off, or one we don't know
// and must (section 6.3.7) make it unusable; none of them is an error of the
// description.
func (c Crypto) Usable() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: tag %d: %s", ErrCrypto, c.Tag, fmt.Sprintf(format, args...))
	}
	if c.broken != "" {
		return fail("%s", c.broken)
	}
	length, known := suites[c.Suite]
	if !known {
		return fail("suite %s is not known", c.Suite)
	}
	if len(c.Keys) != 1 {
		return fail("%d keys, one is supported", len(c.Keys))
	}
	if n := len(c.Keys[0].KeySalt); n != length {
		return fail("key of %d bytes, %s needs %d", n, c.Suite, length)
	}
	for _, p := range c.Params {
		name, _, _ := strings.Cut(p, "=")
		switch {
		case strings.HasPrefix(name, "-"), name == "WSH": // may be ignored; a hint on the window's size
		default: // UNENCRYPTED_*, UNAUTHENTICATED_SRTP, KDR, FEC_*, and what we don't know
			return fail("session parameter %s is not supported", name)
		}
	}
	return nil
}

const redacted = "(key not shown)"

// Format keeps keys out of logs and errors, whatever the verb.
func (k InlineKey) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, redacted) }

// LogValue does the same for log/slog.
func (k InlineKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// Format shows a line without its key.
func (c Crypto) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "%d %s %s", c.Tag, c.Suite, redacted)
}

// LogValue does the same for log/slog.
func (c Crypto) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// parseCrypto reads the value of an a=crypto line. It always returns a
// Crypto: one whose syntax is off is not usable, and says why.
func parseCrypto(v string) Crypto {
	words := strings.Fields(v)
	if len(words) < 3 {
		return Crypto{broken: "not tag, suite and key"}
	}
	c := Crypto{Suite: words[1], Params: words[3:]}
	if !digits(words[0], 9) {
		c.broken = "tag is not a number of up to 9 digits"
		return c
	}
	c.Tag, _ = strconv.Atoi(words[0])
	if !token(c.Suite) || len(c.Suite) > 64 {
		c.Suite, c.broken = "", "suite is not a word"
		return c
	}
	for _, key := range strings.Split(words[2], ";") {
		k, fault := parseKey(key)
		if fault != "" {
			c.Keys, c.broken = nil, fault
			return c
		}
		if c.Keys = append(c.Keys, k); len(c.Keys) > 8 {
			c.Keys, c.broken = nil, "too many keys"
			return c
		}
	}
	return c
}

// parseKey reads inline:<key||salt>[|lifetime][|MKI:length].
func parseKey(s string) (InlineKey, string) {
	s, ok := strings.CutPrefix(s, "inline:")
	if !ok {
		return InlineKey{}, "key is not inline"
	}
	parts := strings.Split(s, "|")
	if len(parts) > 3 {
		return InlineKey{}, "key with too many fields"
	}
	// With padding as RFC 4568 has it, or without as some phones send it.
	keySalt, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(parts[0], "="))
	if err != nil || len(keySalt) > 64 {
		return InlineKey{}, "key is not base64"
	}
	k := InlineKey{KeySalt: keySalt}
	for i, p := range parts[1:] {
		if value, length, isMKI := strings.Cut(p, ":"); isMKI {
			if k.MKI = parseMKI(value, length); k.MKI == nil || i != len(parts)-2 {
				return InlineKey{}, "bad MKI"
			}
			continue
		}
		if k.Lifetime = parseLifetime(p); k.Lifetime == 0 || i != 0 {
			return InlineKey{}, "bad lifetime"
		}
	}
	return k, ""
}

// parseMKI returns a big-endian number in as many bytes as said, 1 to 128.
func parseMKI(value, length string) []byte {
	if !digits(value, 10) || !digits(length, 3) {
		return nil
	}
	n, _ := strconv.Atoi(length)
	v, _ := strconv.ParseUint(value, 10, 64)
	if n < 1 || n > 128 || bits.Len64(v) > 8*n {
		return nil
	}
	mki := make([]byte, n)
	for i := n - 1; i >= 0 && v > 0; i-- {
		mki[i], v = byte(v), v>>8
	}
	return mki
}

// parseLifetime reads a number, or 2^n; 0 is a fault.
func parseLifetime(s string) uint64 {
	if exp, ok := strings.CutPrefix(s, "2^"); ok {
		n, err := strconv.Atoi(exp)
		if err != nil || !digits(exp, 2) || n > 48 {
			return 0
		}
		return 1 << n
	}
	if !digits(s, 15) {
		return 0
	}
	n, _ := strconv.ParseUint(s, 10, 64)
	return n
}

func (c Crypto) write(b *strings.Builder) {
	fmt.Fprintf(b, "a=crypto:%d %s ", c.Tag, c.Suite)
	for i, k := range c.Keys {
		if i > 0 {
			b.WriteByte(';')
		}
		b.WriteString("inline:" + base64.StdEncoding.EncodeToString(k.KeySalt))
		if k.Lifetime > 0 {
			fmt.Fprintf(b, "|%d", k.Lifetime)
		}
		if len(k.MKI) > 0 && len(k.MKI) <= 8 {
			var v uint64
			for _, x := range k.MKI {
				v = v<<8 | uint64(x)
			}
			fmt.Fprintf(b, "|%d:%d", v, len(k.MKI))
		}
	}
	for _, p := range c.Params {
		b.WriteString(" " + p)
	}
	b.WriteString("\r\n")
}
