package media

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// trunkCall is one call between two edges, by its ends at one of them.
type trunkCall struct {
	s     *Session
	addrs StreamAddrs
	pbx   *net.UDPConn
	key   Key // ours
}

// leave opens a call's media at one edge, as an offer needs it.
func leave(t testing.TB, e *Engine) *trunkCall {
	t.Helper()
	s, err := e.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	addrs, err := s.AddStream()
	if err != nil {
		t.Fatal(err)
	}
	c := &trunkCall{s: s, addrs: addrs, pbx: udp(t), key: newKey(t, AEADAES256GCM)}
	if err := s.SetPlain(0, PlainParams{RTP: at(c.pbx), RTCP: at(c.pbx)}); err != nil {
		t.Fatal(err)
	}
	return c
}

// agree does what c's edge does when it knows the other's description.
func (c *trunkCall) agree(t testing.TB, o *trunkCall, hint netip.AddrPort, await bool) {
	t.Helper()
	p := SecureParams{
		Rx: o.key, Tx: c.key, RTCPMux: true, Hint: hint, SSRCs: []uint32{o.addrs.SSRC}, Sole: true, Fixed: true,
		CNAME: "edge", Announced: true, Formats: []Format{{PayloadType: 0, Codec: "PCMU", ClockRate: 8000}}, Await: await,
	}
	if err := c.s.SetSecure(0, p); err != nil {
		t.Fatal(err)
	}
}

// write sends a packet of the call's PBX.
func (c *trunkCall) write(t testing.TB, p []byte) { write(t, c.pbx, c.addrs.Plain, p) }

// trunk sets up two edges and calls between them, each edge by its one port.
func trunk(t *testing.T, calls int) (foo, bar []*trunkCall) {
	t.Helper()
	one, two := runEngine(t, testConfig()), runEngine(t, testConfig())
	for range calls {
		a, b := leave(t, one), leave(t, two)
		b.agree(t, a, a.addrs.Secure[0], true) // it has the offer
		a.agree(t, b, b.addrs.Secure[0], false)
		foo, bar = append(foo, a), append(bar, b)
	}
	return foo, bar
}

// A hundred calls between two ports: each hears its own, from the first packet on,
// RTP and RTCP, and nobody looks for anything.
func TestManyCallsOfOneAddress(t *testing.T) {
	const calls, packets = 100, 10
	foo, bar := trunk(t, calls)
	if foo[0].addrs.Secure[0] != foo[calls-1].addrs.Secure[0] || bar[0].addrs.Secure[0] != bar[calls-1].addrs.Secure[0] {
		t.Fatal("the calls have more than one port")
	}
	for name, ways := range map[string][2][]*trunkCall{"to bar": {foo, bar}, "to foo": {bar, foo}} {
		from, to := ways[0], ways[1]
		for n := range packets {
			for i, c := range from { // all PBXs number their packets alike, and have one SSRC
				c.write(t, rtpPacket(7, uint16(100+n), fmt.Sprintf("%s, call %d, packet %d", name, i, n)))
			}
			for i, c := range to {
				wants(t, c.pbx, fmt.Sprintf("%s, call %d, packet %d", name, i, n))
			}
		}
		for i, c := range from {
			report := receiverReport(7)
			copy(report[8:], fmt.Appendf(nil, "%04d", i)) // whom it tells of
			c.write(t, report)
		}
		for i, c := range to {
			if b, _ := read(c.pbx, longest); len(b) != len(receiverReport(7)) || string(b[8:12]) != fmt.Sprintf("%04d", i) {
				t.Fatalf("%s: the PBX of call %d got the report %x", name, i, b)
			}
		}
	}
	for _, c := range [][]*trunkCall{foo, bar} {
		stats := c[0].s.engine.Stats()
		for why, n := range stats.Drops {
			if n > 0 {
				t.Errorf("%d packets dropped: %s", n, why)
			}
		}
		c[0].s.worker.do(func() {
			w := c[0].s.worker
			if w.budget.near != nearPerTick || w.budget.far != farPerTick || len(w.table.fresh)+len(w.table.byHost)+len(w.table.byAddr) > 0 {
				t.Error("streams are searched for that need no search")
			}
		})
	}
	for _, c := range bar {
		quiet(t, c.pbx, "a PBX")
		break
	}
}

