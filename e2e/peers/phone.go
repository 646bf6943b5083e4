package peers

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/icholy/digest"
)

// Phone is a SIP phone over TLS, or over secure WebSocket, whose every byte
// the test decides. It shares no code with the edge.
type Phone struct {
	t        testing.TB
	Host     *Host
	User     string
	Poses    string // as whom it calls, if that is not User
	six      bool   // it speaks IPv6
	plain    bool   // it speaks plain SIP over UDP
	cert     string // file of the certificate that it shows; or none
	nameless bool   // it sends no SNI
	web      string // over WebSocket, the host that it calls itself by: it knows no address of its own
	conn     net.Conn
	raw      net.Conn
	r        *bufio.Reader
	all      bytes.Buffer // that was read, decrypted
	cseq     int
	tag      string
	id       string // Call-ID of registrations

	password string // that it registered with
}

// NewPhone connects to the edge.
func NewPhone(h *Host, e *Edge, user string) *Phone { return newPhone(h, e, user, false) }

// NewPhone6 connects to the edge by IPv6.
func NewPhone6(h *Host, e *Edge, user string) *Phone { return newPhone(h, e, user, true) }

// NewWebPhone connects to the edge by secure WebSocket, as the script of a
// page does.
func NewWebPhone(h *Host, e *Edge, user string) *Phone {
	p := &Phone{t: h.lab.t, Host: h, User: user, web: "new", cseq: 1, tag: Random(4), id: Random(8)}
	p.Connect(e)
	return p
}

func newPhone(h *Host, e *Edge, user string, six bool) *Phone {
	p := &Phone{t: h.lab.t, Host: h, User: user, six: six, cseq: 1, tag: Random(4), id: Random(8)}
	p.Connect(e)
	return p
}

// addrOn is the address that the phone uses on a host.
func (p *Phone) addrOn(h *Host) netip.Addr {
	if p.six {
		return h.Addr6
	}
	return h.Addr
}

// sip is the host and port that the phone calls itself by.
func (p *Phone) sip() string {
	switch {
	case p.web != "":
		return p.web
	case p.plain:
		return p.Local()
	}
	return netip.AddrPortFrom(p.addrOn(p.Host), 5061).String()
}

// Connect opens a new connection, beside or instead of the one before.
func (p *Phone) Connect(e *Edge) {
	p.t.Helper()
	edge, port := e.host.Addr.String(), "5061"
	if p.six {
		edge = EdgeOutside6
	}
	if p.web != "" {
		port, p.web = WSSPort, Random(6)+InvalidHost // each page load makes up another (RFC 7118 appendix B.1)
	}
	p.raw = p.Host.dial(net.JoinHostPort(edge, port))
	config := show(p.t, e.trust(p.t), p.cert)
	if p.nameless {
		config = unnamed(config)
	}
	conn := tls.Client(p.raw, config)
	if err := conn.Handshake(); err != nil {
		p.t.Fatalf("shake hands with the edge: %v", err)
	}
	p.conn = conn
	if p.web != "" {
		ws, _, err := openWebSocket(conn, "") // no browser: those have no SDES
		if err != nil {
			p.t.Fatal(err)
		}
		p.conn = ws
	}
	p.r = bufio.NewReader(io.TeeReader(p.conn, &p.all))
	raw := p.raw
	p.t.Cleanup(func() { raw.Close() })
}

// Local is the phone's end of its connection.
func (p *Phone) Local() string { return p.raw.LocalAddr().String() }

// Heard is all that the phone has read so far, as it came out of the encryption.
func (p *Phone) Heard() string { return p.all.String() }

// Close ends the connection; Reset does so with a TCP reset.
func (p *Phone) Close() { _ = p.conn.Close() }

// Reset ends the connection as a phone that loses its power and comes back.
func (p *Phone) Reset() {
	_ = p.raw.(*net.TCPConn).SetLinger(0)
	_ = p.raw.Close()
}

// Send writes text as it is.
func (p *Phone) Send(text string) {
	p.t.Helper()
	if _, err := p.conn.Write([]byte(text)); err != nil {
		p.t.Fatalf("phone %s sends: %v", p.User, err)
	}
}

// Write writes text as it is; the edge may have closed the connection.
func (p *Phone) Write(text string) error {
	_, err := p.conn.Write([]byte(text))
	return err
}

// Read reads the next message, whatever it is. An error is a message that did
// not come in time, or the end of the connection.
func (p *Phone) Read(timeout time.Duration) (*Message, error) {
	_ = p.conn.SetReadDeadline(time.Now().Add(timeout))
	if _, err := p.r.Peek(1); err != nil {
		return nil, err
	}
	_ = p.conn.SetReadDeadline(time.Now().Add(max(timeout, 10*time.Second))) // in its midst, what was read would be lost
	return readMessage(p.r)
}

// Next reads the next message that is no 100.
func (p *Phone) Next(timeout time.Duration) *Message {
	p.t.Helper()
	m, err := p.read(timeout)
	if err != nil {
		p.t.Fatalf("phone %s awaits a message: %v", p.User, err)
	}
	return m
}

// Within reads the next message that is no 100, if one comes in time; or nil.
func (p *Phone) Within(timeout time.Duration) *Message {
	m, err := p.read(timeout)
	if err != nil {
		return nil
	}
	return m
}

func (p *Phone) read(timeout time.Duration) (*Message, error) {
	for {
		if m, err := p.Read(timeout); err != nil || m.Status() != 100 {
			return m, err
		}
	}
}

