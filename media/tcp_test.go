package media

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// framed is a packet as RFC 4571 sends it.
func framed(p []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...)
}

func dialTCP(t testing.TB, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	conn, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// dialTwin dials from a port that a UDP socket has, too.
func dialTwin(t testing.TB, to netip.AddrPort) (*net.TCPConn, *net.UDPConn) {
	t.Helper()
	for range 100 {
		twin := udp(t)
		conn, err := net.DialTCP("tcp", net.TCPAddrFromAddrPort(at(twin)), net.TCPAddrFromAddrPort(to))
		switch {
		case err == nil:
			t.Cleanup(func() { conn.Close() })
			return conn, twin
		case !errors.Is(err, syscall.EADDRINUSE) && !errors.Is(err, syscall.EADDRNOTAVAIL): // another connection's
			t.Fatal(err)
		}
	}
	t.Fatal("no port is free for both")
	return nil, nil
}

// dial makes the browser use a new connection. What comes by those before is
// still heard.
func (b *browser) dial(to netip.AddrPort) *net.TCPConn {
	b.t.Helper()
	return b.use(dialTCP(b.t, to))
}

func (b *browser) use(conn *net.TCPConn) *net.TCPConn {
	b.tcp = conn
	done := make(chan struct{})
	go func() { // ends with the connection; waited for below
		defer close(done)
		for buf := make([]byte, 65536); ; {
			if _, err := io.ReadFull(conn, buf[:2]); err != nil {
				return
			}
			n := binary.BigEndian.Uint16(buf)
			if _, err := io.ReadFull(conn, buf[:n]); err != nil {
				return
			}
			b.sort(buf[:n])
		}
	}()
	b.t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return conn
}

// newEngine is one that does not run yet.
func newEngine(t testing.TB, c Config) *Engine {
	t.Helper()
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// run runs an engine until the function it returns, or the test's end.
func run(t testing.TB, e *Engine) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }() // ends with ctx; waited for by stop
	stopped := false
	stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func (c *web) byTCP() *net.TCPConn {
	c.t.Helper()
	return c.dial(c.plain[0].TCP[0])
}

// connected is a call whose keys came by TCP alone.
func connected(t testing.TB, e *Engine) *web {
	t.Helper()
	c := newWeb(t, e, 1)
	c.byTCP()
	c.connect()
	return c
}

// connect agrees on keys by the connection that the phone uses.
func (c *web) connect() {
	c.t.Helper()
	c.start(Active, true, AEADAES128GCM)
	c.nominate(c.tr.Credentials())
	if err := c.handshake(Passive, allSuite, c.tr.Fingerprint()); err != nil {
		c.t.Fatal(err)
	}
	c.event(Secured)
}

// speaks proves the call both ways, by whatever the phone uses now.
func (c *web) speaks(what string) {
	c.t.Helper()
	c.says(0, what+", says the phone")
	wants(c.t, c.pbx[0], what+", says the phone")
	c.fromPBX(what + ", says the PBX")
	c.hears(what + ", says the PBX")
}

func (c *web) fromPBX(payload string) {
	c.t.Helper()
	c.seq++
	write(c.t, c.pbx[0], c.plain[0].Plain, rtpPacket(77, c.seq, payload))
}

// ended wants the edge to have closed a connection.
func ended(t testing.TB, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(longest))
	if n, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) || n > 0 {
		t.Errorf("%d bytes came, and the connection is not closed (%v)", n, err)
	}
}

func (c *web) conns() (n int) {
	c.s.worker.do(func() { n = len(c.tr.t.conns) })
	return n
}

