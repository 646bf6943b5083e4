package peers

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pion/stun/v3"
)

// ICE is a phone's full agent (RFC 8445) towards the edge's lite one, with one
// candidate of its own and one of the edge's: it controls.
type ICE struct {
	Ufrag, Pwd string
	Aggressive bool   // it nominates with each check (RFC 5245 section 8.1.1.2); else when one was answered
	Trickle    bool   // its descriptions name no candidate yet (RFC 8838)
	Conflict   bool   // its checks say that it is controlled (RFC 8445 section 7.3.1.1)
	Priority   uint32 // of its candidates

	m         *Media    // whose mutex guards what follows
	mute      bool      // it checks no more
	remote    [2]string // the edge's ufrag and password
	pending   map[[stun.TransactionIDSize]byte]*check
	valid     bool // a check was answered
	nominated bool // one with USE-CANDIDATE was
	ready     chan struct{}
	mapped    netip.AddrPort // where the edge sees the phone
	errors    map[int]int    // answers by their error code
	bad       int            // answers that do not verify
	asked     int            // requests of the edge, which a lite agent does not send
	rounds    int
}

// check is one that was sent.
type check struct {
	nominates bool
	from      *net.UDPConn
	pwd       string             // of the edge, when it was sent
	answer    chan *stun.Message // of Ask; else nil
}

const (
	// checkPace is how often a phone checks before it has a path (RFC 8445
	// section 14.2, where 50 ms is the least), and consentRounds how many of
	// those it waits between checks of the path in use (RFC 7675 section 5.1).
	checkPace     = 50 * time.Millisecond
	consentRounds = 40
)

// NewICE gives media that are keyed by DTLS an agent.
func (m *Media) NewICE() *ICE {
	m.DTLS.ICE = &ICE{
		m: m, Ufrag: Random(4), Pwd: Random(12), Priority: 126<<24 | 65535<<8 | 255,
		ready: make(chan struct{}), pending: make(map[[stun.TransactionIDSize]byte]*check), errors: make(map[int]int),
	}
	return m.DTLS.ICE
}

func (c *ICE) describe(at netip.AddrPort) string {
	lines := fmt.Sprintf("a=ice-ufrag:%s\r\na=ice-pwd:%s\r\na=ice-options:trickle\r\n", c.Ufrag, c.Pwd)
	if !c.Trickle {
		lines += fmt.Sprintf("a=candidate:1 1 UDP %d %s %d typ host\r\na=end-of-candidates\r\n", c.Priority, at.Addr(), at.Port())
	}
	return lines
}

// start begins to check with the edge's credentials, or goes on with new ones.
// Media.mu is held. What it returns is closed when the first path is
// nominated.
func (c *ICE) start(ufrag, pwd string) <-chan struct{} {
	c.m.p.t.Helper()
	if ufrag == "" || pwd == "" {
		c.m.p.t.Fatal("the edge's description has no ICE")
	}
	first := c.remote[0] == ""
	if c.remote[0] != ufrag {
		c.valid, c.nominated = false, false
	}
	c.remote = [2]string{ufrag, pwd}
	if first {
		go c.run() // ends with Stop
	}
	return c.ready
}

func (c *ICE) run() {
	m := c.m
	tick := time.NewTicker(checkPace)
	defer tick.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-tick.C:
		}
		m.mu.Lock()
		c.rounds++
		if !c.mute && (!c.nominated || c.rounds%consentRounds == 0) {
			nominates := c.Aggressive || c.valid && !c.nominated
			if request, err := c.request(nominates, c.signedLocked()); err == nil {
				c.pending[request.TransactionID] = &check{nominates: nominates, from: m.conn, pwd: c.remote[1]}
				_, _ = m.conn.WriteToUDPAddrPort(request.Raw, m.to) // lost, the next one is not
			}
		}
		m.mu.Unlock()
	}
}

// Signature ends a check: with an integrity, or whatever a test wants in its
// place.
type Signature []stun.Setter

// Signed is the right one.
func (c *ICE) Signed() Signature {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return c.signedLocked()
}

func (c *ICE) signedLocked() Signature { return SignedBy(c.remote[1]) }

// SignedBy has the integrity of another password.
func SignedBy(pwd string) Signature {
	return Signature{stun.NewShortTermIntegrity(pwd), stun.Fingerprint}
}

// Unsigned has none.
func Unsigned() Signature { return Signature{stun.Fingerprint} }

