package flow

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// webConn is one connection of a browser: to the HTTP server a net.Conn, to
// the WebSocket library the bytes under it, and its flow's outlet. What the
// library writes is queued: it would otherwise wait for a peer that does not
// read.
type webConn struct {
	*conn
	upgradeBy time.Time // the deadline of all that comes before the upgrade

	// Set once by run, before anything is queued.
	ws *websocket.Conn
	r  *bufio.Reader // what ws reads from
	f  *Flow         // nil before the upgrade

	// The reader's own.
	pace    pace
	open    bool      // a message has begun and not ended
	partial bool      // a frame has begun, perhaps
	failed  error     // of the connection itself
	closing time.Time // until when the peer may answer our close; zero while open

	heard   atomic.Int64 // when the peer was heard last, in Unix nanoseconds
	sending sync.Mutex   // keeps the pieces of one frame together in the queue
}

// run is the reader of an upgraded connection, which the HTTP server has given
// away.
func (c *webConn) run(ws *websocket.Conn, r *bufio.Reader, browser bool) {
	defer c.l.forget(c.conn)
	defer c.close()
	limits := c.limits
	if limits.KeepAlive > 0 { // a peer that answers none of three pings is gone (RFC 6455 section 5.5.2)
		limits.IdleTimeout = min(limits.IdleTimeout, 3*limits.KeepAlive)
	}
	c.pace = pace{limits: limits, set: func(t time.Time) { _ = c.raw.SetReadDeadline(t) }}
	c.pace.first = time.Now().Add(limits.FirstMessageTimeout)
	c.heard.Store(time.Now().UnixNano())
	_ = c.raw.SetDeadline(time.Time{})
	ws.SetReadLimit(int64(limits.MaxHead + limits.MaxBody))
	f := c.flow(c)
	f.browser, c.pace.half = browser, &f.begun
	c.ws, c.r, c.f = ws, r, f
	c.startPing(f, c.silentFor, c.sendPing)
	c.finish(f, c.read(f))
	_ = ws.CloseNow()
}

// read takes one message after the other until the flow ends.
func (c *webConn) read(f *Flow) error {
	for {
		kind, b, err := c.next()
		if err != nil {
			return c.broken(f, err)
		}
		c.settled()
		if err := c.took(f, &c.pace, webFrame(b, kind == websocket.MessageText, c.limits)); err != nil {
			c.hangUp(f, closeCode(err))
			return err
		}
	}
}

// next reads one message, in however many frames. No context is given: the
// deadlines are set where the bytes are read.
func (c *webConn) next() (websocket.MessageType, []byte, error) {
	kind, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return 0, nil, err
	}
	c.open = true
	b, err := io.ReadAll(r)
	c.open = false
	return kind, b, err
}

// settled notes that a frame or a message is complete.
func (c *webConn) settled() {
	c.partial = c.r.Buffered() > 0
	if !c.open {
		c.pace.begun = time.Time{}
	}
}

// broken tells why no further message can be read.
func (c *webConn) broken(f *Flow, err error) error {
	var fault *Malformed
	switch status := websocket.CloseStatus(err); {
	case f.Err() != nil:
		return err
	case errors.Is(err, ErrSlow):
		return ErrSlow
	case status != -1:
		return fmt.Errorf("%w, status %d", errPeerClosed, status)
	case errors.Is(c.failed, os.ErrDeadlineExceeded):
		return c.pace.over
	case c.failed != nil:
		return c.failed
	case errors.Is(err, websocket.ErrMessageTooBig):
		fault = &Malformed{Code: 513, Fault: "message too large"}
	default:
		fault = malformed("", "not WebSocket frames (RFC 6455 section 5)")
	}
	c.log.Info("malformed message; connection closed", "peer", f.remote.String(), "reason", err)
	c.hangUp(f, closeCode(fault))
	return fault
}

// closeCode tells the peer why (RFC 6455 section 7.4.1).
func closeCode(err error) websocket.StatusCode {
	var fault *Malformed
	switch {
	case !errors.As(err, &fault):
		return websocket.StatusGoingAway
	case fault.Code == 413 || fault.Code == 513:
		return websocket.StatusMessageTooBig
	case fault.Fault == notUTF8:
		return websocket.StatusInvalidFramePayloadData
	}
	return websocket.StatusProtocolError
}

// hangUp closes in good order: the peer has a second to answer.
func (c *webConn) hangUp(f *Flow, code websocket.StatusCode) {
	if f.Err() == nil {
		c.closing = time.Now().Add(time.Second)
		_ = c.ws.Close(code, "")
	}
}

