package media

import (
	"net/netip"

	"github.com/sallyport/sallyport/media/packet"
	"github.com/sallyport/sallyport/media/seam"
)

// secureSocket is a socket of the secure side, and what waits to leave by it: a
// UDP socket that all phones share, or one phone's TCP connection.
type secureSocket struct {
	packet.Socket
	out  *packet.Outbox
	conn *connection // instead of out, by TCP
	kind uint8
	past *seam.Writer // to the process before this one; nil: there is none
}

// origin is where packets of the secure side come from. What comes by TCP has
// its connection for a source: the same address may be another's by UDP, or by
// a connection before.
type origin struct {
	netip.AddrPort
	conn uint64 // the connection's number; 0: by UDP
}

// origin is that of what comes from an address by this socket.
func (s *secureSocket) origin(from netip.AddrPort) origin {
	if s.conn != nil {
		return origin{from, s.conn.number}
	}
	return origin{AddrPort: from}
}

// queue sends a packet at the next flush; it is borrowed until then. It tells
// whether there was room.
func (s *secureSocket) queue(p []byte, to *packet.Addr) bool {
	if s.conn != nil {
		return s.conn.queue(s, p)
	}
	return s.out.Queue(p, to)
}

// full is why a packet was lost that queue had no room for.
func (s *secureSocket) full() Drop {
	if s.conn != nil {
		return DropSlow
	}
	return DropSend
}

// send sends a packet at once; by UDP it is behind what is queued by no order.
func (s *secureSocket) send(p []byte, to *packet.Addr) bool {
	if s.conn != nil {
		ok := s.conn.queue(s, p)
		s.conn.flush(s.FD)
		return ok
	}
	return packet.Send(s.FD, p, to)
}

// flush sends what is queued, and returns how many packets were lost. By TCP
// none is: what is left waits for room.
func (s *secureSocket) flush() uint64 {
	if s.conn != nil {
		s.conn.flush(s.FD)
		return 0
	}
	if s.out.Queued() == 0 {
		return 0
	}
	return uint64(s.out.Flush(s.FD))
}
