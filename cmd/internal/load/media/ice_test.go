package media

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"
)

// lite is the other end's ICE, played by the test: it answers checks when it is
// told to.
type lite struct {
	*testing.T
	conn *net.UDPConn
	at   netip.AddrPort
}

const litePassword = "thepasswordofthelightagent"

// checked is a session that controls a lite agent.
func checked(t *testing.T) (*Session, *lite) {
	t.Helper()
	e, err := New(Config{Kind: DTLS, Codecs: Codecs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	conn, err := listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	l := &lite{t, conn, port(conn)}
	s := session(t, e, Tones{400, 0})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ice.start(&description{ufrag: "lite", pwd: litePassword, paths: []netip.AddrPort{l.at}}, true)
	return s, l
}

// next is the next check.
func (l *lite) next() *stun.Message {
	l.Helper()
	buf := make([]byte, 1500)
	_ = l.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, err := l.conn.Read(buf)
	m := &stun.Message{Raw: buf[:n]}
	if err == nil {
		err = m.Decode()
	}
	if err != nil {
		l.Fatalf("await a check: %v", err)
	}
	return m
}

// answers answers a check, and waits for the session to have taken that.
func (l *lite) answers(s *Session, m *stun.Message) {
	l.Helper()
	b, err := stun.Build(stun.NewTransactionIDSetter(m.TransactionID), stun.BindingSuccess, stun.NewShortTermIntegrity(litePassword), stun.Fingerprint)
	if err != nil {
		l.Fatal(err)
	}
	if _, err := l.conn.WriteToUDPAddrPort(b.Raw, s.at); err != nil {
		l.Fatal(err)
	}
	until(l.T, "the answer", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, waits := s.ice.pending[m.TransactionID]
		return !waits
	})
}

// beats lets it send its next check.
func beats(s *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range checkPace {
		s.ice.beat(s)
	}
}

// Where answers are slow several checks are under way when the first one is
// answered: those after it do not nominate, whatever becomes of them, since the
// other end was not told.
func TestNomination(t *testing.T) {
	s, l := checked(t)
	nominated := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.ice.nominated
	}
	beats(s)
	beats(s)
	first, second := l.next(), l.next()
	for i, m := range []*stun.Message{first, second} {
		if m.Contains(stun.AttrUseCandidate) {
			t.Fatalf("check %d nominates a path of which nothing is known", i+1)
		}
		l.answers(s, m)
		if nominated() {
			t.Fatalf("the answer to check %d, which did not nominate, was taken for the nomination", i+1)
		}
	}
	beats(s)
	third := l.next()
	if !third.Contains(stun.AttrUseCandidate) {
		t.Fatal("the path is known, and not nominated")
	}
	if l.answers(s, third); !nominated() || s.to != l.at {
		t.Errorf("it was nominated, and the path is %v", s.to)
	}
}

// Two ends that both think that they control, or neither, agree by their tie-breakers,
// and speak (RFC 8445 section 7.3.1.1).
func TestRoles(t *testing.T) {
	for _, controls := range []bool{true, false} {
		e, err := New(Config{Kind: DTLS, Codecs: Codecs()})
		if err != nil {
			t.Fatal(err)
		}
		a, b := session(t, e, Tones{400, 1050}), session(t, e, Tones{1050, 400})
		offer, err := a.Offer()
		if err != nil {
			t.Fatal(err)
		}
		if !controls {
			a.state.offerer = false
		} else {
			offer = strings.Replace(offer, "a=mid:", "a=ice-lite\r\na=mid:", 1) // so that who answers thinks that it does
		}
		answer, err := b.Answer(offer)
		if err == nil {
			err = a.Accept(answer, true)
		}
		if err != nil {
			t.Fatal(err)
		}
		heard(t, a, b)
		a.mu.Lock()
		b.mu.Lock()
		if a.ice.controls == b.ice.controls {
			t.Errorf("both control: %v", a.ice.controls)
		}
		b.mu.Unlock()
		a.mu.Unlock()
		a.Close()
		b.Close()
		e.Close()
	}
}
