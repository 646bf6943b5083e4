package media

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/srtp/v3"
)

var (
	loopback = netip.MustParseAddr("127.0.0.1")
	allSuite = []Suite{AESCM128HMACSHA180, AESCM128HMACSHA132, AESCM256HMACSHA180, AESCM256HMACSHA132, AEADAES128GCM, AEADAES256GCM}
)

func testConfig() Config {
	c := Defaults()
	c.SecureIPs, c.PlainIP = []netip.Addr{loopback}, loopback
	c.Port, c.Workers = 0, 1
	c.PlainPorts = PortRange{30000, 30999} // the kernel gives none of these to whoever asks for any
	return c
}

// runEngine runs an engine until the test ends.
func runEngine(t testing.TB, c Config) *Engine {
	t.Helper()
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, e)
}

func serve(t testing.TB, e *Engine) *Engine {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return e
}

// phone is the far end of a secure leg, by pion's own hand.
type phone struct {
	t    testing.TB
	conn *net.UDPConn
	seal *srtp.Context
	open *srtp.Context
	ssrc uint32
	seq  uint16
}

func udp(t testing.TB) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func at(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func newPhone(t testing.TB, rx, tx Key, ssrc uint32) *phone {
	t.Helper()
	seal, err := rx.context()
	if err != nil {
		t.Fatal(err)
	}
	open, err := tx.context()
	if err != nil {
		t.Fatal(err)
	}
	return &phone{t: t, conn: udp(t), seal: seal, open: open, ssrc: ssrc, seq: 1000}
}

// rtp makes a plain RTP packet with a payload.
func rtpPacket(ssrc uint32, seq uint16, payload string) []byte {
	b := make([]byte, 12, 12+len(payload))
	b[0], b[1] = 0x80, 0
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], uint32(seq)*160)
	binary.BigEndian.PutUint32(b[8:], ssrc)
	return append(b, payload...)
}

// senderReport makes a plain RTCP packet.
func senderReport(ssrc uint32) []byte {
	b := make([]byte, 28)
	b[0], b[1] = 0x80, 200
	binary.BigEndian.PutUint16(b[2:], 6)
	binary.BigEndian.PutUint32(b[4:], ssrc)
	return b
}

func (p *phone) sealed(payload string) []byte {
	p.t.Helper()
	p.seq++
	out, err := p.seal.EncryptRTP(nil, rtpPacket(p.ssrc, p.seq, payload), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

func (p *phone) send(to netip.AddrPort, payload string) { write(p.t, p.conn, to, p.sealed(payload)) }

func write(t testing.TB, c *net.UDPConn, to netip.AddrPort, b []byte) {
	t.Helper()
	if _, err := c.WriteToUDPAddrPort(b, to); err != nil {
		t.Fatal(err)
	}
}

// longest is how long a test waits for what must come: so long only if it fails.
const longest = 30 * time.Second

// until waits for a condition.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(longest); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
	}
}

// read returns the next packet, or nothing within the time.
func read(c *net.UDPConn, d time.Duration) ([]byte, netip.AddrPort) {
	b := make([]byte, 2048)
	_ = c.SetReadDeadline(time.Now().Add(d))
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		return nil, from
	}
	return b[:n], from
}

// wants reads a plain packet with that payload.
func wants(t testing.TB, c *net.UDPConn, payload string) {
	t.Helper()
	b, _ := read(c, longest)
	if len(b) < 12 || string(b[12:]) != payload {
		t.Fatalf("got %d bytes %q, want payload %q", len(b), b, payload)
	}
}

// hears reads an SRTP packet with that payload.
func (p *phone) hears(payload string) {
	p.t.Helper()
	b, _ := read(p.conn, longest)
	if b == nil {
		p.t.Fatalf("the phone got nothing, want %q", payload)
	}
	out, err := p.open.DecryptRTP(nil, b, nil)
	if err != nil || string(out[12:]) != payload {
		p.t.Fatalf("the phone got %q (%v), want %q", out, err, payload)
	}
}

// quiet checks that nothing comes.
func quiet(t testing.TB, c *net.UDPConn, who string) {
	t.Helper()
	if b, from := read(c, 100*time.Millisecond); b != nil {
		t.Fatalf("%s got %d bytes from %s, want nothing", who, len(b), from)
	}
}

// leg is one stream with both far ends.
type leg struct {
	s      *Session
	addrs  StreamAddrs
	secure netip.AddrPort
	phone  *phone
	pbx    *net.UDPConn
	rx, tx Key
}

func newKey(t testing.TB, s Suite) Key {
	t.Helper()
	k, err := NewKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// call sets up a stream between a phone and a PBX.
func call(t testing.TB, e *Engine, suite Suite, notify Notify) *leg {
	t.Helper()
	s, err := e.Open(notify)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	addrs, err := s.AddStream()
	if err != nil {
		t.Fatal(err)
	}
	l := &leg{s: s, addrs: addrs, secure: addrs.Secure[0], pbx: udp(t), rx: newKey(t, suite), tx: newKey(t, suite)}
	l.phone = newPhone(t, l.rx, l.tx, uint32(0x1000+addrs.Plain.Port()))
	if err := s.SetPlain(0, PlainParams{RTP: at(l.pbx)}); err != nil {
		t.Fatal(err)
	}
	l.protect(t)
	return l
}

func (l *leg) protect(t testing.TB) {
	t.Helper()
	if err := l.s.SetSecure(0, SecureParams{Rx: l.rx, Tx: l.tx, Hint: at(l.phone.conn)}); err != nil {
		t.Fatal(err)
	}
}

func (l *leg) drops(d Drop) uint64 { return l.s.Stats().Streams[0].Drops[d.String()] }
