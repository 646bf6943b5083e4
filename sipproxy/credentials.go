package sipproxy

import (
	"strings"

	"github.com/emiago/sipgo/sip"
)

// credentials are what a request says of who it is, unverified: the PBX alone
// knows the password.
type credentials struct {
	user, nonce string // both empty: the request carries none
}

// credentialsOf reads the digest of a request (RFC 3261 section 22). Of several
// users' the PBX could take another than we do, and a name with escapes it may
// read otherwise: these are refused.
func credentialsOf(in *sip.Request) (credentials, *refusal) {
	var found credentials
	for _, name := range []string{"Authorization", "Proxy-Authorization"} {
		for _, h := range in.GetHeaders(name) {
			value := digestForPBX(h.Value())
			if value == "" { // it does not go on
				continue
			}
			_, params, _ := strings.Cut(value, " ")
			user, ok := digestUser(value)
			nonce, doubled := digestParam(params, "nonce")
			switch {
			case !ok || doubled:
				return credentials{}, refuse(sip.StatusBadRequest, "Bad Request", "%s names no user or more than one, or more than one nonce", name)
			case found.user != "" && found.user != user:
				return credentials{}, refuse(sip.StatusBadRequest, "Bad Request", "credentials of two users")
			}
			found = credentials{user, nonce}
		}
	}
	return found, nil
}

// digestParam reads a parameter of a challenge or of credentials, and tells
// whether it is there more than once.
func digestParam(params, name string) (value string, doubled bool) {
	once := false
	for _, p := range splitQuoted(params) {
		key, v, ok := strings.Cut(p, "=")
		if !ok || !strings.EqualFold(strings.TrimSpace(key), name) {
			continue
		}
		if once {
			return "", true
		}
		v = strings.TrimSpace(v)
		if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
			v = v[1 : len(v)-1]
		}
		value, once = v, true
	}
	return value, false
}

// splitQuoted splits at commas outside of quotes.
func splitQuoted(s string) (parts []string) {
	quoted, from := false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			parts, from = append(parts, s[from:i]), i+1
		}
	}
	return append(parts, s[from:])
}

// isStale tells a challenge that finds nothing wrong but the nonce's age.
func isStale(res *sip.Response) bool {
	for _, name := range []string{"WWW-Authenticate", "Proxy-Authenticate"} {
		for _, h := range res.GetHeaders(name) {
			_, params, _ := strings.Cut(h.Value(), " ")
			if v, _ := digestParam(params, "stale"); strings.EqualFold(v, "true") {
				return true
			}
		}
	}
	return false
}
