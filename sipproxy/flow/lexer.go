package flow

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

const (
	maxHeaders = 128
	maxFolds   = 128 // continuation lines: each is a copy of the value before it
	maxValue   = 8 << 10
)

// field is one header line: its canonical name, and its value unfolded and
// trimmed. A value holds no control character and is valid UTF-8.
type field struct{ name, value string }

// lexed is a head taken apart. It is complete only if no fault was found;
// what was read before and after one is kept, to answer the sender with.
type lexed struct {
	start  string
	fields []field
	folds  int
}

// lex takes a head apart: the bytes up to and with the empty line, borrowed.
// It knows only what RFC 3261 section 7.3 says of any header.
func lex(head []byte) (*lexed, *Malformed) {
	m := &lexed{fields: make([]field, 0, 24)}
	var fault *Malformed
	found := func(f *Malformed) {
		if fault == nil {
			fault = f
		}
	}
	first := true
	for len(head) > 0 {
		end := bytes.Index(head, crlf)
		if end < 0 {
			found(malformed("", "line without CRLF"))
			break
		}
		line := head[:end]
		head = head[end+2:]
		if f := clean(line); f != nil {
			found(f)
			first = false
			continue
		}
		switch {
		case first:
			m.start, first = string(line), false
		case len(line) == 0: // the end; framing guarantees that nothing follows
			return m, fault
		case line[0] == ' ' || line[0] == '\t':
			found(m.unfold(line))
		default:
			found(m.add(line))
		}
	}
	return m, fault
}

var crlf = []byte("\r\n")

// clean refuses control characters. Some parsers skip them, some end a line
// at them, and chan_sip reads them as white space (GHSA-4h4c-qgxg-p3qv): a
// message with one means different things to different readers.
func clean(line []byte) *Malformed {
	for _, c := range line {
		switch {
		case c == '\t' || (c >= ' ' && c != 0x7f):
		case c == '\r' || c == '\n':
			return malformed("", "bare CR or LF")
		default:
			return malformed("", "control character")
		}
	}
	if !utf8.Valid(line) {
		return malformed("", "not UTF-8")
	}
	return nil
}

// unfold appends a continuation line (section 7.3.1) to the value before.
func (m *lexed) unfold(line []byte) *Malformed {
	if len(m.fields) == 0 {
		return malformed("", "continuation line without a header")
	}
	if m.folds++; m.folds > maxFolds {
		return malformed("", "too many continuation lines")
	}
	last := &m.fields[len(m.fields)-1]
	more := strings.ReplaceAll(trim(string(line)), "\t", " ")
	if len(last.value)+1+len(more) > maxValue {
		return malformed(last.name, "value too long")
	}
	last.value = trim(last.value + " " + more)
	return nil
}

func (m *lexed) add(line []byte) *Malformed {
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return malformed("", "header without a colon")
	}
	// White space before the colon is legal (HCOLON), and a way to hide a
	// header from a reader that does not know it: it is accepted, and gone
	// once the header is written anew.
	name, known := canonicals[string(line[:colon])]
	if !known {
		name = trim(string(line[:colon]))
		if !isToken(name) {
			return malformed("", "header name is no token")
		}
		name = canonical(name)
	}
	if len(m.fields) == maxHeaders {
		return malformed("", "too many headers")
	}
	value := strings.ReplaceAll(string(bytes.Trim(line[colon+1:], " \t")), "\t", " ")
	if len(value) > maxValue {
		return malformed(name, "value too long")
	}
	m.fields = append(m.fields, field{name, value})
	return nil
}

// trim removes white space from both ends.
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// one returns the value of a header that must come at most once. The second
// result tells how often it came.
func (m *lexed) one(name string) (string, int) {
	value, n := "", 0
	for _, f := range m.fields {
		if f.name == name {
			if n == 0 {
				value = f.value
			}
			n++
		}
	}
	return value, n
}

func isToken(s string) bool {
	if s == "" {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !tokenChar(s[i]) {
			return false
		}
	}
	return true
}

// tokenChar is RFC 3261 section 25.1: token.
func tokenChar(c byte) bool {
	return alphanum(c) || strings.IndexByte("-.!%*_+`'~", c) >= 0
}

func alphanum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// isDigits tells whether s is a number of at most n digits: no sign, no white
// space, nothing that two readers could take for two numbers.
func isDigits(s string, n int) bool {
	return s != "" && len(s) <= n && strings.Trim(s, "0123456789") == ""
}

// canonical is the one spelling of a header name that leaves us. Compact
// forms (section 7.3.3 and the registry) are expanded, so that no header is
// known by two names.
func canonical(name string) string {
	lower := strings.ToLower(name)
	if known, ok := names[lower]; ok {
		return known
	}
	return name
}

var names = func() map[string]string {
	m := map[string]string{
		"a": "Accept-Contact", "b": "Referred-By", "c": "Content-Type", "d": "Request-Disposition",
		"e": "Content-Encoding", "f": "From", "i": "Call-ID", "j": "Reject-Contact", "k": "Supported",
		"l": "Content-Length", "m": "Contact", "n": "Identity-Info", "o": "Event", "r": "Refer-To",
		"s": "Subject", "t": "To", "u": "Allow-Events", "v": "Via", "x": "Session-Expires", "y": "Identity",
	}
	for _, n := range []string{
		"Accept", "Accept-Encoding", "Accept-Language", "Alert-Info", "Allow", "Allow-Events", "Authorization",
		"Call-ID", "Call-Info", "Contact", "Content-Disposition", "Content-Encoding", "Content-Language",
		"Content-Length", "Content-Type", "CSeq", "Date", "Diversion", "Error-Info", "Event", "Expires", "From",
		"Max-Forwards", "MIME-Version", "Min-Expires", "Min-SE", "P-Asserted-Identity", "P-Preferred-Identity",
		"Path", "Privacy", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Require", "RAck", "Reason",
		"Record-Route", "Refer-To", "Referred-By", "Remote-Party-ID", "Replaces", "Require", "Retry-After",
		"Route", "RSeq", "Server", "Service-Route", "Session-Expires", "SIP-ETag", "SIP-If-Match", "Subject",
		"Subscription-State", "Supported", "To", "Unsupported", "User-Agent", "Via", "Warning", "WWW-Authenticate",
	} {
		m[strings.ToLower(n)] = n
	}
	return m
}()

// canonicals are the names that need no change.
var canonicals = func() map[string]string {
	m := make(map[string]string, len(names))
	for _, name := range names {
		m[name] = name
	}
	return m
}()
