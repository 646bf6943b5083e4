package demo

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	maxHead = 16 << 10 // bytes
	maxBody = 64 << 10
)

// message is a SIP message as the demo's phone and PBX need it: they speak to
// the edge alone, so it is a plain list of header fields, without a model of any.
type message struct {
	start  string // request line or status line
	fields []field
	body   []byte
}

type field struct{ name, value string }

// request begins a request.
func request(method, uri string) *message {
	return &message{start: method + " " + uri + " SIP/2.0"}
}

// answer begins a response to a request (RFC 3261 section 8.2.6.2).
func answer(to *message, status int, reason string) *message {
	m := &message{start: fmt.Sprintf("SIP/2.0 %d %s", status, reason)}
	for _, f := range to.fields {
		switch f.name {
		case "Via", "From", "To", "Call-ID", "CSeq", "Record-Route":
			m.fields = append(m.fields, f)
		}
	}
	return m
}

func (m *message) add(name, value string) *message {
	m.fields = append(m.fields, field{name, value})
	return m
}

// set replaces the first field of a name, or adds it.
func (m *message) set(name, value string) *message {
	for i := range m.fields {
		if m.fields[i].name == name {
			m.fields[i].value = value
			return m
		}
	}
	return m.add(name, value)
}

func (m *message) get(name string) string {
	for _, f := range m.fields {
		if f.name == name {
			return f.value
		}
	}
	return ""
}

// status is a response's code; 0 for a request.
func (m *message) status() int {
	rest, ok := strings.CutPrefix(m.start, "SIP/2.0 ")
	if !ok || len(rest) < 3 {
		return 0
	}
	n, _ := strconv.Atoi(rest[:3])
	return n
}

// method is a request's method; empty for a response.
func (m *message) method() string {
	if m.status() != 0 {
		return ""
	}
	method, _, _ := strings.Cut(m.start, " ")
	return method
}

// uri is a request's Request-URI.
func (m *message) uri() string {
	_, rest, _ := strings.Cut(m.start, " ")
	uri, _, _ := strings.Cut(rest, " ")
	return uri
}

func (m *message) bytes() []byte {
	var b bytes.Buffer
	b.WriteString(m.start + "\r\n")
	for _, f := range m.fields {
		if f.name != "Content-Length" {
			b.WriteString(f.name + ": " + f.value + "\r\n")
		}
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(m.body))
	b.Write(m.body)
	return b.Bytes()
}

// withSDP gives the message a body.
func (m *message) withSDP(body string) *message {
	m.body = []byte(body)
	return m.set("Content-Type", "application/sdp")
}

// parseMessage reads a datagram.
func parseMessage(data []byte) (*message, error) {
	return readMessage(bufio.NewReader(bytes.NewReader(data)))
}

// readMessage reads one message of a stream (RFC 3261 section 18.3). Empty lines
// between messages are keep-alives (RFC 5626 section 3.5.1).
func readMessage(r *bufio.Reader) (*message, error) {
	m, left := &message{}, maxHead
	for {
		line, err := readLine(r, &left)
		if err != nil {
			return nil, err
		}
		if line == "" && m.start == "" {
			continue
		}
		if line == "" {
			break
		}
		if m.start == "" {
			m.start = line
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("parse header field %q", line)
		}
		m.add(fullName(strings.TrimSpace(name)), strings.TrimSpace(value))
	}
	n, err := strconv.Atoi(m.get("Content-Length"))
	if m.get("Content-Length") == "" {
		n, err = 0, nil
	}
	if err != nil || n < 0 || n > maxBody {
		return nil, fmt.Errorf("parse Content-Length %q", m.get("Content-Length"))
	}
	m.body = make([]byte, n)
	if _, err := io.ReadFull(r, m.body); err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	return m, nil
}

func readLine(r *bufio.Reader, left *int) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if *left -= len(part); *left < 0 {
			return "", errors.New("read header: it is too long")
		}
		if err == nil {
			return strings.TrimRight(string(line), "\r\n"), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
	}
}

// fullName spells a field's name in one way (RFC 3261 section 7.3.3).
func fullName(name string) string {
	switch strings.ToLower(name) {
	case "v", "via":
		return "Via"
	case "f", "from":
		return "From"
	case "t", "to":
		return "To"
	case "i", "call-id":
		return "Call-ID"
	case "m", "contact":
		return "Contact"
	case "l", "content-length":
		return "Content-Length"
	case "c", "content-type":
		return "Content-Type"
	case "cseq":
		return "CSeq"
	case "record-route":
		return "Record-Route"
	case "expires":
		return "Expires"
	}
	return name
}
