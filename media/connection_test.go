package media

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/media/packet"
)

// A phone that reads nothing loses its own packets, and nobody else's.
func TestTCPNeverReads(t *testing.T) {
	e := runEngine(t, testConfig())
	deaf := newWeb(t, e, 1)
	deaf.start(Active, true, AEADAES128GCM)
	conn := dialTCP(t, deaf.plain[0].TCP[0])
	_ = conn.SetReadBuffer(4096)
	deaf.tcp = conn
	deaf.send(deaf.check(deaf.tr.Credentials(), useCandidate).Raw)
	deaf.event(Latched)
	seal, err := newSealer(newKey(t, AEADAES128GCM))
	if err != nil {
		t.Fatal(err)
	}
	w := deaf.s.worker
	w.do(func() { deaf.tr.t.parts[kindRTP].prot.tx.set(seal, false, w.now) }) // it never read the handshake either
	byUDP, byTCP := newWeb(t, e, 1), connected(t, e)
	byUDP.start(Active, true, AEADAES128GCM)
	byUDP.nominate(byUDP.tr.Credentials())
	if err := byUDP.handshake(Passive, allSuite, byUDP.tr.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	byUDP.event(Secured)
	dropped := func() uint64 { return deaf.s.Stats().Streams[0].Drops[DropSlow.String()] }
	for i := 0; dropped() < 100; i++ {
		if i == 2000 {
			t.Fatal("nothing was dropped of 2,000 rounds to who reads nothing")
		}
		for range 20 {
			deaf.fromPBX(strings.Repeat("x", 1400))
		}
		byUDP.speaks(fmt.Sprint("by UDP ", i))
		byTCP.speaks(fmt.Sprint("by TCP ", i))
	}
	for _, c := range []*web{byUDP, byTCP} {
		if drops := c.s.Stats().Streams[0].Drops; len(drops) > 0 {
			t.Errorf("another call lost packets: %v", drops)
		}
	}
	w.do(func() {
		if n := len(deaf.tr.t.conns[0].conn.out.waiting()); n == 0 || n > outBuffer {
			t.Errorf("%d bytes wait for it", n)
		}
	})
	// What it reads at last is whole frames, and new ones follow.
	_ = conn.SetReadBuffer(1 << 20)
	header, frame := make([]byte, 2), make([]byte, 2048)
	read := func() []byte {
		t.Helper()
		for _, b := range []*[]byte{&header, &frame} {
			if _, err := io.ReadFull(conn, *b); err != nil {
				t.Fatal(err)
			}
			frame = frame[:binary.BigEndian.Uint16(header)]
		}
		return frame
	}
	if p := read(); demux(p) != protoSTUN {
		t.Fatalf("the first frame is %x", p)
	}
	want := strings.Repeat("y", 700)
	for i := 0; ; i++ {
		if i%10 == 0 {
			deaf.fromPBX(want)
		}
		frame = frame[:cap(frame)]
		p := read()
		if kind, _, ok := classify(p); demux(p) != protoDTLS && (!ok || kind != kindRTP || len(p) != 12+1400+16 && len(p) != 12+len(want)+16) {
			t.Fatalf("frame %d is not one that was sent: %d bytes, %x", i, len(p), p[:min(len(p), 20)])
		}
		if len(p) == 12+len(want)+16 {
			break
		}
	}
}

// Whatever a connection that was adopted brings, and however slowly: other calls
// go on, and so does this one where the frames are whole.
func TestTCPSlowAndStrange(t *testing.T) {
	e := runEngine(t, testConfig())
	strange, honest := connected(t, e), connected(t, e)
	raw := func(b []byte) {
		t.Helper()
		if _, err := strange.tcp.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	byByte := func(p []byte) {
		for i, b := range framed(p) {
			raw([]byte{b})
			if i%20 == 0 {
				honest.speaks(fmt.Sprint("beside it ", i))
			}
		}
	}
	strange.seq++
	out, err := strange.seal.EncryptRTP(nil, rtpPacket(strange.ssrc, strange.seq, "byte by byte"), nil)
	if err != nil {
		t.Fatal(err)
	}
	byByte(out)
	wants(t, strange.pbx[0], "byte by byte")
	before := e.Stats().Drops
	raw([]byte{0xff, 0xff})
	raw(random(60000)) // of 65,535
	honest.speaks("beside a huge frame")
	raw(random(5535))
	strange.speaks("behind a huge frame")
	raw(bytes.Repeat([]byte{0, 0}, 5000))
	raw(bytes.Repeat(framed([]byte{0xff}), 5000))
	honest.speaks("beside frames of nothing")
	strange.speaks("behind frames of nothing")
	raw(framed(random(100))[:50])
	honest.speaks("beside half a frame")
	after := e.Stats().Drops
	if n := after[DropOversize.String()] - before[DropOversize.String()]; n != 1 {
		t.Errorf("%d oversize frames are counted, want 1", n)
	}
	if n := after[DropUnknown.String()] - before[DropUnknown.String()]; n != 5000 {
		t.Errorf("%d unknown frames are counted, want 5000", n)
	}
	strange.tcp.Close()
	until(t, "its end", func() bool { return strange.conns() == 0 })
	honest.speaks("after it")
}

// A connection is one transport's. Nor does an address say anything by UDP that
// is a connection's by TCP.
func TestTCPApart(t *testing.T) {
	e := runEngine(t, testConfig())
	a, b := newWeb(t, e, 1), newWeb(t, e, 1)
	b.start(Active, true, AEADAES128GCM)
	conn, same := dialTwin(t, a.plain[0].TCP[0])
	a.use(conn)
	a.connect()
	drops := func(why Drop) uint64 { return e.Stats().Drops[why.String()] }
	a.speaks("at first")
	before := drops(DropSTUN)
	a.send(b.check(b.tr.Credentials(), useCandidate).Raw)
	until(t, "the drop of another call's check", func() bool { return drops(DropSTUN) == before+1 })
	if b.chosenPath() != nil {
		t.Error("another call's connection is a path")
	}
	l := call(t, e, AEADAES128GCM, nil) // a phone with SDES, at the same host
	before = drops(DropNoStream)
	a.send(l.phone.sealed("by another's connection"))
	until(t, "the drop of another call's packet", func() bool { return drops(DropNoStream) == before+1 })
	l.phone.send(l.secure, "the control")
	wants(t, l.pbx, "the control")

	before = drops(DropDTLS)
	hello := make([]byte, 100)
	copy(hello, []byte{recordHandshake, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 87, serverHello})
	write(t, same, a.to, hello)
	until(t, "the drop of DTLS from the same address by UDP", func() bool { return drops(DropDTLS) == before+1 })
	a.seq++
	out, err := a.seal.EncryptRTP(nil, rtpPacket(a.ssrc, a.seq, "by UDP"), nil)
	if err != nil {
		t.Fatal(err)
	}
	write(t, same, a.to, out) // it verifies, and moves nothing
	wants(t, a.pbx[0], "by UDP")
	a.fromPBX("still by TCP")
	a.hears("still by TCP")
	quiet(t, same, "the same address by UDP")
	a.speaks("as before")
}

// Connections end with their session, with their consent, when there are too
// many, and with the worker. Nothing of them is left.
func TestTCPEnds(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("engine", func(t *testing.T) {
		e := newEngine(t, testConfig())
		stop := run(t, e)
		c := connected(t, e)
		w := c.s.worker
		consented := c.tcp
		extra := c.byTCP()
		c.send(c.check(c.tr.Credentials()).Raw)
		until(t, "a second connection", func() bool { return c.conns() == 2 })
		w.do(func() {
			c.tr.t.path(canonical(extra.LocalAddr().(*net.TCPAddr).AddrPort()), c.tr.t.conns[1]).checked -= int64(consent)
			w.sweepTransports()
		})
		c.tcp = consented
		c.speaks("by the one that is checked")
		if c.conns() != 1 {
			t.Error("a connection without consent stays")
		}
		for range maxPaths + 5 { // each takes the place of one that is not chosen
			c.byTCP()
			c.send(c.check(c.tr.Credentials()).Raw)
			if c.answer() == nil {
				t.Fatal("a check was not answered")
			}
		}
		if n := c.conns(); n != maxPaths {
			t.Errorf("%d connections, want %d", n, maxPaths)
		}
		c.tcp = consented
		c.speaks("by the chosen one still")
		for _, renews := range []bool{false, true} { // who never does is not held to it
			w.do(func() {
				c.tr.t.renews = renews
				if p := c.tr.t.chosen; p != nil {
					p.checked -= int64(consent)
				}
				w.sweepTransports()
			})
			if gone := c.chosenPath() == nil; gone != renews {
				t.Errorf("the phone renews its consent: %v; the connection in use is closed: %v", renews, gone)
			}
		}
		c.s.Close()
		until(t, "the end of all", func() bool { s := e.Stats().TCP; return s.Open == 0 })
		w.do(func() {
			if n := len(w.table.byPath) + len(w.table.byAddr) + len(w.table.lanes); n != 0 {
				t.Errorf("%d entries are left of them", n)
			}
		})
		before := 0
		for round := range 5 {
			if round == 1 {
				before = descriptors(t)
			}
			d := connected(t, e)
			d.s.Close()
			until(t, "the end of its connection", func() bool { return e.Stats().TCP.Open == 0 })
			d.tcp.Close()
			d.conn.Close()
			d.pbx[0].Close()
		}
		until(t, "as few descriptors as before", func() bool { return descriptors(t) <= before })
		d := connected(t, e)
		waiting := dialTCP(t, d.plain[0].TCP[0])
		until(t, "one that waits", func() bool { return e.Stats().TCP.Waiting == 1 })
		stop()
		ended(t, waiting)
		if s := e.lobby.stats(); s.Open+s.Waiting != 0 || len(e.lobby.hosts) != 0 {
			t.Errorf("when the engine has ended: %+v, %v", s, e.lobby.hosts)
		}
	})
}

// No packet allocates that comes or leaves by TCP.
func TestTCPAllocatesNothing(t *testing.T) {
	const runs = 200
	h := newHot(t, AEADAES128GCM)
	c := newWeb(t, h.l.s.engine, 1)
	c.start(Passive, true, AEADAES128GCM)
	rx, tx := newKey(t, AEADAES128GCM), newKey(t, AEADAES128GCM)
	far := newPhone(t, rx, tx, c.ssrc)
	opener, err := newOpener(rx)
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := newSealer(tx)
	if err != nil {
		t.Fatal(err)
	}
	prot := &c.tr.t.parts[kindRTP].prot
	prot.rx.set(opener, 0)
	prot.tx.set(sealer, false, 0)
	h.w.bind(c.tr.t)
	client, s := adoptedPair(t, h.w)
	if why := h.w.adopt(s, c.check(c.tr.Credentials(), useCandidate).Raw); why != adopted {
		t.Fatalf("refused: %s", why)
	}
	buf := make([]byte, 4096)
	if n, err := client.Read(buf); err != nil || n < stunHeader {
		t.Fatalf("%d bytes (%v), want the answer to the check", n, err)
	}
	var packets [][]byte
	for range runs + 10 {
		packets = append(packets, framed(far.sealed(string(make([]byte, 160)))))
	}
	i := 0
	inward := func() {
		if _, err := client.Write(packets[i]); err != nil {
			t.Fatal(err)
		}
		for i++; h.w.fromConnection(s, 0) == 0; {
		}
	}
	inward() // makes the lane
	if n := testing.AllocsPerRun(runs, inward); n != 0 {
		t.Errorf("from the phone: %v allocations a packet", n)
	}
	st := c.tr.t.streams[0]
	plain := rtpPacket(7, 1, string(make([]byte, 160)))
	outward := func() {
		plain[3]++
		h.w.batch.Fill(0, plain, at(c.pbx[0]))
		h.w.fromPBX(st, kindRTP, 0)
		h.w.flush()
		if n, err := client.Read(buf); err != nil || n != frameHeader+12+160+16 {
			t.Fatalf("%d bytes (%v) reached the phone", n, err)
		}
	}
	outward()
	if n := testing.AllocsPerRun(runs, outward); n != 0 {
		t.Errorf("from the PBX: %v allocations a packet", n)
	}
	if in, out := st.counts.dir[Inward].RTP, st.counts.dir[Outward].RTP; in < runs || out < runs {
		t.Errorf("relayed only %d and %d: drops %v", in, out, st.counts.drops)
	}
	h.w.hangUp(s)
}

// adoptedPair is a connection, and our end of it as a worker has it.
func adoptedPair(t testing.TB, w *worker) (*net.TCPConn, *secureSocket) {
	t.Helper()
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client := dialTCP(t, ln.Addr().(*net.TCPAddr).AddrPort())
	conn, err := ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	socket, err := packet.Adopt(conn)
	if err != nil {
		t.Fatal(err)
	}
	remote := canonical(client.LocalAddr().(*net.TCPAddr).AddrPort())
	return client, &secureSocket{Socket: socket, kind: kindRTP, conn: &connection{remote: remote, leave: func() {}}}
}
