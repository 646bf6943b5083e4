package media

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"
)

// agent is ICE's (RFC 8445). Its session's mutex guards it.
type agent struct {
	ufrag, pwd string
	breaker    [8]byte // of ties

	theirs    [2]string // the other end's ufrag and password
	begun     bool
	controls  bool
	paths     []netip.AddrPort // the other end's candidates
	pending   map[[stun.TransactionIDSize]byte]check
	valid     netip.AddrPort // of which a check was answered
	nominated bool
	beats     int
	ready     chan struct{} // closed when there is a path
}

// check is one that awaits its answer.
type check struct {
	at        netip.AddrPort
	controls  bool // its role
	nominates bool
}

const (
	priority  = 126<<24 | 65535<<8 | 255
	checkPace = 3                            // beats between checks before there is a path: 60 ms (RFC 8445 section 14.2)
	consent   = int(4 * time.Second / frame) // beats between checks of the path in use (RFC 7675 section 5.1)
	maxPaths  = 8                            // candidates that are tried
	maxChecks = 64                           // that await an answer
)

func newAgent() *agent {
	a := &agent{ufrag: rand.Text()[:8], pwd: rand.Text(), pending: make(map[[stun.TransactionIDSize]byte]check), ready: make(chan struct{})}
	_, _ = rand.Read(a.breaker[:]) // never fails (crypto/rand)
	return a
}

func (a *agent) lines(at netip.AddrPort) []string {
	return []string{
		"ice-ufrag:" + a.ufrag, "ice-pwd:" + a.pwd,
		fmt.Sprintf("candidate:1 1 UDP %d %s %d typ host", priority, at.Addr(), at.Port()), "end-of-candidates",
	}
}

// start takes the other end's description. A restart of its begins anew.
func (a *agent) start(d *description, controls bool) {
	if a.theirs == [2]string{d.ufrag, d.pwd} {
		return
	}
	a.theirs, a.begun, a.controls = [2]string{d.ufrag, d.pwd}, true, controls
	a.valid, a.nominated = netip.AddrPort{}, false
	a.paths = d.paths
	if len(a.paths) == 0 {
		a.paths = []netip.AddrPort{d.addr}
	}
	a.paths = a.paths[:min(len(a.paths), maxPaths)]
}

// beat checks what is due.
func (a *agent) beat(s *Session) {
	a.beats++
	switch {
	case !a.begun:
	case a.nominated:
		if a.beats%consent == 0 {
			a.check(s, s.to, false)
		}
	case a.beats%checkPace != 0:
	case a.valid.IsValid() && a.controls:
		a.check(s, a.valid, true)
	default:
		a.check(s, a.paths[(a.beats/checkPace)%len(a.paths)], false)
	}
}

// check asks a candidate whether it hears us (RFC 8445 section 7.2.2).
func (a *agent) check(s *Session, at netip.AddrPort, nominates bool) {
	role := stun.AttrICEControlled
	if a.controls {
		role = stun.AttrICEControlling
	}
	all := []stun.Setter{
		stun.BindingRequest, stun.TransactionID, stun.NewUsername(a.theirs[0] + ":" + a.ufrag),
		raw{Type: stun.AttrPriority, Value: binary.BigEndian.AppendUint32(nil, priority)}, raw{Type: role, Value: a.breaker[:]},
	}
	if nominates {
		all = append(all, raw{Type: stun.AttrUseCandidate})
	}
	m, err := stun.Build(append(all, stun.NewShortTermIntegrity(a.theirs[1]), stun.Fingerprint)...)
	if err != nil {
		return // never: it is the same each time
	}
	if len(a.pending) >= maxChecks { // those were lost
		clear(a.pending)
	}
	a.pending[m.TransactionID] = check{at, a.controls, nominates}
	_, _ = s.conn.WriteToUDPAddrPort(m.Raw, at) // lost, the next one is not
}

// raw is an attribute as it is.
type raw stun.RawAttribute

// AddTo adds it.
func (r raw) AddTo(m *stun.Message) error {
	m.Add(r.Type, r.Value)
	return nil
}

// take takes a STUN message, borrowed.
func (a *agent) take(s *Session, p []byte, from netip.AddrPort) {
	m := &stun.Message{Raw: append([]byte(nil), p...)}
	if m.Decode() != nil || !a.begun {
		return
	}
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	if m.Type == stun.BindingRequest {
		a.asked(s, m, from)
		return
	}
	asked, ours := a.pending[m.TransactionID]
	if !ours || asked.at != from || stun.NewShortTermIntegrity(a.theirs[1]).Check(m) != nil {
		return
	}
	delete(a.pending, m.TransactionID)
	var code stun.ErrorCodeAttribute
	switch {
	case code.GetFrom(m) == nil:
		if code.Code == stun.CodeRoleConflict { // section 7.2.5.1
			a.controls = !asked.controls // of several that were under way each says the same
		}
	case a.controls && asked.nominates: // the other end has heard of it now: an answer to another check says nothing of that
		a.choose(s, asked.at)
	case !a.nominated:
		a.valid = asked.at
	}
}

// asked answers the other end's check (section 7.3).
func (a *agent) asked(s *Session, m *stun.Message, from netip.AddrPort) {
	var user stun.Username
	if user.GetFrom(m) != nil || user.String() != a.ufrag+":"+a.theirs[0] || stun.NewShortTermIntegrity(a.pwd).Check(m) != nil {
		return
	}
	if a.conflicts(m) {
		refusal, err := stun.Build(stun.NewTransactionIDSetter(m.TransactionID), stun.BindingError, stun.CodeRoleConflict, stun.NewShortTermIntegrity(a.pwd), stun.Fingerprint)
		if err == nil {
			_, _ = s.conn.WriteToUDPAddrPort(refusal.Raw, from) // likewise
		}
		return
	}
	answer, err := stun.Build(stun.NewTransactionIDSetter(m.TransactionID), stun.BindingSuccess,
		&stun.XORMappedAddress{IP: net.IP(from.Addr().AsSlice()), Port: int(from.Port())}, stun.NewShortTermIntegrity(a.pwd), stun.Fingerprint)
	if err != nil {
		return
	}
	_, _ = s.conn.WriteToUDPAddrPort(answer.Raw, from) // lost, it is asked again
	if !a.controls && m.Contains(stun.AttrUseCandidate) {
		a.choose(s, from)
	} else if !a.nominated && len(a.paths) < maxPaths {
		for _, known := range a.paths {
			if known == from {
				return
			}
		}
		a.paths = append(a.paths, from) // a peer-reflexive one (section 7.3.1.3)
	}
}

// conflicts tells whether a check is of an end with our own role that must give it
// up; where it is for us to do that, we do (RFC 8445 section 7.3.1.1).
func (a *agent) conflicts(m *stun.Message) bool {
	role := stun.AttrICEControlled
	if a.controls {
		role = stun.AttrICEControlling
	}
	theirs, err := m.Get(role)
	if err != nil || len(theirs) != len(a.breaker) {
		return false
	}
	if wins := bytes.Compare(a.breaker[:], theirs) >= 0; wins == a.controls { // who wins controls
		return true
	}
	a.controls = !a.controls
	return false
}

// choose takes a path into use.
func (a *agent) choose(s *Session, at netip.AddrPort) {
	s.to, a.nominated = at, true
	select {
	case <-a.ready:
	default:
		close(a.ready)
	}
}
