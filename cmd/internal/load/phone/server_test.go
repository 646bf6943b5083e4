package phone

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/cmd/internal/load/message"
	"github.com/sallyport/sallyport/cmd/internal/load/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is the other side of a phone's connection, played by the test.
type server struct {
	*testing.T
	conn *tls.Conn
	r    *bufio.Reader
}

// connected is a phone, and the server that it is connected to.
func connected(t *testing.T, c Config) (*Phone, *server) {
	t.Helper()
	certified := httptest.NewTLSServer(nil) // for its certificate
	defer certified.Close()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certified.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	c.Target = &wire.Target{Addr: ln.Addr().String(), TLS: &tls.Config{RootCAs: roots, ServerName: "example.com"}}
	c.Domain, c.Agent = "pbx.example.com", "test"
	if c.Expires == 0 {
		c.Expires = 10 * time.Minute
	}
	if c.Timeout == 0 {
		c.Timeout = 20 * time.Second
	}
	accepted := make(chan *tls.Conn, 1)
	go func() { // ends with the handshake; waited for below
		conn, err := ln.Accept()
		if err != nil {
			close(accepted)
			return
		}
		s := conn.(*tls.Conn)
		_ = s.Handshake()
		accepted <- s
	}()
	p := New(&c, 0, "1001", "1001", "secret")
	if _, _, err := p.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, ok := <-accepted
	if !ok {
		t.Fatal("nobody connected")
	}
	t.Cleanup(func() {
		p.Close()
		conn.Close()
	})
	return p, &server{T: t, conn: conn, r: bufio.NewReader(conn)}
}

// next reads the next message, which must be a request of a method, or an answer
// if that is empty.
func (s *server) next(method string) sip.Message {
	s.Helper()
	_ = s.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	b, err := message.Read(s.r)
	if err != nil {
		s.Fatalf("await %s: %v", method, err)
	}
	m, err := message.Parse(b)
	if err != nil {
		s.Fatal(err)
	}
	r, ok := m.(*sip.Request)
	if ok && string(r.Method) != method || !ok && method != "" {
		s.Fatalf("got %q, want %s", b, method)
	}
	return m
}

func (s *server) request(method string) *sip.Request {
	s.Helper()
	r, ok := s.next(method).(*sip.Request)
	if !ok {
		s.Fatalf("no %s came", method)
	}
	return r
}

func (s *server) answered(status int) *sip.Response {
	s.Helper()
	r, ok := s.next("").(*sip.Response)
	if !ok || r.StatusCode != status {
		s.Fatalf("got %v, want %d", r, status)
	}
	return r
}

func (s *server) send(d *message.Draft) {
	s.Helper()
	if _, err := s.conn.Write(d.Bytes()); err != nil {
		s.Fatal(err)
	}
}

func (s *server) answer(r *sip.Request, status int, reason string, fields ...string) {
	s.Helper()
	d := message.Answer(r, status, reason, "far")
	for i := 0; i < len(fields); i += 2 {
		d.Add(fields[i], fields[i+1])
	}
	s.send(d)
}

// silence is media that only counts.
type silence struct{ early, accepted, closed chan string }

func newSilence() *silence {
	return &silence{early: make(chan string, 10), accepted: make(chan string, 10), closed: make(chan string, 1)}
}

func (s *silence) Offer() (string, error)        { return "offer", nil }
func (s *silence) Answer(string) (string, error) { return "answer", nil }
func (s *silence) Close()                        { s.closed <- "" }
func (s *silence) Accept(text string, final bool) error {
	if final {
		s.accepted <- text
	} else {
		s.early <- text
	}
	return nil
}

// calling has a phone call, and plays its INVITE up to the 200, through a proxy.
func calling(t *testing.T, p *Phone, s *server) (*Call, *sip.Request) {
	t.Helper()
	made := make(chan *Call, 1)
	go func() { // ends with the answer; waited for below
		c, err := p.Call(context.Background(), "sip:1002@pbx.example.com", newSilence(), nil)
		if err != nil {
			t.Error(err)
		}
		made <- c
	}()
	invite := s.request("INVITE")
	s.answer(invite, 180, "Ringing")
	s.answer(invite, 200, "OK", "Contact", "<sip:far@192.0.2.9>", "Record-Route", "<sip:p1;lr>, <sip:p2;lr>")
	s.request("ACK")
	c := <-made
	if c == nil {
		t.FailNow()
	}
	return c, invite
}
