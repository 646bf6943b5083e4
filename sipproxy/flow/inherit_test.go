package flow

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/media/seam"
)

// kept is an inbox that knows the messages of some Call-IDs alone.
type kept struct {
	*inbox
	own string
}

// IsForeign implements Stranger.
func (k kept) IsForeign(_ *Flow, m sip.Message) bool {
	return !strings.HasPrefix(m.(interface{ CallID() *sip.CallIDHeader }).CallID().Value(), k.own)
}

// asked are the Call-IDs of what came.
func (h *inbox) asked() (ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.messages {
		ids = append(ids, m.(*sip.Request).CallID().Value())
	}
	return ids
}

// follow makes a socket that takes another's over, which yields it, and runs it.
func follow(t *testing.T, old *PlainSocket, h Handler) *PlainSocket {
	t.Helper()
	fresh := take(t, old, h)
	run(t, fresh.Run)
	return fresh
}

// take makes one that does not run yet.
func take(t *testing.T, old *PlainSocket, h Handler) *PlainSocket {
	t.Helper()
	fd, err := old.Heirloom()
	if err != nil {
		t.Fatal(err)
	}
	left, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := TakePlain(left, DefaultLimits(), h, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	out, in, err := seam.Pair()
	if err != nil {
		t.Fatal(err)
	}
	fresh.Follow(in)
	old.Yield(out)
	fresh.Expect([]netip.Addr{netip.MustParseAddr("127.0.0.1")})
	return fresh
}

// Three processes in a row have a socket: each message reaches, once and with its source,
// the one that knows its call, and each answers by the same address.
func TestPlainSocketYields(t *testing.T) {
	var inboxes []kept
	for _, own := range []string{"first", "second", "third"} {
		inboxes = append(inboxes, kept{newInbox(), own})
	}
	old, err := ListenPlain(netip.MustParseAddrPort("127.0.0.1:0"), nil, DefaultLimits(), inboxes[0], quietLog)
	if err != nil {
		t.Fatal(err)
	}
	old.Expect([]netip.Addr{netip.MustParseAddr("127.0.0.1")})
	run(t, old.Run)
	pbx, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer pbx.Close()
	say := func(callID string) {
		t.Helper()
		text := strings.Replace(options, "Call-ID: ", "Call-ID: "+callID+"-", 1)
		if !strings.Contains(text, callID) {
			t.Fatal("the request has no Call-ID to change")
		}
		if _, err := pbx.WriteToUDPAddrPort([]byte(text), old.Addr()); err != nil {
			t.Fatal(err)
		}
	}
	sockets := []*PlainSocket{old}
	want := []int{0, 0, 0}
	for round := range inboxes {
		if round > 0 {
			sockets = append(sockets, follow(t, sockets[round-1], inboxes[round]))
		}
		for i := range round + 1 {
			say(inboxes[i].own)
			want[i]++
			until(t, "the message at its process", func() bool { n, _ := inboxes[i].count(); return n == want[i] })
		}
	}
	say("nobody's") // ends at the oldest
	want[0]++
	until(t, "the oldest to hear the rest", func() bool { n, _ := inboxes[0].count(); return n == want[0] })
	at := netip.MustParseAddrPort(pbx.LocalAddr().String())
	for i, in := range inboxes {
		if n, _ := in.count(); n != want[i] {
			t.Errorf("process %d heard %v, want %d", i, in.asked(), want[i])
		}
		in.mu.Lock()
		for _, f := range in.flows {
			if f.Remote() != at {
				t.Errorf("process %d was told that %s said it, not %s", i, f.Remote(), at)
			}
		}
		in.mu.Unlock()
		if sockets[i].Addr() != old.Addr() {
			t.Errorf("process %d is at %s", i, sockets[i].Addr())
		}
		if err := sockets[i].Flow(at).Send(message(t)); err != nil {
			t.Fatal(err)
		}
		_ = pbx.SetReadDeadline(time.Now().Add(longest))
		if n, from, err := pbx.ReadFromUDPAddrPort(make([]byte, 2000)); err != nil || from != old.Addr() || n == 0 {
			t.Errorf("process %d answers by %s, %v", i, from, err)
		}
	}
}

// What the process before has no room for is lost: it is not for the one that reads.
func TestPlainSocketFullSeam(t *testing.T) {
	old, err := ListenPlain(netip.MustParseAddrPort("127.0.0.1:0"), nil, DefaultLimits(), kept{newInbox(), "old"}, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	inbox := kept{newInbox(), "new"}
	fresh := take(t, old, inbox) // old does not run: it has no time to read
	defer old.close()
	from, text := netip.MustParseAddrPort("127.0.0.1:5060"), strings.Replace(options, "Call-ID: ", "Call-ID: old-", 1)
	const enough = 1 << 20
	for i := 0; fresh.Stats().Events["seam_full"] == 0; i++ {
		if i == enough {
			t.Fatal("the seam takes all")
		}
		fresh.datagram([]byte(text), from)
	}
	if ids := inbox.asked(); len(ids) != 0 {
		t.Errorf("the process that reads took %v for its own", ids)
	}
	fresh.datagram([]byte(strings.Replace(text, "old-", "new-", 1)), from)
	if n, _ := inbox.count(); n != 1 {
		t.Error("it does not take its own any longer")
	}
	run(t, fresh.Run) // which closes it
}

// A PBX that the configuration no longer names is still that of the process before; who is
// a stranger to both is heard by neither.
func TestPlainSocketFormerPBX(t *testing.T) {
	inboxes := []kept{{newInbox(), "none"}, {newInbox(), "none"}}
	old, err := ListenPlain(netip.MustParseAddrPort("127.0.0.1:0"), nil, DefaultLimits(), inboxes[0], quietLog)
	if err != nil {
		t.Fatal(err)
	}
	old.Expect([]netip.Addr{netip.MustParseAddr("127.0.0.2")})
	run(t, old.Run)
	fresh := take(t, old, inboxes[1])
	fresh.Expect([]netip.Addr{netip.MustParseAddr("127.0.0.3")})
	run(t, fresh.Run)
	say := func(from string) {
		t.Helper()
		pbx, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)})
		if err != nil {
			t.Fatal(err)
		}
		defer pbx.Close()
		if _, err := pbx.WriteToUDPAddrPort([]byte(options), old.Addr()); err != nil {
			t.Fatal(err)
		}
	}
	say("127.0.0.2")
	until(t, "the former PBX to be heard", func() bool { n, _ := inboxes[0].count(); return n == 1 })
	say("127.0.0.4")
	until(t, "a stranger to be dropped", func() bool { return old.Stats().Events["stranger"] == 1 })
	for i, want := range []int{1, 0} {
		if n, _ := inboxes[i].count(); n != want {
			t.Errorf("process %d heard %d messages, want %d", i, n, want)
		}
	}
}

