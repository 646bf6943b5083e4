package media

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/stun/v3"
)

// Nothing is kept of a connection whose first frame is not a check that verifies.
func TestTCPRefused(t *testing.T) {
	config := testConfig()
	e := newEngine(t, config)
	e.lobby.limits.first = 2 * time.Second
	run(t, e)
	c := newWeb(t, e, 1)
	c.start(Active, true, AEADAES128GCM)
	plain := newWeb(t, e, 1)
	plain.start(Active, false, AEADAES128GCM)
	us := c.tr.Credentials()
	good := framed(c.check(us, useCandidate).Raw)
	indication := c.check(us)
	indication.SetType(stun.NewType(stun.MethodBinding, stun.ClassIndication))
	nameless, err := stun.Build(stun.BindingRequest, stun.TransactionID, prio(1), stun.NewShortTermIntegrity(us.Pwd), stun.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []struct {
		name   string
		first  []byte
		closes bool // the client does
		want   refusal
	}{
		{"nothing", nil, false, refusedLate},
		{"nothing, and an end", nil, true, refusedGone},
		{"half a length", good[:1], false, refusedLate},
		{"half a frame", good[:40], false, refusedLate},
		{"half a frame, and an end", good[:40], true, refusedGone},
		{"a frame of nothing", framed(nil), false, refusedNoCheck},
		{"a huge length", []byte{0xff, 0xff}, false, refusedNoCheck},
		{"a frame of noise", framed(random(100)), false, refusedNoCheck},
		{"TLS", append([]byte{22, 3, 1, 2, 0, 1}, make([]byte, 600)...), false, refusedNoCheck},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), false, refusedNoCheck},
		{"RTP", framed(rtpPacket(1, 1, strings.Repeat("x", 160))), false, refusedNoCheck},
		{"an indication", framed(indication.Raw), false, refusedNoCheck},
		{"no user name", framed(nameless.Raw), false, refusedNoCheck},
		{"an unknown user name", framed(c.check(Credentials{us.Ufrag[:2] + "12345678", us.Pwd}).Raw), false, refusedUnknown},
		{"a worker that is not there", framed(c.check(Credentials{"//" + us.Ufrag[2:], us.Pwd}).Raw), false, refusedUnknown},
		{"no worker at all", framed(c.check(Credentials{"é" + us.Ufrag[2:], us.Pwd}).Raw), false, refusedUnknown},
		{"a call without ICE", framed(c.check(plain.tr.Credentials()).Raw), false, refusedUnknown},
		{"a wrong password", framed(c.check(Credentials{us.Ufrag, "not the password of it"}).Raw), false, refusedForged},
		{"another's password", framed(c.check(Credentials{us.Ufrag, plain.tr.Credentials().Pwd}).Raw), false, refusedForged},
	} {
		before := e.Stats().TCP.Refused[string(k.want)]
		conn := dialTCP(t, c.plain[0].TCP[0])
		if _, err := conn.Write(k.first); err != nil {
			t.Fatal(err)
		}
		if k.closes {
			conn.CloseWrite()
		}
		ended(t, conn)
		until(t, k.name+": the count of "+string(k.want), func() bool { return e.Stats().TCP.Refused[string(k.want)] == before+1 })
		s := e.Stats().TCP
		if s.Open+s.Waiting != 0 || c.conns()+plain.conns() != 0 {
			t.Errorf("%s: something is kept: %+v", k.name, s)
		}
	}
	conn := dialTCP(t, c.plain[0].TCP[0]) // the control: slow, but in time
	for _, b := range good {
		if _, err := conn.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	c.event(Latched)
	until(t, "one open", func() bool { s := e.Stats().TCP; return s.Open == 1 && s.Waiting == 0 })
}

