package flow

import (
	"fmt"
	"iter"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// NameAddr is a From, To, Contact or Route value taken apart, but not
// rewritten: what is not changed is written back byte for byte.
type NameAddr struct {
	Display string // with its quotes
	URI     string
	Params  string // with the leading semicolon
}

// ParseNameAddr reads one value (RFC 3261 section 25.1: name-addr, addr-spec).
func ParseNameAddr(v string) (NameAddr, error) {
	v = trim(v)
	open := indexUnquoted(v, '<')
	if open < 0 { // addr-spec: what follows a semicolon is the header's (section 20.10)
		uri, params, found := strings.Cut(v, ";")
		if found {
			params = ";" + params
		}
		if uri = trim(uri); uri == "" {
			return NameAddr{}, fmt.Errorf("read address: no URI")
		}
		return NameAddr{URI: uri, Params: params}, nil
	}
	end := strings.IndexByte(v[open:], '>')
	if end < 2 {
		return NameAddr{}, fmt.Errorf("read address: no URI between < and >")
	}
	n := NameAddr{Display: trim(v[:open]), URI: v[open+1 : open+end], Params: trim(v[open+end+1:])}
	if n.Params != "" && n.Params[0] != ';' {
		return NameAddr{}, fmt.Errorf("read address: text after >")
	}
	return n, nil
}

// String writes the value, always with brackets.
func (n NameAddr) String() string {
	if n.Display != "" {
		return n.Display + " <" + n.URI + ">" + n.Params
	}
	return "<" + n.URI + ">" + n.Params
}

// Param returns a header parameter, unquoted.
func (n NameAddr) Param(name string) (string, bool) {
	for p := range unquoted(n.Params, ';') {
		key, value, _ := strings.Cut(p, "=")
		if strings.EqualFold(trim(key), name) {
			return strings.Trim(trim(value), `"`), true
		}
	}
	return "", false
}

// Without returns n with a header parameter removed, and no white space around
// the others.
func (n NameAddr) Without(name string) NameAddr {
	if n.Params == "" {
		return n
	}
	var kept strings.Builder
	kept.Grow(len(n.Params))
	for p := range unquoted(n.Params, ';') {
		key, value, has := strings.Cut(p, "=")
		if key = trim(key); key == "" || strings.EqualFold(key, name) {
			continue
		}
		kept.WriteByte(';')
		kept.WriteString(key)
		if has {
			kept.WriteByte('=')
			kept.WriteString(trim(value))
		}
	}
	n.Params = kept.String()
	return n
}

// WithTag writes a From or To value with the given tag, or without one.
func (n NameAddr) WithTag(tag string) string {
	if n.Params != "" {
		n = n.Without("tag")
	}
	if tag != "" {
		n.Params += ";tag=" + tag
	}
	return n.String()
}

// Address reads the first header of that name as one address.
func Address(m sip.Message, name string) (NameAddr, error) {
	first := First(m, name)
	if first == nil {
		return NameAddr{}, fmt.Errorf("read %s: missing", name)
	}
	return ParseNameAddr(first.Value())
}

// First is the first header of that name, in whatever case; nil if there is none.
func First(m sip.Message, name string) sip.Header {
	for _, h := range m.(interface{ Headers() []sip.Header }).Headers() {
		if strings.EqualFold(h.Name(), name) {
			return h
		}
	}
	return nil
}

// Addresses reads all values of a header that may be a list.
func Addresses(m sip.Message, name string) ([]NameAddr, error) {
	var list []NameAddr
	for _, h := range m.(interface{ Headers() []sip.Header }).Headers() {
		if !strings.EqualFold(h.Name(), name) {
			continue
		}
		more, err := ParseList(h.Value())
		if err != nil {
			return nil, err
		}
		if list == nil {
			list = more
		} else {
			list = append(list, more...)
		}
	}
	return list, nil
}

// ParseList reads one value that may be a list.
func ParseList(value string) ([]NameAddr, error) {
	var list []NameAddr
	for v := range unquoted(value, ',') {
		if trim(v) == "" {
			continue
		}
		n, err := ParseNameAddr(v)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

// Tag returns the tag of a From or To header, or nothing.
func Tag(m sip.Message, name string) string {
	n, err := Address(m, name)
	if err != nil {
		return ""
	}
	tag, _ := n.Param("tag")
	return tag
}

// indexUnquoted finds a byte outside of quoted strings.
func indexUnquoted(s string, c byte) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && s[i] == c:
			return i
		}
	}
	return -1
}

// unquoted yields the parts of a text between separators outside of quoted strings and
// angle brackets.
func unquoted(s string, sep byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		quoted, angle, start := false, false, 0
		for i := 0; i < len(s); i++ {
			switch c := s[i]; {
			case quoted && c == '\\':
				i++
			case c == '"' && !angle:
				quoted = !quoted
			case quoted:
			case c == '<':
				angle = true
			case c == '>':
				angle = false
			case c == sep && !angle:
				if !yield(s[start:i]) {
					return
				}
				start = i + 1
			}
		}
		yield(s[start:])
	}
}

// countUnquoted is how many parts those are.
func countUnquoted(s string, sep byte) (n int) {
	for range unquoted(s, sep) {
		n++
	}
	return n
}
