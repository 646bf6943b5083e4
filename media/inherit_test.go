package media

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/media/seam"
)

// succeed makes an engine that takes over the sockets of another, which yields them.
func succeed(t *testing.T, old *Engine, c Config) *Engine {
	t.Helper()
	left, seams := make(map[string]int), make(map[netip.AddrPort]int)
	heirlooms, err := old.Heirlooms()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range heirlooms {
		fd, err := unix.FcntlInt(uintptr(h.FD), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		left[h.Network+" "+h.Addr.String()] = fd
		if h.Network == "udp" {
			out, in, err := seam.Pair()
			if err != nil {
				t.Fatal(err)
			}
			seams[h.Addr], left["seam "+h.Addr.String()] = out, in
			c.Port = min(c.Port, h.Addr.Port())
		}
	}
	c.Inherit = func(network string, at netip.AddrPort) (int, bool) {
		key := fmt.Sprint(network, " ", at)
		fd, ok := left[key]
		delete(left, key)
		return fd, ok
	}
	fresh, err := New(c) // before the other lets go: no packet is lost
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Fatalf("not inherited: %v", left)
	}
	if err := old.Yield(seams); err != nil {
		t.Fatal(err)
	}
	return fresh
}

// Calls go on in the process that they began in, whatever socket they come by, while
// its successors have calls of their own; and all the phones speak to one port.
func TestSuccession(t *testing.T) {
	c := testConfig()
	c.Port, c.PlainPorts = 30900, PortRange{30000, 30199}
	engines := []*Engine{runEngine(t, c)}
	calls := []*leg{call(t, engines[0], AEADAES128GCM, nil)}
	seq := uint16(0)
	speak := func() {
		t.Helper()
		for i, l := range calls {
			for range 2 {
				seq++
				said := fmt.Sprintf("call %d packet %d", i, seq)
				l.phone.send(l.secure, said)
				wants(t, l.pbx, said)
				write(t, l.pbx, l.addrs.Plain, rtpPacket(7, seq, said))
				l.phone.hears(said)
			}
		}
	}
	speak()
	for range 2 {
		engines = append(engines, serve(t, succeed(t, engines[len(engines)-1], c)))
		speak()
		calls = append(calls, call(t, engines[len(engines)-1], AEADAES128GCM, nil))
		speak()
	}
	for i, l := range calls {
		if l.secure != calls[0].secure {
			t.Errorf("call %d is by %s, the first by %s", i, l.secure, calls[0].secure)
		}
		if n := engines[i].Stats().Sessions; n != 1 {
			t.Errorf("process %d has %d sessions", i, n)
		}
	}
	// What nobody knows ends with the oldest.
	stranger := newPhone(t, newKey(t, AEADAES128GCM), newKey(t, AEADAES128GCM), 5)
	stranger.send(calls[0].secure, "hello?")
	until(t, "the drop of what nobody knows, by the oldest", func() bool { return engines[0].Stats().Drops["no_stream"] > 0 })
	if n := engines[2].Stats().Drops["no_stream"]; n != 0 {
		t.Errorf("the youngest dropped %d packets that it passed on", n)
	}
}

// A phone without ICE begins its handshake with the process that expects it, though in the
// others calls ring whose phones may begin at any time; and with whichever is left.
func TestHandshakeOfBefore(t *testing.T) {
	c := testConfig()
	c.Port, c.PlainPorts = 30930, PortRange{30600, 30799}
	old := runEngine(t, c)
	calls := []*web{newWeb(t, old, 1), newWeb(t, old, 1)} // the second rings on
	ctx, die := context.WithCancel(t.Context())
	fresh, ended := succeed(t, old, c), make(chan error, 1)
	go func() { ended <- fresh.Run(ctx) }() // ends with ctx, and is waited for
	ringing, late := newWeb(t, fresh, 1), newWeb(t, fresh, 1)
	talk := func(what string, w *web) {
		t.Helper()
		w.start(Passive, false, allSuite...)
		if err := w.handshake(Active, allSuite, w.tr.Fingerprint()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		w.talks()
	}
	talk("a call of before", calls[0])
	talk("a new call", late)
	early := make(chan error, 1) // before its description: it comes again, a second later
	go func() { early <- ringing.handshake(Active, allSuite, ringing.tr.Fingerprint()) }()
	until(t, "what nobody expects, at the first process", func() bool { return old.Stats().Drops["dtls"] > 0 })
	ringing.start(Passive, false, allSuite...)
	if err := <-early; err != nil {
		t.Fatal(err)
	}
	ringing.talks()
	die()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := old.Resume(); err != nil {
		t.Fatal(err)
	}
	talk("a call of before, once the new process is gone", calls[1])
}

// An engine takes its sockets back from one that is gone, and its calls go on; it may
// yield them again.
func TestResume(t *testing.T) {
	c := testConfig()
	c.Port, c.PlainPorts = 30910, PortRange{30200, 30399}
	old := runEngine(t, c)
	l := call(t, old, AEADAES128GCM, nil)
	seq := uint16(0)
	speak := func(l *leg) {
		t.Helper()
		for range 3 {
			seq++
			said := fmt.Sprintf("packet %d", seq)
			l.phone.send(l.secure, said)
			wants(t, l.pbx, said)
			write(t, l.pbx, l.addrs.Plain, rtpPacket(7, seq, said))
			l.phone.hears(said)
		}
	}
	speak(l)
	if err := old.Resume(); err != nil { // nobody has them
		t.Fatal(err)
	}
	for range 3 {
		fresh, ended := succeed(t, old, c), make(chan error)
		ctx, die := context.WithCancel(context.Background())
		go func() { ended <- fresh.Run(ctx) }() // ends with ctx, and is waited for
		speak(l)
		speak(call(t, fresh, AEADAES128GCM, nil))
		die()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if err := old.Resume(); err != nil {
			t.Fatal(err)
		}
		speak(l)
	}
	speak(call(t, old, AEADAES128GCM, nil))
}

// Sockets that the process after has no use for are read on.
func TestYieldOfWhatIsNotTaken(t *testing.T) {
	c := testConfig()
	c.Port, c.PlainPorts = 30920, PortRange{30400, 30599}
	old := runEngine(t, c)
	l := call(t, old, AEADAES128GCM, nil)
	for i, change := range []func() error{func() error { return old.Yield(nil) }, old.Resume} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		said := fmt.Sprintf("packet %d", i+1)
		l.phone.send(l.secure, said)
		wants(t, l.pbx, said)
	}
}

// What is passed on costs no allocation, in either process.
func TestPassingOnAllocatesNothing(t *testing.T) {
	h := newHot(t, AESCM128HMACSHA180)
	h.fromPhone(h.sealed(t, 1, false)[0]) // it latches: no key of a call is tried any more
	out, in, err := seam.Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(out) })
	h.w.secure[0].past = seam.NewWriter(in) // closed by the worker
	p := newPhone(t, newKey(t, AESCM128HMACSHA180), newKey(t, AESCM128HMACSHA180), 99).sealed("not of this process")
	from, got := netip.MustParseAddrPort("127.0.0.9:9"), 0
	if n := testing.AllocsPerRun(200, func() {
		h.w.readClock()
		h.w.batch.Fill(0, p, from)
		h.w.fromPhone(h.w.secure[0], 0)
		if n, _ := h.w.batch.Recv(out, 0, 1); n == 1 && h.w.batch.Unwrap(0) && len(h.w.batch.Packet(0)) == len(p) {
			got++
		}
	}); n != 0 || got < 200 {
		t.Errorf("%v allocations for a packet that is passed on; %d came", n, got)
	}
}
