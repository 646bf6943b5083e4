package media

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/stun/v3"

	"github.com/sallyport/sallyport/media/packet"
)

// refusal is why a TCP connection was not taken; adopted: it was.
type refusal string

const (
	adopted        refusal = ""
	refusedPolicy  refusal = "policy"
	refusedFull    refusal = "full"             // as many are open as may be
	refusedHost    refusal = "full_for_address" // of its host
	refusedCrowd   refusal = "displaced"        // too many came after it, before its first frame
	refusedLate    refusal = "timeout"          // no whole first frame in time
	refusedGone    refusal = "gone"             // it ended before
	refusedNoCheck refusal = "no_check"         // the first frame is no connectivity check
	refusedUnknown refusal = "unknown_user"     // of no call that does ICE
	refusedForged  refusal = "integrity"        // does not verify
	refusedCopy    refusal = "copy"             // of a check that came by another way
	acceptFailed   refusal = "accept_error"
)

// lobbyLimits bound what connections cost before anything is known of them, and
// in all.
type lobbyLimits struct {
	total   int // of those that wait and those that are adopted
	host    int // of one address, or an IPv6 /64: an office may be behind it
	waiting int
	first   time.Duration // until the first frame is there
}

func defaultLobbyLimits() lobbyLimits {
	return lobbyLimits{total: 4096, host: 1024, waiting: 256, first: 5 * time.Second}
}

// lobby accepts the TCP connections of all workers (RFC 6544). One waits here,
// with a goroutine of its own, until its first frame says whose it is. Then it is
// its worker's, and costs no goroutine any more. Where too many wait, the one
// that waited longest goes: who is quick finds a place even in a flood.
type lobby struct {
	workers []*worker
	admit   func(netip.Addr) (release func(), err error)
	limits  lobbyLimits
	ports   []*net.TCPListener // one for each secure address
	running sync.WaitGroup     // of all goroutines; ended by close
	ended   chan struct{}

	mu       sync.Mutex // guards what follows
	closed   bool
	total    int
	open     int
	hosts    map[netip.Prefix]int
	waiting  []*visitor // the one that has waited longest first
	accepted uint64
	refused  map[refusal]uint64
}

// visitor is a connection that waits.
type visitor struct {
	conn      *net.TCPConn
	remote    netip.AddrPort
	release   func() // policy's
	displaced bool   // guarded by lobby.mu, as is open
	open      bool   // it is a worker's
}

// newLobby binds the listeners, if there are to be any.
func newLobby(c Config, workers []*worker) (*lobby, error) {
	l := &lobby{workers: workers, admit: c.Admit, limits: defaultLobbyLimits(), ended: make(chan struct{}),
		hosts: make(map[netip.Prefix]int), refused: make(map[refusal]uint64)}
	options := packet.Options{DSCP: c.DSCP}
	for _, at := range c.TCPListen() {
		listen := net.ListenConfig{Control: options.Control}
		listen.SetMultipathTCP(false) // a socket whose options nobody knows
		network := "tcp4"
		if at.Addr().Is6() {
			network = "tcp6"
		}
		ln, err := c.inheritTCP(at)
		if ln == nil && err == nil {
			ln, err = listen.Listen(context.Background(), network, at.String())
		}
		if err != nil {
			l.close()
			return nil, fmt.Errorf("media.tcp_listen: listen on TCP %s: %w; give another port, or \"off\"", at, err)
		}
		l.ports = append(l.ports, ln.(*net.TCPListener))
	}
	return l, nil
}

// addrs are where phones connect to.
func (l *lobby) addrs(c Config) (list []netip.AddrPort) {
	for i, ln := range l.ports {
		list = append(list, netip.AddrPortFrom(c.public(i), ln.Addr().(*net.TCPAddr).AddrPort().Port()))
	}
	return list
}

// serve accepts until close.
func (l *lobby) serve() {
	for _, ln := range l.ports {
		l.running.Go(func() { l.accept(ln) }) // ends when its listener is closed
	}
}

// yield accepts no more; who waits may go on.
func (l *lobby) yield() {
	for _, ln := range l.ports {
		_ = ln.Close()
	}
}

// close ends all that is not adopted, and waits for it.
func (l *lobby) close() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.ended)
	}
	for _, ln := range l.ports {
		_ = ln.Close()
	}
	for _, v := range l.waiting {
		_ = v.conn.Close()
	}
	l.mu.Unlock()
	l.running.Wait()
}

// accept survives what passes, such as running out of descriptors.
func (l *lobby) accept(ln *net.TCPListener) {
	pause := time.Duration(0)
	for {
		conn, err := ln.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.refuse(acceptFailed)
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			select {
			case <-time.After(pause):
			case <-l.ended:
			}
			continue
		}
		pause = 0
		l.enter(conn)
	}
}

