package peers

import (
	"bufio"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/icholy/digest"
)

// Phone is a SIP phone over TLS whose every byte the test decides. It shares
// no code with the edge.
type Phone struct {
	t    testing.TB
	Host *Host
	User string
	conn *tls.Conn
	raw  net.Conn
	r    *bufio.Reader
	cseq int
	tag  string
	id   string // Call-ID of registrations
}

// NewPhone connects to the edge.
func NewPhone(h *Host, e *Edge, user string) *Phone {
	p := &Phone{t: h.lab.t, Host: h, User: user, cseq: 1, tag: Random(4), id: Random(8)}
	p.Connect(e)
	return p
}

// Connect opens a new connection, beside or instead of the one before.
func (p *Phone) Connect(e *Edge) {
	p.t.Helper()
	pem, err := os.ReadFile(e.CAFile())
	if err != nil {
		p.t.Fatalf("read the edge's certificate: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	err = p.Host.Do(func() (err error) {
		p.raw, err = net.DialTimeout("tcp", EdgeOutside+":5061", 5*time.Second)
		return err
	})
	if err != nil {
		p.t.Fatalf("connect to the edge: %v", err)
	}
	p.conn = tls.Client(p.raw, &tls.Config{RootCAs: roots, ServerName: "pbx.example.com"})
	if err := p.conn.Handshake(); err != nil {
		p.t.Fatalf("shake hands with the edge: %v", err)
	}
	p.r = bufio.NewReader(p.conn)
	conn := p.raw
	p.t.Cleanup(func() { conn.Close() })
}

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

