package demo

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

const answerTime = 5 * time.Second // the longest wait for an answer

// Phone is a softphone that speaks SIP over TLS and SDES-SRTP, and nothing in
// plain text. It does one thing at a time and reads only while it waits for an
// answer. It is not safe for concurrent use.
type Phone struct {
	conn   *tls.Conn
	in     *bufio.Reader
	user   string
	domain string
	tag    string
	cseq   int
	regID  string // Call-ID of its registration

	// Media, if set, tells where to send media in place of the address the
	// edge named.
	Media func(edge netip.AddrPort) (netip.AddrPort, error)
}

// DialPhone connects to the edge at an address and checks its certificate.
func DialPhone(ctx context.Context, edge netip.AddrPort, user, domain string, cfg *tls.Config) (*Phone, error) {
	d := tls.Dialer{Config: cfg}
	c, err := d.DialContext(ctx, "tcp", edge.String())
	if err != nil {
		return nil, fmt.Errorf("connect to the edge: %w", err)
	}
	return &Phone{
		conn: c.(*tls.Conn), in: bufio.NewReader(c), user: user, domain: domain,
		tag: rand.Text(), regID: rand.Text(),
	}, nil
}

// Close hangs up the connection.
func (p *Phone) Close() error { return p.conn.Close() }

// TLS names the version and suite of the connection.
func (p *Phone) TLS() string {
	s := p.conn.ConnectionState()
	return tls.VersionName(s.Version) + " " + tls.CipherSuiteName(s.CipherSuite)
}

// Register registers the phone for a quarter of an hour.
func (p *Phone) Register(ctx context.Context) error {
	m := p.request("REGISTER", "sip:"+p.domain, p.aor(), p.regID)
	m.add("Contact", p.contact()+`;reg-id=1;+sip.instance="<urn:uuid:5b1c9a53-6f5e-4c7b-8a41-0d0b3a6f6c01>"`)
	m.add("Expires", "900")
	m.add("Supported", "path, outbound")
	r, err := p.ask(ctx, m)
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	if r.status() != 200 {
		return fmt.Errorf("register: the answer is %q", r.start)
	}
	if r.get("Contact") == "" {
		return fmt.Errorf("register: the answer names no contact")
	}
	return nil
}

func (p *Phone) aor() string { return fmt.Sprintf("<sip:%s@%s>", p.user, p.domain) }

func (p *Phone) contact() string {
	return fmt.Sprintf("<sip:%s@%s;transport=tls>", p.user, p.conn.LocalAddr())
}

// request begins a request to someone.
func (p *Phone) request(method, uri, to, callID string) *message {
	p.cseq++
	m := request(method, uri)
	m.add("Via", p.via())
	m.add("Max-Forwards", "70")
	m.add("From", p.aor()+";tag="+p.tag)
	m.add("To", to)
	m.add("Call-ID", callID)
	m.add("CSeq", strconv.Itoa(p.cseq)+" "+method)
	m.add("User-Agent", "sallyport-demo")
	return m
}

func (p *Phone) via() string {
	return fmt.Sprintf("SIP/2.0/TLS %s;branch=z9hG4bK%s;rport", p.conn.LocalAddr(), rand.Text())
}

// ask sends a request and waits for its final answer.
func (p *Phone) ask(ctx context.Context, m *message) (*message, error) {
	deadline := time.Now().Add(answerTime)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := p.conn.SetDeadline(deadline); err != nil {
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	// A context that ends wakes the reader below.
	stop := context.AfterFunc(ctx, func() { _ = p.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := p.send(m); err != nil {
		return nil, err
	}
	for {
		r, err := readMessage(p.in)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			return nil, fmt.Errorf("wait for the answer to %s: %w", m.method(), err)
		case r.method() != "":
			if err := p.serve(r); err != nil {
				return nil, err
			}
		case r.get("CSeq") == m.get("CSeq") && r.get("Call-ID") == m.get("Call-ID") && r.status() >= 200:
			return r, nil
		}
	}
}

// serve answers what the edge or the PBX asks meanwhile.
func (p *Phone) serve(m *message) error {
	switch m.method() {
	case "ACK":
		return nil
	case "OPTIONS", "NOTIFY", "BYE":
		return p.send(answer(m, 200, "OK"))
	}
	return p.send(answer(m, 486, "Busy Here"))
}

func (p *Phone) send(m *message) error {
	if _, err := p.conn.Write(m.bytes()); err != nil {
		return fmt.Errorf("send %s: %w", strings.Fields(m.start)[0], err)
	}
	return nil
}

// localIP is the address the phone's connection leaves from.
func (p *Phone) localIP() netip.Addr {
	return p.conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
}