// enter gives a connection a place and a goroutine, if policy and limits let it.
func (l *lobby) enter(conn *net.TCPConn) {
	v := &visitor{conn: conn, remote: canonical(conn.RemoteAddr().(*net.TCPAddr).AddrPort()), release: func() {}}
	if l.admit != nil {
		release, err := l.admit(v.remote.Addr())
		if err != nil {
			l.refuse(refusedPolicy)
			abort(conn)
			return
		}
		v.release = release
	}
	if why := l.keep(v); why != adopted {
		l.refuse(why)
		v.release()
		abort(conn)
		return
	}
	go l.receive(v) // ends with the connection's first frame, its time, or close; counted in running
}

func (l *lobby) keep(v *visitor) refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	host := hostOf(v.remote.Addr())
	switch {
	case l.closed:
		return refusedGone
	case l.total >= l.limits.total:
		return refusedFull
	case l.hosts[host] >= l.limits.host:
		return refusedHost
	}
	if len(l.waiting) >= l.limits.waiting {
		oldest := l.waiting[0]
		l.waiting = slices.Delete(l.waiting, 0, 1)
		oldest.displaced = true
		_ = oldest.conn.Close() // its goroutine gives the place back
	}
	l.waiting = append(l.waiting, v)
	l.total++
	l.hosts[host]++
	l.accepted++
	l.running.Add(1)
	return adopted
}

// opened tells that a worker has a connection.
func (l *lobby) opened(v *visitor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v.open = true
	l.open++
}

// left gives a place back, of one that was refused for a cause or had its time.
func (l *lobby) left(v *visitor, why refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if why != adopted {
		l.refused[why]++
	}
	if v.open {
		l.open--
	}
	l.total--
	host := hostOf(v.remote.Addr())
	if l.hosts[host]--; l.hosts[host] == 0 {
		delete(l.hosts, host)
	}
	v.release()
}

func (l *lobby) refuse(why refusal) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused[why]++
}

// receive is a visitor's goroutine.
func (l *lobby) receive(v *visitor) {
	defer l.running.Done()
	frame, why := v.firstFrame(l.limits.first)
	l.mu.Lock()
	l.waiting = slices.DeleteFunc(l.waiting, func(o *visitor) bool { return o == v })
	if v.displaced {
		why = refusedCrowd
	}
	l.mu.Unlock()
	if why == adopted {
		why = l.introduce(v, frame)
	}
	if why != adopted {
		l.left(v, why)
		abort(v.conn)
		return
	}
	_ = v.conn.Close() // the worker has a descriptor of its own
}

// firstFrame reads what has to say whose the connection is, however slowly it
// comes, until its time is over.
func (v *visitor) firstFrame(limit time.Duration) ([]byte, refusal) {
	_ = v.conn.SetReadDeadline(time.Now().Add(limit))
	var header [frameHeader]byte
	if _, err := io.ReadFull(v.conn, header[:]); err != nil {
		return nil, unread(err)
	}
	n := int(binary.BigEndian.Uint16(header[:]))
	if n < stunHeader || n > maxFrame {
		return nil, refusedNoCheck
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(v.conn, frame[:stunHeader]); err != nil {
		return nil, unread(err)
	}
	if !stun.IsMessage(frame) { // the rest would be waited for in vain
		return nil, refusedNoCheck
	}
	if _, err := io.ReadFull(v.conn, frame[stunHeader:]); err != nil {
		return nil, unread(err)
	}
	return frame, adopted
}

// stunHeader is what any check begins with (RFC 8489 section 5).
const stunHeader = 20

func unread(err error) refusal {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return refusedLate
	}
	return refusedGone
}

// introduce brings a visitor to the worker that its first frame names.
func (l *lobby) introduce(v *visitor, frame []byte) refusal {
	m := &stun.Message{Raw: frame}
	if m.Decode() != nil || m.Type != bindingRequest {
		return refusedNoCheck
	}
	ufrag, ok := localUfrag(m)
	if !ok {
		return refusedNoCheck
	}
	n, ok := workerOf(ufrag)
	if !ok || n >= len(l.workers) {
		return refusedUnknown
	}
	socket, err := packet.Adopt(v.conn)
	if err != nil {
		return acceptFailed
	}
	c := &connection{remote: v.remote, leave: func() { l.left(v, adopted) }}
	s := &secureSocket{Socket: socket, kind: kindRTP, conn: c}
	w, why := l.workers[n], adopted
	w.do(func() {
		if why = w.adopt(s, frame); why == adopted {
			l.opened(v)
		}
	})
	if why != adopted {
		_ = socket.Close()
	}
	return why
}

// abort closes with a reset: a refused end leaves nothing behind in the kernel.
func abort(conn *net.TCPConn) {
	_ = conn.SetLinger(0)
	_ = conn.Close()
}

// hostOf is what connections are counted by: an address, or its IPv6 /64.
func hostOf(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// TCPStats are the connections of ICE-TCP.
type TCPStats struct {
	Open     int               // now: a check of a call's phone verified on each
	Waiting  int               // now: for their first frame
	Accepted uint64            // in all, with those that were refused after that
	Refused  map[string]uint64 // by cause
}

func (l *lobby) stats() TCPStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := TCPStats{Open: l.open, Waiting: len(l.waiting), Accepted: l.accepted, Refused: make(map[string]uint64, len(l.refused))}
	for why, n := range l.refused {
		s.Refused[string(why)] = n
	}
	return s
}
