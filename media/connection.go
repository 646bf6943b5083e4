package media

import (
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/media/packet"
)

// This file is ICE-TCP (RFC 6544) on the worker: connections that phones opened
// to our passive candidates, each a path of its own, and what it costs if one is
// slow. How they come here is lobby's.

// connection is what a secureSocket has if it is TCP. It belongs to the worker.
type connection struct {
	number    uint64 // never used again
	worker    *worker
	transport *transport // whose check it began with; it carries no other's
	remote    netip.AddrPort
	began     int64
	in        deframer
	out       framer
	dirty     bool // is in worker.dirty
	closed    bool
	leave     func() // gives its place back
}

// queue puts a packet into a frame. It is copied, as it may have to wait.
func (c *connection) queue(s *secureSocket, p []byte) bool {
	if c.closed || !c.out.add(p) {
		return false
	}
	if !c.dirty {
		c.dirty = true
		c.worker.dirty = append(c.worker.dirty, s)
	}
	return true
}

// flush writes what the kernel takes. What it does not take waits until the
// Poller tells of room. A connection that failed is one whose end is read.
func (c *connection) flush(fd int) {
	c.dirty = false
	for !c.closed && len(c.out.waiting()) > 0 {
		n, open := packet.Write(fd, c.out.waiting())
		if n == 0 && open {
			return
		}
		if !open {
			n = len(c.out.waiting())
		}
		c.out.written(n)
	}
}

// flushConnections is flush for those that have something queued.
func (w *worker) flushConnections() {
	for i, s := range w.dirty {
		s.flush()
		w.dirty[i] = nil
	}
	w.dirty = w.dirty[:0]
}

// fromConnection takes what came by a connection, as much of it at a time as of
// a plain socket, and returns how many slots it took. Each frame is a packet like
// one of UDP.
func (w *worker) fromConnection(s *secureSocket, slot int) (used int) {
	c := s.conn
	c.flush(s.FD) // there may be room again
	for reads := 0; used < plainBurst && reads < plainBurst; {
		frame, long, ok := c.in.next()
		switch {
		case long:
			w.drop(nil, DropOversize)
			used++
		case ok && len(frame) == 0: // RFC 4571 section 2: of no meaning
			used++
		case ok:
			w.batch.Fill(slot+used, frame, c.remote)
			w.fromPhone(s, slot+used)
			used++
		default:
			n, open := packet.Read(s.FD, c.in.room())
			if !open {
				w.hangUp(s)
			}
			if n == 0 {
				return used
			}
			c.in.filled(n)
			reads++
		}
		if c.closed {
			return used
		}
	}
	w.poll.Again(s.FD)
	return used
}

// adopt takes a connection in whose first frame is a check that verifies, and
// returns why not. Of all others nothing is kept. frame is borrowed.
func (w *worker) adopt(s *secureSocket, frame []byte) refusal {
	m := &w.scratch.request
	m.Raw = append(m.Raw[:0], frame...)
	if m.Decode() != nil {
		return refusedNoCheck
	}
	if _, ok := w.named(m); !ok {
		return refusedUnknown
	}
	a, ok := w.authentic(m)
	if !ok {
		return refusedForged
	}
	t, c := a.transport, s.conn
	switch {
	case t.said && !t.params.ICE:
		return refusedUnknown
	case t.tried.has(m.TransactionID):
		return refusedCopy
	}
	if w.control.ended || w.watchStream(s) != nil {
		return refusedFull
	}
	if len(t.conns) >= maxPaths {
		w.hangUp(t.idlest())
	}
	w.numbered++
	c.number, c.worker, c.transport, c.began = w.numbered, w, t, w.now
	c.out.buf = make([]byte, outBuffer)
	t.conns = append(t.conns, s)
	w.batch.Fill(0, frame, c.remote) // no slot is in use between two batches
	w.fromPhone(s, 0)
	w.flush()
	return adopted
}

func (w *worker) watchStream(s *secureSocket) error {
	w.know(s.FD, &endpoint{secure: s, kind: s.kind})
	if err := w.poll.AddStream(s.FD); err != nil {
		w.byFD[s.FD] = nil
		return err
	}
	return nil
}

// hangUp ends a connection, and with it its path. If that was the chosen one, the
// one that was nominated last goes on. It may be called again.
func (w *worker) hangUp(s *secureSocket) {
	c := s.conn
	if c.closed {
		return
	}
	c.closed = true
	t := c.transport
	t.conns = slices.DeleteFunc(t.conns, func(o *secureSocket) bool { return o == s })
	w.table.unplaceAll(t, s.origin(c.remote))
	if p := t.path(c.remote, s); p != nil {
		chosen := t.chosen == p
		w.leave(t, p)
		if next := t.standby(w.now); chosen && next != nil {
			w.choose(t, next)
		}
	}
	w.unwatch(s.Socket)
	c.leave()
}

// standby is the path to go on with when the chosen one is gone: of those that
// the phone nominated, and still checks if it renews its consent, the last. It
// may be nil.
func (t *transport) standby(now int64) (best *path) {
	for _, p := range t.paths {
		if p.nominated != 0 && (!t.renews || now-p.checked < int64(consent)) && (best == nil || p.nominated > best.nominated) {
			best = p
		}
	}
	return best
}

// idlest is the connection to go where there are too many.
func (t *transport) idlest() *secureSocket {
	for _, s := range t.conns {
		if t.chosen == nil || t.chosen.sock != s {
			return s
		}
	}
	return nil
}

// hangUpIdle ends the connections that the phone checks no more, or never
// checked well. The one in use stays with a phone that does not renew its
// consent: its end tells for itself.
func (w *worker) hangUpIdle(t *transport) {
	for i := len(t.conns) - 1; i >= 0; i-- {
		s := t.conns[i]
		p := t.path(s.conn.remote, s)
		switch {
		case p == nil && w.now-s.conn.began < int64(setupLimit):
		case p != nil && w.now-p.checked < int64(consent):
		case p != nil && p == t.chosen && !t.renews:
		default:
			w.hangUp(s)
		}
	}
}

// hangUpAll ends all connections of a transport.
func (w *worker) hangUpAll(t *transport) {
	for len(t.conns) > 0 {
		w.hangUp(t.conns[0])
	}
}
