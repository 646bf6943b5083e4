package flow

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Admit is asked before a connection's handshake. A nil error admits it;
// release is called when the connection is gone.
type Admit func(netip.Addr) (release func(), err error)

// Listener accepts phones over TLS.
type Listener struct {
	ln     net.Listener
	tls    *tls.Config
	limits Limits
	to     Handler
	admit  Admit
	log    *slog.Logger
	trace  *tracer
	counters

	wg        sync.WaitGroup // readers and writers
	handshake chan struct{}  // one place for each handshake under way

	mu    sync.Mutex // guards conns and ended
	conns map[*conn]struct{}
	ended bool
}

// ListenTLS binds address. Nothing is accepted before Run.
func ListenTLS(address netip.AddrPort, config *tls.Config, limits Limits, to Handler, admit Admit, log *slog.Logger) (*Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	ln, err := lc.Listen(context.Background(), "tcp", address.String())
	if err != nil {
		return nil, fmt.Errorf("listen on sip.tls_listen %s: %w", address, err)
	}
	return NewListener(ln, config, limits, to, admit, log), nil
}

// NewListener serves on a listener that exists. It is given away.
func NewListener(ln net.Listener, config *tls.Config, limits Limits, to Handler, admit Admit, log *slog.Logger) *Listener {
	return &Listener{
		ln: ln, tls: config, limits: limits, to: to, admit: admit, log: log, trace: &tracer{log},
		handshake: make(chan struct{}, limits.MaxHandshakes), conns: make(map[*conn]struct{}),
	}
}

// Addr is the bound address.
func (l *Listener) Addr() netip.AddrPort { return addrPort(l.ln.Addr()) }

// Stats returns a snapshot.
func (l *Listener) Stats() Stats { return l.snapshot() }

// StopAccepting takes no further connections; those that are open stay.
func (l *Listener) StopAccepting() { _ = l.ln.Close() }

// Run accepts until ctx ends, then closes every flow and waits for them.
// StopAccepting alone does not end it.
func (l *Listener) Run(ctx context.Context) error {
	accepting := make(chan struct{})
	go func() { // ends when the listener is closed; waited for below
		defer close(accepting)
		l.accept()
	}()
	<-ctx.Done()
	_ = l.ln.Close()
	<-accepting
	l.mu.Lock()
	l.ended = true
	for c := range l.conns {
		c.end(ErrDone)
	}
	l.mu.Unlock()
	l.wg.Wait()
	return nil
}

// accept survives what passes, such as running out of descriptors: phones
// must get in again once there are some.
func (l *Listener) accept() {
	pause := time.Duration(0)
	for {
		nc, err := l.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if pause == 0 {
				l.log.Warn("accept connection; trying on", "reason", err)
			}
			l.event("accept_error")
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			time.Sleep(pause)
			continue
		}
		pause = 0
		l.start(nc)
	}
}

// start admits a connection and gives it its reader.
func (l *Listener) start(nc net.Conn) {
	remote := addrPort(nc.RemoteAddr())
	release := func() {}
	if l.admit != nil {
		r, err := l.admit(remote.Addr())
		if err != nil {
			l.event("refused_by_policy")
			l.log.Info("connection refused", "peer", remote.String(), "reason", err)
			abort(nc)
			return
		}
		release = r
	}
	c := &conn{l: l, raw: nc, release: release}
	if !l.keep(c) {
		l.event("refused_full")
		release()
		abort(nc)
		return
	}
	userTimeout(nc)
	go c.run(remote) // ends when the connection is closed; counted in wg
}

func (l *Listener) keep(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || len(l.conns) >= l.limits.MaxFlows {
		return false
	}
	l.conns[c] = struct{}{}
	l.wg.Add(1)
	l.counters.mu.Lock()
	l.open++
	l.accepted++
	l.counters.mu.Unlock()
	return true
}

func (l *Listener) forget(c *conn) {
	l.mu.Lock()
	delete(l.conns, c)
	l.mu.Unlock()
	l.counters.mu.Lock()
	l.open--
	l.counters.mu.Unlock()
	c.release()
	l.wg.Done()
}

// conn is one accepted connection: the outlet of its flow.
type conn struct {
	l       *Listener
	raw     net.Conn
	release func()
	queue   queue
	ping    *time.Timer
	over    sync.Once
}

func (c *conn) reliable() bool       { return true }
func (c *conn) write(b []byte) error { return c.queue.push(b) }

// close closes the TCP connection under the TLS one: tls.Conn.Close would
// wait for a peer that does not read.
func (c *conn) close() { c.over.Do(func() { _ = c.raw.Close() }) }

// end closes from outside of the reader, whose next read then fails.
func (c *conn) end(error) { c.close() }