// Expect reads messages until one has the status, or is a request of the
// method, given.
func (p *Phone) Expect(what string, timeout time.Duration) *Message {
	p.t.Helper()
	for deadline := time.Now().Add(timeout); ; {
		m := p.Next(time.Until(deadline))
		if fmt.Sprint(m.Status()) == what || (m.Status() == 0 && m.Method() == what) {
			return m
		}
		if m.Status() >= 200 && m.Status() != 401 {
			p.t.Fatalf("phone %s awaits %s, got %s", p.User, what, m.Start)
		}
	}
}

// Silent checks that nothing comes for a while.
func (p *Phone) Silent(d time.Duration) {
	p.t.Helper()
	if m, err := p.Read(d); err == nil {
		p.t.Fatalf("phone %s got %s, want silence", p.User, m.Start)
	}
}

// Random is n random bytes in hexadecimal.
func Random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// via is a fresh Via.
func (p *Phone) via() string {
	transport := "TLS"
	switch {
	case p.web != "":
		transport = "WSS"
	case p.plain:
		transport = "UDP"
	}
	return fmt.Sprintf("Via: SIP/2.0/%s %s;branch=z9hG4bK%s;rport", transport, p.sip(), Random(8))
}

// Contact is the phone's Contact URI.
func (p *Phone) Contact() string {
	switch {
	case p.web != "":
		return fmt.Sprintf("sip:%s@%s;transport=ws;ob", p.User, p.sip())
	case p.plain:
		return fmt.Sprintf("sip:%s@%s", p.User, p.sip())
	}
	return fmt.Sprintf("sip:%s@%s;transport=tls", p.User, p.sip())
}

// Register registers for some seconds, answering the challenge with a
// password, and returns the final response.
func (p *Phone) Register(password string, expires int, params string) *Message {
	p.t.Helper()
	p.password = password
	auth := ""
	for range 2 {
		m := p.register(expires, params, auth)
		if m.Status() != 401 || auth != "" {
			return m
		}
		auth = "\r\n" + p.credentials(m, "REGISTER", "sip:pbx.example.com")
	}
	return nil // not reached: the second answer returns
}

// Answered registers with the answer to a challenge of before, and returns the response.
func (p *Phone) Answered(challenge *Message, password string) *Message {
	p.t.Helper()
	p.password = password
	return p.register(600, "", "\r\n"+p.credentials(challenge, "REGISTER", "sip:pbx.example.com"))
}

// Query asks to register without answering the challenge, which it returns.
func (p *Phone) Query() *Message {
	p.t.Helper()
	return p.register(600, "", "")
}

func (p *Phone) register(expires int, params, auth string) *Message {
	p.t.Helper()
	p.cseq++
	p.Send(compose("", "REGISTER sip:pbx.example.com SIP/2.0", p.via(), "Max-Forwards: 70",
		fmt.Sprintf("From: <sip:%s@pbx.example.com>;tag=%s", p.User, p.tag),
		fmt.Sprintf("To: <sip:%s@pbx.example.com>", p.User), "Call-ID: "+p.id,
		fmt.Sprintf("CSeq: %d REGISTER", p.cseq), "Contact: <"+p.Contact()+">"+params,
		fmt.Sprintf("Expires: %d%s", expires, auth)))
	for {
		// What a call of before has to say may come first.
		if m := p.Next(5 * time.Second); m.Status() != 0 && m.Method() == "REGISTER" {
			return m
		}
	}
}

// challenges tells whether a message asks for a password.
func (m *Message) challenges() bool { return m.Status() == 401 || m.Status() == 407 }

// credentials answers a challenge, the first of several, by the password that the
// phone last registered with.
func (p *Phone) credentials(challenge *Message, method, uri string) string {
	p.t.Helper()
	header, answer := "WWW-Authenticate", "Authorization"
	if challenge.Status() == 407 {
		header, answer = "Proxy-Authenticate", "Proxy-Authorization"
	}
	c, err := digest.ParseChallenge(challenge.Get(header))
	if err != nil {
		p.t.Fatalf("read challenge: %v", err)
	}
	cred, err := digest.Digest(c, digest.Options{Method: method, URI: uri, Username: p.User, Password: cmp.Or(p.password, "secret-"+p.User)})
	if err != nil {
		p.t.Fatalf("answer challenge: %v", err)
	}
	return answer + ": " + cred.String()
}

// Answer answers a request that the phone received.
func (p *Phone) Answer(req *Message, status int, reason, sdp string, headers ...string) {
	p.t.Helper()
	lines := append(p.answer(req, status, reason), "Contact: <"+p.Contact()+">")
	if sdp != "" {
		lines = append(lines, "Content-Type: application/sdp")
	}
	p.Send(compose(sdp, append(lines, headers...)...))
}

// As has the phone answer by another tag from now on, as another that a call
// was forked to would.
func (p *Phone) As(tag string) { p.tag = tag }

// Forward answers a call by sending it elsewhere.
func (p *Phone) Forward(req *Message, uri string) {
	p.t.Helper()
	p.Send(compose("", append(p.answer(req, 302, "Moved Temporarily"), "Contact: <"+uri+">")...))
}

// answer is the head of an answer.
func (p *Phone) answer(req *Message, status int, reason string) []string {
	to := req.Get("To")
	if !strings.Contains(to, "tag=") {
		to += ";tag=" + p.tag
	}
	lines := []string{fmt.Sprintf("SIP/2.0 %d %s", status, reason)}
	for _, v := range req.Header.Values("Via") {
		lines = append(lines, "Via: "+v)
	}
	return append(lines, "From: "+req.Get("From"), "To: "+to, "Call-ID: "+req.Get("Call-Id"), "CSeq: "+req.Get("CSeq"))
}
