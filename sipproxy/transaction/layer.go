package transaction

import (
	"container/list"
	"errors"
	"fmt"
	"strings"
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

// Limits bound what phones can make us hold. Phones come by reliable flows; by
// UDP there is the PBX alone, which is refused nothing. Some requests find room
// when there is none for others: see Precedence.
type Limits struct {
	PerFlow   int // requests of one phone that wait for their answer, or for its ACK
	Unproven  int // the same, of one that has proved to be nobody yet
	Total     int // of all phones together; and as many may be on their way to the PBX
	Lingering int // answered client transactions, kept only to absorb a repeated answer
}

// DefaultLimits are far above what phones do.
func DefaultLimits() Limits {
	return Limits{PerFlow: 1024, Unproven: 32, Total: 1 << 16, Lingering: 1 << 12}
}

// Precedence tells which requests are let in when there is no room for others:
// each step above Ordinary has an eighth of the limits besides, so nobody who asks
// for one kind without end keeps the next out.
type Precedence int

// The precedences.
const (
	Unproven Precedence = iota // who asks may be anybody
	Ordinary
	Emergency // calls for help
	Underway  // what belongs to a call that there is, and may end it
)

func (p Precedence) room(limit int) int {
	if p <= Ordinary {
		return limit
	}
	return limit + (limit*int(p-Ordinary)+7)/8
}

func (p Precedence) perFlow(l Limits) int {
	if p == Unproven {
		return min(l.Unproven, l.PerFlow)
	}
	return p.room(l.PerFlow)
}

// Layer matches messages to transactions. Its methods may be called from any
// goroutine.
type Layer struct {
	timers Timers
	limits Limits
	rank   func(Conn, *sip.Request) Precedence // nil: all are ordinary

	mu        sync.Mutex // guards what follows; never held while calling out
	server    map[serverKey]*Server
	client    map[clientKey]*Client
	pending   map[mergeKey]*Server
	byFlow    map[uint64]*crowd
	asked     int       // server transactions of reliable flows
	lingering list.List // of *Client, the oldest first
}

// crowd is the transactions of one flow.
type crowd struct {
	members map[member]struct{}
	asked   int // that are server transactions
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
	host   string // the sent-by
	port   int
	method sip.RequestMethod
	cseq   uint32 // 0 with INVITE, whose ACK and CANCEL have its branch alone
}

// mergeKey finds a request that came by two ways (RFC 3261 section 8.2.2.2), or
// round in a circle. The Request-URI is part of it, as a PBX that forks sends the
// same request to several of our phones.
type mergeKey struct {
	flow   uint64
	method sip.RequestMethod
	cseq   uint32
	uri    string
	callID string
	from   string // with its tag
}

// clientKey matches responses (section 17.1.3). The branch is ours and cannot
// be guessed; Deliver checks the flow besides.
type clientKey struct {
	branch string
	method sip.RequestMethod
}

// NewLayer returns an empty layer.
func NewLayer(t Timers, limits Limits) *Layer {
	return &Layer{
		timers:  t,
		limits:  limits,
		server:  make(map[serverKey]*Server),
		client:  make(map[clientKey]*Client),
		pending: make(map[mergeKey]*Server),
		byFlow:  make(map[uint64]*crowd),
	}
}

// Rank sets what tells the precedence of a request for which there is no room. It
// is called before anything is received.
func (l *Layer) Rank(rank func(Conn, *sip.Request) Precedence) { l.rank = rank }

// Len tells how many transactions are held.
func (l *Layer) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.server) + len(l.client)
}

// Accept takes a request that came on conn. It returns the transaction and
// true if the request is new; nil and false if it was a retransmission, or an
// ACK that a finished INVITE was waiting for. An ACK of a 2xx belongs to no
// transaction: it is returned as nil and true, for the proxy to forward. A new
// request may have a Fault, which is to be answered with a refusal.
func (l *Layer) Accept(conn Conn, req *sip.Request) (*Server, bool) {
	key, err := keyOf(conn, req)
	if err != nil {
		return nil, false // validation lets no such request through
	}
	l.mu.Lock()
	known := l.server[key]
	if known == nil && req.Method != sip.ACK {
		s := newServer(l, key, conn, req)
		lowest := Ordinary
		if l.rank != nil {
			lowest = Unproven
		}
		s.fault = l.admitLocked(s, lowest)
		l.mu.Unlock()
		if errors.Is(s.fault, ErrTooMany) && l.rank != nil {
			l.admitBefore(s)
		}
		return s, true
	}
	l.mu.Unlock()
	if known == nil {
		return nil, true
	}
	return nil, known.receive(req)
}

