package sipproxy

import (
	"bytes"
	"regexp"
)

// This file finds URIs in texts that have no grammar of ours, like the XML of an event.

// textURI is a sip or sips URI in a text, as it stands there.
type textURI struct {
	scheme, user, host string // user with its @, or empty
	port, params       string // with the colon and the semicolons before them
}

// String is the URI as it stands there.
func (u textURI) String() string { return u.scheme + ":" + u.user + u.host + u.port + u.params }

// uriScheme finds where one may begin. What ignores case would take an ſ for an s.
var uriScheme = regexp.MustCompile(`\b[sS][iI][pP][sS]?:`)

// replaceURIs puts others in the place of all URIs of a text. A regular expression for
// all of a URI would look for the @ of each to the end of the text: here that is
// looked for once, as what may be a user ends at one place for all that begin before it.
func replaceURIs(text []byte, by func(textURI) string) []byte {
	var out []byte
	kept, end := 0, -1 // end is that of what may be a user
	var behind textURI // host, port and params that stand behind it
	var past int       // where they end; 0: there is no host
	for _, at := range uriScheme.FindAllIndex(text, -1) {
		if at[0] < kept { // it is in the one before
			continue
		}
		from := at[1]
		if from > end {
			end, past = userEnd(text, from), 0
			if end < len(text) && text[end] == '@' {
				behind, past = hostAt(text, end+1)
			}
		}
		u, next := behind, past
		if past == 0 {
			u, next = hostAt(text, from)
		} else {
			u.user = string(text[from : end+1])
		}
		if next == 0 {
			continue
		}
		u.scheme = string(text[at[0] : from-1])
		out = append(append(out, text[kept:at[0]]...), by(u)...)
		kept = next
	}
	if kept == 0 {
		return text
	}
	return append(out, text[kept:]...)
}

// userEnd is where ends what may be a user with a password. An ampersand ends one,
// unless it is XML's: another character would begin by it.
func userEnd(text []byte, from int) int {
	for i := from; i < len(text); i++ {
		switch text[i] {
		case ' ', '\t', '\n', '\f', '\r', '"', '\'', '<', '>', '@':
			return i
		case '&':
			if len(text) < i+5 || !bytes.EqualFold(text[i:i+5], []byte("&amp;")) {
				return i
			}
		}
	}
	return len(text)
}

// hostAt reads host, port and parameters, and where they end; 0 if there is no host.
func hostAt(text []byte, from int) (u textURI, end int) {
	end = span(text, from, isHostChar)
	if from < len(text) && text[from] == '[' {
		end = span(text, from+1, isIPv6Char)
		if end == from+1 || end == len(text) || text[end] != ']' {
			return u, 0
		}
		end++
	}
	if end == from {
		return u, 0
	}
	u.host, from = string(text[from:end]), end
	if end < len(text) && text[end] == ':' {
		last := span(text, end+1, isDigit)
		// Without a port that is taken away, what stands behind it would be the host's.
		if joins := last < len(text) && (isHostChar(text[last]) || text[last] == ':'); last > end+1 && !joins {
			end = last
		}
	}
	u.port, from = string(text[from:end]), end
	for end < len(text) && text[end] == ';' {
		end = span(text, end+1, isParamChar)
	}
	u.params = string(text[from:end])
	return u, end
}

// span is where bytes end that are all alike.
func span(text []byte, from int, is func(byte) bool) int {
	for from < len(text) && is(text[from]) {
		from++
	}
	return from
}

func isDigit(c byte) bool    { return c >= '0' && c <= '9' }
func isHostChar(c byte) bool { return isWordChar(c) || c == '.' || c == '-' }
func isIPv6Char(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == ':' || c == '.'
}

// isParamChar tells what a parameter may have. An @ is none of it: where what stands
// before that is no user now, it must not become one as a parameter goes.
func isParamChar(c byte) bool { return bytes.IndexByte([]byte(" \t\n\f\r\"'<>?&;@"), c) < 0 }
