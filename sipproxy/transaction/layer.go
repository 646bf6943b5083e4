package transaction

import (
	"fmt"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
)

// Conn is what a transaction writes to: one flow, by identity.
type Conn interface {
	ID() uint64
	Reliable() bool
	Send(sip.Message) error
}

// Timers are the times of RFC 3261 section 17.1.1.1 and appendix A.
type Timers struct {
	T1 time.Duration // round trip estimate
	T2 time.Duration // longest interval between retransmissions
	T4 time.Duration // longest life of a message in the network
	C  time.Duration // a proxied INVITE that rings longer is given up (section 16.6, item 11)
}

// DefaultTimers returns the values of RFC 3261.
func DefaultTimers() Timers {
	return Timers{T1: 500 * time.Millisecond, T2: 4 * time.Second, T4: 5 * time.Second, C: 185 * time.Second}
}

// Layer matches messages to transactions. Its methods may be called from any
// goroutine.
type Layer struct {
	timers Timers

	mu     sync.Mutex // guards the maps; never held while calling out
	server map[serverKey]*Server
	client map[clientKey]*Client
	byFlow map[uint64]map[member]struct{}
}

// member is a transaction as its flow knows it.
type member interface{ flowClosed() }

// serverKey matches requests (RFC 3261 section 17.2.3). The flow takes the
// place of the sent-by: what arrives on another connection is another request,
// whatever its Via says. Nor is one with another CSeq the same: chan_sip writes
// one branch into all the NOTIFYs that tell a subscriber of his mailbox.
type serverKey struct {
	flow   uint64
	branch string
	sentBy string
	method sip.RequestMethod
	cseq   uint32 // 0 with INVITE, whose ACK and CANCEL have its branch alone
}

// clientKey matches responses (section 17.1.3). The branch is ours and cannot
// be guessed; Deliver checks the flow besides.
type clientKey struct {
	branch string
	method sip.RequestMethod
}

// NewLayer returns an empty layer.
func NewLayer(t Timers) *Layer {
	return &Layer{
		timers: t,
		server: make(map[serverKey]*Server),
		client: make(map[clientKey]*Client),
		byFlow: make(map[uint64]map[member]struct{}),
	}
}

// Len tells how many transactions are held.
func (l *Layer) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.server) + len(l.client)
}

// Accept takes a request that came on conn. It returns the transaction and
// true if the request is new; nil and false if it was a retransmission, or an
// ACK that a finished INVITE was waiting for. An ACK of a 2xx belongs to no
// transaction: it is returned as nil and true, for the proxy to forward.
func (l *Layer) Accept(conn Conn, req *sip.Request) (*Server, bool) {
	key, err := keyOf(conn, req)
	if err != nil {
		return nil, false // validation lets no such request through
	}
	l.mu.Lock()
	known := l.server[key]
	if known == nil && req.Method != sip.ACK {
		s := newServer(l, key, conn, req)
		l.server[key] = s
		l.join(conn, s)
		l.mu.Unlock()
		return s, true
	}
	l.mu.Unlock()
	if known == nil {
		return nil, true
	}
	return nil, known.receive(req)
}

// Invite returns the INVITE that a CANCEL on the same flow means, or nil
// (RFC 3261 section 9.2).
func (l *Layer) Invite(conn Conn, cancel *sip.Request) *Server {
	key, err := keyOf(conn, cancel)
	if err != nil {
		return nil
	}
	key.method = sip.INVITE
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.server[key]
}

// Deliver gives a response that came on conn to its client transaction. It
// reports false if there is none: a stray, which a proxy must not forward
// (RFC 6026 section 7.2).
func (l *Layer) Deliver(conn Conn, res *sip.Response) bool {
	via, cseq := res.Via(), res.CSeq()
	if via == nil || cseq == nil {
		return false
	}
	branch, _ := via.Params.Get("branch")
	l.mu.Lock()
	c := l.client[clientKey{branch, cseq.MethodName}]
	l.mu.Unlock()
	// A peer that learned a branch of ours must not answer for another one.
	if c == nil || c.conn.Reliable() != conn.Reliable() || (conn.Reliable() && c.conn.ID() != conn.ID()) {
		return false
	}
	c.receive(res)
	return true
}

// FlowClosed ends the transactions of a flow that is gone, each with
// ErrFlowClosed.
func (l *Layer) FlowClosed(conn Conn) {
	l.mu.Lock()
	members := l.byFlow[conn.ID()]
	delete(l.byFlow, conn.ID())
	l.mu.Unlock()
	for m := range members {
		m.flowClosed()
	}
}

func keyOf(conn Conn, req *sip.Request) (serverKey, error) {
	via := req.Via()
	if via == nil {
		return serverKey{}, fmt.Errorf("match %s: no Via", req.Method)
	}
	branch, _ := via.Params.Get("branch")
	k := serverKey{flow: conn.ID(), branch: branch, method: req.Method}
	k.sentBy = fmt.Sprintf("%s:%d", via.Host, via.Port)
	if !isRFC3261(branch) { // section 17.2.3: older peers' branches are not unique
		callID, cseq := req.CallID(), req.CSeq()
		if callID == nil || cseq == nil {
			return serverKey{}, fmt.Errorf("match %s: no Call-ID or CSeq", req.Method)
		}
		k.branch = fmt.Sprintf("%s %s %d", branch, callID.Value(), cseq.SeqNo)
	}
	switch cseq := req.CSeq(); {
	case k.method == sip.ACK:
		k.method = sip.INVITE
	case k.method != sip.INVITE && k.method != sip.CANCEL && cseq != nil:
		k.cseq = cseq.SeqNo
	}
	return k, nil
}

func isRFC3261(branch string) bool {
	return len(branch) > len(sip.RFC3261BranchMagicCookie) &&
		branch[:len(sip.RFC3261BranchMagicCookie)] == sip.RFC3261BranchMagicCookie
}

// join is called with mu held.
func (l *Layer) join(conn Conn, m member) {
	set := l.byFlow[conn.ID()]
	if set == nil {
		set = make(map[member]struct{})
		l.byFlow[conn.ID()] = set
	}
	set[m] = struct{}{}
}

// leave is called with mu held.
func (l *Layer) leave(conn Conn, m member) {
	set := l.byFlow[conn.ID()]
	delete(set, m)
	if len(set) == 0 {
		delete(l.byFlow, conn.ID())
	}
}

func (l *Layer) dropServer(s *Server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server[s.key] == s {
		delete(l.server, s.key)
	}
	l.leave(s.conn, s)
}

func (l *Layer) dropClient(c *Client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client[c.key] == c {
		delete(l.client, c.key)
	}
	l.leave(c.conn, c)
}
