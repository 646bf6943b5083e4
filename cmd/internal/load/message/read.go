package message

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// MaxSize is the most that a message may have, in bytes.
const MaxSize = 64 << 10

var errSize = errors.New("the message is too long")

// parser reads what an end asks of every message. Nothing writes to it.
var parser = sip.NewParser(sip.WithHeadersParsers(few()))

func few() sip.HeadersParser {
	all := sip.DefaultHeadersParser()
	return sip.HeadersParser{"cseq": all["cseq"], "content-length": all["content-length"], "l": all["l"]}
}

// Parse reads a whole message, borrowed.
func Parse(b []byte) (sip.Message, error) {
	m, err := parser.ParseSIP(b)
	if err != nil {
		return nil, fmt.Errorf("parse message: %w", err)
	}
	if m.CSeq() == nil || Get(m, "Call-ID") == "" || Get(m, "Via") == "" || Get(m, "From") == "" || Get(m, "To") == "" {
		return nil, errors.New("parse message: it lacks a header field that each has")
	}
	return m, nil
}

// Read reads the next message of a stream (RFC 3261 section 18.3). Empty lines
// between messages are keep-alives (RFC 5626 section 3.5.1). What it returns is
// the caller's.
func Read(r *bufio.Reader) ([]byte, error) {
	var b []byte
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if len(b) == 0 && len(line) <= 2 && err == nil {
			continue
		}
		if b = append(b, line...); len(b) > MaxSize {
			return nil, errSize
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(line) <= 2 {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && isLength(name) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 {
				return nil, fmt.Errorf("read message: its Content-Length is %q", value)
			}
		}
	}
	if len(b)+length > MaxSize {
		return nil, errSize
	}
	head := len(b)
	b = append(b, make([]byte, length)...)
	if _, err := io.ReadFull(r, b[head:]); err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	return b, nil
}

func isLength(name []byte) bool {
	name = bytes.TrimSpace(name)
	return bytes.EqualFold(name, []byte("Content-Length")) || bytes.EqualFold(name, []byte("l"))
}

// compact are the short names of header fields (RFC 3261 section 7.3.3, RFC 4028).
var compact = map[string]string{
	"Via": "v", "From": "f", "To": "t", "Call-ID": "i", "Contact": "m", "Content-Type": "c", "Supported": "k", "Session-Expires": "x",
}

// Get is the value of the first header field of a name; empty if there is none.
func Get(m sip.Message, name string) string {
	if h := m.GetHeaders(name); len(h) > 0 {
		return h[0].Value()
	}
	if short := compact[name]; short != "" {
		if h := m.GetHeaders(short); len(h) > 0 {
			return h[0].Value()
		}
	}
	return ""
}

// All are the values of all header fields of a name, those that share a line apart.
func All(m sip.Message, name string) []string {
	fields := m.GetHeaders(name)
	if short := compact[name]; short != "" {
		fields = append(fields, m.GetHeaders(short)...)
	}
	var all []string
	for _, f := range fields {
		all = append(all, split(f.Value())...)
	}
	return all
}

// split takes a list apart at its commas that are in no quotes and in no <>.
func split(value string) (list []string) {
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
