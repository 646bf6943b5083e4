package flow

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/media/seam"
)

// ErrMoved ends a connection whose phone is served by the process after this one: it
// connects again, and is there.
var ErrMoved = errors.New("another process serves here now")

// Stranger is what a Handler may be besides: it tells what it knows nothing of, so
// that the process before this one is given it.
type Stranger interface {
	// IsForeign tells whether a message of the plain side belongs to no transaction,
	// dialog or phone of ours. It changes nothing.
	IsForeign(*Flow, sip.Message) bool
}

// TakePlain is ListenPlain with a socket that another process has bound. It is given
// away.
func TakePlain(fd int, limits Limits, to Handler, log *slog.Logger) (*PlainSocket, error) {
	f := os.NewFile(uintptr(fd), "plain")
	defer f.Close() // FilePacketConn has a descriptor of its own
	pc, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("take over the plain socket: %w", err)
	}
	conn, ok := pc.(*net.UDPConn)
	if !ok {
		_ = pc.Close()
		return nil, errors.New("take over the plain socket: it is none of UDP")
	}
	return newPlain(conn, limits, to, log), nil
}

// Follow gives the seam to the process before this one, before Run: what the Handler
// calls foreign goes there. The descriptor is given away.
func (s *PlainSocket) Follow(fd int) { s.past = seam.NewWriter(fd) }

// Yield leaves the socket to the process after this one: from now on messages come from
// it by a seam, whose descriptor is given away, and ours leave as before.
func (s *PlainSocket) Yield(fd int) {
	f := os.NewFile(uintptr(fd), "seam")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.later != nil {
		_ = f.Close()
		return
	}
	s.later = f
	_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // the reader goes over
}

// Resume takes the socket back from a process after this one that is gone.
func (s *PlainSocket) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.later == nil {
		return
	}
	_ = s.conn.SetReadDeadline(time.Time{})
	_ = s.later.Close() // the reader comes back
	s.later = nil
}

// close ends the reader, wherever it reads.
func (s *PlainSocket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	_ = s.conn.Close()
	if s.later != nil {
		_ = s.later.Close()
	}
}

// readSeam reads what the process after this one passes on, until close or Resume.
func (s *PlainSocket) readSeam(buf []byte) {
	s.mu.Lock()
	later := s.later
	s.mu.Unlock()
	if later == nil { // taken back before it was looked at
		return
	}
	room := make([]byte, len(buf)+seam.Head)
	for {
		n, err := later.Read(room)
		if err != nil {
			return
		}
		if from, b, ok := seam.Cut(room[:n]); ok {
			s.datagram(b, from)
		}
	}
}

// isForeign tells whether a message is for the process before this one.
func (s *PlainSocket) isForeign(f *Flow, m sip.Message) bool {
	if s.past == nil {
		return false
	}
	to, ok := s.to.(Stranger)
	return ok && to.IsForeign(f, m)
}

// passOn gives a message to the process before this one; false: there is none. What that
// one has no room for is lost, as a network may lose it, and comes again: answered here, a
// request of a call over there would be told that there is no such call.
func (s *PlainSocket) passOn(from netip.AddrPort, b []byte) bool {
	fate := s.past.Pass(from, b)
	if fate == seam.Full {
		s.event("seam_full")
	}
	return fate != seam.Vain
}

// Heirloom is the socket, for a process after this one. The descriptor stays ours.
func (s *PlainSocket) Heirloom() (fd int, err error) { return descriptor(s.conn) }

// Heirloom is the listener, for a process after this one. The descriptor stays ours.
func (l *Listener) Heirloom() (fd int, err error) {
	c, ok := l.ln.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("hand on the listener %s: it has no descriptor", l.Addr())
	}
	return descriptor(c)
}

func descriptor(c syscall.Conn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(d uintptr) { fd = int(d) })
	}
	if err != nil {
		return 0, fmt.Errorf("hand on a socket: %w", err)
	}
	return fd, nil
}

// Dismiss closes up to so many connections that nothing needs any longer, as idle
// tells, with ErrMoved; and tells how many are left. Gently is to let a message that is
// half here come to its end, and its answer have a sequel.
func (l *Listener) Dismiss(idle func(*Flow) bool, most int, gently bool) (left int) {
	l.mu.Lock()
	all := slices.Collect(maps.Keys(l.conns))
	l.mu.Unlock()
	return dismiss(all, idle, most, gently)
}

// Retire connects to the peer no more, unless there is no connection left and something
// still needs one; those that are there stay.
func (t *Trunk) Retire(needed func() bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.needed = needed
}

// isWanted tells whether to connect.
func (t *Trunk) isWanted() bool {
	t.mu.Lock()
	needed, alone := t.needed, len(t.flows) == 0
	t.mu.Unlock()
	return needed == nil || alone && needed()
}

// Dismiss does with the connections that we dialled as Listener.Dismiss with the others.
func (t *Trunk) Dismiss(idle func(*Flow) bool, most int, gently bool) (left int) {
	t.mu.Lock()
	all := slices.Collect(maps.Keys(t.dialled))
	t.mu.Unlock()
	return dismiss(all, idle, most, gently)
}

// dismiss is called without a lock: idle looks at calls, and who has one of those may ask
// for a trunk's connection.
func dismiss(conns []*conn, idle func(*Flow) bool, most int, gently bool) int {
	now := time.Now()
	for _, c := range conns {
		if most <= 0 {
			break
		}
		if f := c.made.Load(); f != nil && f.Err() == nil && !(gently && f.isMidway(now)) && idle(f) {
			f.End(ErrMoved)
			most--
		}
	}
	return len(conns)
}