// Where there are several workers, each has a port, and a call's packets go to its
// own worker's: the description names it.
func TestCallsOfManyWorkers(t *testing.T) {
	c := testConfig()
	c.Workers = 3
	one, two := runEngine(t, c), runEngine(t, c)
	ports := make(map[netip.AddrPort]int)
	var foo, bar []*trunkCall
	for i := range 12 {
		for _, e := range []*Engine{one, two} {
			for n, w := range e.workers { // so that calls are dealt in turn, differently at each
				w.load.busy.Store(enough)
				if n == i%3 && e == one || n == i/4 && e == two {
					w.load.busy.Store(0)
				}
			}
		}
		a, b := leave(t, one), leave(t, two)
		ports[a.addrs.Secure[0]]++
		ports[b.addrs.Secure[0]]++
		b.agree(t, a, a.addrs.Secure[0], true)
		a.agree(t, b, b.addrs.Secure[0], false)
		foo, bar = append(foo, a), append(bar, b)
	}
	if len(ports) < 4 {
		t.Fatalf("the calls have the ports %v", ports)
	}
	for i := range foo {
		foo[i].write(t, rtpPacket(7, 1, fmt.Sprint("to bar ", i)))
		wants(t, bar[i].pbx, fmt.Sprint("to bar ", i))
		bar[i].write(t, rtpPacket(7, 1, fmt.Sprint("to foo ", i)))
		wants(t, foo[i].pbx, fmt.Sprint("to foo ", i))
	}
}

// receiverReport makes a plain RTCP packet of one block.
func receiverReport(ssrc uint32) []byte {
	b := make([]byte, 32)
	b[0], b[1], b[3] = 0x81, rtcpRR, 7
	b[4], b[5], b[6], b[7] = byte(ssrc>>24), byte(ssrc>>16), byte(ssrc>>8), byte(ssrc)
	return b
}

// weather is a network between two edges that loses and overtakes. What it lets
// through it counts, by the sequence numbers.
type weather struct {
	toward [2]*net.UDPConn   // sends to edge i, and hears it
	edges  [2]netip.AddrPort //
	random [2]*rand.Rand     // each with its goroutine
	mu     sync.Mutex        // guards what follows
	came   [2]int            // by the sender: how many
	passed [2]map[uint16]int // and how often each was let through
	wg     sync.WaitGroup    // of both goroutines, which end with their sockets
}

func newWeather(t *testing.T, foo, bar netip.AddrPort) *weather {
	n := &weather{edges: [2]netip.AddrPort{foo, bar}, passed: [2]map[uint16]int{{}, {}}}
	for i := range n.toward {
		n.toward[i] = udp(t)
		n.random[i] = rand.New(rand.NewPCG(7, uint64(i)))
	}
	for i := range n.toward {
		n.wg.Go(func() { n.blow(i) })
	}
	t.Cleanup(func() {
		for _, c := range n.toward {
			c.Close()
		}
		n.wg.Wait()
	})
	return n
}

// waiting is how many of what edge i sent has not reached the network.
func (n *weather) waiting(i, sent int) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return sent - n.came[i]
}

// count is how many of edge i's packets were let through.
func (n *weather) count(i int) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.passed[i])
}

