package flow

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nobody is an address where nothing listens, nor can: its port is taken until the test
// is over.
func nobody(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	got := at.(*unix.SockaddrInet4)
	return netip.AddrPortFrom(netip.AddrFrom4(got.Addr), uint16(got.Port))
}

// Pauses grow to their bound, and are never two edges' in step.
func TestBackoff(t *testing.T) {
	var b backoff
	want := firstPause
	for range 20 {
		if p := b.next(); p < want/2 || p > want {
			t.Errorf("pause of %s, want up to %s", p, want)
		}
		want = min(2*want, maxPause)
	}
	seen := make(map[time.Duration]bool)
	for range 100 {
		seen[(&backoff{last: maxPause}).next()] = true
	}
	if len(seen) < 50 {
		t.Errorf("%d different pauses of 100", len(seen))
	}
}

// The first target that takes us is taken, at each attempt in the order that is found
// then.
func TestTrunkFailsOver(t *testing.T) {
	first, _, _ := accepting(t, "foo", DefaultLimits())
	second, _, _ := accepting(t, "foo", DefaultLimits())
	var mu sync.Mutex
	order := []Target{{nobody(t)}, {first.Addr()}, {second.Addr()}}
	trunk, heard, _ := dialled(t, TrunkConfig{Name: "bar", Locate: func(context.Context) ([]Target, error) {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(order), nil
	}}, DefaultLimits())
	until(t, "the trunk to be up", func() bool { return trunk.Flow() != nil })
	if got := trunk.Flow().Remote(); got != first.Addr() {
		t.Errorf("connected to %s", got)
	}
	if s := trunk.Stats(); s.Dials != 2 || s.Failures["refused"] != 1 || s.Connections != 1 {
		t.Errorf("stats %+v", s)
	}
	mu.Lock()
	order = []Target{{second.Addr()}, {first.Addr()}}
	mu.Unlock()
	trunk.Flow().Close(io.EOF)
	until(t, "the trunk to be up again", func() bool { f := trunk.Flow(); return f != nil && f.Remote() == second.Addr() })
	if _, closed := heard.count(); closed != 1 {
		t.Errorf("told of the end of %d connections", closed)
	}
	if s := trunk.State(); !s.Up || !strings.Contains(s.Reason, "the peer closed the connection") {
		t.Errorf("state %+v", s)
	}
}

// Several connections are kept, and used in turn; one that ends is replaced.
func TestTrunkConnections(t *testing.T) {
	ln, there, _ := accepting(t, "foo", DefaultLimits())
	trunk, _, _ := dialled(t, TrunkConfig{Name: "bar", Locate: located(ln.Addr()), Connections: 3}, DefaultLimits())
	full := func() bool { return len(trunk.Flows()) == 3 && len(there.Flows()) == 3 }
	until(t, "three connections", full)
	used := make(map[*Flow]int)
	for range 30 {
		used[trunk.Flow()]++
	}
	for _, n := range used {
		if len(used) != 3 || n != 10 {
			t.Errorf("used as %v", used)
		}
	}
	gone := there.Flow()
	gone.Close(ErrSlow)
	until(t, "three again", func() bool { return full() && !slices.Contains(there.Flows(), gone) })
}

// A trunk may be quiet for as long as it likes; a phone on the same listener may not.
func TestTrunkMayBeQuiet(t *testing.T) {
	limits := DefaultLimits()
	limits.FirstMessageTimeout, limits.IdleTimeout, limits.KeepAlive = 200*time.Millisecond, 200*time.Millisecond, 50*time.Millisecond
	ln, there, heard := accepting(t, "foo", limits)
	trunk, _, _ := dialled(t, TrunkConfig{Name: "bar", Locate: located(ln.Addr())}, limits)
	until(t, "the trunk to be up", func() bool { return trunk.Flow() != nil && there.Flow() != nil })
	phones, _, heardOfPhones := accepting(t, "", limits)
	dial(t, phones)
	until(t, "the phone to be cut off", func() bool { _, n := heardOfPhones.count(); return n == 1 })
	time.Sleep(4 * limits.IdleTimeout) // what must not happen can't be waited for
	if _, closed := heard.count(); closed != 0 || trunk.Flow() == nil {
		t.Error("the quiet trunk was cut off")
	}
}

