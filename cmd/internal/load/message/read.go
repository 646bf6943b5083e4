package message

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/cmd/internal/nameaddr"
)

// MaxSize is the most that a message may have, in bytes.
const MaxSize = 64 << 10

// ErrFormat is what no message is, or one too long.
var ErrFormat = errors.New("a message that cannot be read")

var errSize = fmt.Errorf("%w: it has more than %d bytes", ErrFormat, MaxSize)

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
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if m.CSeq() == nil || Get(m, "Call-ID") == "" || Get(m, "Via") == "" || Get(m, "From") == "" || Get(m, "To") == "" {
		return nil, fmt.Errorf("%w: it lacks a header field that each has", ErrFormat)
	}
	return m, nil
}

// Read reads the next message of a stream (RFC 3261 section 18.3). Empty lines
// between messages are keep-alives (RFC 5626 section 3.5.1). What it returns is
// the caller's.
func Read(r *bufio.Reader) ([]byte, error) {
	var b []byte
	length, inside := 0, false // inside a line that is longer than r's buffer
	for {
		line, err := r.ReadSlice('\n')
		if len(b) == 0 && len(line) <= 2 && err == nil {
			continue
		}
		if b = append(b, line...); len(b) > MaxSize {
			return nil, errSize
		}
		begins := !inside
		if inside = errors.Is(err, bufio.ErrBufferFull); inside {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !begins {
			continue
		}
		if len(line) <= 2 {
			break
		}
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && isLength(name) {
			length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
			if err != nil || length < 0 || length > MaxSize { // the last, or the sum below may be none
				return nil, fmt.Errorf("%w: its Content-Length is %q", ErrFormat, value)
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
		all = append(all, nameaddr.List(f.Value())...)
	}
	return all
}
