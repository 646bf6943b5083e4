package prove

import (
	"bytes"
	"encoding/binary"
)

// This file tells what bytes are by themselves. All of it is pure, and reads what
// nobody has authenticated.

// protocol is what a datagram at a media port may be, by its first byte (RFC 7983
// section 7).
type protocol uint8

const (
	isNone protocol = iota
	isSTUN
	isDTLS
	isRTP
	isRTCP
)

func demux(p []byte) protocol {
	if len(p) == 0 {
		return isNone
	}
	switch b := p[0]; {
	case b <= 3 && len(p) >= 20 && binary.BigEndian.Uint32(p[4:]) == 0x2112a442: // RFC 8489 section 5
		return isSTUN
	case b >= 20 && b <= 63:
		return isDTLS
	case b >= 128 && b <= 191 && len(p) >= 8:
		if p[1] >= 192 && p[1] <= 223 { // RFC 5761 section 4
			return isRTCP
		}
		if _, ok := rtpHeader(p); ok {
			return isRTP
		}
	}
	return isNone
}

// rtpHeader is the length of an RTP header with its CSRCs and extension (RFC 3550
// section 5.1).
func rtpHeader(p []byte) (int, bool) {
	if len(p) < 12 || p[0]>>6 != 2 {
		return 0, false
	}
	n := 12 + 4*int(p[0]&15)
	if p[0]&0x10 != 0 {
		if len(p) < n+4 {
			return 0, false
		}
		n += 4 + 4*int(binary.BigEndian.Uint16(p[n+2:]))
	}
	return n, len(p) >= n
}

// ssrcOf is the source of what demux took for RTP or RTCP.
func ssrcOf(p []byte, kind protocol) uint32 {
	if kind == isRTCP {
		return binary.BigEndian.Uint32(p[4:])
	}
	return binary.BigEndian.Uint32(p[8:])
}

// plainRTCP tells whether a datagram is compound RTCP to its last byte (RFC 3550
// appendix A.2; what begins with no report as well, RFC 5506). What is encrypted
// is not, but for once in thousands.
func plainRTCP(p []byte) bool {
	if len(p) < 8 {
		return false
	}
	for len(p) > 0 {
		if len(p) < 4 || p[0]>>6 != 2 || p[1] < 200 || p[1] > 207 {
			return false
		}
		n := 4 + 4*int(binary.BigEndian.Uint16(p[2:]))
		if n > len(p) {
			return false
		}
		p = p[n:]
	}
	return true
}

// dtlsRecords tells whether a datagram is DTLS records to its last byte: those of
// 1.0 to 1.2 (RFC 6347 section 4.1), or of 1.3 (RFC 9147 section 4).
func dtlsRecords(p []byte) bool {
	if len(p) == 0 {
		return false
	}
	for len(p) > 0 {
		if p[0]&0xe0 == 0x20 { // the unified header
			n := 2
			if p[0]&8 != 0 { // 16 bits of sequence number
				n++
			}
			if p[0]&0x10 != 0 || len(p) < n { // connection IDs, which WebRTC has none of
				return false
			}
			if p[0]&4 == 0 { // no length: it is the last
				return len(p) >= n+16 // an AEAD's tag
			}
			if len(p) < n+2 {
				return false
			}
			n += 2 + int(binary.BigEndian.Uint16(p[n:]))
			if n > len(p) {
				return false
			}
			p = p[n:]
			continue
		}
		if len(p) < 13 || p[0] < 20 || p[0] > 26 || p[1] != 0xfe || p[2] != 0xff && p[2] != 0xfd {
			return false
		}
		if p[0] == 23 && p[3] == 0 && p[4] == 0 { // application data before there are keys
			return false
		}
		n := 13 + int(binary.BigEndian.Uint16(p[11:]))
		if n == 13 || n > len(p) {
			return false
		}
		p = p[n:]
	}
	return true
}

// methods are those of the IANA registry; others are told as "request".
var methods = []string{
	"INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "INFO", "PRACK", "SUBSCRIBE", "NOTIFY", "UPDATE", "MESSAGE", "REFER", "PUBLISH",
}

var sipVersion = []byte("SIP/2.0")

// maxLine bounds a first line that is looked for, in bytes.
const maxLine = 4096

// sipStart reads the first line of a SIP message (RFC 3261 section 7), and says
// which it is, without who is in it.
func sipStart(p []byte) (what string, ok bool) {
	p = bytes.TrimLeft(p[:min(len(p), maxLine)], "\r\n \t\x00") // lenient: what a careless stack would read
	line, _, _ := bytes.Cut(p, []byte("\n"))
	line = bytes.TrimRight(line, "\r \t")
	if len(line) >= 11 && bytes.EqualFold(line[:7], sipVersion) && line[7] == ' ' && isDigits(line[8:11]) {
		return "response " + string(line[8:11]), true
	}
	if len(line) < 12 || !bytes.EqualFold(line[len(line)-7:], sipVersion) || line[len(line)-8] != ' ' {
		return "", false
	}
	method, _, found := bytes.Cut(line, []byte(" "))
	if !found || !isToken(method) {
		return "", false
	}
	return methodName(method), true
}

func methodName(b []byte) string {
	for _, m := range methods {
		if string(b) == m {
			return m
		}
	}
	return "request"
}

func isDigits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}

func isToken(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' || bytes.IndexByte([]byte(`()<>@,;:\"/[]?={}`), c) >= 0 {
			return false
		}
	}
	return len(b) > 0
}

// sipInside finds a SIP message anywhere in bytes: behind something else, or from
// its middle on. It looks for its version in the places that SIP has it in, with
// the ends of lines that SIP has: a text about SIP has neither.
func sipInside(p []byte) (what string, ok bool) {
	for start, from := 0, 0; ; {
		i := bytes.Index(p[from:], sipVersion)
		if i < 0 {
			return "", false
		}
		i += from
		if end := bytes.LastIndexByte(p[from:i], '\n'); end >= 0 { // there is none in what was found before
			start = from + end + 1
		}
		from = i + len(sipVersion)
		line, rest := p[start:i], p[from:]
		if atLine := start == 0 || start >= 2 && p[start-2] == '\r'; !atLine || len(line) > maxLine {
			continue
		}
		switch name := bytes.TrimRight(line, " \t"); {
		case bytes.HasPrefix(rest, []byte("/")) && (bytes.EqualFold(name, []byte("Via:")) || bytes.EqualFold(name, []byte("v:"))):
			return "part of a message", true
		case bytes.HasPrefix(rest, []byte("\r\n")) && len(line) > 4 && line[len(line)-1] == ' ':
			if method, _, found := bytes.Cut(line, []byte(" ")); found && isToken(method) {
				return methodName(method), true
			}
		case len(line) == 0 && len(rest) >= 5 && rest[0] == ' ' && isDigits(rest[1:4]):
			return "response " + string(rest[1:4]), true
		}
	}
}

// webSocketSIP tells whether bytes ask for, or grant, SIP over WebSocket (RFC 7118
// section 4).
func webSocketSIP(p []byte) bool {
	const name = "sec-websocket-protocol:"
	if !bytes.HasPrefix(p, []byte("GET ")) && !bytes.HasPrefix(p, []byte("HTTP/1.1 101")) {
		return false
	}
	for _, line := range bytes.Split(p[:min(len(p), maxLine)], []byte("\n")) {
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			for _, each := range bytes.Split(line[len(name):], []byte(",")) {
				if bytes.EqualFold(bytes.TrimSpace(each), []byte("sip")) {
					return true
				}
			}
		}
	}
	return false
}
