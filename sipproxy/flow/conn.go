package flow

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// service is what a connection needs of who has it: a Listener, or a Trunk that
// dialled it.
type service struct {
	limits Limits
	to     Handler
	log    *slog.Logger
	trace  *tracer
	wg     sync.WaitGroup // readers and writers
	counters
}

// conn is one connection: the outlet of its flow.
type conn struct {
	*service
	l       *Listener // nil: a Trunk dialled it
	raw     net.Conn
	remote  netip.AddrPort
	own     bool // a balancer's, and for no phone: see introduce
	release func()
	tls     *tls.Conn // set by shake
	queue   queue
	ping    *time.Timer
	over    sync.Once
	ended   atomic.Pointer[error] // by end: why
	made    atomic.Pointer[Flow]  // its flow, once it has one

	// Of who showed a certificate; guarded by the listener's mutex until it is set.
	state *tls.ConnectionState
	users []string
	trunk *Trunk // whose certificate it is; nil: a phone's, or none
	began time.Time
}

func (c *conn) reliable() bool       { return true }
func (c *conn) write(b []byte) error { return c.queue.push(b) }

func (c *conn) afterLast(f func()) { c.queue.afterLast(f) }

// close closes the TCP connection under the TLS one: tls.Conn.Close would
// wait for a peer that does not read.
func (c *conn) close() { c.over.Do(func() { _ = c.raw.Close() }) }

// end closes from outside of the reader, whose next read then fails.
func (c *conn) end(reason error) {
	c.ended.CompareAndSwap(nil, &reason)
	c.close()
}

// challengeProtocol is what a CA asks for to see that a name is ours: its question
// ends with the handshake (RFC 8737 section 3).
const challengeProtocol = "acme-tls/1"

// run shakes hands, and reads until the connection ends, or until it is given
// to the HTTP server, which then forgets it. What is done before that is not on the
// stack that an idle connection holds.
func (c *conn) run() {
	if f := c.begin(); f != nil {
		defer c.l.forget(c)
		c.serve(f)
	}
}

// begin shakes hands, and makes the flow; nil if the connection is over or was given
// away.
func (c *conn) begin() *Flow {
	if print, err := c.shake(); err != nil {
		c.unshaken(print, err)
		c.close()
		c.l.forget(c)
		return nil
	}
	if c.tls.ConnectionState().NegotiatedProtocol == challengeProtocol {
		c.l.event("acme_challenge")
		c.close()
		c.l.forget(c)
		return nil
	}
	if err := c.l.knows(c); err != nil {
		c.l.forget(c)
		return nil
	}
	if c.l.web != nil {
		c.l.web.take(c)
		return nil
	}
	f := c.flow(c)
	if c.trunk != nil {
		c.trunk.gained(f)
	}
	return f
}

// unshaken tells of a handshake that failed. A balancer may look for no more than
// whether somebody takes its connection: every few seconds, and at no fault.
func (c *conn) unshaken(print string, err error) {
	level := slog.LevelDebug
	if !c.own {
		level = slog.LevelInfo
		c.l.event("handshake_failed")
		if word := refusedWord(err); word != "" {
			c.l.refusedClient(word)
		}
		c.l.suspect(c.remote, err)
	}
	c.l.log.Log(context.Background(), level, "TLS handshake failed", "peer", c.remote.String(), "reason", why(err), "ja4", print, "error", err)
}

// serve reads until the connection ends.
func (c *conn) serve(f *Flow) {
	defer c.close()
	if c.trunk != nil {
		v := c.startVigil(f)
		defer v.stop()
		settled := time.AfterFunc(steady, func() { c.trunk.settled(f) })
		defer settled.Stop()
		c.finish(f, c.read(f, c.tls, v))
		return
	}
	c.startPing(f, c.queue.quietFor, func() { _ = f.write([]byte(ping)) })
	c.finish(f, c.read(f, c.tls, nil))
}

// flow makes the connection's flow, with out for its outlet.
func (c *conn) flow(out outlet) *Flow {
	state := c.tls.ConnectionState()
	transport := "TLS"
	if c.l != nil {
		transport = c.l.Transport()
	}
	f := newFlow(Secure, transport, addrPort(c.raw.LocalAddr()), c.remote, out, c.trace)
	f.tls, f.users, f.trunk = &state, c.users, c.trunk
	c.began = time.Now()
	f.last.Store(c.began.UnixNano()) // its first message comes soon
	defer c.made.Store(f)
	c.queue = queue{conn: c.tls, limits: c.limits, wg: &c.wg, last: time.Now(), onError: f.Close}
	return f
}

// finish ends the flow, and tells so.
func (c *conn) finish(f *Flow, err error) {
	if c.ping != nil {
		c.ping.Stop()
	}
	if reason := c.ended.Load(); reason != nil {
		err = *reason
	}
	f.Close(err)
	c.queue.shut()
	c.event(ending(f.Err()))
	if c.trunk != nil {
		c.trunk.lost(f, time.Since(c.began))
	}
	c.to.Closed(f, f.Err())
}

// shake does the handshake, within its time. Of a client that fails it returns the
// fingerprint.
func (c *conn) shake() (print string, err error) {
	c.l.shaking(1)
	defer c.l.shaking(-1)
	deadline := time.Now().Add(c.l.limits.HandshakeTimeout)
	_ = c.raw.SetDeadline(deadline)
	s := &shaker{Conn: c.raw, places: c.l.handshake, deadline: deadline}
	c.tls = tls.Server(s, c.l.tls)
	err = c.tls.HandshakeContext(context.Background())
	s.done()
	_ = c.raw.SetDeadline(time.Time{})
	if err != nil {
		print = ja4(s.heard)
	}
	s.heard = nil // the connection outlives it
	return print, err
}

