package sipproxy

import (
	"regexp"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// This file reads digests (RFC 3261 section 25.1, RFC 7616), in one way for all that
// depends on it: what phones say of who they are, and what goes on to the PBX.

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
			d, ok := readDigest(h.Value())
			if !ok { // it does not go on
				continue
			}
			user, ok := d.user()
			nonce, doubled := d.param("nonce")
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

// digestText is the parameters of a challenge or of credentials, as they were written.
type digestText []digestPair

type digestPair struct{ key, value string }

var (
	digestScheme = regexp.MustCompile(`(?i)^[ \t]*digest[ \t]+`)
	digestEntry  = regexp.MustCompile("^[ \t]*([A-Za-z0-9.!%*_+'~`-]+)[ \t]*=[ \t]*(\"(?:[^\"\\\\]|\\\\.)*\"|[^\\s\",;=\\\\]+)[ \t]*(?:,|$)")
	digestGap    = regexp.MustCompile(`^[ \t]*(?:,|$)`)
	digestToken  = regexp.MustCompile("^[A-Za-z0-9.!%*_+'~`-]+$")
)

// readDigest reads a header's value. It is not ok for a scheme that no PBX here
// knows, and for what is no digest. Commas too many, and quotes too few, are put
// right.
func readDigest(value string) (d digestText, ok bool) {
	scheme := digestScheme.FindString(value)
	if scheme == "" {
		return nil, false
	}
	for rest := value[len(scheme):]; rest != ""; {
		if gap := digestGap.FindString(rest); gap != "" {
			rest = rest[len(gap):]
			continue
		}
		p := digestEntry.FindStringSubmatch(rest)
		if p == nil {
			return nil, false
		}
		rest = rest[len(p[0]):]
		if p[2][0] != '"' && !digestToken.MatchString(p[2]) {
			p[2] = `"` + p[2] + `"`
		}
		d = append(d, digestPair{p[1], p[2]})
	}
	return d, len(d) > 0
}

// String writes it for the PBX.
func (d digestText) String() string {
	params := make([]string, len(d))
	for i, p := range d {
		params[i] = p.key + "=" + p.value
	}
	return "Digest " + strings.Join(params, ", ")
}

// digestParams are those of credentials and of challenges that are read here (RFC 7616
// sections 3.3 and 3.4).
var digestParams = map[string]bool{
	"username": true, "realm": true, "nonce": true, "uri": true, "response": true, "algorithm": true, "cnonce": true, "opaque": true, "qop": true, "nc": true,
	"userhash": true, "stale": true, "domain": true, "charset": true,
}

// plainly writes it for the digest library, which reads less than phones and PBXs write:
// names in small letters, all values in quotes, and no parameter that it does not know.
func (d digestText) plainly() string {
	var plain digestText
	for _, p := range d {
		p.key = strings.ToLower(p.key)
		if p.value[0] != '"' { // then it has neither quote nor backslash
			p.value = `"` + p.value + `"`
		}
		if digestParams[p.key] {
			plain = append(plain, p)
		}
	}
	return plain.String()
}

// plainDigest is a header's value written so, if it can be read.
func plainDigest(value string) string {
	if d, ok := readDigest(value); ok {
		return d.plainly()
	}
	return value
}

// param returns a parameter without its quotes, and tells whether it is there more
// than once.
func (d digestText) param(name string) (value string, doubled bool) {
	found := 0
	for _, p := range d {
		if strings.EqualFold(p.key, name) {
			value, found = strings.Trim(p.value, `"`), found+1
		}
	}
	return value, found > 1
}

// user is the username (RFC 7616 section 3.4). Readers differ in where a parameter
// ends: the word may be there once, wherever that is, and the name has no escapes.
// Nobody here reads username*, and some might.
func (d digestText) user() (string, bool) {
	if strings.Count(strings.ToLower(d.String()), "username") != 1 {
		return "", false
	}
	for _, p := range d {
		if strings.EqualFold(p.key, "username") && p.value[0] == '"' && !strings.Contains(p.value, `\`) {
			return strings.Trim(p.value, `"`), true
		}
	}
	return "", false
}

// digestForPBX is an Authorization as it goes on to the PBX, or nothing if it must
// not. chan_pjsip drops a request that has another, without an answer; without it,
// its sender is asked for a digest.
func digestForPBX(value string) string {
	d, ok := readDigest(value)
	if !ok {
		return ""
	}
	return d.String()
}

// isStale tells a challenge that finds nothing wrong but the nonce's age.
func isStale(res *sip.Response) bool {
	for _, name := range []string{"WWW-Authenticate", "Proxy-Authenticate"} {
		for _, h := range res.GetHeaders(name) {
			d, _ := readDigest(h.Value())
			if v, _ := d.param("stale"); strings.EqualFold(v, "true") {
				return true
			}
		}
	}
	return false
}