func (c *conn) run(remote netip.AddrPort) {
	defer c.l.forget(c)
	defer c.close()
	tc, err := c.shake()
	if err != nil {
		c.l.event("handshake_failed")
		c.l.log.Info("TLS handshake failed", "peer", remote.String(), "reason", err)
		return
	}
	state := tc.ConnectionState()
	f := newFlow(Secure, "TLS", addrPort(c.raw.LocalAddr()), remote, c, c.l.trace)
	f.tls = &state
	c.queue = queue{conn: tc, limits: c.l.limits, wg: &c.l.wg, last: time.Now(), onError: f.Close}
	c.startPing(f)
	err = c.read(f, tc)
	if c.ping != nil {
		c.ping.Stop()
	}
	f.Close(err)
	c.l.event(ending(f.Err()))
	c.l.to.Closed(f, f.Err())
}

// shake does the handshake, within its time and its share of all.
func (c *conn) shake() (*tls.Conn, error) {
	timeout := time.NewTimer(c.l.limits.HandshakeTimeout)
	defer timeout.Stop()
	select {
	case c.l.handshake <- struct{}{}:
		defer func() { <-c.l.handshake }()
	case <-timeout.C:
		return nil, errors.New("too many handshakes at a time")
	}
	c.l.counters.mu.Lock()
	c.l.handshakes++
	c.l.counters.mu.Unlock()
	defer func() {
		c.l.counters.mu.Lock()
		c.l.handshakes--
		c.l.counters.mu.Unlock()
	}()
	tc := tls.Server(c.raw, c.l.tls)
	_ = c.raw.SetDeadline(time.Now().Add(c.l.limits.HandshakeTimeout))
	err := tc.HandshakeContext(context.Background())
	_ = c.raw.SetDeadline(time.Time{})
	return tc, err
}

// read is the reader: it frames, checks and hands over until the flow ends.
func (c *conn) read(f *Flow, r io.Reader) error {
	p := &pace{limits: c.l.limits, set: func(t time.Time) { _ = c.raw.SetReadDeadline(t) }}
	p.first = time.Now().Add(c.l.limits.FirstMessageTimeout)
	fr := &framer{r: r, limits: c.l.limits, deadline: p.before}
	for {
		got, err := fr.next()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return p.over
			}
			return err
		}
		if got.kind == framePing {
			_ = f.write([]byte("\r\n"))
			continue
		}
		if got.fault == nil {
			m, fault := got.m.build(got.body)
			if fault == nil {
				p.got()
				f.trace.message(f, "in", m)
				c.l.to.Receive(f, m)
				continue
			}
			got.fault = fault
		}
		if got.fault.Code == 416 {
			// Nothing is wrong with it but whom it is for: urn:service:sos
			// perhaps. The phone's calls must not end with it.
			c.l.log.Info("request refused", "peer", f.remote.String(), "status", 416, "reason", got.fault.Fault)
			if answer := got.m.rejection(got.fault); answer != nil {
				_ = f.write(answer)
			}
			p.begun = time.Time{}
			continue
		}
		return c.reject(f, got)
	}
}

// reject answers a malformed message and ends the flow: where one message
// cannot be trusted, neither can the place where the next begins.
func (c *conn) reject(f *Flow, bad frame) error {
	c.l.log.Info("malformed message; connection closed", "peer", f.remote.String(), "header", bad.fault.Header, "reason", bad.fault.Fault)
	if answer := bad.m.rejection(bad.fault); answer != nil {
		if f.write(answer) == nil {
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
	}
	return bad.fault
}

// startPing sends CRLF CRLF into silence, which holds NAT bindings open and
// lets TCP notice a peer that vanished (RFC 5626 section 5.4).
func (c *conn) startPing(f *Flow) {
	every := c.l.limits.KeepAlive
	if every == 0 {
		return
	}
	c.ping = time.AfterFunc(every, func() {
		if f.Err() != nil {
			return
		}
		next := every
		if quiet := c.queue.quietFor(time.Now()); quiet >= every {
			_ = f.write([]byte("\r\n\r\n"))
		} else {
			next = every - quiet
		}
		c.ping.Reset(next)
	})
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
	case errors.Is(err, io.EOF):
		return "closed_by_peer"
	}
	return "closed"
}

// userTimeout lets writes to a peer that vanished fail after 30 s, not after
// the quarter of an hour that TCP would try.
func userTimeout(nc net.Conn) {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30_000)
	})
}

// abort closes with a reset: a refused peer leaves nothing behind in the
// kernel either.
func abort(nc net.Conn) {
	if tc, ok := nc.(*net.TCPConn); ok {
		_ = tc.SetLinger(0)
	}
	_ = nc.Close()
}

func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	case *net.UDPAddr:
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