// A check that somebody saw opens no connection, wherever it came first.
func TestTCPCopiedCheck(t *testing.T) {
	e := runEngine(t, testConfig())
	c := newWeb(t, e, 1)
	c.start(Active, true, AEADAES128GCM)
	us := c.tr.Credentials()
	byUDP, byTCP := c.check(us, useCandidate), c.check(us, useCandidate)
	c.send(byUDP.Raw)
	c.event(Latched)
	c.byTCP()
	c.send(byTCP.Raw)
	c.event(Latched)
	chosen := c.chosenPath()
	for i, seen := range []*stun.Message{byUDP, byTCP} {
		thief := dialTCP(t, c.plain[0].TCP[0])
		if _, err := thief.Write(framed(seen.Raw)); err != nil {
			t.Fatal(err)
		}
		ended(t, thief)
		until(t, "its count", func() bool { return e.Stats().TCP.Refused[string(refusedCopy)] == uint64(i+1) })
	}
	thief := newBrowser(t, c.to)
	thief.send(byTCP.Raw)
	thief.answer()
	if got := c.chosenPath(); got != chosen || c.conns() != 1 {
		t.Errorf("media go to %s, the phone is at %s; %d connections", got.addr, chosen.addr, c.conns())
	}
	thief.dial(c.plain[0].TCP[0]) // the control: a check of its own counts
	thief.nominate(us)
	if got := c.chosenPath(); int(got.addr.Port()) != thief.port() {
		t.Errorf("media go to %s after a new check", got.addr)
	}
}

// turnedAway wants a connection to be closed, which may be before its dialling
// is told of its success.
func turnedAway(t *testing.T, to netip.AddrPort) {
	t.Helper()
	conn, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))
	if err != nil {
		return // who waits for the count tells this from a listener that is gone
	}
	defer conn.Close()
	ended(t, conn)
}

// Places are bounded, and given back.
func TestTCPLimits(t *testing.T) {
	var denied atomic.Bool
	var held atomic.Int32
	config := testConfig()
	config.Admit = func(from netip.Addr) (func(), error) {
		if denied.Load() {
			return nil, errors.New("not today")
		}
		if from != loopback {
			t.Errorf("policy is asked about %s", from)
		}
		held.Add(1)
		return func() { held.Add(-1) }, nil
	}
	e := newEngine(t, config)
	l := e.lobby
	l.limits = lobbyLimits{total: 3, host: 3, waiting: 2, first: time.Minute}
	run(t, e)
	c := newWeb(t, e, 1)
	c.start(Active, true, AEADAES128GCM)
	to, refused := c.plain[0].TCP[0], func(why refusal, n uint64) {
		t.Helper()
		until(t, string(why), func() bool { return e.Stats().TCP.Refused[string(why)] == n })
	}
	waits := func(n int) {
		t.Helper()
		until(t, "those that wait", func() bool { return e.Stats().TCP.Waiting == n })
	}
	first := dialTCP(t, to)
	waits(1)
	second := dialTCP(t, to)
	waits(2)
	dialTCP(t, to) // takes the place of the first
	ended(t, first)
	refused(refusedCrowd, 1)
	waits(2)
	c.byTCP() // and this one of the second, until its check is there
	ended(t, second)
	refused(refusedCrowd, 2)
	c.nominate(c.tr.Credentials())
	until(t, "one open", func() bool { s := e.Stats().TCP; return s.Open == 1 && s.Waiting == 1 })
	dialTCP(t, to)
	waits(2)
	turnedAway(t, to)
	refused(refusedFull, 1)
	set := func(f func()) {
		l.mu.Lock()
		defer l.mu.Unlock()
		f()
	}
	set(func() { l.limits.total = 100 })
	turnedAway(t, to)
	refused(refusedHost, 1)
	set(func() { l.limits.host = 100 })
	c.tcp.Close()
	until(t, "its place", func() bool { return e.Stats().TCP.Open == 0 })
	set(func() {
		if l.total != 2 || l.hosts[hostOf(loopback)] != 2 || held.Load() != 2 {
			t.Errorf("%d places are taken, %v of hosts, policy holds %d", l.total, l.hosts, held.Load())
		}
	})
	denied.Store(true)
	turnedAway(t, to)
	refused(refusedPolicy, 1)
}