// admitBefore takes a request for which there was no room, if it precedes others. Only
// its flow's reader could have brought the same one meanwhile.
func (l *Layer) admitBefore(s *Server) {
	precedence := l.rank(s.conn, s.request)
	if precedence == Unproven {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.fault = l.admitLocked(s, precedence)
}

// admitLocked takes a new server transaction, or returns its fault: then nothing
// is kept of it. A CANCEL frees what it is about.
func (l *Layer) admitLocked(s *Server, precedence Precedence) error {
	outside := s.conn.Reliable()
	total := precedence.room(l.limits.Total)
	sent := len(l.client) - l.lingering.Len()
	if flow := l.byFlow[s.conn.ID()]; outside && s.request.Method != sip.CANCEL &&
		(l.asked >= total || sent >= total || flow != nil && flow.asked >= precedence.perFlow(l.limits) && !isShared(s.conn)) {
		return ErrTooMany
	}
	if key, ok := mergeKeyOf(s.conn, s.request); ok {
		if l.pending[key] != nil {
			return ErrMerged
		}
		l.pending[key], s.merge = s, key
	}
	l.server[s.key] = s
	l.join(s.conn, s).asked++
	if outside {
		l.asked++
	}
	return nil
}

// isShared tells whether many share a flow, as they do a trunk's: then what is of it all
// is no one phone's, and Limits.Total alone bounds it.
func isShared(conn Conn) bool {
	s, ok := conn.(interface{ Shared() bool })
	return ok && s.Shared()
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

// Has tells whether a message that came on conn is of a transaction here: a request
// that repeats itself, its ACK or its CANCEL, or an answer to one of ours.
func (l *Layer) Has(conn Conn, m sip.Message) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch m := m.(type) {
	case *sip.Request:
		key, err := keyOf(conn, m)
		if err != nil {
			return false
		}
		if l.server[key] != nil {
			return true
		}
		key.method = sip.INVITE
		return m.Method == sip.CANCEL && l.server[key] != nil
	case *sip.Response:
		via, cseq := m.Via(), m.CSeq()
		if via == nil || cseq == nil {
			return false
		}
		branch, _ := via.Params.Get("branch")
		return l.client[clientKey{branch, cseq.MethodName}] != nil
	}
	return false
}

// Name is what a request is told from all others by, for another process: its branch and
// its number.
func Name(req *sip.Request) string {
	via, cseq := req.Via(), req.CSeq()
	if via == nil || cseq == nil {
		return ""
	}
	branch, _ := via.Params.Get("branch")
	return fmt.Sprintf("%s %d", branch, cseq.SeqNo)
}

// Unanswered are the names of the requests that came by UDP and wait for their answer,
// other than INVITE, which repeats itself no more once it rings.
func (l *Layer) Unanswered() (names []string) {
	l.mu.Lock()
	var list []*Server
	for _, s := range l.server {
		if !s.invite && !s.conn.Reliable() {
			list = append(list, s)
		}
	}
	l.mu.Unlock()
	for _, s := range list {
		if !s.Final() {
			names = append(names, Name(s.request))
		}
	}
	return names
}

// Busy tells whether transactions of a flow are held.
func (l *Layer) Busy(conn Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byFlow[conn.ID()] != nil
}

// FlowClosed ends the transactions of a flow that is gone, each with
// ErrFlowClosed.
func (l *Layer) FlowClosed(conn Conn) {
	l.mu.Lock()
	var members []member
	if flow := l.byFlow[conn.ID()]; flow != nil {
		for m := range flow.members {
			members = append(members, m)
		}
	}
	l.mu.Unlock()
	for _, m := range members { // each leaves its flow
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
	k.host, k.port = via.Host, via.Port
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

// mergeKeyOf is for requests outside of dialogs. Package flow lets no ;tag= stand
// anywhere but where a tag is due.
func mergeKeyOf(conn Conn, req *sip.Request) (k mergeKey, ok bool) {
	from, to, callID, cseq := req.GetHeader("From"), req.GetHeader("To"), req.CallID(), req.CSeq()
	if req.Method == sip.CANCEL || from == nil || to == nil || callID == nil || cseq == nil ||
		hasTag(to.Value()) {
		return k, false
	}
	return mergeKey{conn.ID(), req.Method, cseq.SeqNo, req.Recipient.String(), callID.Value(), from.Value()}, true
}

// hasTag finds ;tag= in whatever case.
func hasTag(party string) bool {
	const tag = ";tag="
	for {
		at := strings.IndexByte(party, ';')
		if at < 0 || len(party)-at < len(tag) {
			return false
		}
		if strings.EqualFold(party[at:at+len(tag)], tag) {
			return true
		}
		party = party[at+1:]
	}
}

// join is called with mu held.
func (l *Layer) join(conn Conn, m member) *crowd {
	flow := l.byFlow[conn.ID()]
	if flow == nil {
		flow = &crowd{members: make(map[member]struct{})}
		l.byFlow[conn.ID()] = flow
	}
	flow.members[m] = struct{}{}
	return flow
}

// leave is called with mu held. It returns the flow's crowd, if the transaction
// was in it.
func (l *Layer) leave(conn Conn, m member) *crowd {
	flow := l.byFlow[conn.ID()]
	if flow == nil {
		return nil
	}
	if _, in := flow.members[m]; !in {
		return nil
	}
	delete(flow.members, m)
	if len(flow.members) == 0 {
		delete(l.byFlow, conn.ID())
	}
	return flow
}

func (l *Layer) dropServer(s *Server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settleLocked(s)
	if l.server[s.key] == s {
		delete(l.server, s.key)
	}
	if flow := l.leave(s.conn, s); flow != nil {
		flow.asked--
		if s.conn.Reliable() {
			l.asked--
		}
	}
}

// settle notes that a request has its final response: another with the same
// Call-ID and CSeq is one of its own. Some peers write such when they are
// challenged.
func (l *Layer) settle(s *Server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settleLocked(s)
}

func (l *Layer) settleLocked(s *Server) {
	if l.pending[s.merge] == s {
		delete(l.pending, s.merge)
	}
}

func (l *Layer) dropClient(c *Client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client[c.key] == c {
		delete(l.client, c.key)
	}
	l.leave(c.conn, c)
	if c.lingers != nil {
		l.lingering.Remove(c.lingers)
		c.lingers = nil
	}
}

// linger keeps an answered client transaction for a while, and lets go of the
// oldest of such if there are too many: what repeats itself after that is a
// stray, and harms nobody.
func (l *Layer) linger(c *Client) {
	l.mu.Lock()
	if l.client[c.key] == c {
		c.lingers = l.lingering.PushBack(c)
	}
	var oldest *Client
	if l.lingering.Len() > l.limits.Lingering {
		oldest, _ = l.lingering.Front().Value.(*Client)
	}
	l.mu.Unlock()
	if oldest != nil {
		oldest.terminate()
	}
}