// shows is a server that speaks to each connection in its own way.
func shows(t *testing.T, speak func(net.Conn)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(longest))
				speak(c)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		all.Wait()
	})
	return addrPort(ln.Addr())
}

type misfit struct{ error }

func (misfit) Refused() string { return "name" }

// Each way not to get to a peer is told in an operator's words, once, and counted.
func TestDialReasons(t *testing.T) {
	server := serverConfig(t)
	server.ClientAuth = tls.RequireAnyClientCert
	strict := server.Clone()
	strict.VerifyConnection = func(tls.ConnectionState) error { return errors.New("not you") }
	old := server.Clone()
	old.MaxVersion = tls.VersionTLS12
	serve := func(config *tls.Config) func(net.Conn) {
		return func(c net.Conn) { _ = tls.Server(c, config).Handshake() }
	}
	choosy := dialling(t)
	choosy.VerifyConnection = func(tls.ConnectionState) error {
		return misfit{errors.New(`trunk "bar": the certificate is for "other.example.com"`)}
	}
	trusting := dialling(t)
	trusting.InsecureSkipVerify, trusting.ServerName = false, "bar.example.com"
	bare := dialling(t)
	bare.Certificates = nil
	modern := dialling(t)
	modern.MinVersion = tls.VersionTLS13
	for _, tc := range []struct {
		name, cause, reason string
		at                  netip.AddrPort
		tls                 *tls.Config
	}{
		{"nobody there", "refused", "nothing listens there", nobody(t), nil},
		{"SIP in the clear", "not_tls", "the peer speaks no TLS there", shows(t, func(c net.Conn) {
			_, _ = c.Write([]byte("SIP/2.0 400 Bad Request\r\n\r\n"))
			_, _ = io.Copy(io.Discard, c)
		}), nil},
		{"hangs up", "closed", "the peer hung up during the handshake", shows(t, func(net.Conn) {}), nil},
		{"says nothing", "timeout", "no answer within sip.handshake_timeout", shows(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), nil},
		{"another certificate", "certificate", `for \"other.example.com\"`, shows(t, serve(server)), choosy},
		{"an unknown CA", "certificate", "the peer's certificate does not hold", shows(t, serve(server)), trusting},
		{"ours is refused at once", "turned_away", "the peer refused our certificate", shows(t, serve(func() *tls.Config { c := strict.Clone(); c.MaxVersion = tls.VersionTLS12; return c }())), nil},
		{"ours is refused later", "", "the peer refused our certificate", shows(t, serve(strict)), nil},
		{"we have none", "", "the peer asks for a certificate", shows(t, serve(server)), bare},
		{"an old version", "turned_away", "", shows(t, serve(old)), modern},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			limits := DefaultLimits()
			if tc.cause == "timeout" {
				limits.HandshakeTimeout = 200 * time.Millisecond
			}
			trunk, heard, log := dialled(t, TrunkConfig{Name: "bar", Locate: located(tc.at), TLS: tc.tls}, limits)
			until(t, "two attempts", func() bool { return trunk.Stats().Dials >= 3 })
			s := trunk.Stats()
			if tc.cause != "" && s.Failures[tc.cause] == 0 {
				t.Errorf("counted as %v, want %s", s.Failures, tc.cause)
			}
			if !log.has(tc.reason) || !strings.Contains(trunk.State().Reason, strings.ReplaceAll(tc.reason, `\"`, `"`)) {
				t.Errorf("told %q: %s", trunk.State().Reason, log.b.String())
			}
			log.mu.Lock()
			told := strings.Count(log.b.String(), "level=WARN")
			log.mu.Unlock()
			if told != 1 {
				t.Errorf("told %d times: %s", told, log.b.String())
			}
			if n, _ := heard.count(); n != 0 {
				t.Errorf("%d messages of whom we do not know", n)
			}
		})
	}
}

