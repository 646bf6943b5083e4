package peers

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Shim lets a tool that speaks SIP by UDP alone reach the edge by TLS: it takes
// datagrams on a host's loopback and brings each to the edge, over a connection
// that it opens again whenever it is closed.
type Shim struct {
	h     *Host
	tls   *tls.Config
	agent string
	udp   *net.UDPConn

	mu      sync.Mutex // guards what follows
	tool    netip.AddrPort
	conn    *tls.Conn
	tries   int       // datagrams of the tool
	opened  int       // connections
	refused int       // connections that were not let in
	shut    time.Time // when the first was
}

// ShimPort is where a Shim listens, on loopback.
const ShimPort = 5060

// StartShim starts one, until the test ends. With an agent it writes that in place
// of what the tool calls itself.
func StartShim(h *Host, e *Edge, agent string) *Shim {
	h.lab.t.Helper()
	s := &Shim{h: h, tls: e.trust(h.lab.t), agent: agent}
	err := h.Do(func() (err error) {
		s.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: ShimPort})
		return err
	})
	if err != nil {
		h.lab.t.Fatalf("listen for the tool: %v", err)
	}
	done := make(chan struct{})
	go func() { // ends when the socket is closed; waited for at the test's end
		defer close(done)
		s.take()
	}()
	h.lab.t.Cleanup(func() {
		s.udp.Close()
		<-done
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.conn != nil {
			s.conn.Close()
		}
	})
	return s
}

// Counts are the tool's datagrams, the connections that took them, and those that
// were refused.
func (s *Shim) Counts() (tries, opened, refused int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tries, s.opened, s.refused
}

// Shut is how long after the tool's first datagram a connection was refused; 0:
// none was.
func (s *Shim) shutAfter(first time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut.IsZero() {
		return 0
	}
	return s.shut.Sub(first)
}

func (s *Shim) take() {
	buf := make([]byte, 65536)
	for {
		n, from, err := s.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		b := bytes.Clone(buf[:n])
		if s.agent != "" {
			b = bytes.Replace(b, []byte("friendly-scanner"), []byte(s.agent), 1)
		}
		s.mu.Lock()
		s.tool = from
		s.tries++
		s.mu.Unlock()
		s.bring(b)
	}
}

// bring sends a datagram, over a new connection if need be.
func (s *Shim) bring(b []byte) {
	for range 2 {
		s.mu.Lock()
		conn := s.conn
		s.mu.Unlock()
		if conn == nil {
			if conn = s.open(); conn == nil {
				return
			}
		}
		if _, err := conn.Write(b); err == nil {
			return
		}
		s.drop(conn)
	}
}

func (s *Shim) open() *tls.Conn {
	var raw net.Conn
	err := s.h.Do(func() (err error) {
		raw, err = net.DialTimeout("tcp", net.JoinHostPort(EdgeOutside, "5061"), 5*time.Second)
		return err
	})
	var conn *tls.Conn
	if err == nil {
		conn = tls.Client(raw, s.tls)
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if err = conn.Handshake(); err != nil {
			raw.Close()
		}
		_ = conn.SetDeadline(time.Time{})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if s.refused++; s.shut.IsZero() {
			s.shut = time.Now()
		}
		return nil
	}
	s.opened++
	s.conn = conn
	go s.answers(conn) // ends when the connection is closed
	return conn
}

func (s *Shim) drop(conn *tls.Conn) {
	conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == conn {
		s.conn = nil
	}
}

// answers brings the edge's messages to the tool.
func (s *Shim) answers(conn *tls.Conn) {
	defer s.drop(conn)
	for r := bufio.NewReader(conn); ; {
		text, err := rawMessage(r)
		if err != nil {
			return
		}
		s.mu.Lock()
		to := s.tool
		s.mu.Unlock()
		_, _ = s.udp.WriteToUDPAddrPort(text, to)
	}
}

// rawMessage reads a message as it is, by its Content-Length.
func rawMessage(r *bufio.Reader) ([]byte, error) {
	var text []byte
	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if line == "\r\n" && len(text) == 0 { // a keep-alive
			continue
		}
		text = append(text, line...)
		if name, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(name, "Content-Length") {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil || length > 65536 {
				return nil, fmt.Errorf("read Content-Length %q", value)
			}
		}
		if line == "\r\n" {
			break
		}
	}
	body := make([]byte, length)
	for at := 0; at < length; {
		n, err := r.Read(body[at:])
		if err != nil {
			return nil, err
		}
		at += n
	}
	return append(text, body...), nil
}