// request is a connectivity check (RFC 8445 section 7.2.2).
func (c *ICE) request(nominates bool, sign Signature) (*stun.Message, error) {
	role := stun.AttrICEControlling
	if c.Conflict {
		role = stun.AttrICEControlled
	}
	all := []stun.Setter{
		stun.BindingRequest, stun.TransactionID, stun.NewUsername(c.remote[0] + ":" + c.Ufrag),
		raw{Type: stun.AttrPriority, Value: binary.BigEndian.AppendUint32(nil, c.Priority)}, raw{Type: role, Value: []byte("12345678")},
	}
	if nominates {
		all = append(all, raw{Type: stun.AttrUseCandidate})
	}
	return stun.Build(append(all, sign...)...)
}

// raw is an attribute as it is.
type raw stun.RawAttribute

// AddTo adds it.
func (r raw) AddTo(m *stun.Message) error {
	m.Add(r.Type, r.Value)
	return nil
}

// takeLocked takes a STUN message that came to a socket. Media.mu is held.
func (c *ICE) takeLocked(conn *net.UDPConn, p []byte) {
	m := &stun.Message{Raw: append([]byte{}, p...)}
	if m.Decode() != nil {
		c.bad++
		return
	}
	if m.Type.Class == stun.ClassRequest {
		c.asked++
		return
	}
	k := c.pending[m.TransactionID]
	if k == nil || k.from != conn || stun.Fingerprint.Check(m) != nil || stun.NewShortTermIntegrity(k.pwd).Check(m) != nil {
		c.bad++
		return
	}
	delete(c.pending, m.TransactionID)
	if conn != c.m.conn { // the phone has moved meanwhile
		return
	}
	if k.answer != nil {
		k.answer <- m
		return
	}
	var code stun.ErrorCodeAttribute
	if code.GetFrom(m) == nil {
		c.errors[int(code.Code)]++
		if code.Code == stun.CodeRoleConflict { // RFC 8445 section 7.2.5.1: it takes the other role
			c.Conflict = false
		}
		return
	}
	var mapped stun.XORMappedAddress
	if mapped.GetFrom(m) != nil {
		c.bad++
		return
	}
	addr, _ := netip.AddrFromSlice(mapped.IP)
	c.mapped = netip.AddrPortFrom(addr.Unmap(), uint16(mapped.Port))
	c.valid = true
	if k.nominates && !c.nominated {
		c.nominated = true
		select {
		case <-c.ready:
		default:
			close(c.ready)
		}
	}
}

// moved begins anew on another socket. Media.mu is held.
func (c *ICE) moved() { c.valid, c.nominated, c.mapped = false, false, netip.AddrPort{} }

// Check is one that nominates, signed as the test likes.
func (c *ICE) Check(sign Signature) []byte {
	c.m.p.t.Helper()
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return c.checkLocked(sign).Raw
}

func (c *ICE) checkLocked(sign Signature) *stun.Message {
	c.m.p.t.Helper()
	request, err := c.request(true, sign)
	if err != nil {
		c.m.p.t.Fatalf("make a check: %v", err)
	}
	return request
}

// Ask sends such a check, beside the agent's own, and returns where its answer
// will be, if there comes one.
func (c *ICE) Ask(sign Signature) <-chan *stun.Message {
	m := c.m
	m.p.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	request := c.checkLocked(sign)
	answer := make(chan *stun.Message, 1)
	c.pending[request.TransactionID] = &check{from: m.conn, pwd: c.remote[1], answer: answer}
	if _, err := m.conn.WriteToUDPAddrPort(request.Raw, m.to); err != nil {
		m.p.t.Fatalf("send a check: %v", err)
	}
	return answer
}

// Restart makes new credentials for the next description (RFC 8445 section 9).
func (c *ICE) Restart() {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.Ufrag, c.Pwd = Random(4), Random(12)
}

// Remote is the edge's user fragment.
func (c *ICE) Remote() string {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return c.remote[0]
}

// Silence stops the checks, or lets them go on.
func (c *ICE) Silence(on bool) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.mute = on
}

// Nominated waits until the edge has answered a check that nominates the path.
func (c *ICE) Nominated(timeout time.Duration) {
	m := c.m
	m.p.t.Helper()
	Until(m.p.t, timeout, "a nominated path", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return c.nominated
	})
}

// Checked wants that the path was nominated, that the edge sees the phone where
// it is, that each answer verifies, and that the edge, as a lite agent, checked
// nothing itself.
func (c *ICE) Checked() {
	m := c.m
	m.p.t.Helper()
	at := m.Addr()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !c.nominated || c.mapped != at {
		m.p.t.Errorf("nominated: %v; the edge sees the phone at %s, it is at %s", c.nominated, c.mapped, at)
	}
	if c.bad > 0 || c.asked > 0 {
		m.p.t.Errorf("%d of the edge's answers do not verify, and it sent %d checks; want none", c.bad, c.asked)
	}
}

// Errors counts the answers with an error code.
func (c *ICE) Errors(code int) int {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return c.errors[code]
}
