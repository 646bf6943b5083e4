package sdp

import (
	"encoding/base64"
	"fmt"
	"math/big"
	"math/bits"
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
	MKI      []byte // as packets carry it, big endian; nil: none
	MKILen   int    // of MKI; 0: none
}

const (
	maxKeys     = 8       // of one line
	maxLifetime = 1 << 48 // RFC 3711 section 9.2
	maxMKI      = 128     // bytes, RFC 4568 section 6.1
)

// keySaltLen is the length of key and salt together: RFC 4568 section 6.2,
// RFC 6188 section 4, RFC 7714 section 14.2. It is 0 for a suite that is not
// known.
func keySaltLen(suite string) int {
	switch suite {
	case "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32":
		return 16 + 14
	case "AES_256_CM_HMAC_SHA1_80", "AES_256_CM_HMAC_SHA1_32":
		return 32 + 14
	case "AEAD_AES_128_GCM":
		return 16 + 12
	case "AEAD_AES_256_GCM":
		return 32 + 12
	}
	return 0
}

// Usable tells why a line can't be used, or nil; the reason wraps ErrCrypto
// and holds no key. If it is nil there is exactly one key: with more, each
// packet's MKI would choose. An unknown suite, a key of another length, a
// parameter that turns protection off, or one we don't know and must (RFC
// 4568 section 6.3.7) make a line unusable; none of them is an error of the
// description.
func (c Crypto) Usable() error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: tag %d: %s", ErrCrypto, c.Tag, fmt.Sprintf(format, args...))
	}
	if c.broken != "" {
		return fail("%s", c.broken)
	}
	length := keySaltLen(c.Suite)
	if length == 0 {
		return fail("suite %s is not known", c.Suite)
	}
	if len(c.Keys) != 1 {
		return fail("%d keys, one is supported", len(c.Keys))
	}
	if n := len(c.Keys[0].KeySalt); n != length {
		return fail("key of %d bytes, %s needs %d", n, c.Suite, length)
	}
	for _, p := range c.Params {
		if why := refuseParam(p); why != "" {
			return fail("%s", why)
		}
	}
	return nil
}

// refuseParam tells why a session parameter makes its line unusable, or "".
// A parameter that turns protection off is refused even where the sender
// would let us ignore it: it says what the sender means to do.
func refuseParam(p string) string {
	name, _, _ := strings.Cut(p, "=")
	bare, optional := strings.CutPrefix(name, "-")
	switch {
	case !suiteChars(bare):
		return "session parameter is not a word" // it may be a misplaced key: not shown
	case strings.HasPrefix(bare, "UNENCRYPTED_"), strings.HasPrefix(bare, "UNAUTHENTICATED_"):
		return "session parameter " + bare + " turns protection off"
	case optional, bare == "WSH": // WSH is a hint on the window's size
		return ""
	}
	return "session parameter " + bare + " is not supported" // KDR, FEC_ORDER, FEC_KEY, and what we don't know
}