// A socket is taken back from a process that is gone, and may be yielded again, as often
// as it comes to that; each message is heard by one.
func TestPlainSocketResumes(t *testing.T) {
	h := newInbox()
	old, err := ListenPlain(netip.MustParseAddrPort("127.0.0.1:0"), nil, DefaultLimits(), h, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	loopback := netip.MustParseAddr("127.0.0.1")
	old.Expect([]netip.Addr{loopback})
	run(t, old.Run)
	pbx, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(old.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer pbx.Close()
	// heardBy says something, and tells which of them hears it, by how far they are.
	heardBy := func(all ...*inbox) (at int) {
		t.Helper()
		before := make([]int, len(all))
		for i, in := range all {
			before[i], _ = in.count()
		}
		if _, err := pbx.Write([]byte(options)); err != nil {
			t.Fatal(err)
		}
		until(t, "the message", func() bool {
			for i, in := range all {
				if n, _ := in.count(); n > before[i] {
					at = i
					return true
				}
			}
			return false
		})
		return at
	}
	old.Resume() // nobody has it
	heardBy(h)
	for range 3 {
		heir := newInbox()
		fresh, ended := take(t, old, heir), make(chan error)
		ctx, die := context.WithCancel(context.Background())
		go func() { ended <- fresh.Run(ctx) }() // ends with ctx, and is waited for
		for heardBy(h, heir) == 0 {             // the last that was on its way to the former
		}
		if heardBy(h, heir) == 0 {
			t.Error("the former reads a socket that it has yielded")
		}
		die()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		old.Resume()
		heardBy(h)
	}
	for range 100 { // before its reader has looked
		out, in, err := seam.Pair()
		if err != nil {
			t.Fatal(err)
		}
		old.Yield(out)
		old.Resume()
		_ = unix.Close(in)
	}
	heardBy(h)
}

// A socket is yielded once, and not when it is closed: who would give it again keeps no
// descriptor.
func TestPlainSocketYieldsOnce(t *testing.T) {
	h := newInbox()
	s, err := ListenPlain(netip.MustParseAddrPort("127.0.0.1:0"), nil, DefaultLimits(), h, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s.Run)
	var ins [2]int
	for i := range ins {
		out, in, err := seam.Pair()
		if err != nil {
			t.Fatal(err)
		}
		ins[i] = in
		defer unix.Close(in)
		s.Yield(out)
	}
	if _, err := unix.Write(ins[1], []byte("x")); !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
		t.Errorf("the second seam is open: %v", err)
	}
	if _, err := unix.Write(ins[0], []byte("x")); err != nil {
		t.Errorf("the first seam is not: %v", err)
	}
}

// Connections that nothing needs are closed, so many at a time and with their reason; and
// those that something needs stay.
func TestDismiss(t *testing.T) {
	h := newInbox()
	ln := serve(t, DefaultLimits(), h, nil)
	const all, busy = 7, 2
	for range all {
		conn := dial(t, ln)
		if _, err := conn.Write([]byte(options)); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "the connections", func() bool { n, _ := h.count(); return n == all })
	needed := make(map[*Flow]bool)
	for _, f := range h.flows[:busy] {
		needed[f] = true
	}
	idle := func(f *Flow) bool { return !needed[f] }
	if left := ln.Dismiss(idle, 0, false); left != all {
		t.Fatalf("%d connections are there, want %d", left, all)
	}
	for gone := 2; gone < all-busy; gone += 2 {
		ln.Dismiss(idle, 2, false)
		until(t, "two to be closed", func() bool { return ln.Dismiss(idle, 0, false) == all-gone })
	}
	ln.Dismiss(idle, all, false)
	until(t, "the rest to be closed", func() bool { return ln.Dismiss(idle, all, false) == busy })
	for _, f := range h.flows {
		switch err := f.Err(); {
		case needed[f] && err != nil:
			t.Errorf("a connection that is needed was closed: %v", err)
		case !needed[f] && !errors.Is(err, ErrMoved):
			t.Errorf("a connection ended with %v, want %v", err, ErrMoved)
		}
	}
}

// Who is in the middle of a message, or of what that may have for a sequel, is let end it
// first: so that a call is not lost between a challenge and its answer.
func TestDismissGently(t *testing.T) {
	halves := func(all string) []string { return []string{all[:len(all)/2], all[len(all)/2:]} }
	for name, c := range map[string]struct {
		web   bool
		parts []string
	}{
		"half a message":                 {parts: halves(options)},
		"half a message by WebSocket":    {web: true, parts: halves(masked(fin|text, options))},
		"one of two frames":              {web: true, parts: []string{masked(text, options[:40]), masked(fin, options[40:])}},
		"a connection that is just made": {parts: []string{options}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newInbox()
			ln, all := (*Listener)(nil), func(*Flow) bool { return true }
			var conn net.Conn
			if c.web {
				ln = serveWeb(t, DefaultLimits(), h, nil)
				conn = browse(t, ln)
			} else {
				ln = serve(t, DefaultLimits(), h, nil)
				conn = dial(t, ln)
			}
			var f *Flow
			until(t, "the connection", func() bool {
				ln.mu.Lock()
				defer ln.mu.Unlock()
				for c := range ln.conns {
					f = c.made.Load()
				}
				return f != nil
			})
			for i, part := range c.parts {
				if i > 0 {
					until(t, "the beginning of the message", func() bool { return f.begun.Load() })
					f.last.Store(0) // a phone may take its time
				}
				if ln.Dismiss(all, 1, true); f.Err() != nil {
					t.Fatalf("the connection was closed before part %d: %v", i, f.Err())
				}
				send(t, conn, part)
			}
			until(t, "the message", func() bool { n, _ := h.count(); return n == 1 })
			if ln.Dismiss(all, 1, true); f.Err() != nil {
				t.Fatalf("the connection was closed before anything could follow: %v", f.Err())
			}
			until(t, "the connection to be closed", func() bool { return ln.Dismiss(all, 1, true) == 0 })
			if !errors.Is(f.Err(), ErrMoved) {
				t.Errorf("the connection ended with %v", f.Err())
			}
		})
	}
}