func (l *Listener) shaking(by int) {
	l.counters.mu.Lock()
	defer l.counters.mu.Unlock()
	l.handshakes += by
}

// shaker is a connection during its handshake: it holds one of the listener's
// places while it computes, and none while it waits for the peer. So silent
// peers, however many, keep nobody from shaking hands.
type shaker struct {
	net.Conn
	places   chan struct{}
	deadline time.Time
	placed   bool
	over     bool
	heard    []byte // the first bytes of the peer
}

var errNoPlace = errors.New("too many handshakes at a time")

func (s *shaker) Read(b []byte) (int, error) {
	if s.over {
		return s.Conn.Read(b)
	}
	s.leave()
	n, err := s.Conn.Read(b)
	if n == 0 {
		return n, err
	}
	s.heard = append(s.heard, b[:min(n, maxHello-len(s.heard))]...)
	patience := time.NewTimer(time.Until(s.deadline))
	defer patience.Stop()
	select {
	case s.places <- struct{}{}:
		s.placed = true
		return n, err
	case <-patience.C:
		return 0, errNoPlace
	}
}

func (s *shaker) leave() {
	if s.placed {
		s.placed = false
		<-s.places
	}
}

// done ends the handshake's part; what is read later needs no place.
func (s *shaker) done() {
	s.leave()
	s.over = true
}

// read is the reader: it frames, checks and hands over until the flow ends. With a
// vigil the connection may be quiet for as long as that one finds it alive.
func (c *conn) read(f *Flow, r io.Reader, v *vigil) error {
	p := &pace{limits: c.limits, half: &f.begun, set: func(t time.Time) { _ = c.raw.SetReadDeadline(t) }}
	fr := &framer{r: r, limits: c.limits, deadline: p.before}
	if v != nil {
		p.patient, fr.pongDue, fr.heard = true, v.pongDue, v.heard
	} else {
		p.first = time.Now().Add(c.limits.FirstMessageTimeout)
	}
	for {
		got, err := fr.next()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return p.over
			}
			return err
		}
		if err := c.took(f, p, got); err != nil {
			return err
		}
	}
}

// took handles one frame. An error ends the flow: it is answered already.
func (c *conn) took(f *Flow, p *pace, got frame) error {
	switch got.kind {
	case framePing:
		_ = f.write([]byte(pong))
		p.quiet = time.Duration(f.expected.Load())
		return nil
	case framePong:
		return nil
	}
	if got.fault == nil {
		m, fault := got.m.build(got.body)
		if fault == nil {
			p.got()
			f.spoke.Store(true)
			f.last.Store(time.Now().UnixNano())
			f.trace.message(f, "in", m)
			c.to.Receive(f, m)
			return nil
		}
		got.fault = fault
	}
	if got.fault.Code == 416 {
		// Nothing is wrong with it but whom it is for: urn:service:sos
		// perhaps. The phone's calls must not end with it.
		c.log.Info("request refused", "peer", f.remote.String(), "status", 416, "reason", got.fault.Fault)
		if answer := got.m.rejection(got.fault); answer != nil {
			_ = f.write(answer)
		}
		p.begun = time.Time{}
		return nil
	}
	return c.reject(f, got)
}

// reject answers a malformed message and ends the flow: where one message
// cannot be trusted, neither can the place where the next begins.
func (c *conn) reject(f *Flow, bad frame) error {
	c.log.Info("malformed message; connection closed", "peer", f.remote.String(), "header", bad.fault.Header, "reason", bad.fault.Fault)
	if answer := bad.m.rejection(bad.fault); answer != nil {
		_ = f.write(answer) // a flow that is gone has nothing to flush either
	}
	c.flush(f) // of answers to the messages before it, too
	return bad.fault
}

// flush waits a moment for what is queued to leave. Only the reader, which
// has nothing more to read, may wait so.
func (c *conn) flush(f *Flow) {
	left := make(chan struct{})
	c.queue.afterLast(func() { close(left) })
	timeout := time.NewTimer(time.Second)
	defer timeout.Stop()
	select {
	case <-left:
	case <-f.Done():
	case <-timeout.C:
	}
}

// startPing calls ping into silence, as long as quiet tells: that holds NAT
// bindings open and lets TCP notice a peer that vanished. On TLS it is CRLF
// CRLF (RFC 5626 section 5.4).
func (c *conn) startPing(f *Flow, quiet func(time.Time) time.Duration, ping func()) {
	every := c.limits.KeepAlive
	if every == 0 {
		return
	}
	c.ping = time.AfterFunc(time.Hour, func() {
		if f.Err() != nil {
			return
		}
		next := every
		if quiet := quiet(time.Now()); quiet >= every {
			ping()
		} else {
			next = every - quiet
		}
		c.ping.Reset(next)
	})
	c.ping.Reset(every) // not before there is a c.ping to set again
}

// ending names how a flow ended, for the counters.
func ending(err error) string {
	var bad *Malformed
	switch {
	case errors.As(err, &bad):
		return "closed_malformed"
	case errors.Is(err, ErrSlow):
		return "closed_slow"
	case errors.Is(err, ErrSilent):
		return "closed_silent"
	case errors.Is(err, ErrStalled):
		return "closed_stalled"
	case errors.Is(err, ErrIdle):
		return "closed_idle"
	case errors.Is(err, ErrQuiet):
		return "closed_quiet"
	case errors.Is(err, ErrMoved):
		return "closed_moved"
	case errors.Is(err, ErrNoPong):
		return "closed_no_pong"
	case errors.Is(err, io.EOF), errors.Is(err, errPeerClosed):
		return "closed_by_peer"
	}
	return "closed"
}
