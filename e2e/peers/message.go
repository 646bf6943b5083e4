package peers

import (
	"bufio"
	"fmt"
	"io"
	"net/textproto"
	"strconv"
	"strings"
)

// Message is a SIP message as a Phone reads it.
type Message struct {
	Start  string
	Header textproto.MIMEHeader
	Body   string
}

// Status is a response's code, or 0.
func (m *Message) Status() int {
	if !strings.HasPrefix(m.Start, "SIP/2.0 ") {
		return 0
	}
	n, _ := strconv.Atoi(strings.Fields(m.Start)[1])
	return n
}

// Method is a request's method, or the one a response answers.
func (m *Message) Method() string {
	if m.Status() != 0 {
		_, method, _ := strings.Cut(m.Get("CSeq"), " ")
		return method
	}
	method, _, _ := strings.Cut(m.Start, " ")
	return method
}

// Get returns a header's first value.
func (m *Message) Get(name string) string { return m.Header.Get(name) }

// URI returns what stands between the brackets of a header.
func (m *Message) URI(name string) string {
	_, after, _ := strings.Cut(m.Get(name), "<")
	uri, _, _ := strings.Cut(after, ">")
	return uri
}

// readMessage reads the next message; keep-alives before it are skipped.
func readMessage(r *bufio.Reader) (*Message, error) {
	tp := textproto.NewReader(r)
	start := ""
	for start == "" {
		line, err := tp.ReadLine()
		if err != nil {
			return nil, err
		}
		start = line
	}
	header, err := tp.ReadMIMEHeader()
	if err != nil {
		return nil, fmt.Errorf("read header: %w", err)
	}
	m := &Message{Start: start, Header: header}
	n, _ := strconv.Atoi(header.Get("Content-Length"))
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	m.Body = string(body)
	return m, nil
}

// compose joins lines to a message with its Content-Length.
func compose(body string, lines ...string) string {
	return strings.Join(lines, "\r\n") + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// Multipart is a description with something else beside it (RFC 5621).
func Multipart(sdp, kind, text string) string {
	return "--part\r\nContent-Type: application/sdp\r\n\r\n" + sdp + "\r\n--part\r\nContent-Type: " + kind + "\r\n\r\n" + text + "\r\n--part--\r\n"
}

// typeOf is the type of a call's body.
func typeOf(body string) string {
	if strings.HasPrefix(body, "--part") {
		return "multipart/mixed; boundary=part"
	}
	return "application/sdp"
}
