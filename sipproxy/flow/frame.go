package flow

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// frameKind is what a stream brought next.
type frameKind uint8

const (
	framePing    frameKind = iota // CRLF CRLF between messages (RFC 5626 section 4.4.1)
	framePong                     // the answer to one, or nothing at all
	frameMessage                  // a complete message
)

// frame is one unit of a stream. head and body are borrowed until the next
// call; head has been lexed into m.
type frame struct {
	kind  frameKind
	m     *lexed
	fault *Malformed // of the head; body is empty then
	body  []byte
}

// framer cuts a stream into messages (RFC 3261 section 18.3). It has a buffer only
// while there is a message, so that an idle connection costs little.
type framer struct {
	r        io.Reader
	limits   Limits
	deadline func(begun bool) // set before each read: is a message begun
	pongDue  func() bool      // takes the answer to a ping, if one is due; nil: none ever is
	heard    func()           // told of each read; or nil
	buf      []byte
	first    [16]byte // where a message begins, before it has a buffer
	scanned  int      // bytes of buf known to hold no end of a head
	half     bool     // one CRLF of a ping was seen
}

const smallBuffer = 2 << 10

// buffers are for messages while they are read, of smallBuffer each.
var buffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}

// next returns the next frame. An error ends the stream.
func (fr *framer) next() (frame, error) {
	for {
		if f, ok := fr.between(); ok {
			return f, nil
		}
		if end := fr.headEnd(); end >= 0 {
			return fr.message(end)
		}
		if len(fr.buf) > fr.limits.MaxHead {
			m, _ := lex(append(bytes.Clone(fr.buf), headEnd...))
			return frame{kind: frameMessage, m: m, fault: &Malformed{Code: 513, Fault: "head too large"}}, nil
		}
		if err := fr.read(); err != nil {
			return frame{}, err
		}
	}
}

// between consumes CRLFs before a message, and reports a ping.
func (fr *framer) between() (frame, bool) {
	if !fr.half && fr.pongDue != nil && fr.leadingCRLFs()%2 == 1 && fr.pongDue() {
		fr.consume(2)
		return frame{kind: framePong}, true
	}
	for len(fr.buf) >= 2 && fr.buf[0] == '\r' && fr.buf[1] == '\n' {
		fr.consume(2)
		if fr.half = !fr.half; !fr.half {
			return frame{kind: framePing}, true
		}
	}
	if len(fr.buf) > 1 || (len(fr.buf) == 1 && fr.buf[0] != '\r') {
		fr.half = false
	}
	return frame{}, false
}

// leadingCRLFs counts those that the buffer begins with. A ping's two come together,
// in one TLS record: an odd one among them is a pong.
func (fr *framer) leadingCRLFs() (n int) {
	for rest := fr.buf; bytes.HasPrefix(rest, []byte(pong)); n++ {
		rest = rest[len(pong):]
	}
	return n
}

// headEnd returns the length of the head in the buffer, or -1.
func (fr *framer) headEnd() int {
	from := max(0, fr.scanned-3)
	if i := bytes.Index(fr.buf[from:], headEnd); i >= 0 && from+i+4 <= fr.limits.MaxHead {
		return from + i + 4
	}
	fr.scanned = len(fr.buf)
	return -1
}

func (fr *framer) message(head int) (frame, error) {
	m, fault := lex(fr.buf[:head])
	f := frame{kind: frameMessage, m: m, fault: fault}
	if fault != nil {
		return f, nil
	}
	length, fault := m.bodyLength(fr.limits.MaxBody)
	if fault == nil && length < 0 { // section 20.14: required on a stream
		fault = malformed("Content-Length", "missing")
	}
	if fault != nil {
		f.fault = fault
		return f, nil
	}
	for len(fr.buf) < head+length {
		if err := fr.read(); err != nil {
			return frame{}, err
		}
	}
	if length > 0 {
		f.body = bytes.Clone(fr.buf[head : head+length])
	}
	fr.consume(head + length)
	return f, nil
}

func (fr *framer) consume(n int) {
	fr.scanned = 0
	rest := fr.buf[n:]
	switch {
	case len(rest) == 0 && cap(fr.buf) >= smallBuffer:
		fr.release()
		fr.buf = fr.first[:0]
	case cap(fr.buf) > 2*smallBuffer && len(rest) <= smallBuffer:
		fr.buf = append(buffers.Get().(*[smallBuffer]byte)[:0], rest...)
	default:
		copy(fr.buf, rest)
		fr.buf = fr.buf[:len(rest)]
	}
}

// release gives the buffer back, if it is one that others can use.
func (fr *framer) release() {
	if cap(fr.buf) == smallBuffer {
		buffers.Put((*[smallBuffer]byte)(fr.buf[:smallBuffer]))
	}
}

func (fr *framer) read() error {
	switch {
	case cap(fr.buf) == 0:
		fr.buf = fr.first[:0]
	case len(fr.buf) < cap(fr.buf):
	case cap(fr.buf) < smallBuffer:
		fr.buf = append(buffers.Get().(*[smallBuffer]byte)[:0], fr.buf...)
	default:
		larger := append(make([]byte, 0, 2*cap(fr.buf)), fr.buf...)
		fr.release()
		fr.buf = larger
	}
	fr.deadline(len(fr.buf) > 0)
	n, err := fr.r.Read(fr.buf[len(fr.buf):cap(fr.buf)])
	fr.buf = fr.buf[:len(fr.buf)+n]
	if n > 0 && fr.heard != nil {
		fr.heard()
	}
	if n > 0 {
		return nil // what came with an error is looked at first; the error comes again
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// pace sets read deadlines so that a slow peer costs no more than its time: a
// message must be complete soon after its first byte, however it trickles.
type pace struct {
	limits Limits
	set    func(time.Time)
	begun  time.Time     // of the message being read; zero between messages
	first  time.Time     // by when the first message must be complete; zero once it was
	quiet  time.Duration // how long a phone that pings may be silent; 0: like any other
	over   error         // what a deadline that passes now means
	half   *atomic.Bool  // is kept: a message has begun, and is not whole

	patient bool // whoever says nothing between messages may go on so
}

func (p *pace) before(begun bool) {
	now := time.Now()
	p.half.Store(begun)
	var at time.Time
	switch {
	case begun:
		if p.begun.IsZero() {
			p.begun = now
		}
		at, p.over = p.begun.Add(p.limits.MessageTimeout), ErrStalled
	default:
		p.begun = time.Time{}
		if p.patient {
			p.set(time.Time{})
			return
		}
		at, p.over = now.Add(p.limits.IdleTimeout), ErrIdle
		if p.quiet > 0 && p.quiet < p.limits.IdleTimeout {
			at, p.over = now.Add(p.quiet), ErrQuiet
		}
	}
	if !p.first.IsZero() && p.first.Before(at) {
		at, p.over = p.first, ErrSilent
	}
	p.set(at)
}

// got notes that a message is complete.
func (p *pace) got() { p.begun, p.first = time.Time{}, time.Time{} }