const notUTF8 = "text that is not UTF-8"

// webFrame reads one WebSocket message, given away: one SIP message, or a
// keep-alive. The message's own bounds are the body's: a Content-Length is not
// required, but must be right (RFC 7118 section 5.1).
func webFrame(b []byte, text bool, limits Limits) frame {
	if len(bytes.Trim(b, "\r\n")) == 0 {
		if bytes.Equal(b, headEnd) {
			return frame{kind: framePing}
		}
		return frame{kind: framePong}
	}
	end := bytes.Index(b, headEnd) + len(headEnd)
	if end < len(headEnd) {
		return frame{kind: frameMessage, m: &lexed{}, fault: malformed("", "head without an end")}
	}
	m, fault := lex(b[:end])
	f := frame{kind: frameMessage, m: m, fault: fault, body: b[end:]}
	switch {
	case end > limits.MaxHead:
		f.fault = &Malformed{Code: 513, Fault: "head too large"}
	case fault == nil && text && !utf8.Valid(b): // RFC 6455 section 8.1
		f.fault = malformed("", notUTF8)
	case fault == nil:
		length, fault := m.bodyLength(limits.MaxBody)
		switch {
		case fault != nil:
			f.fault = fault
		case len(f.body) > limits.MaxBody:
			f.fault = &Malformed{Code: 413, Fault: "body too large"}
		case length >= 0 && length != len(f.body):
			f.fault = malformed("Content-Length", "not the length of the body")
		}
	}
	return f
}

// write sends one message in one frame. Text is what a browser reads most
// easily; what is no text must not be sent as such.
func (c *webConn) write(b []byte) error {
	kind := websocket.MessageText
	if !utf8.Valid(b) {
		kind = websocket.MessageBinary
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	err := c.ws.Write(context.Background(), kind, b) // does not block: see Write
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrSlow):
		return ErrSlow
	}
	return ErrClosed
}

// sendPing asks for a sign of life (RFC 6455 section 5.5.2; a script in a
// browser can send none by itself, RFC 7118 section 6). It is written by hand,
// as the library's Ping waits for the answer.
func (c *webConn) sendPing() {
	c.sending.Lock()
	defer c.sending.Unlock()
	if err := c.queue.push([]byte{0x80 | 9, 0}); err != nil { // a final ping frame without a payload
		c.f.Close(err)
	}
}

func (c *webConn) silentFor(now time.Time) time.Duration {
	return now.Sub(time.Unix(0, c.heard.Load()))
}

// Read implements net.Conn. Before the upgrade the HTTP server has set a
// deadline; after it each read has the one that its moment asks for.
func (c *webConn) Read(p []byte) (int, error) {
	if c.f == nil {
		return c.tls.Read(p)
	}
	if c.closing.IsZero() {
		c.pace.before(c.open || c.partial)
	} else {
		_ = c.raw.SetReadDeadline(c.closing)
	}
	n, err := c.tls.Read(p)
	if n > 0 {
		c.partial = true
		c.heard.Store(time.Now().UnixNano())
	}
	if err != nil {
		c.failed = err
	}
	return n, err
}

// Write implements net.Conn. After the upgrade it queues a copy, and fails
// with ErrSlow rather than wait.
func (c *webConn) Write(p []byte) (int, error) {
	if c.f == nil {
		return c.tls.Write(p)
	}
	if err := c.queue.push(bytes.Clone(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close implements net.Conn. What is queued, a close frame perhaps, has a
// moment to leave.
func (c *webConn) Close() error {
	if c.f != nil {
		c.flush(c.f)
	}
	c.close()
	return nil
}

// LocalAddr implements net.Conn.
func (c *webConn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *webConn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// SetDeadline implements net.Conn, for the HTTP server: whatever it asks for,
// a connection has no longer than upgradeBy.
func (c *webConn) SetDeadline(t time.Time) error { return c.raw.SetDeadline(c.notAfter(t)) }

// SetReadDeadline implements net.Conn, like SetDeadline.
func (c *webConn) SetReadDeadline(t time.Time) error { return c.raw.SetReadDeadline(c.notAfter(t)) }

// SetWriteDeadline implements net.Conn, like SetDeadline.
func (c *webConn) SetWriteDeadline(t time.Time) error { return c.raw.SetWriteDeadline(c.notAfter(t)) }

func (c *webConn) notAfter(t time.Time) time.Time {
	if t.IsZero() || t.After(c.upgradeBy) {
		return c.upgradeBy
	}
	return t
}
