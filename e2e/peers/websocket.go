package peers

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// WSSPort is where tests let the edge listen for secure WebSockets.
const WSSPort = "8443"

// WSS is the configuration for it; further keys of [sip] may follow.
const WSS = "[sip]\nwss_listen = \":" + WSSPort + "\"\n"

// InvalidHost ends the names that web phones make up for themselves. Asterisk
// writes a name under .invalid too, for callers who are nobody.
const InvalidHost = ".page.invalid"

// webSocket is a client's WebSocket (RFC 6455) as a net.Conn: each Write is
// one text message, and Read gives what messages carry, one after the other.
// Pings are answered. It shares no code with the edge.
type webSocket struct {
	net.Conn
	r    *bufio.Reader
	left []byte // of the message that was read last
}

// openWebSocket upgrades a connection, from a page of an origin; none if that
// is empty. The status is that of the answer, 0 if there is none.
func openWebSocket(conn net.Conn, origin string) (w *webSocket, status int, err error) {
	if origin != "" {
		origin = "Origin: " + origin + "\r\n"
	}
	return upgrade(conn, halfUpgrade+origin+"Sec-WebSocket-Protocol: sip\r\n", "sip")
}

// upgrade sends a request that is begun, and takes the answer with the
// subprotocol.
func upgrade(conn net.Conn, request, subprotocol string) (w *webSocket, status int, err error) {
	key := make([]byte, 16)
	_, _ = rand.Read(key)
	nonce := base64.StdEncoding.EncodeToString(key)
	if _, err := io.WriteString(conn, request+"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+nonce+"\r\n\r\n"); err != nil {
		return nil, 0, fmt.Errorf("ask for an upgrade: %w", err)
	}
	w = &webSocket{Conn: conn, r: bufio.NewReader(conn)}
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	res, err := http.ReadResponse(w.r, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("await the upgrade: %w", err)
	}
	res.Body.Close()
	sum := sha1.Sum([]byte(nonce + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	switch {
	case res.StatusCode != http.StatusSwitchingProtocols:
		return nil, res.StatusCode, fmt.Errorf("the upgrade is refused: %s", res.Status)
	case res.Header.Get("Sec-WebSocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]), res.Header.Get("Sec-WebSocket-Protocol") != subprotocol:
		return nil, res.StatusCode, errors.New("the upgrade is answered wrongly")
	}
	return w, res.StatusCode, nil
}

const (
	connectionUpgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
	halfUpgrade       = "GET / HTTP/1.1\r\nHost: pbx.example.com\r\n" + connectionUpgrade
)

// Write sends one text message.
func (w *webSocket) Write(b []byte) (int, error) {
	if err := w.send(1, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (w *webSocket) send(opcode byte, payload []byte) error {
	b := []byte{0x80 | opcode}
	if n := len(payload); n < 126 {
		b = append(b, 0x80|byte(n))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	}
	key := make([]byte, 4)
	_, _ = rand.Read(key)
	b = append(b, key...)
	for i, c := range payload {
		b = append(b, c^key[i%4])
	}
	_, err := w.Conn.Write(b)
	return err
}

// Frame writes bytes below a phone's WebSocket, as they are.
func (p *Phone) Frame(b []byte) error {
	p.t.Helper()
	w, ok := p.conn.(*webSocket)
	if !ok {
		p.t.Fatalf("phone %s has no WebSocket", p.User)
	}
	_, err := w.Conn.Write(b)
	return err
}

// Read implements net.Conn.
func (w *webSocket) Read(p []byte) (int, error) {
	for len(w.left) == 0 {
		opcode, payload, err := w.frame()
		if err != nil {
			return 0, err
		}
		switch opcode {
		case 0, 1, 2:
			w.left = payload
		case 8:
			return 0, io.EOF
		case 9:
			if err := w.send(10, payload); err != nil {
				return 0, err
			}
		}
	}
	n := copy(p, w.left)
	w.left = w.left[n:]
	return n, nil
}

func (w *webSocket) frame() (opcode byte, payload []byte, err error) {
	head := make([]byte, 2)
	if _, err = io.ReadFull(w.r, head); err != nil {
		return 0, nil, err
	}
	n := int(head[1])
	if n == 126 || n == 127 { // RFC 6455 section 5.2
		long := make([]byte, map[int]int{126: 2, 127: 8}[n])
		if _, err = io.ReadFull(w.r, long); err != nil {
			return 0, nil, err
		}
		n = 0
		for _, b := range long {
			n = n<<8 | int(b)
		}
	}
	if head[1] > 127 || n < 0 || n > 1<<20 {
		return 0, nil, errors.New("a frame is masked, or longer than any message")
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(w.r, payload)
	return head[0] & 0x0f, payload, err
}

// UpgradeFrom asks the edge for a WebSocket as a page of an origin would, and
// returns the status of the answer.
func UpgradeFrom(h *Host, e *Edge, origin string) int {
	h.lab.t.Helper()
	conn := tls.Client(h.dial(net.JoinHostPort(EdgeOutside, WSSPort)), e.trust(h.lab.t))
	defer conn.Close()
	_, status, err := openWebSocket(conn, origin)
	if status == 0 {
		h.lab.t.Fatal(err)
	}
	return status
}

// dial connects from the host.
func (h *Host) dial(to string) (conn net.Conn) {
	h.lab.t.Helper()
	err := h.Do(func() (err error) {
		conn, err = net.DialTimeout("tcp", to, 5*time.Second)
		return err
	})
	if err != nil {
		h.lab.t.Fatalf("connect to %s: %v", to, err)
	}
	return conn
}

// Stop is where a silent client stops on its way to a WebSocket.
type Stop int

// The stops.
const (
	AfterTCP Stop = iota
	AfterTLS
	InUpgrade
	AfterUpgrade
)

// String implements fmt.Stringer.
func (s Stop) String() string {
	return [...]string{"TCP only", "TLS only", "half an upgrade", "upgraded and silent"}[s]
}

// Silent opens connections that stop half-way and say nothing more, until the
// function that it returns closes them.
func Silent(h *Host, e *Edge, n int, stop Stop) (end func()) {
	h.lab.t.Helper()
	var conns []net.Conn
	end = func() {
		for _, c := range conns {
			c.Close()
		}
	}
	h.lab.t.Cleanup(end)
	trust := e.trust(h.lab.t)
	err := h.connects(&conns, n, net.JoinHostPort(EdgeOutside, WSSPort))
	if err == nil {
		err = together(conns, func(raw net.Conn) error { return silence(raw, trust, stop) })
	}
	if err != nil {
		h.lab.t.Fatalf("silent clients, %s: %v", stop, err)
	}
	return end
}

func silence(raw net.Conn, trust *tls.Config, stop Stop) error {
	if stop == AfterTCP {
		return nil
	}
	conn := tls.Client(raw, trust)
	if err := conn.Handshake(); err != nil || stop == AfterTLS {
		return err
	}
	if stop == InUpgrade {
		_, err := io.WriteString(conn, halfUpgrade)
		return err
	}
	_, _, err := openWebSocket(conn, "")
	return err
}
