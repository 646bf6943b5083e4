package answer

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/sallyport/sallyport/cmd/internal/load/message"
	"github.com/sallyport/sallyport/cmd/internal/nameaddr"
)

// The timers of RFC 3261 section 17.1.1.1.
const (
	t1 = 500 * time.Millisecond
	t2 = 4 * time.Second
)

// answer is a 200 that awaits its ACK, or a call that rings. The Server's mutex
// guards it.
type answer struct {
	invite  *sip.Request
	number  uint32 // of the INVITE
	from    netip.AddrPort
	ok      *message.Draft
	bytes   []byte // once it was sent
	ringing *message.Draft
	begun   time.Time
	wait    time.Duration
	timer   *time.Timer
}

// called answers an INVITE, and again when it is repeated.
func (s *Server) called(r *sip.Request, ok *message.Draft, tag string, from netip.AddrPort) {
	id := message.Get(r, "Call-ID")
	number := r.CSeq().SeqNo
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.calls[id]; a != nil && a.number == number {
		if a.bytes != nil {
			_, _ = s.conn.WriteToUDPAddrPort(a.bytes, from)
		} else {
			s.send(a.ringing, r, from)
		}
		return
	}
	description, err := s.describe(id, string(r.Body()))
	if err != nil {
		s.send(message.Answer(r, 488, "Not Acceptable Here", tag), r, from)
		return
	}
	if len(s.calls) >= maxCalls {
		s.send(message.Answer(r, 503, "Service Unavailable", tag).Add("Retry-After", "5"), r, from)
		return
	}
	contact := fmt.Sprintf("<sip:echo@%s>", s.Addr())
	ok.Add("Contact", contact).Add("Allow", allow).SDP(description)
	a := &answer{invite: r, number: number, from: from, ok: ok, begun: time.Now(), wait: t1}
	if old := s.calls[id]; old != nil {
		old.timer.Stop()
	}
	s.calls[id] = a
	if nameaddr.Tag(message.Get(r, "To")) != "" {
		a.bytes = s.send(ok, r, from)
		a.timer = time.AfterFunc(t1, func() { s.again(id, a) }) // ends at once, as the next one does
		return
	}
	s.counts.invites.Add(1)
	a.ringing = message.Answer(r, 180, "Ringing", tag).Add("Contact", contact)
	s.send(a.ringing, r, from)
	if s.config.Ring > 0 {
		a.timer = time.AfterFunc(s.config.Ring, func() { s.again(id, a) })
		return
	}
	a.bytes = s.send(ok, r, from)
	a.timer = time.AfterFunc(t1, func() { s.again(id, a) })
}

// again sends a 200, for the first time or once more.
func (s *Server) again(id string, a *answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.calls[id] != a:
		return
	case a.bytes == nil:
		a.bytes, a.begun = s.send(a.ok, a.invite, a.from), time.Now()
	case time.Since(a.begun) > 64*t1:
		delete(s.calls, id)
		return
	default:
		_, _ = s.conn.WriteToUDPAddrPort(a.bytes, a.from)
		a.wait = min(2*a.wait, t2)
	}
	a.timer.Reset(a.wait)
}

func (s *Server) acknowledged(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.calls[id]; a != nil && a.bytes != nil {
		a.timer.Stop()
		delete(s.calls, id)
	}
}

// cancelled ends a call that rings.
func (s *Server) cancelled(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.calls[id]; a != nil && a.bytes == nil {
		a.timer.Stop()
		delete(s.calls, id)
		s.send(message.Answer(a.invite, 487, "Request Terminated", s.tag(id)), a.invite, a.from)
	}
}

func closed(err error) bool { return errors.Is(err, net.ErrClosed) }
