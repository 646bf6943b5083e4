package peers

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Slowness is a way to hold a TLS connection without end.
type Slowness int

// The ways.
const (
	SaysNothing Slowness = iota
	SlowHello
	SlowMessage
	NoBody
	NeverReads
)

// String implements fmt.Stringer.
func (s Slowness) String() string {
	return [...]string{"says nothing", "a ClientHello byte by byte", "a message byte by byte", "a head without its body", "never reads"}[s]
}

// Slow is clients that all do the same.
type Slow struct {
	conns []net.Conn
	done  sync.WaitGroup
	quit  chan struct{}
}

// SlowClients opens so many. Each says text, or a byte of it each tenth of a
// second; who never reads says it again and again.
func SlowClients(h *Host, e *Edge, n int, how Slowness, text string) *Slow {
	h.lab.t.Helper()
	s := &Slow{quit: make(chan struct{})}
	h.lab.t.Cleanup(s.Close)
	trust := e.trust(h.lab.t)
	err := h.connects(&s.conns, n, EdgeOutside+":5061")
	if err == nil {
		err = together(s.conns, func(raw net.Conn) error { return s.begin(raw, trust, how, text) })
	}
	if err != nil {
		h.lab.t.Fatalf("slow clients, %s: %v", how, err)
	}
	return s
}

// connects appends so many connections from a host.
func (h *Host) connects(conns *[]net.Conn, n int, addr string) error {
	return h.Do(func() error {
		for range n {
			c, err := net.DialTimeout("tcp", addr, 5*time.Second)
			if err != nil {
				return fmt.Errorf("connection %d: %w", len(*conns), err)
			}
			*conns = append(*conns, c)
		}
		return nil
	})
}

// together does with each connection what takes a round trip, twenty at a time: those
// that were first must still be there when the last is.
func together(conns []net.Conn, do func(net.Conn) error) error {
	var g errgroup.Group
	g.SetLimit(20)
	for _, c := range conns {
		g.Go(func() error { return do(c) })
	}
	return g.Wait()
}

func (s *Slow) begin(raw net.Conn, trust *tls.Config, how Slowness, text string) error {
	switch how {
	case SaysNothing:
		return nil
	case SlowHello:
		s.done.Go(func() { // ends by Close, which waits
			_ = tls.Client(&drip{raw, s}, trust).Handshake()
		})
		return nil
	}
	if how == NeverReads {
		_ = raw.(*net.TCPConn).SetReadBuffer(4 << 10)
	}
	conn := tls.Client(raw, trust)
	if err := conn.Handshake(); err != nil {
		return err
	}
	switch how {
	case NoBody:
		head, _, _ := strings.Cut(text, "\r\n\r\n")
		_, err := conn.Write([]byte(head + "\r\n\r\n"))
		return err
	case SlowMessage:
		s.done.Go(func() { s.say(conn, text, 1) }) // both end by Close, which waits
	case NeverReads:
		s.done.Go(func() { s.say(conn, text, len(text)) })
	}
	return nil
}

// say says text again and again, so many bytes at a time, until it can't.
func (s *Slow) say(conn net.Conn, text string, piece int) {
	for at := 0; s.waits(); at = (at + piece) % len(text) {
		if _, err := conn.Write([]byte(text[at : at+piece])); err != nil {
			return
		}
	}
}

// waits tells whether there is more to do, a tenth of a second later.
func (s *Slow) waits() bool {
	select {
	case <-s.quit:
		return false
	case <-time.After(100 * time.Millisecond):
		return true
	}
}

// drip writes one byte at a time.
type drip struct {
	net.Conn
	of *Slow
}

func (d *drip) Write(b []byte) (int, error) {
	for i := range b {
		if !d.of.waits() {
			return i, net.ErrClosed
		}
		if _, err := d.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

// Close ends them, if the edge has not.
func (s *Slow) Close() {
	select {
	case <-s.quit:
		return
	default:
	}
	close(s.quit)
	for _, c := range s.conns {
		c.Close()
	}
	s.done.Wait()
}
