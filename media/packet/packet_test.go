package packet

import (
	"bytes"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func listen(t testing.TB, addr string) Socket {
	t.Helper()
	s, err := Listen(netip.MustParseAddrPort(addr), Options{Buffer: 1 << 20, DSCP: 46})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestAddrRoundTrip(t *testing.T) {
	for _, text := range []string{"127.0.0.1:1", "203.0.113.7:65535", "[::1]:5004", "[2001:db8::7]:9"} {
		want := netip.MustParseAddrPort(text)
		a := MakeAddr(want)
		if got := a.addrPort(); got != want || a.IsZero() {
			t.Errorf("%s became %s", want, got)
		}
	}
	if a := MakeAddr(netip.AddrPort{}); !a.IsZero() || a.addrPort().IsValid() {
		t.Error("no address became one")
	}
}

// receive waits for the next packets on a socket.
func receive(t *testing.T, b *Batch, s Socket) int {
	t.Helper()
	p := newPoller(t, time.Second)
	if err := p.Add(s.FD); err != nil {
		t.Fatal(err)
	}
	if ready, err := p.Wait(); err != nil || len(ready) != 1 || ready[0] != s.FD {
		t.Fatalf("ready %v, %v; want %d", ready, err, s.FD)
	}
	n, _ := b.Recv(s.FD, 0, b.Len())
	return n
}

func TestBatchesOverLoopback(t *testing.T) {
	for _, host := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(host, func(t *testing.T) {
			from, to := listen(t, host), listen(t, host)
			addr := MakeAddr(to.Local)
			out := NewOutbox(4)
			for i := range 4 {
				if !out.Queue(bytes.Repeat([]byte{byte(i)}, 10+i), &addr) {
					t.Fatal("no room for packet", i)
				}
			}
			if out.Queue([]byte("one too many"), &addr) {
				t.Fatal("the outbox took more than it holds")
			}
			if lost := out.Flush(from.FD); lost != 0 || out.Queued() != 0 {
				t.Fatalf("lost %d, kept %d", lost, out.Queued())
			}
			if !Send(from.FD, []byte("fifth"), &addr) {
				t.Fatal("send")
			}
			b := NewBatch(8)
			if n := receive(t, b, to); n != 5 {
				t.Fatalf("received %d packets, want 5", n)
			}
			for i := range 4 {
				if p := b.Packet(i); len(p) != 10+i || p[0] != byte(i) || b.Source(i) != from.Local || b.Truncated(i) {
					t.Fatalf("packet %d is %x from %s", i, p, b.Source(i))
				}
			}
			if room := cap(b.Packet(4)) - len(b.Packet(4)); room < TagRoom {
				t.Fatalf("only %d bytes behind a packet", room)
			}
			if n, more := b.Recv(to.FD, 0, 8); n != 0 || more {
				t.Fatalf("an empty socket gave %d packets", n)
			}
		})
	}
}

func TestOversizeIsMarked(t *testing.T) {
	from, to := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	addr := MakeAddr(to.Local)
	for _, n := range []int{SlotSize - TagRoom, SlotSize - TagRoom + 1, 9000} {
		if !Send(from.FD, make([]byte, n), &addr) {
			t.Fatal("send")
		}
	}
	b := NewBatch(3)
	if n := receive(t, b, to); n != 3 {
		t.Fatalf("received %d", n)
	}
	for i, want := range []bool{false, true, true} {
		if b.Truncated(i) != want || len(b.Packet(i)) != SlotSize-TagRoom {
			t.Errorf("packet %d: truncated %v, %d bytes", i, b.Truncated(i), len(b.Packet(i)))
		}
	}
	b.Fill(0, make([]byte, SlotSize), from.Local)
	b.Fill(1, make([]byte, 20), from.Local)
	if !b.Truncated(0) || b.Truncated(1) || len(b.Packet(1)) != 20 {
		t.Error("Fill does not do as the kernel")
	}
}

// One packet that can't be sent must not hold up those behind it.
func TestFlushGoesOnAfterAnError(t *testing.T) {
	from, to := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	good, bad := MakeAddr(to.Local), MakeAddr(netip.MustParseAddrPort("[2001:db8::1]:9")) // of the wrong family
	out := NewOutbox(4)
	for _, a := range []*Addr{&good, &bad, &good} {
		out.Queue([]byte("hello"), a)
	}
	if lost := out.Flush(from.FD); lost != 1 {
		t.Fatalf("lost %d, want 1", lost)
	}
	if n := receive(t, NewBatch(4), to); n != 2 {
		t.Fatalf("received %d, want 2", n)
	}
	for range 3 {
		out.Queue([]byte("hello"), &good)
	}
	if lost := out.Flush(-1); lost != 3 || out.Queued() != 0 {
		t.Fatalf("a socket that is gone lost %d, want 3", lost)
	}
}

func TestNothingToSend(t *testing.T) {
	var none Addr
	to := MakeAddr(netip.MustParseAddrPort("127.0.0.1:9"))
	if Send(0, nil, &to) || Send(0, []byte("x"), &none) {
		t.Error("sent nothing, or to nobody")
	}
	if o := NewOutbox(1); o.Queue(nil, &to) || o.Queue([]byte("x"), &none) {
		t.Error("queued nothing, or for nobody")
	}
}

// newPoller is a poller of the test's.
func newPoller(t *testing.T, tick time.Duration) *Poller {
	t.Helper()
	var owner sync.Mutex
	owner.Lock()
	p, err := NewPoller(tick, &owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestPollerWakes(t *testing.T) {
	p := newPoller(t, time.Hour)
	p.Wake()
	p.Wake()
	if ready, err := p.Wait(); err != nil || len(ready) != 0 {
		t.Fatalf("woken: %v, %v", ready, err)
	}
	began := time.Now()
	woken := time.AfterFunc(10*time.Millisecond, p.Wake)
	defer woken.Stop()
	if ready, err := p.Wait(); err != nil || len(ready) != 0 || time.Since(began) < 10*time.Millisecond {
		t.Fatalf("two wake-ups are one, and the next is awaited: %v, %v after %s", ready, err, time.Since(began))
	}
}

func TestPollerTicks(t *testing.T) {
	p := newPoller(t, 10*time.Millisecond)
	for range 3 {
		if ready, err := p.Wait(); err != nil || len(ready) != 0 {
			t.Fatalf("at a tick: %v, %v", ready, err)
		}
	}
}

// While a Wait waits, others have the poller; then it is the waiter's again, whose
// Wait has seen what they did.
func TestPollerLends(t *testing.T) {
	p, from, to := newPoller(t, time.Hour), listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	at := MakeAddr(to.Local)
	Send(from.FD, []byte("x"), &at)
	var other sync.WaitGroup
	other.Go(func() {
		p.owner.Lock() // as soon as the Wait waits
		defer p.owner.Unlock()
		if err := p.Add(to.FD); err != nil {
			t.Error(err)
		}
	})
	ready, err := p.Wait()
	other.Wait()
	if err != nil || len(ready) != 1 || ready[0] != to.FD {
		t.Errorf("ready %v, %v; want %d", ready, err, to.FD)
	}
	if p.owner.(*sync.Mutex).TryLock() {
		t.Error("after the Wait anybody may have it")
	}
}

// What was left in a socket is told again, once for each time it was left.
func TestPollerAgain(t *testing.T) {
	p, b := newPoller(t, time.Hour), NewBatch(8)
	from, to := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	if err := p.Add(to.FD); err != nil {
		t.Fatal(err)
	}
	at := MakeAddr(to.Local)
	for range 3 {
		Send(from.FD, []byte("x"), &at)
	}
	for left := 3; left > 0; left-- {
		ready, err := p.Wait()
		if err != nil || len(ready) != 1 || ready[0] != to.FD {
			t.Fatalf("%d left: %v, %v", left, ready, err)
		}
		n, more := b.Recv(to.FD, 0, 1)
		if n != 1 || !more {
			t.Fatalf("%d left: received %d, more %v", left, n, more)
		}
		p.Again(to.FD)
		p.Again(to.FD)
	}
	if ready, err := p.Wait(); err != nil || len(ready) != 1 {
		t.Fatalf("after the last: %v, %v", ready, err)
	}
	if n, more := b.Recv(to.FD, 0, 1); n != 0 || more {
		t.Fatalf("received %d, more %v from an empty socket", n, more)
	}
}

func TestWaitAllocatesNothing(t *testing.T) {
	p, b := newPoller(t, time.Hour), NewBatch(8)
	from, to := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	if err := p.Add(to.FD); err != nil {
		t.Fatal(err)
	}
	at := MakeAddr(to.Local)
	if n := testing.AllocsPerRun(200, func() {
		Send(from.FD, []byte("x"), &at)
		if ready, err := p.Wait(); err != nil || len(ready) != 1 {
			t.Fatalf("ready %v, %v", ready, err)
		}
		_, _ = b.Recv(to.FD, 0, 8)
	}); n != 0 {
		t.Errorf("%v allocations a wait", n)
	}
}

func TestListen(t *testing.T) {
	s := listen(t, "127.0.0.1:0")
	if _, err := Listen(s.Local, Options{}); !InUse(err) {
		t.Errorf("a second socket on %s gave %v", s.Local, err)
	}
	if _, err := Listen(netip.MustParseAddrPort("192.0.2.1:0"), Options{}); err == nil || InUse(err) {
		t.Errorf("an address that is not ours gave %v", err)
	}
	if tos, err := unix.GetsockoptInt(s.FD, unix.IPPROTO_IP, unix.IP_TOS); err != nil || tos != 46<<2 {
		t.Errorf("type of service is %d, %v", tos, err)
	}
	six := listen(t, "[::]:0") // shares its port with IPv4: it takes none of it
	four := netip.AddrPortFrom(netip.IPv4Unspecified(), six.Local.Port())
	if s, err := Listen(four, Options{}); err != nil {
		t.Errorf("IPv6 took IPv4 too: %v", err)
	} else {
		_ = s.Close()
	}
}

func TestBatchAllocatesNothing(t *testing.T) {
	a, b := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	to := MakeAddr(b.Local)
	in, out, p := NewBatch(8), NewOutbox(8), make([]byte, 172)
	got := 0
	n := testing.AllocsPerRun(200, func() {
		for range 4 {
			out.Queue(p, &to)
		}
		out.Flush(a.FD)
		Send(a.FD, p, &to)
		n, _ := in.Recv(b.FD, 0, 8)
		for i := range n {
			if in.Source(i) == a.Local && len(in.Packet(i)) == len(p) {
				got++
			}
		}
	})
	if n != 0 || got < 1000 {
		t.Errorf("%v allocations for a batch; received %d", n, got)
	}
}

func BenchmarkLoopback(b *testing.B) {
	from, to := listen(b, "127.0.0.1:0"), listen(b, "127.0.0.1:0")
	addr := MakeAddr(to.Local)
	in, out, p := NewBatch(64), NewOutbox(64), make([]byte, 172)
	b.ReportAllocs()
	for i := 0; i < b.N; i += 64 {
		for range 64 {
			out.Queue(p, &addr)
		}
		out.Flush(from.FD)
		_, _ = in.Recv(to.FD, 0, 64)
	}
}
