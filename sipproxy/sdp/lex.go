package sdp

import (
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxToken bounds one word of the grammar; real ones have a few letters.
const maxToken = 128

// clean tells what is wrong with a line's characters, or "". The C1 controls
// count: terminals obey them.
func clean(line []byte) string {
	for i := 0; i < len(line); {
		c, n := utf8.DecodeRune(line[i:])
		switch {
		case c == utf8.RuneError && n == 1:
			return "not UTF-8"
		case unicode.IsControl(c):
			return "control character"
		}
		i += n
	}
	return ""
}

// split cuts at spaces. Phones put two, or one at the end. No other white
// space counts: strings.Fields would also cut at those of Unicode.
func split(s string) []string {
	return strings.FieldsFunc(s, func(c rune) bool { return c == ' ' })
}

// number reads an unsigned decimal of at most width digits, no sign.
func number(s string, width int) (uint64, bool) {
	if !digits(s, width) {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

func digits(s string, width int) bool {
	return s != "" && len(s) <= width && strings.Trim(s, "0123456789") == ""
}

func port(s string) (uint16, bool) {
	n, ok := number(s, 5)
	return uint16(n), ok && n <= 65535
}

// payloadType accepts 0 to 127 as written by everybody: 00 would be another
// name for 0.
func payloadType(s string) bool {
	n, ok := number(s, 3)
	return ok && n < 128 && (s[0] != '0' || s == "0")
}

// token is RFC 8866 section 9: token.
func token(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]`, c) >= 0 {
			return false
		}
	}
	return s != "" && len(s) <= maxToken
}

func tokens(list []string) bool {
	for _, s := range list {
		if !token(s) {
			return false
		}
	}
	return true
}

// words accepts visible ASCII with single spaces between, up to 512 bytes.
func words(s string) bool {
	return s != "" && len(s) <= 512 && ascii(s) && s == strings.Join(split(s), " ")
}

func ascii(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

func alphanumeric(s, more string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && strings.IndexByte(more, c) < 0 {
			return false
		}
	}
	return s != ""
}

// iceChars is RFC 8839 section 5.4: ice-char.
func iceChars(s string, low, high int) bool {
	return alphanumeric(s, "+/") && len(s) >= low && len(s) <= high
}

// hexBytes accepts n pairs of hexadecimal digits with colons between; 0 is
// any number of them.
func hexBytes(s string, n int) bool {
	parts := strings.Split(s, ":")
	for _, part := range parts {
		if len(part) != 2 || strings.Trim(part, "0123456789abcdefABCDEF") != "" {
			return false
		}
	}
	return n == len(parts) || n == 0 && len(parts) <= 64
}

// address reads a network type, an address type and an address: a literal, or
// a host name that stays unresolved and gives the zero Addr. It returns what
// is wrong, or "".
func address(network, kind, v string) (netip.Addr, string) {
	none := netip.Addr{}
	if network != "IN" || kind != "IP4" && kind != "IP6" {
		return none, "address type is not IN IP4 or IN IP6"
	}
	if strings.Contains(v, "/") { // a TTL or a range
		return none, "multicast is not supported"
	}
	ip, err := netip.ParseAddr(v)
	switch {
	case err != nil && hostname(v):
		return none, ""
	case err != nil:
		return none, "bad address"
	case ip.Zone() != "" || ip.Is4() != (kind == "IP4"):
		return none, "address is not of its type"
	case ip.Unmap().IsMulticast():
		return none, "multicast is not supported"
	}
	return ip.Unmap(), ""
}

// hostname accepts a name, but not what only looks like an address: some
// resolvers read 127.1 and 010.0.0.1 as one.
func hostname(s string) bool {
	return alphanumeric(s, "-._") && len(s) < 256 && strings.Trim(s, "0123456789.") != ""
}
