package flow

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// IsURI tells whether a URI would be let through, as those in messages are.
func IsURI(uri string) bool { return checkURI(uri) == nil }

// checkURI holds a URI to the grammar of RFC 3261 section 25.1. Only what a
// reader could take for something else is refused: characters outside of their
// place, a port that is none, an escape that is none.
func checkURI(uri string) *Malformed {
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok || scheme == "" || !isScheme(scheme) {
		return malformed("", "URI without a scheme")
	}
	for i := 0; i < len(uri); i++ {
		if c := uri[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("<>\"\\^`{|}", c) >= 0 {
			return malformed("", "character that no URI has")
		}
	}
	if !escapesValid(uri) {
		return malformed("", "bad escape in URI")
	}
	switch strings.ToLower(scheme) {
	case "sip", "sips":
		return checkSIPURI(rest)
	case "tel":
		return checkTelURI(rest)
	}
	return nil
}

// ParseURI reads a URI that IsURI. Of one without a user part sipgo would take a bracket
// in the parameters for the host: it is given a user part to read.
func ParseURI(uri string, into *sip.Uri) error {
	scheme, rest, _ := strings.Cut(uri, ":")
	scheme = strings.ToLower(scheme)
	bare := (scheme == "sip" || scheme == "sips") && strings.IndexByte(rest, '[') > 0 && !strings.Contains(rest, "@")
	text := uri
	if bare {
		text = scheme + ":u@" + rest
	}
	if err := sip.ParseUri(text, into); err != nil {
		return fmt.Errorf("read URI %q: %w", uri, err)
	}
	if bare {
		into.User = ""
	}
	return nil
}

// checkTelURI accepts a number and parameters (RFC 3966 section 3).
func checkTelURI(rest string) *Malformed {
	if _, ok := TelNumber(rest); !ok {
		return malformed("", "not a telephone number")
	}
	if _, params, found := strings.Cut(rest, ";"); found && (params == "" || strings.ContainsAny(params, "@?#")) {
		return malformed("", "bad parameter in URI")
	}
	return nil
}

// TelNumber is the number of a tel URI's scheme-specific part, as it may stand
// in the user part of a SIP URI: without visual separators and parameters.
// Anything that is no number is refused: it would be read as a URI's other parts.
func TelNumber(rest string) (string, bool) {
	number, _, _ := strings.Cut(rest, ";")
	number = strings.NewReplacer("-", "", ".", "", "(", "", ")", "", "%23", "#").Replace(number)
	digits, allowed := strings.TrimPrefix(number, "+"), "0123456789"
	if digits == number { // a local number
		allowed += "abcdefABCDEF*#"
	}
	if digits == "" || strings.Trim(digits, allowed) != "" {
		return "", false
	}
	return strings.ReplaceAll(number, "#", "%23"), true
}

func isScheme(s string) bool {
	for i := 0; i < len(s); i++ {
		if !alphanum(s[i]) && strings.IndexByte("+-.", s[i]) < 0 {
			return false
		}
	}
	return s[0] > '9'
}

func checkSIPURI(rest string) *Malformed {
	// A user part may have a question mark: only behind it headers begin.
	if user, behind, ok := strings.Cut(rest, "@"); ok {
		// Of several colons, and of slashes in front, readers take another user each.
		if user == "" || strings.ContainsAny(user, "#[]") || strings.Count(user, ":") > 1 || user[0] == ':' || strings.HasPrefix(user, "//") {
			return malformed("", "bad user part in URI")
		}
		rest = behind
	}
	rest, headers, hasHeaders := strings.Cut(rest, "?")
	if hasHeaders && headers == "" {
		return malformed("", "URI with empty headers")
	}
	hostport, params, hasParams := strings.Cut(rest, ";")
	host, port, ok := splitHostPort(hostport)
	if !ok || !isHost(host) {
		return malformed("", "bad host in URI")
	}
	if port != "" && !isPort(port) {
		return malformed("", "bad port in URI")
	}
	if strings.ContainsAny(rest, "@#") || hasParams && !areNamed(params) {
		return malformed("", "bad parameter in URI")
	}
	return nil
}

// areNamed tells whether each parameter has a name. pjproject drops a message
// where one has none.
func areNamed(params string) bool {
	for p := range strings.SplitSeq(params, ";") {
		if p == "" || p[0] == '=' {
			return false
		}
	}
	return true
}

// splitHostPort splits at the colon outside of brackets. A colon must be
// followed by a port.
func splitHostPort(s string) (host, port string, ok bool) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", "", false
		}
		host, s = s[:end+1], s[end+1:]
		if s == "" {
			return host, "", true
		}
		port, ok = strings.CutPrefix(s, ":")
		return host, port, ok && port != ""
	}
	host, port, found := strings.Cut(s, ":")
	return host, port, !found || port != ""
}

func isPort(s string) bool {
	if !isDigits(s, 5) {
		return false
	}
	n, err := strconv.Atoi(s)
	return err == nil && n > 0 && n < 65536
}

// longestIPv6 is how long an address with its brackets may be: sipgo looks no further
// for the second. Longer ones end in an IPv4 address and spare no zero.
const longestIPv6 = 42

// isHost accepts a name, an IPv4 address or a bracketed IPv6 address. A name
// may have underscores, which the grammar forbids and the field uses.
func isHost(s string) bool {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if len(s) > longestIPv6 {
			return false
		}
		inner, ok = strings.CutSuffix(inner, "]")
		ip, err := netip.ParseAddr(inner)
		return ok && err == nil && ip.Is6() && ip.Zone() == ""
	}
	if s == "" || len(s) > 255 {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !alphanum(s[i]) && s[i] != '-' && s[i] != '.' && s[i] != '_' {
			return false
		}
	}
	return true
}

func escapesValid(s string) bool {
	for i := strings.IndexByte(s, '%'); i >= 0; {
		if i+2 >= len(s) || !hex(s[i+1]) || !hex(s[i+2]) {
			return false
		}
		// An escaped NUL or line end is data to us, and the end of a string
		// or a line to a reader in C that unescapes it.
		if code, _ := strconv.ParseUint(s[i+1:i+3], 16, 8); code < ' ' || code == 0x7f {
			return false
		}
		next := strings.IndexByte(s[i+1:], '%')
		if next < 0 {
			break
		}
		i += 1 + next
	}
	return true
}

func hex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
