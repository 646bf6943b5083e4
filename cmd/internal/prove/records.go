package prove

import (
	"bytes"
	"encoding/binary"
)

const (
	recordHead = 5
	// maxRecord is the longest body of a TLS record (RFC 5246 section 6.2.3; those of
	// 1.3 are shorter).
	maxRecord = 1<<14 + 2048
)

// records follows TLS's records through a stream (RFC 8446 section 5.1). It does
// not look into them; a type, a version and a length that fit, one after the
// other, are what no other protocol has.
type records struct {
	first bool // nothing came yet: a handshake begins
	proxy bool // a balancer may say first for whom it connects
	head  []byte
	rest  int // of the body, or of the balancer's header
	count int
}

// proxyHead begins a header of the PROXY protocol, version 2, with its length in
// the last 2 of 16 bytes.
var proxyHead = []byte("\r\n\r\n\x00\r\nQUIT\n")

// feed takes the next bytes of the stream, which are borrowed, and tells whether
// they are records.
func (r *records) feed(p []byte) bool {
	for len(p) > 0 {
		if r.rest > 0 {
			n := min(r.rest, len(p))
			r.rest -= n
			p = p[n:]
			continue
		}
		r.head = append(r.head, p[0])
		p = p[1:]
		if r.proxy && r.head[0] == '\r' {
			n := len(r.head)
			if !bytes.HasPrefix(proxyHead, r.head[:min(n, len(proxyHead))]) {
				return false
			}
			if n == 16 {
				r.rest, r.head, r.proxy = int(binary.BigEndian.Uint16(r.head[14:])), r.head[:0], false
			}
			continue
		}
		if len(r.head) < recordHead {
			continue
		}
		n, ok := recordLength(r.head)
		if !ok || r.first && r.head[0] != 22 && r.head[0] != 21 {
			return false
		}
		r.rest, r.head, r.first, r.proxy = n, r.head[:0], false, false
		r.count++
	}
	return true
}

// recordLength reads the head of a record.
func recordLength(b []byte) (int, bool) {
	n := int(binary.BigEndian.Uint16(b[3:]))
	return n, b[0] >= 20 && b[0] <= 23 && b[1] == 3 && b[2] <= 4 && n <= maxRecord && (n > 0 || b[0] == 23)
}

// frame takes the first frame of RFC 4571 out of bytes.
func frame(b []byte) (p, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, b, false
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	if len(b) < n {
		return nil, b, false
	}
	return b[2:n], b[n:], true
}

// wholeFrames tells whether bytes are frames of media to the last.
func wholeFrames(b []byte) bool {
	for len(b) > 0 {
		p, rest, ok := frame(b)
		if !ok || len(p) > 0 && demux(p) == isNone {
			return false
		}
		b = rest
	}
	return true
}