// What was by a connection to be spared goes by another such, and all else as it comes.
func TestTrunkInstead(t *testing.T) {
	trunk := NewTrunk(TrunkConfig{Name: "bar"}, DefaultLimits(), newInbox(), quietLog)
	gain := func(spared bool) *Flow {
		f := newFlow(Secure, "TLS", netip.AddrPort{}, netip.AddrPort{}, &datagrams{}, nil)
		f.spared.Store(spared)
		trunk.gained(f)
		return f
	}
	spared, usual := gain(true), gain(false)
	spared.Close(ErrClosed)
	if f := trunk.Instead(spared); f != usual {
		t.Error("where there is one connection, another is taken")
	}
	again, other := gain(true), gain(false)
	if f := trunk.Instead(spared); f != again {
		t.Error("what was by a connection to be spared goes by none such")
	}
	usual.Close(ErrClosed)
	if f := trunk.Instead(usual); f != other {
		t.Error("what was by any connection goes by one to be spared")
	}
}

// A trunk that retires dials no more; what it has is dismissed as connections of phones
// are, and nobody is warned of a trunk that is down.
func TestTrunkRetires(t *testing.T) {
	ln, there, _ := accepting(t, "foo", DefaultLimits())
	here, _, log := dialled(t, TrunkConfig{Name: "bar", Locate: located(ln.Addr())}, DefaultLimits())
	until(t, "both ends to be up", func() bool { return here.Flow() != nil && there.Flow() != nil })
	f := here.Flow()
	var calls atomic.Bool
	here.Retire(calls.Load)
	talks := func(*Flow) bool { return here.Flow() == nil } // whoever tells may ask the trunk
	if left := here.Dismiss(talks, 1, false); left != 1 || f.Err() != nil {
		t.Errorf("%d connections are left, and the one with a call ended with %v", left, f.Err())
	}
	until(t, "it to be dismissed", func() bool { return here.Dismiss(func(*Flow) bool { return true }, 1, false) == 0 })
	if !errors.Is(f.Err(), ErrMoved) {
		t.Errorf("the connection ended with %v", f.Err())
	}
	until(t, "the far end to see it", func() bool { return there.Flow() == nil })
	dials := here.Stats().Dials
	time.Sleep(2 * firstPause) // in which one that has not retired dials
	if n := here.Stats().Dials; n != dials || here.Flow() != nil {
		t.Errorf("dialled %d times since", n-dials)
	}
	calls.Store(true)
	until(t, "it to dial for its calls", func() bool { return here.Flow() != nil && there.Flow() != nil })
	calls.Store(false)
	until(t, "it to be dismissed", func() bool { return here.Dismiss(func(*Flow) bool { return true }, 1, false) == 0 })
	if log.has("trunk is down") {
		t.Error("the trunk is said to be down")
	}
}
