package media

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/pion/stun/v3"
)

// agent is a transport under one of its user fragments.
type agent struct {
	transport *transport
	creds     Credentials
}

var (
	bindingRequest = stun.NewType(stun.MethodBinding, stun.ClassRequest)
	bindingSuccess = stun.NewType(stun.MethodBinding, stun.ClassSuccessResponse)
	bindingError   = stun.NewType(stun.MethodBinding, stun.ClassErrorResponse)
)

// fromSTUN takes a connectivity check (RFC 8445 section 7.3). What has no
// valid MESSAGE-INTEGRITY under a password of ours gets no answer, and changes
// nothing. p is the packet's slot; the answer takes its place.
func (w *worker) fromSTUN(s *secureSocket, from netip.AddrPort, p []byte) {
	m := &w.scratch.request
	m.Raw = append(m.Raw[:0], p...)
	a, ok := w.authentic(m)
	if !ok {
		w.strange(s, from, p, nil, DropSTUN)
		return
	}
	if s.kind != kindRTP || s.conn != nil && s.conn.transport != a.transport { // ICE is for rtcp-mux alone
		w.drop(nil, DropSTUN)
		return
	}
	switch {
	case m.Contains(stun.AttrICEControlled):
		// We are lite, so the phone controls (RFC 8445 section 6.1.1).
		w.reply(s, from, p, a, bindingError, stun.CodeRoleConflict)
	case !understood(m):
		w.reply(s, from, p, a, bindingError, stun.CodeUnknownAttribute, unknown(m))
	default:
		w.reply(s, from, p, a, bindingSuccess, &stun.XORMappedAddress{IP: from.Addr().AsSlice(), Port: int(from.Port())})
		if a.transport.tried.first(m.TransactionID, from) {
			w.checked(a, s, from, priority(m), m.Contains(stun.AttrUseCandidate))
		}
	}
}

// transactions remembers the last checks of a phone, and where each came from.
// One that comes again from elsewhere is a copy: whoever saw it on its way could
// have sent that, and its source would be where all media go. A full agent
// would check back, which a lite one does not (RFC 8445 section 7.3).
type transactions struct {
	from  map[[stun.TransactionIDSize]byte]netip.AddrPort
	order [][stun.TransactionIDSize]byte // a ring, once it is full
	next  int
}

// maxTransactions is half an hour of RFC 7675, whose checks come each 4 s at
// the most often; one under credentials of before a restart is none any more.
const maxTransactions = 512

// first tells whether a check comes for the first time, or again from where it
// first came.
func (t *transactions) first(id [stun.TransactionIDSize]byte, from netip.AddrPort) bool {
	if was, ok := t.from[id]; ok {
		return was == from
	}
	if t.from == nil {
		t.from = make(map[[stun.TransactionIDSize]byte]netip.AddrPort)
	}
	if len(t.order) < maxTransactions {
		t.order = append(t.order, id)
	} else {
		delete(t.from, t.order[t.next])
		t.order[t.next] = id
		t.next = (t.next + 1) % maxTransactions
	}
	t.from[id] = from
	return true
}

// has tells whether a check came before. None that is a connection's first did.
func (t *transactions) has(id [stun.TransactionIDSize]byte) bool {
	_, ok := t.from[id]
	return ok
}

// authentic reads a binding request, and finds the agent that it is for. What
// stands behind its MESSAGE-INTEGRITY is not authenticated, and is cut off
// (RFC 8489 section 14.5).
func (w *worker) authentic(m *stun.Message) (agent, bool) {
	if m.Decode() != nil || m.Type != bindingRequest {
		return agent{}, false
	}
	if m.Contains(stun.AttrFingerprint) && stun.Fingerprint.Check(m) != nil {
		return agent{}, false
	}
	a, ok := w.named(m)
	if !ok || stun.NewShortTermIntegrity(a.creds.Pwd).Check(m) != nil {
		return agent{}, false
	}
	for i, attr := range m.Attributes {
		if attr.Type == stun.AttrMessageIntegrity {
			m.Attributes = m.Attributes[:i]
			break
		}
	}
	return a, m.Contains(stun.AttrUsername)
}

// named finds the agent that a check's user name is of.
func (w *worker) named(m *stun.Message) (agent, bool) {
	ours, ok := localUfrag(m)
	if !ok {
		return agent{}, false
	}
	a, ok := w.table.agents[string(ours)]
	return a, ok
}

// localUfrag is our part of a check's user name, the first (RFC 8445 section
// 7.2.2).
func localUfrag(m *stun.Message) ([]byte, bool) {
	name, err := m.Get(stun.AttrUsername)
	if err != nil {
		return nil, false
	}
	ours, _, ok := bytes.Cut(name, []byte{':'})
	return ours, ok
}

// understood tells whether all attributes are known that must be.
func understood(m *stun.Message) bool { return len(unknown(m)) == 0 }

func unknown(m *stun.Message) (list stun.UnknownAttributes) {
	for _, attr := range m.Attributes {
		switch attr.Type {
		case stun.AttrUsername, stun.AttrPriority, stun.AttrUseCandidate:
		default:
			if attr.Type.Required() {
				list = append(list, attr.Type)
			}
		}
	}
	return list
}

func priority(m *stun.Message) uint32 {
	b, err := m.Get(stun.AttrPriority)
	if err != nil || len(b) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// reply answers the check in p, from where it came to (RFC 8489 section 6.3.1).
func (w *worker) reply(s *secureSocket, to netip.AddrPort, p []byte, a agent, kind stun.MessageType, attributes ...stun.Setter) {
	m := &w.scratch.answer
	m.Reset()
	m.Type, m.TransactionID = kind, w.scratch.request.TransactionID
	m.WriteHeader()
	for _, each := range append(attributes, stun.NewShortTermIntegrity(a.creds.Pwd), stun.Fingerprint) {
		if each.AddTo(m) != nil {
			w.drop(nil, DropSTUN)
			return
		}
	}
	var peer peer
	peer.reach(to, s)
	if !s.queue(append(p[:0], m.Raw...), &peer.to) {
		w.drop(nil, s.full())
	}
}