// suiteChars is narrower than the RFC's srtp-crypto-suite, which has small
// letters as well: no known name does, and base64 would pass for one.
func suiteChars(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// parseCrypto reads the value of an a=crypto line. It always returns a
// Crypto: one whose syntax is off is not usable, and says why. A phone may
// offer lines that only its maker understands beside good ones.
func parseCrypto(v string) Crypto {
	f := split(v)
	if len(f) < 3 {
		return Crypto{broken: "not tag, suite and key"}
	}
	tag, ok := number(f[0], 9)
	if !ok {
		return Crypto{broken: "tag is not a number of up to 9 digits"}
	}
	c := Crypto{Tag: int(tag)}
	if !suiteChars(f[1]) {
		c.broken = "suite is not a word"
		return c
	}
	c.Suite = f[1]
	keys := strings.Split(f[2], ";")
	if len(keys) > maxKeys {
		c.broken = "too many keys"
		return c
	}
	for _, key := range keys {
		k, fault := parseKey(key)
		if fault != "" {
			c.Keys, c.broken = nil, fault
			return c
		}
		c.Keys = append(c.Keys, k)
	}
	for _, p := range f[3:] {
		if !ascii(p) {
			c.Params, c.broken = nil, "session parameter is not ASCII"
			return c
		}
		c.Params = append(c.Params, p)
	}
	return c
}

// parseKey reads inline:<key||salt>[|lifetime][|MKI:length]. It returns what
// is wrong, or "".
func parseKey(s string) (InlineKey, string) {
	s, ok := strings.CutPrefix(s, "inline:")
	if !ok {
		return InlineKey{}, "key is not inline"
	}
	parts := strings.Split(s, "|")
	k := InlineKey{KeySalt: decodeKey(parts[0])}
	if k.KeySalt == nil {
		return InlineKey{}, "key is not base64"
	}
	parts = parts[1:]
	if len(parts) > 0 && !strings.Contains(parts[0], ":") {
		if k.Lifetime = parseLifetime(parts[0]); k.Lifetime == 0 {
			return InlineKey{}, "bad lifetime"
		}
		parts = parts[1:]
	}
	if len(parts) > 0 {
		if k.MKI = parseMKI(parts[0]); k.MKI == nil {
			return InlineKey{}, "bad MKI"
		}
		k.MKILen = len(k.MKI)
		parts = parts[1:]
	}
	if len(parts) > 0 {
		return InlineKey{}, "key with too many fields"
	}
	return k, ""
}

// decodeKey takes padding as RFC 4568 has it, or none as some phones send;
// nil is a fault.
func decodeKey(s string) []byte {
	encoding := base64.StdEncoding
	if !strings.HasSuffix(s, "=") {
		encoding = base64.RawStdEncoding
	}
	key, err := encoding.DecodeString(s)
	if err != nil || len(key) == 0 || len(key) > 64 {
		return nil
	}
	return key
}

// parseMKI reads <value>:<length>, a number and the bytes it takes in every
// packet; nil is a fault.
func parseMKI(s string) []byte {
	text, length, _ := strings.Cut(s, ":")
	n, ok := number(length, 3)
	if !ok || n < 1 || n > maxMKI || !digits(text, 309) { // 309 digits are 128 bytes
		return nil
	}
	value, ok := new(big.Int).SetString(text, 10)
	if !ok || value.BitLen() > int(8*n) {
		return nil
	}
	return value.FillBytes(make([]byte, n))
}

// parseLifetime reads a number, or 2^n; 0 is a fault.
func parseLifetime(s string) uint64 {
	if exp, power := strings.CutPrefix(s, "2^"); power {
		if n, ok := number(exp, 2); ok && n <= 48 {
			return 1 << n
		}
		return 0
	}
	if n, ok := number(s, 15); ok && n <= maxLifetime {
		return n
	}
	return 0
}

// appendTo writes the line's value: a key alone where no more is said, which
// is what every phone reads.
func (c Crypto) appendTo(b []byte) []byte {
	b = fmt.Appendf(b, "%d %s ", c.Tag, c.Suite)
	for i, k := range c.Keys {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, "inline:"...)
		b = base64.StdEncoding.AppendEncode(b, k.KeySalt)
		switch {
		case k.Lifetime == 0:
		case bits.OnesCount64(k.Lifetime) == 1:
			b = fmt.Appendf(b, "|2^%d", bits.TrailingZeros64(k.Lifetime))
		default:
			b = fmt.Appendf(b, "|%d", k.Lifetime)
		}
		if len(k.MKI) > 0 {
			b = fmt.Appendf(b, "|%d:%d", new(big.Int).SetBytes(k.MKI), len(k.MKI))
		}
	}
	for _, p := range c.Params {
		b = append(append(b, ' '), p...)
	}
	return b
}
