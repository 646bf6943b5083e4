package media

import (
	"net/netip"
	"testing"
	"time"
)

// door is a worker that does not run, with a transport that waits for a phone
// without ICE.
type door struct {
	*worker
	t     testing.TB
	phone netip.AddrPort
	tr    *Transport
}

func newDoor(t testing.TB) *door {
	t.Helper()
	e, err := New(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := s.AddTransport(loopback, allSuite)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{worker: e.workers[0], t: t, tr: tr, phone: netip.AddrPortFrom(loopback, 40000)}
	if err := tr.Start(TransportParams{Role: Passive, Suites: allSuite, RTCPMux: true, Hint: d.phone}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.finish()
		d.dtls.running.Wait()
	})
	return d
}

// firstHello is a ClientHello with a random of one byte.
func firstHello(random byte) []byte {
	p := make([]byte, 100)
	p[recordHeader+12+2+31] = random
	p[0], p[1], p[2], p[recordHeader-1] = recordHandshake, 0xfe, 0xfd, byte(len(p)-recordHeader)
	p[recordHeader] = clientHello
	return p
}

// knock begins a handshake, as one ClientHello would.
func (d *door) knock(from netip.AddrPort) *association {
	d.t.Helper()
	hello := firstHello(1)
	d.now++
	d.budget.refill(d.budget.ends)
	a := d.nameless(d.secure[0], from, hello)
	if a == nil {
		d.t.Fatalf("%s may not begin a handshake", from)
	}
	return a
}

// answered is what follows the right cookie.
func (d *door) answered(a *association) {
	hello := make([]byte, 100)
	hello[0], hello[recordHeader] = recordHandshake, serverHello
	d.sendDTLS(a, hello)
}

func (d *door) has(a *association) bool {
	_, ok := d.dtls.open[a]
	return ok
}

// A flood of ClientHellos in the name of the phone's host displaces the phone's
// handshake only if it is faster than its round trip, and never once the phone
// has shown that it is there.
func TestHellosBesideThePhone(t *testing.T) {
	d := newDoor(t)
	flood := func(n int) {
		for i := range n {
			d.knock(netip.AddrPortFrom(loopback, uint16(50000+i)))
		}
	}
	honest := d.knock(d.phone)
	flood(maxUnproven - 1)
	if !d.has(honest) {
		t.Fatal("the phone is displaced at once")
	}
	d.answered(honest)
	flood(2000)
	if !d.has(honest) {
		t.Error("the phone is displaced by who is not there")
	}
	if n := len(d.dtls.open); n > maxUnproven+1 {
		t.Errorf("%d handshakes are open", n)
	}
	slow := d.knock(netip.AddrPortFrom(loopback, 40002)) // the control: the bound holds
	flood(maxUnproven)
	if d.has(slow) {
		t.Error("one that shows nothing is never displaced")
	}
}

// Strangers bound each other, whether they are there or not, and whether they
// end their handshakes or not; there is always room for a phone.
func TestStrangersAtTheDoor(t *testing.T) {
	d := newDoor(t)
	stranger := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 40000)
	}
	for i := range 2 * maxHandshakes {
		a := d.knock(stranger(i))
		if i%2 == 0 {
			d.answered(a)
			d.shook(a, &secret{peer: []byte("stranger")}, nil)
		}
	}
	if n := len(d.dtls.open); n > maxStrangers+maxUnproven {
		t.Errorf("strangers have %d handshakes open", n)
	}
	honest := d.knock(d.phone)
	d.answered(honest)
	for i := range 2 * maxHandshakes {
		d.answered(d.knock(stranger(i)))
	}
	if !d.has(honest) {
		t.Error("the phone is displaced by strangers")
	}
}

// The second ClientHello of a handshake that is forgotten begins none: it could
// not end.
func TestLateHello(t *testing.T) {
	d := newDoor(t)
	hello := firstHello(1)
	hello[recordHeader+5] = 1 // message_seq
	if d.nameless(d.secure[0], d.phone, hello) != nil || len(d.dtls.open) != 0 {
		t.Error("a handshake is begun in its middle")
	}
	d.knock(d.phone) // the control
}

// A handshake that somebody began with the phone's own address and port is not
// in the way of the phone's, before it nor after it.
func TestHelloInThePhonesName(t *testing.T) {
	d := newDoor(t)
	reaches := func(p []byte) *association { return d.nameless(d.secure[0], d.phone, p) }
	before := d.knock(d.phone)
	honest := reaches(firstHello(8))
	after := reaches(firstHello(16))
	if honest == nil || honest == before || after == nil || after == honest {
		t.Fatal("the phone's handshake is another's")
	}
	second := firstHello(8)
	second[recordHeader+5] = 1 // message_seq: it has the cookie
	if reaches(second) != honest {
		t.Error("the phone's second ClientHello does not reach its handshake")
	}
	more := make([]byte, 100)
	more[0], more[1], more[2], more[recordHeader-1], more[recordHeader] = recordHandshake, 0xfe, 0xfd, byte(100-recordHeader), 11
	if reaches(more) != nil {
		t.Error("a certificate reaches a handshake that has shown no cookie")
	}
	d.answered(honest)
	reaches(firstHello(24))
	if reaches(more) != honest {
		t.Error("the phone's certificate does not reach its handshake")
	}
}

// What handshakes cost is bounded, for strangers first.
func TestHelloBudget(t *testing.T) {
	d := newDoor(t)
	begun := func(host netip.Addr, knocks int) (n int) {
		for i := range knocks {
			if d.nameless(d.secure[0], netip.AddrPortFrom(host, uint16(50000+i)), firstHello(1)) != nil {
				n++
			}
		}
		return n
	}
	d.budget.refill(d.budget.ends)
	if n := begun(netip.MustParseAddr("198.51.100.1"), 1000); n != farHellosPerTick {
		t.Errorf("strangers begin %d handshakes in a tick, want %d", n, farHellosPerTick)
	}
	if n := begun(loopback, 1000); n != nearHellosPerTick {
		t.Errorf("a phone's host begins %d handshakes in a tick, want %d", n, nearHellosPerTick)
	}
	d.budget.refill(d.budget.ends)
	if n := begun(loopback, 1); n != 1 {
		t.Error("the next tick has none")
	}
}

// A phone that begins again from elsewhere is not looked for where it was, nor
// is its stream, once it is gone.
func TestHandshakeFromElsewhere(t *testing.T) {
	p := newPaths(t)
	p.t.said = false
	p.w.wait(p.t)
	d := &door{worker: p.w, t: t}
	t.Cleanup(func() {
		for a := range p.w.dtls.open {
			p.w.end(a)
		}
	})
	params := TransportParams{Role: Passive, Suites: allSuite, RTCPMux: true}
	for i, from := range []netip.AddrPort{addr(1, 1000), addr(1, 2000)} {
		cert, err := newCertificate(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		params.Fingerprints = []Fingerprint{cert.fingerprint}
		p.w.start(p.t, params)
		p.w.shook(d.knock(from), &secret{rx: newKey(t, AEADAES128GCM), tx: newKey(t, AEADAES128GCM), peer: cert.tls.Certificate[0]}, nil)
		if at := p.t.streams[0].target(kindRTP); at == nil || at.to != makeAddr(from) {
			t.Fatalf("handshake %d: the phone is not at %s", i, from)
		}
	}
	if n := len(p.w.table.byAddr); n != 1 {
		t.Errorf("it is looked for at %d addresses", n)
	}
	if p.c.s.Close(); len(p.w.table.byAddr) != 0 {
		t.Error("a closed session left something in the table")
	}
}
