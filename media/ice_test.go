package media

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"
)

// Checks that are not the phone's get no answer, and open no path; those that
// are get what RFC 8445 and RFC 8489 say.
func TestChecks(t *testing.T) {
	c := newWeb(t, runEngine(t, testConfig()), 1)
	c.start(Active, true, AEADAES128GCM)
	us := c.tr.Credentials()
	raw := func(setters ...stun.Setter) *stun.Message {
		m, err := stun.Build(append([]stun.Setter{stun.TransactionID, stun.BindingRequest}, setters...)...)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	name, good := stun.NewUsername(us.Ufrag+":them"), stun.NewShortTermIntegrity(us.Pwd)
	behind := raw(name, good)
	behind.Add(stun.AttrUseCandidate, nil) // added by who can't sign it
	behind.WriteLength()
	for _, k := range []struct {
		name string
		m    *stun.Message
		want int // the error's code; 0: success, -1: no answer
	}{
		{"no integrity", raw(name, useCandidate), -1},
		{"wrong password", raw(name, useCandidate, stun.NewShortTermIntegrity("x"+us.Pwd)), -1},
		{"the phone's name first", raw(stun.NewUsername("them:"+us.Ufrag), good), -1},
		{"name without colon", raw(stun.NewUsername(us.Ufrag), good), -1},
		{"unknown name", raw(stun.NewUsername("AAnobody:them"), good), -1},
		{"no name", raw(good), -1},
		{"bad fingerprint", raw(name, good, stun.RawAttribute{Type: stun.AttrFingerprint, Value: []byte{1, 2, 3, 4}}), -1},
		{"indication", raw(stun.NewType(stun.MethodBinding, stun.ClassIndication), name, good), -1},
		{"answer", raw(bindingSuccess, name, good), -1},
		{"role conflict", c.check(us, useCandidate, stun.RawAttribute{Type: stun.AttrICEControlled, Value: random(8)}), 487},
		{"unknown attribute", c.check(us, useCandidate, stun.RawAttribute{Type: 0x7001, Value: random(4)}), 420},
		{"nomination that is not signed", behind, 0},
		{"right", raw(name, good), 0}, // FINGERPRINT and PRIORITY are not asked for
	} {
		write(t, c.conn, c.to, k.m.Raw)
		if k.want < 0 { // what follows it is answered first
			follow := c.check(us, stun.RawAttribute{Type: stun.AttrICEControlled, Value: random(8)})
			write(t, c.conn, c.to, follow.Raw)
			if a := c.answer(); a == nil || a.TransactionID != follow.TransactionID {
				t.Errorf("%s: answered by %v", k.name, a)
			}
			continue
		}
		a := c.answer()
		if a == nil || a.TransactionID != k.m.TransactionID || stun.NewShortTermIntegrity(us.Pwd).Check(a) != nil {
			t.Fatalf("%s: answered by %v", k.name, a)
		}
		var code stun.ErrorCodeAttribute
		if _ = code.GetFrom(a); int(code.Code) != k.want {
			t.Errorf("%s: answered by %d, want %d", k.name, code.Code, k.want)
		}
	}
	select {
	case ev := <-c.events:
		t.Errorf("a path was chosen, event %d at %s, which nobody nominated", ev.Kind, ev.Remote)
	default:
	}
	c.nominate(us)
	c.event(Latched)
}

// A check that somebody saw and sends again from his own address is answered,
// and moves nothing.
func TestCopiedCheck(t *testing.T) {
	c := newWeb(t, runEngine(t, testConfig()), 1)
	c.start(Active, true, AEADAES128GCM)
	us, thief := c.tr.Credentials(), newBrowser(t, c.to)
	check := c.check(us, useCandidate)
	chosen := func() (at netip.AddrPort) {
		c.s.worker.do(func() { at = c.tr.t.chosen.addr })
		return at
	}
	for range 2 { // the phone may repeat it
		write(t, c.conn, c.to, check.Raw)
		if c.answer() == nil || chosen() != at(c.conn) {
			t.Fatal("the phone's check does not count")
		}
	}
	write(t, thief.conn, c.to, check.Raw)
	thief.answer()
	if got := chosen(); got != at(c.conn) {
		t.Errorf("media go to %s, the phone is at %s", got, at(c.conn))
	}
	var tried transactions
	for range 2 * maxTransactions {
		tried.first(stun.NewTransactionID(), addr(1, 1))
	}
	if n := len(tried.from); n != maxTransactions || len(tried.order) != n {
		t.Errorf("%d checks are remembered", n)
	}
	thief.nominate(us) // the control: a check of its own counts
	if got := chosen(); got != at(thief.conn) {
		t.Errorf("media go to %s after a new check", got)
	}
}

// paths is a worker that does not run, with a transport, whose checks a test
// hands in itself.
type paths struct {
	w *worker
	t *transport
	c *web
}

func newPaths(t *testing.T) *paths {
	t.Helper()
	h := newHot(t, AEADAES128GCM)
	c := newWeb(t, h.l.s.engine, 1)
	c.start(Passive, true, AEADAES128GCM)
	return &paths{w: h.w, t: c.tr.t, c: c}
}

func (p *paths) check(from netip.AddrPort, priority uint32, nominates bool) {
	p.w.checked(agent{p.t, p.t.creds[len(p.t.creds)-1]}, p.w.secure[0], from, priority, nominates)
}

func (p *paths) chosen() netip.AddrPort {
	if p.t.chosen == nil {
		return netip.AddrPort{}
	}
	return p.t.chosen.addr
}

// The phone nominates; of several nominations at a time the best one counts,
// and later the last one.
func TestNomination(t *testing.T) {
	p := newPaths(t)
	wifi, mobile, better := addr(1, 1000), addr(2, 2000), addr(3, 3000)
	want := func(at netip.AddrPort, why string) {
		t.Helper()
		if p.chosen() != at {
			t.Errorf("%s: chosen is %s, want %s", why, p.chosen(), at)
		}
		if at.IsValid() && p.t.streams[0].target(kindRTP).latched != at {
			t.Errorf("%s: the stream's target is another", why)
		}
	}
	p.check(wifi, 100, false)
	want(netip.AddrPort{}, "no nomination")
	p.check(wifi, 100, true)
	want(wifi, "the first")
	p.check(mobile, 50, true)
	want(wifi, "a worse one at the same time")
	p.check(better, 200, true)
	want(better, "a better one")
	p.w.now += int64(steady)
	p.check(mobile, 50, true)
	want(mobile, "a worse one, when the better one is no longer nominated")
}

// After a restart, checks under the credentials before still count until the
// phone has nominated under the new ones.
func TestRestart(t *testing.T) {
	p := newPaths(t)
	before, after := addr(1, 1000), addr(1, 2000)
	old := p.t.creds[0]
	p.check(before, 100, true)
	fresh := p.c.tr.RestartICE()
	if fresh == old || p.w.table.agents[old.Ufrag].transport != p.t || p.w.table.agents[fresh.Ufrag].transport != p.t {
		t.Fatal("both credentials have to be known")
	}
	if p.c.tr.RestartICE(); len(p.t.creds) != 2 || p.w.table.agents[old.Ufrag].transport != p.t {
		t.Error("a second restart has to keep the first credentials, and the newest")
	}
	p.check(after, 10, true)
	if p.chosen() != after {
		t.Error("a nomination under the new credentials has to count at once")
	}
	if _, ok := p.w.table.agents[old.Ufrag]; ok || len(p.t.creds) != 1 {
		t.Error("the old credentials are still known")
	}
}

// Paths are bounded, and the chosen one is never the one to go.
func TestManyPaths(t *testing.T) {
	p := newPaths(t)
	p.check(addr(1, 1000), 1, true)
	for i := range 10 * maxPaths {
		p.w.now++
		p.check(addr(2, uint16(2000+i)), 1, false)
	}
	if len(p.t.paths) != maxPaths || p.chosen() != addr(1, 1000) {
		t.Errorf("%d paths, chosen is %s", len(p.t.paths), p.chosen())
	}
	if n := len(p.w.table.byPath); n != maxPaths {
		t.Errorf("%d addresses are known, want %d", n, maxPaths)
	}
	p.c.s.Close()
	if len(p.w.table.byPath)+len(p.w.table.agents)+len(p.w.table.transports) != 0 {
		t.Error("a closed session left something in the table")
	}
}

// A transport that is closed makes room for another, and nothing is told of it
// any longer.
func TestCloseTransport(t *testing.T) {
	p := newPaths(t)
	for range 2 * maxStreams {
		tr, err := p.c.s.AddTransport(loopback, allSuite)
		if err != nil {
			t.Fatal(err)
		}
		tr.Close()
	}
	p.check(addr(1, 1000), 100, true)
	st := p.t.streams[0]
	p.c.tr.Close()
	if st.transport != nil || st.prot[kindRTP].ready() || st.target(kindRTP) != nil {
		t.Error("its stream has not left it")
	}
	p.w.now += int64(setupLimit)
	if p.w.sweepTransports(); p.t.told != 0 {
		t.Error("it is told to have failed")
	}
	if n := len(p.w.table.byPath) + len(p.w.table.byAddr) + len(p.w.table.agents); n != 0 {
		t.Errorf("it left %d entries in the table", n)
	}
	if err := p.c.s.SetSecure(0, SecureParams{Transport: p.c.tr}); !errors.Is(err, ErrClosed) {
		t.Errorf("a stream joins it: %v", err)
	}
}

// A phone that checks no more gets no more, and its owner is told.
func TestConsent(t *testing.T) {
	c := newWeb(t, runEngine(t, testConfig()), 1)
	c.start(Active, true, AEADAES128GCM)
	c.nominate(c.tr.Credentials())
	if err := c.handshake(Passive, allSuite, c.tr.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	c.talks()
	w := c.s.worker
	w.do(func() { c.tr.t.settled -= int64(renewal) })
	c.nominate(c.tr.Credentials())
	w.do(func() {
		for _, p := range c.tr.t.paths {
			p.checked -= int64(consent)
		}
		c.tr.t.began -= int64(consent)
		w.sweepTransports()
	})
	if ev := c.event(Failed); !strings.Contains(ev.Cause, "RFC 7675") {
		t.Errorf("the cause is %q", ev.Cause)
	}
	write(t, c.pbx[0], c.plain[0].Plain, rtpPacket(1, 1, "unwanted"))
	until(t, "the packet to be kept from it", func() bool { return c.s.Stats().Streams[0].Drops[DropNotLatched.String()] == 1 })
	c.nominate(c.tr.Credentials()) // it is back
	write(t, c.pbx[0], c.plain[0].Plain, rtpPacket(1, 2, "wanted again"))
	c.hears("wanted again")
}

// A phone that keeps its path by indications, as RFC 8445 has it, checks no more
// once it has one, nor does it after a restart. It has not gone.
func TestNoConsentWithoutRFC7675(t *testing.T) {
	p := newPaths(t)
	p.t.parts[kindRTP].peer = p.c.cert.tls.Certificate[0] // as after the handshake
	lives := func(want bool, why string) {
		t.Helper()
		p.w.now += int64(consent)
		p.w.sweepTransports()
		if got := p.t.told == 0 && p.chosen().IsValid(); got != want {
			t.Errorf("%s: the path lives: %v (%s)", why, got, p.t.cause)
		}
	}
	p.check(addr(1, 1000), 100, true)
	lives(true, "a phone that checks until it has a path")
	p.c.tr.RestartICE()
	p.check(addr(1, 1000), 100, false)
	p.check(addr(1, 1000), 100, true)
	lives(true, "and again after a restart")
	p.check(addr(1, 1000), 100, false)
	lives(false, "a phone that has renewed its consent once")
}

// Some phones do without RTCP, and never begin its handshake where it has one of
// its own. Their call goes on.
func TestNoHandshakeForRTCP(t *testing.T) {
	p := newPaths(t)
	p.t.said = false
	p.w.start(p.t, TransportParams{Role: Passive, Fingerprints: []Fingerprint{p.c.cert.fingerprint}, Suites: allSuite})
	p.t.parts[kindRTP].peer = p.c.cert.tls.Certificate[0]
	p.w.now += int64(setupLimit)
	p.w.sweepTransports()
	if p.t.told != 0 {
		t.Errorf("a call with keys for RTP is told to have failed: %s", p.t.missing())
	}
	p.t.parts[kindRTP].peer = nil // the control
	if p.w.sweepTransports(); p.t.told == 0 {
		t.Error("one without is not")
	}
}

// Who does not listen while it rings begins when the call is answered: its time
// runs from then, and what it is then told of itself counts.
func TestAnswerAfterLongRinging(t *testing.T) {
	p := newPaths(t)
	params := TransportParams{Role: Passive, Fingerprints: []Fingerprint{p.c.cert.fingerprint}, Suites: allSuite, ICE: true}
	p.t.said = false
	p.w.start(p.t, params)
	p.w.now += int64(setupLimit)
	p.w.start(p.t, params)
	if p.w.sweepTransports(); p.t.told != 0 {
		t.Error("it is told to have failed before it could begin")
	}
	params.ICE = false
	if p.w.start(p.t, params); len(p.w.dtls.waiting) != 1 {
		t.Error("it may not begin without ICE, as it says in the end")
	}
	p.w.now += int64(setupLimit)
	if p.w.sweepTransports(); p.t.told == 0 {
		t.Error("it has for ever")
	}
}

// What does not come about says what it waited for.
func TestMissing(t *testing.T) {
	for _, k := range []struct {
		name    string
		params  TransportParams
		checked bool
		want    string
	}{
		{"no check", TransportParams{ICE: true}, false, "no check of the phone"},
		{"no nomination", TransportParams{ICE: true}, true, "nominated no path"},
		{"no answer", TransportParams{Role: Active, Hint: addr(1, 1)}, false, "did not answer"},
		{"no beginning", TransportParams{Role: Passive}, false, "did not begin"},
	} {
		p := newPaths(t)
		k.params.Fingerprints, k.params.Suites = []Fingerprint{p.c.cert.fingerprint}, allSuite
		p.t.said = false
		p.w.start(p.t, k.params)
		if k.checked {
			p.check(addr(9, 9), 1, false)
		}
		p.w.now += int64(setupLimit) - 1
		p.w.sweepTransports()
		if p.t.told != 0 {
			t.Errorf("%s: told too early", k.name)
		}
		p.w.now += int64(time.Second)
		p.w.sweepTransports()
		if got := p.t.missing(); p.t.told == 0 || !strings.Contains(got, k.want) {
			t.Errorf("%s: told %v, %q", k.name, p.t.told != 0, got)
		}
		p.c.s.Close()
	}
}
