package wire

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/sallyport/sallyport/cmd/internal/load/message"
)

// Target is the server, and how to reach it. It is not changed while it is used.
type Target struct {
	Addr    string // host and port
	Path    string // of the WebSocket; empty: TLS
	Name    string // that the certificate must have
	TLS     *tls.Config
	Sources []netip.Addr // what to connect from, in turn; none: what the system takes
	Origin  string       // of the page that a WebSocket comes from; may be empty
}

// ParseTarget reads host:port, sips:host:port or wss://host:port/path. The
// ports may be left out.
func ParseTarget(text, transport string) (*Target, error) {
	t := &Target{}
	switch {
	case strings.HasPrefix(text, "wss://"):
		u, err := url.Parse(text)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("read target %q: it is no URL", text)
		}
		if transport != "" && transport != "wss" {
			return nil, fmt.Errorf("read target %q: its transport is wss, not %s", text, transport)
		}
		t.Addr, t.Path = u.Host, u.RequestURI()
	case transport == "wss":
		t.Addr, t.Path = strings.TrimPrefix(text, "sips:"), "/"
	case transport == "" || transport == "tls":
		t.Addr = strings.TrimPrefix(strings.TrimPrefix(text, "sips:"), "sip:")
	default:
		return nil, fmt.Errorf("there is no transport %q: tls and wss are", transport)
	}
	host, port, err := net.SplitHostPort(t.Addr)
	if err != nil { // it names no port
		host, port = strings.Trim(t.Addr, "[]"), "5061"
		if t.Path != "" {
			port = "443"
		}
	}
	if host == "" {
		return nil, fmt.Errorf("read target %q: it names no host", text)
	}
	if _, err := netip.ParseAddr(host); err != nil && strings.ContainsAny(host, ":/@ ") {
		return nil, fmt.Errorf("read target %q: it is none of HOST:PORT, sips:HOST:PORT and wss://HOST:PORT/PATH", text)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("read target %q: %q is no port", text, port)
	}
	t.Addr, t.Name = net.JoinHostPort(host, port), host
	return t, nil
}

// Pinned makes a configuration that trusts one certificate, by its SHA-256 in
// hexadecimal, and nothing else.
func Pinned(c *tls.Config, pin string) error {
	want, err := hex.DecodeString(strings.ReplaceAll(pin, ":", ""))
	if err != nil || len(want) != sha256.Size {
		return errors.New("read pin: it is no SHA-256 in hexadecimal")
	}
	c.InsecureSkipVerify = true // the pin takes its place
	c.VerifyPeerCertificate = func(raw [][]byte, _ [][]*x509.Certificate) error {
		if len(raw) == 0 || sha256.Sum256(raw[0]) != [sha256.Size]byte(want) {
			return errPin
		}
		return nil
	}
	return nil
}

// Conn carries SIP messages.
type Conn interface {
	// Read waits for the next message, which is the caller's.
	Read() ([]byte, error)
	// Write sends one, borrowed.
	Write(b []byte) error
	// Ping keeps what is on the way from forgetting the connection (RFC 5626
	// section 3.5.1, RFC 7118 section 6).
	Ping() error
	// Local is the near end.
	Local() netip.AddrPort
	Close() error
}

// writeTime is how long a server may let a message wait: one that reads no more
// must not hold a phone.
const writeTime = 10 * time.Second

// Dial connects the n-th time; n chooses the source address. With sessions one of
// before is resumed if the server takes it (RFC 8446 section 2.2, RFC 5077), which is
// told; they are one phone's, and nil is none.
func (t *Target) Dial(ctx context.Context, n int, sessions tls.ClientSessionCache) (c Conn, resumed bool, err error) {
	var d net.Dialer
	if len(t.Sources) > 0 {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(t.Sources[n%len(t.Sources)], 0))
	}
	raw, err := d.DialContext(ctx, "tcp", t.Addr)
	if err != nil {
		return nil, false, err
	}
	config := t.TLS
	if sessions != nil {
		config = t.TLS.Clone()
		config.ClientSessionCache = sessions
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, false, err
	}
	resumed = conn.ConnectionState().DidResume
	if t.Path == "" {
		return &stream{conn: conn, raw: raw, r: bufio.NewReader(conn)}, resumed, nil
	}
	c, err = t.upgrade(ctx, conn, raw)
	return c, resumed, err
}

