package flow

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Admit is asked before a connection's handshake. A nil error admits it;
// release is called when the connection is gone.
type Admit func(netip.Addr) (release func(), err error)

// Listener accepts phones over TLS, or browsers over TLS and WebSocket.
type Listener struct {
	service
	ln        net.Listener
	tls       *tls.Config
	web       *web // nil: SIP is spoken on TLS itself
	admit     Admit
	clients   Clients           // nil: nobody is asked for a certificate
	trunks    map[string]*Trunk // by Accept
	foreign   func(netip.Addr)  // by OnForeign; or nil
	balancers []netip.Prefix    // by Behind

	handshake chan struct{} // one place for each handshake being computed

	mu    sync.Mutex // guards conns and ended
	conns map[*conn]struct{}
	ended bool
}

// ListenTLS binds address. Nothing is accepted before Run.
func ListenTLS(address netip.AddrPort, config *tls.Config, limits Limits, to Handler, admit Admit, log *slog.Logger) (*Listener, error) {
	ln, err := Listen(address)
	if err != nil {
		return nil, fmt.Errorf("sip.tls_listen: listen on %s: %w", address, err)
	}
	return NewListener(ln, config, limits, to, admit, log), nil
}

// tcpKeepAlive lets the kernel notice within half a minute that a peer vanished.
var tcpKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// Listen binds address for a Listener.
func Listen(address netip.AddrPort) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: tcpKeepAlive}
	return lc.Listen(context.Background(), "tcp", address.String())
}

// NewListener serves on a listener that exists. It is given away.
func NewListener(ln net.Listener, config *tls.Config, limits Limits, to Handler, admit Admit, log *slog.Logger) *Listener {
	return &Listener{
		service: service{limits: limits, to: to, log: log, trace: &tracer{log}},
		ln:      ln, tls: config, admit: admit,
		handshake: make(chan struct{}, limits.MaxHandshakes), conns: make(map[*conn]struct{}),
	}
}

// Transport is the name that Via headers use: "TLS" or "WSS".
func (l *Listener) Transport() string {
	if l.web != nil {
		return "WSS"
	}
	return "TLS"
}

// OnForeign has f told of each peer that spoke something else than TLS. It is
// called before Run.
func (l *Listener) OnForeign(f func(netip.Addr)) { l.foreign = f }

func (l *Listener) suspect(peer netip.AddrPort, err error) {
	var foreign tls.RecordHeaderError
	if l.foreign != nil && errors.As(err, &foreign) {
		l.foreign(peer.Addr())
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
	if l.web != nil {
		defer l.web.serve()() // ends when no connection is left
	}
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
	c := &conn{service: &l.service, l: l, raw: nc, remote: addrPort(nc.RemoteAddr()), release: func() {}}
	serve := c.introduce
	if !l.isBalancer(c.remote.Addr()) {
		release, ok := l.admitted(c.remote)
		if !ok {
			abort(nc)
			return
		}
		c.release, serve = release, c.run
	}
	if !l.keep(c) {
		l.event("refused_full")
		c.release()
		abort(nc)
		return
	}
	userTimeout(nc)
	go serve() // ends when the connection is closed; counted in wg
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

// userTimeout lets writes to a peer that vanished fail after 30 s, not after
// the quarter of an hour that TCP would try.
func userTimeout(nc net.Conn) {
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	_ = tc.SetKeepAliveConfig(tcpKeepAlive) // which a listener that was taken over does not
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
