// Package nameaddr reads the addresses of header fields, as a phone or a PBX does that
// trusts its other end: name-addr and addr-spec with their parameters (RFC 3261
// sections 7.3.1, 20.10 and 25.1). It checks nothing: what is no address gives
// empty words. It knows of no message, and both sallyload and the demo use it; the edge,
// which must not trust, has its own in sipproxy/flow.
package nameaddr

import "strings"

// List takes a list apart at its commas that are in no quotes and in no <>.
func List(value string) (list []string) {
	quoted, angled, from := false, false, 0
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '<':
			angled = true
		case c == '>':
			angled = false
		case c == ',' && !angled:
			list = append(list, strings.TrimSpace(value[from:i]))
			from = i + 1
		}
	}
	return append(list, strings.TrimSpace(value[from:]))
}

// URI is that of a name-addr or an addr-spec.
func URI(value string) string {
	uri, _ := cut(value)
	return uri
}

// Param is a parameter of a header field's value, behind its URI; empty if it
// has none of that name.
func Param(value, name string) string {
	_, params := cut(value)
	for _, p := range strings.Split(params, ";") {
		if n, v, _ := strings.Cut(p, "="); strings.EqualFold(strings.TrimSpace(n), name) {
			return strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return ""
}

// Tag is that of a From or To.
func Tag(value string) string { return Param(value, "tag") }

// cut parts a name-addr or addr-spec from its parameters. A display name may
// hold anything, also a < in quotes.
func cut(value string) (uri, params string) {
	rest := value
	if strings.HasPrefix(rest, `"`) {
		i := 1
		for i < len(rest) && rest[i] != '"' {
			if rest[i] == '\\' {
				i++
			}
			i++
		}
		rest = rest[min(i, len(rest)):]
	}
	if _, after, ok := strings.Cut(rest, "<"); ok {
		uri, params, _ = strings.Cut(after, ">")
		return uri, params
	}
	uri, params, _ = strings.Cut(rest, ";")
	return strings.TrimSpace(uri), params
}

// User is that of a SIP URI, without a password; empty if it has none.
func User(uri string) string {
	_, rest, _ := strings.Cut(uri, ":")
	user, _, ok := strings.Cut(rest, "@")
	if !ok {
		return ""
	}
	user, _, _ = strings.Cut(user, ":")
	return user
}