// local is the near end of a TCP connection.
func local(c net.Conn) netip.AddrPort {
	a, _ := c.LocalAddr().(*net.TCPAddr)
	if a == nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), uint16(a.Port))
}

// stream is SIP over TLS.
type stream struct {
	conn *tls.Conn
	raw  net.Conn
	r    *bufio.Reader
	mu   sync.Mutex // held by who writes: a message is one piece
}

func (s *stream) Read() ([]byte, error) { return message.Read(s.r) }

func (s *stream) Write(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(writeTime))
	_, err := s.conn.Write(b)
	return err
}

func (s *stream) Ping() error           { return s.Write([]byte("\r\n\r\n")) }
func (s *stream) Local() netip.AddrPort { return local(s.raw) }

// Close ends the connection without waiting for a server that does not read.
func (s *stream) Close() error {
	if s.mu.TryLock() {
		_ = s.conn.SetWriteDeadline(time.Now().Add(time.Second))
		_ = s.conn.CloseWrite()
		s.mu.Unlock()
	}
	return s.raw.Close()
}

// socket is SIP over WebSocket.
type socket struct {
	ws   *websocket.Conn
	raw  net.Conn
	done context.CancelFunc
	ctx  context.Context // ends with Close
}

// host is the Host of HTTP: the name, and the port unless that is HTTPS's own (RFC
// 9110 section 7.2).
func (t *Target) host() string {
	_, port, _ := net.SplitHostPort(t.Addr)
	if host := net.JoinHostPort(t.Name, port); port != "443" {
		return host
	}
	return strings.TrimSuffix(net.JoinHostPort(t.Name, ""), ":")
}

// upgrade asks for a WebSocket by a connection that is there.
func (t *Target) upgrade(ctx context.Context, conn *tls.Conn, raw net.Conn) (Conn, error) {
	once := &http.Transport{ // one connection, which is given away
		DialTLSContext:    func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableKeepAlives: true,
		ReadBufferSize:    4 << 10, WriteBufferSize: 4 << 10,
	}
	header := http.Header{}
	if t.Origin != "" {
		header.Set("Origin", t.Origin)
	}
	ws, res, err := websocket.Dial(ctx, "wss://"+t.Addr+t.Path, &websocket.DialOptions{ //nolint:bodyclose // it is the WebSocket: closed with it
		HTTPClient: &http.Client{Transport: once}, HTTPHeader: header, Host: t.host(), Subprotocols: []string{"sip"},
	})
	if err != nil {
		raw.Close()
		if res != nil && res.StatusCode != http.StatusSwitchingProtocols {
			return nil, fmt.Errorf("WebSocket: the upgrade is answered %s", res.Status)
		}
		return nil, err
	}
	if ws.Subprotocol() != "sip" {
		raw.Close()
		return nil, errors.New("WebSocket: the server does not speak SIP there")
	}
	ws.SetReadLimit(message.MaxSize)
	s := &socket{ws: ws, raw: raw}
	s.ctx, s.done = context.WithCancel(context.Background())
	return s, nil
}

func (s *socket) Read() ([]byte, error) {
	for {
		_, b, err := s.ws.Read(s.ctx)
		if err != nil || len(b) > 4 { // less is a keep-alive
			return b, err
		}
	}
}

func (s *socket) Write(b []byte) error {
	ctx, cancel := context.WithTimeout(s.ctx, writeTime)
	defer cancel()
	return s.ws.Write(ctx, websocket.MessageText, b)
}

func (s *socket) Ping() error {
	ctx, cancel := context.WithTimeout(s.ctx, writeTime)
	defer cancel()
	return s.ws.Ping(ctx)
}

func (s *socket) Local() netip.AddrPort { return local(s.raw) }

// Close does not wait for the server's goodbye.
func (s *socket) Close() error {
	s.done()
	_ = s.ws.CloseNow()
	return s.raw.Close()
}