// eventually waits until something is so, but not for ever: what the test then
// compares tells what was wrong.
func eventually(so func() bool) bool {
	for end := time.Now().Add(longest); !so(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// listener counts what a PBX hears, by the sequence numbers.
type listener struct {
	mu    sync.Mutex // guards heard
	heard map[uint16]int
}

func listen(t *testing.T, c *net.UDPConn) *listener {
	l := &listener{heard: make(map[uint16]int)}
	done := make(chan struct{})
	go func() { // ends with the socket; waited for below
		defer close(done)
		b := make([]byte, 2048)
		for {
			if _, _, err := c.ReadFromUDPAddrPort(b); err != nil {
				return
			}
			l.mu.Lock()
			l.heard[sequence(b)]++
			l.mu.Unlock()
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return l
}

func (l *listener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.heard)
}

func (l *listener) times(seq uint16) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard[seq]
}

// blow carries what comes from edge i.
func (n *weather) blow(i int) {
	var kept [][]byte
	b := make([]byte, 2048)
	for {
		size, _, err := n.toward[i].ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		p := append([]byte(nil), b[:size]...)
		n.mu.Lock()
		n.came[i]++
		n.mu.Unlock()
		dice := n.random[i].IntN(100)
		if dice < 5 {
			continue // lost
		}
		if kept = append(kept, p); dice < 40 && len(kept) < 6 {
			continue // overtaken
		}
		n.random[i].Shuffle(len(kept), func(a, b int) { kept[a], kept[b] = kept[b], kept[a] })
		for _, p := range kept {
			n.mu.Lock()
			n.passed[i][sequence(p)]++
			n.mu.Unlock()
			_, _ = n.toward[1-i].WriteToUDPAddrPort(p, n.edges[1-i])
		}
		kept = kept[:0]
	}
}

// Keys change in a call in which packets are lost and overtake each other, and in
// which the answer takes its time: what the network lets through is heard.
func TestRekeyInBadWeather(t *testing.T) {
	one, two := runEngine(t, testConfig()), runEngine(t, testConfig())
	foo, bar := leave(t, one), leave(t, two)
	net := newWeather(t, foo.addrs.Secure[0], bar.addrs.Secure[0])
	agree := func(c, o *trunkCall, i int, await bool) { c.agree(t, o, at(net.toward[i]), await) }
	agree(bar, foo, 1, true)
	agree(foo, bar, 0, false)

	const packets, every = 1200, 150
	heard := [2]*listener{listen(t, bar.pbx), listen(t, foo.pbx)}
	sent, good := 0, true
	for ; good && sent < packets; sent++ {
		n := sent
		switch n % every {
		case 50: // foo offers new keys, bar answers
			foo.key, bar.key = newKey(t, AEADAES256GCM), newKey(t, AEADAES256GCM)
			agree(bar, foo, 1, true)
		case 90: // and foo gets the answer
			agree(foo, bar, 0, false)
		}
		foo.write(t, rtpPacket(7, uint16(1000+n), "foo"))
		bar.write(t, rtpPacket(8, uint16(3000+n), "bar"))
		good = eventually(func() bool { // no socket's buffer may overflow
			return net.waiting(0, n+1) < 50 && net.waiting(1, n+1) < 50 && heard[0].count() > net.count(0)-50 && heard[1].count() > net.count(1)-50
		})
	}
	eventually(func() bool {
		return net.waiting(0, sent) == 0 && net.waiting(1, sent) == 0 && heard[0].count() >= net.count(0) && heard[1].count() >= net.count(1)
	})
	net.mu.Lock()
	defer net.mu.Unlock()
	for i, name := range []string{"bar", "foo"} {
		if len(net.passed[i]) < packets*9/10 || len(net.passed[i]) == packets {
			t.Errorf("the network let %d of %d packets through to %s", len(net.passed[i]), packets, name)
		}
		for seq := range net.passed[i] {
			if times := heard[i].times(seq); times != 1 {
				t.Errorf("%s heard packet %d %d times", name, seq, times)
			}
		}
	}
	for name, c := range map[string]*trunkCall{"foo": foo, "bar": bar} {
		a, err := c.s.KeyAges(0)
		if err != nil || a.Waiting || a.Tx.Packets == 0 || a.Tx.Packets > every || a.Rx.Packets == 0 || a.Rx.Packets > every {
			t.Errorf("%s: %+v (%v)", name, a, err)
		}
	}
}
