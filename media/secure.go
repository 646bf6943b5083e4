package media

import "github.com/sallyport/sallyport/media/packet"

// secureSocket is a socket of the secure side, and what waits to leave by it.
type secureSocket struct {
	packet.Socket
	out  *packet.Outbox
	kind uint8
}

// queue sends a packet at the next flush; it is borrowed until then. It tells
// whether there was room.
func (s *secureSocket) queue(p []byte, to *packet.Addr) bool { return s.out.Queue(p, to) }

// send sends a packet at once, behind what is queued by no order.
func (s *secureSocket) send(p []byte, to *packet.Addr) bool { return packet.Send(s.FD, p, to) }

// flush sends what is queued, and returns how many packets were lost.
func (s *secureSocket) flush() uint64 {
	if s.out.Queued() == 0 {
		return 0
	}
	return uint64(s.out.Flush(s.FD))
}
