package transaction

import (
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// serverState is a state of RFC 3261 section 17.2. INVITE and non-INVITE
// share the names they have in common.
type serverState uint8

const (
	serverTrying    serverState = iota // no final response yet ("Trying" and "Proceeding")
	serverAccepted                     // INVITE answered 2xx (RFC 6026 section 7.1)
	serverCompleted                    // any other final response
	serverConfirmed                    // INVITE refused, and its ACK seen
	serverTerminated
)

// Canceler is an INVITE sent on; *Client is one. Cancel may be called at any time.
type Canceler interface {
	Cancel(headers ...sip.Header)
}

// Server is a server transaction: one request received, and what was answered.
type Server struct {
	layer   *Layer
	key     serverKey
	conn    Conn
	request *sip.Request
	invite  bool
	merge   mergeKey
	fault   error // why it must be refused; such a one is in no table

	mu        sync.Mutex // guards what follows; never held while calling out
	state     serverState
	last      *sip.Response // repeated when the request is
	interval  time.Duration // timer G
	repeat    *time.Timer   // timer G, or what section 13.3.1.4 has for a 2xx
	end       *time.Timer   // timers H, I, J, L
	gone      func()
	next      Canceler     // what a proxy serves this one with
	cancelled bool         // Cancel was called,
	why       []sip.Header // with these
}

func newServer(l *Layer, key serverKey, conn Conn, req *sip.Request) *Server {
	return &Server{layer: l, key: key, conn: conn, request: req, invite: req.Method == sip.INVITE}
}

// Request returns the request that opened the transaction. It must not be
// changed.
func (s *Server) Request() *sip.Request { return s.request }

// Conn returns the flow that the request came on.
func (s *Server) Conn() Conn { return s.conn }

// Fault tells why the request must be refused: ErrTooMany, ErrMerged, or nil.
func (s *Server) Fault() error { return s.fault }

// Final tells whether a final response was sent.
func (s *Server) Final() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state != serverTrying
}

// OnGone sets what is called if the flow closes before a final response.
func (s *Server) OnGone(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = f
}

// SetNext notes what serves this one now. A CANCEL that came before is for it too.
func (s *Server) SetNext(c Canceler) {
	s.mu.Lock()
	s.next = c
	cancelled, why := s.cancelled, s.why
	s.mu.Unlock()
	if cancelled {
		c.Cancel(why...)
	}
}

// Cancel passes a CANCEL on to what serves this one.
func (s *Server) Cancel(headers ...sip.Header) {
	s.mu.Lock()
	s.cancelled, s.why = true, headers
	next := s.next
	s.mu.Unlock()
	if next != nil {
		next.Cancel(headers...)
	}
}

// Cancelled tells whether Cancel was called.
func (s *Server) Cancelled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cancelled
}

// Respond sends a response. After a final one, only a repeated 2xx to an
// INVITE still passes; anything else is dropped, because the peer has its
// answer.
func (s *Server) Respond(res *sip.Response) error {
	if s.fault != nil {
		return s.conn.Send(res)
	}
	if res.StatusCode >= 200 {
		s.layer.settle(s)
	}
	s.mu.Lock()
	switch s.state {
	case serverTrying:
		s.last = res
		if res.StatusCode >= 200 {
			s.finalLocked(res.StatusCode < 300)
		}
		if s.state == serverCompleted && !s.invite && s.conn.Reliable() { // timer J is 0
			s.mu.Unlock()
			err := s.conn.Send(res)
			s.terminate()
			return err
		}
	case serverAccepted:
		if res.StatusCode < 200 || res.StatusCode >= 300 {
			s.mu.Unlock()
			return nil
		}
	default:
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	return s.conn.Send(res)
}

func (s *Server) finalLocked(success bool) {
	s.gone = nil
	t := s.layer.timers
	switch {
	case s.invite && success:
		// A callee on a reliable flow need not repeat its 2xx, and many do
		// not: so ours is repeated here, until Acknowledged.
		s.state = serverAccepted
		s.end = time.AfterFunc(64*t.T1, s.terminate)
		s.repeatLocked()
	case s.invite:
		s.state = serverCompleted
		s.end = time.AfterFunc(64*t.T1, s.terminate)
		s.repeatLocked()
	case s.conn.Reliable():
		s.state = serverCompleted
	default:
		s.state = serverCompleted
		s.end = time.AfterFunc(64*t.T1, s.terminate)
	}
}

// Drop forgets a request without an answer. If it comes again, it is looked at
// anew.
func (s *Server) Drop() { s.terminate() }

// repeatLocked begins to repeat the final response to an INVITE over UDP.
func (s *Server) repeatLocked() {
	if s.conn.Reliable() {
		return
	}
	s.interval = s.layer.timers.T1
	s.repeat = time.AfterFunc(s.interval, s.timerG)
}

// Acknowledged tells that the 2xx had its ACK, which belongs to no transaction
// and is the proxy's to match. On a reliable flow nothing can be repeated after
// that, and the transaction is over before timer L.
func (s *Server) Acknowledged() {
	s.mu.Lock()
	accepted := s.state == serverAccepted
	if accepted {
		s.last = nil
		stop(s.repeat)
	}
	s.mu.Unlock()
	if accepted && s.conn.Reliable() {
		s.terminate()
	}
}

// receive takes a repeated request, or an ACK. It reports true if the ACK
// acknowledges a 2xx and must be forwarded: some phones reuse the branch of
// the INVITE for it.
func (s *Server) receive(req *sip.Request) (forward bool) {
	s.mu.Lock()
	if req.Method == sip.ACK {
		defer s.mu.Unlock()
		switch s.state {
		case serverAccepted:
			return true
		case serverCompleted:
			s.confirmLocked()
		}
		return false
	}
	last := s.last
	if s.state == serverAccepted { // absorbed: it crossed the 2xx, which repeats itself
		last = nil
	}
	s.mu.Unlock()
	if last != nil {
		_ = s.conn.Send(last) // a flow that can't be written reports itself closed
	}
	return false
}

func (s *Server) confirmLocked() {
	s.state = serverConfirmed
	stop(s.repeat)
	stop(s.end)
	linger := s.layer.timers.T4
	if s.conn.Reliable() {
		linger = 0
	}
	s.end = time.AfterFunc(linger, s.terminate)
}

func (s *Server) timerG() {
	s.mu.Lock()
	if s.last == nil || (s.state != serverCompleted && s.state != serverAccepted) {
		s.mu.Unlock()
		return
	}
	s.interval = min(2*s.interval, s.layer.timers.T2)
	s.repeat.Reset(s.interval)
	last := s.last
	s.mu.Unlock()
	_ = s.conn.Send(last)
}

func (s *Server) terminate() {
	s.mu.Lock()
	s.terminateLocked()
	s.mu.Unlock()
	s.layer.dropServer(s)
}

func (s *Server) terminateLocked() {
	s.state = serverTerminated
	s.last, s.gone, s.next = nil, nil, nil
	stop(s.repeat)
	stop(s.end)
}

func (s *Server) flowClosed() {
	s.mu.Lock()
	gone := s.gone
	s.terminateLocked()
	s.mu.Unlock()
	s.layer.dropServer(s)
	if gone != nil {
		gone()
	}
}

func stop(t *time.Timer) {
	if t != nil {
		t.Stop()
	}
}