// Not a byte of SIP leaves before TLS is there, whatever the peer does.
func TestTrunkSaysNothingInTheClear(t *testing.T) {
	var attempts atomic.Int32
	var leaked atomic.Bool
	peer := shows(t, func(c net.Conn) {
		b := make([]byte, 4096)
		n, _ := io.ReadAtLeast(c, b, 1)
		if n > 0 && b[0] != 0x16 || strings.Contains(string(b[:n]), "SIP/2.0") { // a TLS record of a handshake
			leaked.Store(true)
		}
		_, _ = c.Write([]byte("SIP/2.0 200 OK\r\n\r\n"))
		attempts.Add(1)
	})
	trunk, _, _ := dialled(t, TrunkConfig{Name: "bar", Locate: located(peer)}, DefaultLimits())
	until(t, "two attempts", func() bool { return attempts.Load() >= 2 })
	if leaked.Load() || trunk.Flow() != nil {
		t.Error("spoke in the clear")
	}
}

// A name that is not found is asked for again.
func TestTrunkLooksUpAgain(t *testing.T) {
	ln, _, _ := accepting(t, "foo", DefaultLimits())
	var asked atomic.Int32
	trunk, _, log := dialled(t, TrunkConfig{Name: "bar", Locate: func(context.Context) ([]Target, error) {
		switch asked.Add(1) {
		case 1:
			return nil, errors.New("look up bar.example.com: no such host")
		case 2:
			return nil, nil
		}
		return []Target{{ln.Addr()}}, nil
	}}, DefaultLimits())
	until(t, "the trunk to be up", func() bool { return trunk.Flow() != nil })
	if s := trunk.Stats(); s.Failures["lookup"] != 2 || !log.has("no such host") || !log.has("the peer's name has no address") {
		t.Errorf("stats %+v, log %s", s, log.b.String())
	}
}

// A connection whose certificate is no longer good ends, whoever dialled.
func TestTrunkWithdrawn(t *testing.T) {
	for _, accepted := range []bool{false, true} {
		var gone atomic.Bool
		judge := func(*tls.ConnectionState) error {
			if gone.Load() {
				return withdrawn{errors.New("its pin was removed")}
			}
			return nil
		}
		ln, there, heard := accepting(t, "foo", DefaultLimits())
		there.cfg.Withdrawn = judge
		trunk, heardHere, _ := dialled(t, TrunkConfig{Name: "bar", Locate: located(ln.Addr()), Withdrawn: judge}, DefaultLimits())
		until(t, "the trunk to be up", func() bool { return trunk.Flow() != nil && there.Flow() != nil })
		ln.Recheck()
		trunk.Recheck()
		if trunk.Flow().Err() != nil || there.Flow().Err() != nil {
			t.Fatal("ended without a reason")
		}
		gone.Store(true)
		if accepted {
			ln.Recheck()
			until(t, "its end", func() bool { _, n := heard.count(); return n > 0 })
			if r := there.State().Reason; r != "its pin was removed" {
				t.Errorf("it is down as %q", r)
			}
		} else {
			trunk.Recheck()
			until(t, "its end", func() bool { _, n := heardHere.count(); return n > 0 })
		}
	}
}

// What a peer sends is framed and checked as what a phone does.
func TestTrunkPeerIsCheckedAsAnyOther(t *testing.T) {
	answer := make(chan string, 8)
	server := serverConfig(t)
	peer := shows(t, func(c net.Conn) {
		tc := tls.Server(c, server)
		_, _ = tc.Write([]byte("OPTIONS sip:foo SIP/2.0\r\nContent-Length: 1x\r\n\r\n"))
		b := make([]byte, 4096)
		n, _ := tc.Read(b)
		answer <- string(b[:n])
	})
	trunk, heard, _ := dialled(t, TrunkConfig{Name: "bar", Locate: located(peer)}, DefaultLimits())
	until(t, "its end", func() bool { _, n := heard.count(); return n > 0 })
	if n, _ := heard.count(); n != 0 || trunk.Stats().Events["closed_malformed"] == 0 {
		t.Errorf("%d messages, events %v", n, trunk.Stats().Events)
	}
	<-answer
}

// A peer that hangs up after the handshake, without a word, is told with what it most
// likely did not like.
func TestTrunkHungUpHastily(t *testing.T) {
	ln, err := tls.Listen("tcp", "127.0.0.1:0", serverConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with the listener
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake()
			_ = c.Close()
		}
	}()
	trunk, _, _ := dialled(t, TrunkConfig{Name: "bar", Locate: located(netip.MustParseAddrPort(ln.Addr().String()))}, DefaultLimits())
	until(t, "a reason", func() bool { return strings.Contains(trunk.State().Reason, "clientAuth") })
}
