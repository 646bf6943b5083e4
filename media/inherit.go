package media

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/media/packet"
	"github.com/sallyport/sallyport/media/seam"
)

// Inherit gives what the process before this one left of an address: its socket by
// "udp" or "tcp", or by "seam" the seam to that process. The descriptor is given away.
type Inherit func(network string, at netip.AddrPort) (fd int, ok bool)

func (c Config) inherited(network string, at netip.AddrPort) (fd int, ok bool) {
	if c.Inherit == nil || at.Port() == 0 {
		return 0, false
	}
	return c.Inherit(network, at)
}

// Heirloom is a socket that a process after this one may inherit. The descriptor
// stays the Engine's.
type Heirloom struct {
	Network string // "udp" or "tcp"
	Addr    netip.AddrPort
	FD      int
}

// Heirlooms are the sockets of the secure side. Those of TCP are none after Yield.
func (e *Engine) Heirlooms() (list []Heirloom, err error) {
	for _, w := range e.workers {
		w.do(func() {
			for _, s := range w.secure {
				list = append(list, Heirloom{"udp", s.Local, s.FD})
			}
		})
	}
	for _, ln := range e.lobby.ports {
		at := ln.Addr().(*net.TCPAddr).AddrPort()
		raw, err := ln.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { list = append(list, Heirloom{"tcp", canonical(at), int(fd)}) })
		}
		if err != nil && !errors.Is(err, net.ErrClosed) {
			return nil, fmt.Errorf("hand on media.tcp_listen: %w", err)
		}
	}
	return list, nil
}

// Yield leaves the secure sockets to the process after this one: from now on
// packets come from it, by a seam for each UDP socket, whose descriptor is given away. A
// socket without one is read on. Sessions go on, and send as before.
func (e *Engine) Yield(seams map[netip.AddrPort]int) error {
	e.lobby.yield()
	var failed error
	for _, w := range e.workers {
		w.do(func() {
			for _, s := range w.secure {
				fd, ok := seams[s.Local]
				if !ok {
					continue
				}
				if err := w.yield(s, fd); err != nil {
					failed = err
				}
			}
		})
	}
	return failed
}

// yield takes a socket's packets from a seam instead.
func (w *worker) yield(s *secureSocket, fd int) error {
	w.poll.Remove(s.FD)
	w.know(s.FD, nil)
	w.seams[s] = fd
	return w.watch(fd, &endpoint{secure: s, kind: s.kind, seam: true})
}

// Resume takes the packets of the secure sockets back from a process that is gone, and
// the seams from it are closed. It listens by TCP no more. What Yield has not left is
// as it was.
func (e *Engine) Resume() error {
	var failed error
	for _, w := range e.workers {
		w.do(func() {
			if err := w.resume(); err != nil {
				failed = err
			}
		})
	}
	return failed
}

func (w *worker) resume() error {
	for s, fd := range w.seams {
		w.poll.Remove(fd)
		w.know(fd, nil)
		_ = unix.Close(fd)
		delete(w.seams, s)
		if err := w.watch(s.FD, &endpoint{secure: s, kind: s.kind}); err != nil {
			return err
		}
	}
	return nil
}

// listenUDP binds a secure socket, or takes the one that is bound already, and the
// seam to the process that has calls on it.
func (c Config) listenUDP(at netip.AddrPort, o packet.Options) (*secureSocket, error) {
	sock := &secureSocket{out: packet.NewOutbox(slots)}
	var err error
	if fd, ok := c.inherited("udp", at); ok {
		sock.Socket, err = packet.Take(fd, o)
	} else {
		sock.Socket, err = packet.Listen(at, o)
	}
	if err != nil {
		return nil, err
	}
	if fd, ok := c.inherited("seam", at); ok {
		sock.past = seam.NewWriter(fd)
	}
	return sock, nil
}

// inheritTCP is the listener that is bound already, or nil.
func (c Config) inheritTCP(at netip.AddrPort) (net.Listener, error) {
	fd, ok := c.inherited("tcp", at)
	if !ok {
		return nil, nil
	}
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close() // FileListener has a descriptor of its own
	return net.FileListener(f)
}

// strange drops a packet that nothing here takes, unless a process before this one
// may: it has calls of before on the same socket. p is as it came.
func (w *worker) strange(s *secureSocket, from netip.AddrPort, p []byte, st *stream, why Drop) {
	if s.past != nil && s.past.Pass(from, p) == seam.Passed {
		return
	}
	w.drop(st, why)
}
