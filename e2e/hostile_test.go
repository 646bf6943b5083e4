package e2e

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/e2e/peers"
)

// wire is a socket on one edge's host that sends numbered datagrams, as long as
// those of a call, to one on the other's.
type wire struct {
	*peers.Sites
	t        *testing.T
	out, in  *net.UDPConn
	from, to netip.AddrPort
	sent     uint32

	mu  sync.Mutex // guards what follows
	got []arrival
}

type arrival struct {
	n    uint32
	from netip.AddrPort
}

func newWire(t *testing.T) *wire {
	t.Helper()
	s := peers.NewSites(t, peers.SitesConfig{})
	w := &wire{Sites: s, t: t, from: netip.AddrPortFrom(s.Foo.Public, 20000), to: netip.AddrPortFrom(s.Bar.Public, 20000)}
	w.out, w.in = listenOn(t, s.Foo.Edge, w.from), listenOn(t, s.Bar.Edge, w.to)
	var done sync.WaitGroup
	done.Go(w.read) // ends when the test closes the socket; waited for there
	t.Cleanup(func() { w.in.Close(); w.out.Close(); done.Wait() })
	return w
}

func listenOn(t *testing.T, h *peers.Host, at netip.AddrPort) (c *net.UDPConn) {
	t.Helper()
	err := h.Do(func() (err error) {
		if c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at)); err != nil {
			return err
		}
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		var forced error
		err = raw.Control(func(fd uintptr) { forced = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20) })
		return errors.Join(err, forced)
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (w *wire) read() {
	buf := make([]byte, 2048)
	for {
		n, from, err := w.in.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if n >= 4 {
			w.mu.Lock()
			w.got = append(w.got, arrival{binary.BigEndian.Uint32(buf), from})
			w.mu.Unlock()
		}
	}
}

// send sends so many datagrams.
func (w *wire) send(n int) {
	w.t.Helper()
	b := make([]byte, 182)
	for range n {
		binary.BigEndian.PutUint32(b, w.sent)
		w.sent++
		if _, err := w.out.WriteToUDPAddrPort(b, w.to); err != nil {
			w.t.Fatal(err)
		}
	}
}

// take waits for so many to have come, and returns and forgets them.
func (w *wire) take(n int) []arrival {
	w.t.Helper()
	peers.Until(w.t, 10*time.Second, "datagrams to come", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.got) >= n
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.got
	w.got = nil
	return got
}

// numbers are those of what came, and must be as many as are wanted.
func (w *wire) numbers(want ...uint32) {
	w.t.Helper()
	var got []uint32
	for _, a := range w.take(len(want)) {
		got = append(got, a.n)
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("what came is %v, want %v", got, want)
	}
}

// The network of the enemy does what he says, and loses nothing by itself at the
// rate of two hundred calls.
func TestHostileNetwork(t *testing.T) {
	w := newWire(t)
	const calls, seconds = 200, 2
	capture := w.Net.Capture("hostile")
	before, begun := w.Net.Carried(), time.Now()
	for i := range seconds * 1000 { // 20 each millisecond, both ways of 200 calls having 20,000 a second
		w.send(calls * 2 * 50 / 1000)
		time.Sleep(time.Until(begun.Add(time.Duration(i+1) * time.Millisecond)))
	}
	took := time.Since(begun)
	const all = seconds * calls * 2 * 50
	w.take(all)
	capture.Stop()
	if n, lost := w.Net.Carried()-before, w.Net.Dropped(); n != all || lost != 0 || len(capture.Packets()) != all {
		t.Errorf("of %d packets the network carried %d, recorded %d and lost %d", all, n, len(capture.Packets()), lost)
	}
	t.Logf("%d packets were carried at %.0f a second", all, all/took.Seconds())

	n := w.sent
	drop := w.Net.Drop(peers.Every(2, peers.IsUDP))
	w.send(5) // the last comes, so that none is still on its way when the rule ends
	w.numbers(n, n+2, n+4)
	drop.Stop()

	n = w.sent
	waits := []time.Duration{2 * time.Second, time.Second, 0}
	late := w.Net.Delay(peers.IsUDP, func() time.Duration {
		d := waits[0]
		waits = waits[1:]
		return d
	})
	w.send(3)
	w.numbers(n+2, n+1, n)
	late.Stop()

	n = w.sent
	kept := w.Net.Record(peers.IsUDP, 2)
	w.send(3)
	w.numbers(n, n+1, n+2)
	kept.Stop()
	w.Net.Send(kept.Packets()...)
	w.numbers(n, n+1)
	w.Net.Send(kept.Packets()[0].FromPort(4711), peers.Datagram(netip.MustParseAddrPort("192.0.2.1:9"), w.to, []byte{1, 2, 3, 4}))
	if got := w.take(2); got[0] != (arrival{n, netip.AddrPortFrom(w.from.Addr(), 4711)}) || got[1] != (arrival{0x01020304, netip.MustParseAddrPort("192.0.2.1:9")}) {
		t.Errorf("what was forged came as %v", got)
	}
	w.reset()
}

// reset has the enemy end a TCP connection of others.
func (w *wire) reset() {
	w.t.Helper()
	at := netip.AddrPortFrom(w.Bar.Public, 5061).String()
	var ln net.Listener
	var near, far net.Conn
	err := w.Bar.Edge.Do(func() (err error) { ln, err = net.Listen("tcp", at); return err })
	if err == nil {
		defer ln.Close()
		err = w.Foo.Edge.Do(func() (err error) { near, err = net.Dial("tcp", at); return err })
	}
	if err == nil {
		defer near.Close()
		far, err = ln.Accept()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	defer far.Close()
	kept := w.Net.Record(peers.IsTCP, 1)
	_, _ = near.Write([]byte("hello"))
	hello := make([]byte, 5)
	if _, err := io.ReadFull(far, hello); err != nil {
		w.t.Fatalf("the connection does not carry: %v", err)
	}
	w.Net.Send(kept.Packets()[0].Reset())
	_ = far.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := far.Read(hello); !errors.Is(err, syscall.ECONNRESET) {
		w.t.Errorf("a forged reset ends a connection with %v", err)
	}
}