// Next reads the next message that is no 100.
func (p *Phone) Next(timeout time.Duration) *Message {
	p.t.Helper()
	for {
		_ = p.conn.SetReadDeadline(time.Now().Add(timeout))
		m, err := readMessage(p.r)
		if err != nil {
			p.t.Fatalf("phone %s awaits a message: %v", p.User, err)
		}
		if m.Status() != 100 {
			return m
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
	_ = p.conn.SetReadDeadline(time.Now().Add(d))
	if m, err := readMessage(p.r); err == nil {
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
	return fmt.Sprintf("Via: SIP/2.0/TLS %s:5061;branch=z9hG4bK%s;rport", p.Host.Addr, Random(8))
}

// Contact is the phone's Contact URI.
func (p *Phone) Contact() string {
	return fmt.Sprintf("sip:%s@%s:5061;transport=tls", p.User, p.Host.Addr)
}

// Register registers for some seconds, answering the challenge with a
// password, and returns the final response.
func (p *Phone) Register(password string, expires int, params string) *Message {
	p.t.Helper()
	auth := ""
	for range 2 {
		p.cseq++
		p.Send(compose("", "REGISTER sip:pbx.example.com SIP/2.0", p.via(), "Max-Forwards: 70",
			fmt.Sprintf("From: <sip:%s@pbx.example.com>;tag=%s", p.User, p.tag),
			fmt.Sprintf("To: <sip:%s@pbx.example.com>", p.User), "Call-ID: "+p.id,
			fmt.Sprintf("CSeq: %d REGISTER", p.cseq), "Contact: <"+p.Contact()+">"+params,
			fmt.Sprintf("Expires: %d%s", expires, auth)))
		m := p.Next(5 * time.Second)
		if m.Status() != 401 || auth != "" {
			return m
		}
		auth = "\r\nAuthorization: " + p.digest(m, "REGISTER", "sip:pbx.example.com", password)
	}
	return nil // not reached: the second answer returns
}

func (p *Phone) digest(challenge *Message, method, uri, password string) string {
	p.t.Helper()
	c, err := digest.ParseChallenge(challenge.Get("WWW-Authenticate"))
	if err != nil {
		p.t.Fatalf("read challenge: %v", err)
	}
	answer, err := digest.Digest(c, digest.Options{Method: method, URI: uri, Username: p.User, Password: password})
	if err != nil {
		p.t.Fatalf("answer challenge: %v", err)
	}
	return answer.String()
}

// Dialog is a call as a Phone keeps it.
type Dialog struct {
	p             *Phone
	id            string
	local, remote string // From and To values, with tags
	target        string
	cseq          int
}

// Invite calls a number with a description, answering the challenge, and
// returns the dialog and the final response. It acknowledges that.
func (p *Phone) Invite(number, sdp string) (*Dialog, *Message) {
	p.t.Helper()
	uri := "sip:" + number + "@pbx.example.com"
	d := &Dialog{p: p, id: Random(8), local: fmt.Sprintf("<sip:%s@pbx.example.com>;tag=%s", p.User, Random(4)), target: uri}
	auth := ""
	for {
		d.cseq++
		via := p.via()
		p.Send(compose(sdp, "INVITE "+uri+" SIP/2.0", via, "Max-Forwards: 70", "From: "+d.local, "To: <"+uri+">",
			"Call-ID: "+d.id, fmt.Sprintf("CSeq: %d INVITE", d.cseq), "Contact: <"+p.Contact()+">",
			"Content-Type: application/sdp"+auth))
		m := p.final(10 * time.Second)
		d.remote = m.Get("To")
		if m.Status() < 300 {
			d.target = m.URI("Contact")
			via = p.via()
		}
		p.Send(compose("", "ACK "+d.target+" SIP/2.0", via, "Max-Forwards: 70", "From: "+d.local, "To: "+d.remote,
			"Call-ID: "+d.id, fmt.Sprintf("CSeq: %d ACK", d.cseq)))
		if m.Status() != 401 || auth != "" {
			return d, m
		}
		auth = "\r\nAuthorization: " + p.digest(m, "INVITE", uri, "secret-"+p.User)
	}
}

// final reads up to the final response to an INVITE.
func (p *Phone) final(timeout time.Duration) *Message {
	p.t.Helper()
	for deadline := time.Now().Add(timeout); ; {
		if m := p.Next(time.Until(deadline)); m.Status() >= 200 && m.Method() == "INVITE" {
			return m
		}
	}
}

// Request sends a request inside the call and returns its response.
func (d *Dialog) Request(method, body string, headers ...string) *Message {
	d.p.t.Helper()
	d.cseq++
	lines := append([]string{method + " " + d.target + " SIP/2.0", d.p.via(), "Max-Forwards: 70", "From: " + d.local, "To: " + d.remote,
		"Call-ID: " + d.id, fmt.Sprintf("CSeq: %d %s", d.cseq, method), "Contact: <" + d.p.Contact() + ">"}, headers...)
	d.p.Send(compose(body, lines...))
	for deadline := time.Now().Add(10 * time.Second); ; {
		if m := d.p.Next(time.Until(deadline)); m.Status() >= 200 && m.Method() == method {
			return m
		}
	}
}

// Answer answers a request that the phone received.
func (p *Phone) Answer(req *Message, status int, reason, sdp string, headers ...string) {
	p.t.Helper()
	to := req.Get("To")
	if !strings.Contains(to, "tag=") {
		to += ";tag=" + p.tag
	}
	lines := []string{fmt.Sprintf("SIP/2.0 %d %s", status, reason)}
	for _, v := range req.Header.Values("Via") {
		lines = append(lines, "Via: "+v)
	}
	lines = append(lines, "From: "+req.Get("From"), "To: "+to, "Call-ID: "+req.Get("Call-Id"), "CSeq: "+req.Get("CSeq"),
		"Contact: <"+p.Contact()+">")
	if sdp != "" {
		lines = append(lines, "Content-Type: application/sdp")
	}
	p.Send(compose(sdp, append(lines, headers...)...))
}

// Cancelled calls a number, cancels when it rings, and returns the INVITE's
// final response, which it acknowledges.
func (p *Phone) Cancelled(number, sdp string) (rang bool, final *Message) {
	p.t.Helper()
	uri, id, from := "sip:"+number+"@pbx.example.com", Random(8), fmt.Sprintf("<sip:%s@pbx.example.com>;tag=%s", p.User, Random(4))
	auth := ""
	for cseq := 1; ; cseq++ {
		via := p.via()
		head := func(method string) []string {
			return []string{method + " " + uri + " SIP/2.0", via, "Max-Forwards: 70", "From: " + from, "Call-ID: " + id, fmt.Sprintf("CSeq: %d %s", cseq, method)}
		}
		p.Send(compose(sdp, append(head("INVITE"), "To: <"+uri+">", "Contact: <"+p.Contact()+">", "Content-Type: application/sdp"+auth)...))
		var m *Message
		for m = p.Next(5 * time.Second); m.Status() < 200 || m.Method() != "INVITE"; m = p.Next(5 * time.Second) {
			if m.Status() == 180 && !rang {
				rang = true
				p.Send(compose("", append(head("CANCEL"), "To: <"+uri+">")...))
			}
		}
		p.Send(compose("", append(head("ACK"), "To: "+m.Get("To"))...))
		if m.Status() != 401 || auth != "" {
			return rang, m
		}
		auth = "\r\nAuthorization: " + p.digest(m, "INVITE", uri, "secret-"+p.User)
	}
}