// A call by TCP alone, in both DTLS roles, over IPv4 and IPv6.
func TestTCPCall(t *testing.T) {
	config := testConfig()
	config.SecureIPs = append(config.SecureIPs, netip.IPv6Loopback())
	e := runEngine(t, config)
	for name, k := range map[string]struct {
		role   Role
		family int
	}{"we begin": {Active, 0}, "the phone begins": {Passive, 0}, "IPv6": {Active, 1}} {
		t.Run(name, func(t *testing.T) {
			c := newWeb(t, e, 2)
			c.start(k.role, true, AEADAES128GCM)
			c.dial(c.plain[0].TCP[k.family])
			c.nominate(c.tr.Credentials())
			if ev := c.event(Latched); int(ev.Remote.Port()) != c.port() || !ev.TCP {
				t.Errorf("latched to %s, by TCP: %v", ev.Remote, ev.TCP)
			}
			if err := c.handshake(other(k.role), allSuite, c.tr.Fingerprint()); err != nil {
				t.Fatal(err)
			}
			if ev := c.event(Secured); !ev.TCP {
				t.Error("the keys are not told to have come by TCP")
			}
			for i := range 20 {
				c.speaks(strings.Repeat("x", i*70))
			}
			c.says(1, "the second stream")
			wants(t, c.pbx[1], "the second stream")
			if got := c.s.Stats().Streams[0].Keying; got != "DTLS over ICE-TCP" {
				t.Errorf("keyed by %q", got)
			}
			quiet(t, c.conn, "the phone's UDP socket")
			c.tcp.Close()
			until(t, "the end of the connection", func() bool { return c.conns() == 0 })
			if got := c.s.Close().Streams[0].Keying; got != "DTLS over ICE-TCP" {
				t.Errorf("the record says %q", got)
			}
		})
	}
}

// A phone that goes from UDP to TCP and back is followed by its nominations.
func TestTCPMove(t *testing.T) {
	c := newWeb(t, runEngine(t, testConfig()), 1)
	c.start(Active, true, AEADAES128GCM)
	us := c.tr.Credentials()
	c.nominate(us)
	if err := c.handshake(Passive, allSuite, c.tr.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	c.event(Secured)
	c.speaks("by UDP")
	first := c.byTCP()
	c.nominate(us)
	c.speaks("by TCP")
	c.tcp = nil
	c.says(0, "by UDP, not nominated") // what it sends moves nothing
	wants(t, c.pbx[0], "by UDP, not nominated")
	if got := c.chosenPath(); got.sock.conn == nil {
		t.Error("media left TCP without a nomination")
	}
	c.nominate(us)
	c.speaks("by UDP again")
	c.byTCP()
	c.nominate(us)
	c.speaks("by a second connection")
	c.tcp = first
	c.nominate(us)
	c.speaks("by the first")
	c.tcp = nil
	first.Close()
	until(t, "the path by the second connection", func() bool {
		p := c.chosenPath()
		return p != nil && p.sock.conn != nil && c.conns() == 1
	})
	c.fromPBX("when the first is gone")
	c.hears("when the first is gone")
}

func (c *web) chosenPath() (p *path) {
	c.s.worker.do(func() { p = c.tr.t.chosen })
	return p
}

// A connection that closes takes its path with it. Another one brings the call
// back, under the same credentials or after a restart, with the keys there are.
func TestTCPReconnect(t *testing.T) {
	c := connected(t, runEngine(t, testConfig()))
	c.speaks("at first")
	for _, restart := range []bool{false, true} {
		us := c.tr.Credentials()
		c.tcp.Close()
		until(t, "the end of the path", func() bool { return c.conns() == 0 && c.chosenPath() == nil })
		before := c.s.Stats().Streams[0].Drops[DropNotLatched.String()]
		c.fromPBX("to nobody")
		until(t, "the drop", func() bool { return c.s.Stats().Streams[0].Drops[DropNotLatched.String()] == before+1 })
		if restart {
			us = c.tr.RestartICE()
		}
		c.byTCP()
		c.nominate(us)
		c.speaks("again")
	}
	// The checks of a path that is gone are consent, too: a phone has time to
	// come back.
	c.tcp.Close()
	until(t, "the end of the path", func() bool { return c.conns() == 0 })
	w := c.s.worker
	w.do(func() {
		c.tr.t.began -= 2 * int64(consent)
		w.sweepTransports()
	})
	select {
	case ev := <-c.events:
		for ; ; ev = <-c.events {
			if ev.Kind == Failed {
				t.Fatalf("the call is given up at once: %s", ev.Cause)
			}
			if len(c.events) == 0 {
				break
			}
		}
	default:
	}
	w.do(func() {
		c.tr.t.parted -= 2 * int64(consent)
		w.sweepTransports()
	})
	c.event(Failed) // the control
}
