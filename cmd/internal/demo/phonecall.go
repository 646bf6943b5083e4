package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"github.com/sallyport/sallyport/cmd/internal/nameaddr"
	"github.com/sallyport/sallyport/cmd/internal/sound"
)

// Heard is what the phone heard in a call.
type Heard struct {
	Sound   sound.Pitch
	Packets int // that decrypted and verified
	Bad     int // that did not
}

// Call calls a number, sends a tone for a while under the suite, and reports what
// it heard.
func (p *Phone) Call(ctx context.Context, number string, suite Suite, hertz float64, length time.Duration) (Heard, error) {
	c, err := p.newCall(number, suite)
	if err != nil {
		return Heard{}, fmt.Errorf("call %s: %w", number, err)
	}
	defer c.sock.Close()
	if err := c.invite(ctx); err != nil {
		return Heard{}, fmt.Errorf("call %s: %w", number, err)
	}
	heard, err := c.talk(ctx, hertz, length)
	if bye := c.bye(ctx); err == nil {
		err = bye
	}
	if err != nil {
		return Heard{}, fmt.Errorf("call %s: %w", number, err)
	}
	return heard, nil
}

// phoneCall is one call of a Phone.
type phoneCall struct {
	phone *Phone
	suite Suite
	sock  *net.UDPConn
	id    string // Call-ID
	uri   string
	key   string // ours, "inline"

	remote   netip.AddrPort // where to send
	out, in  *srtp.Context
	dialogTo string   // To with the tag
	target   string   // the other end's contact
	route    []string // RFC 3261 section 12.1.2
}

func (p *Phone) newCall(number string, suite Suite) (*phoneCall, error) {
	key, err := suite.newKey()
	if err != nil {
		return nil, err
	}
	sock, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.localIP(), 0)))
	if err != nil {
		return nil, fmt.Errorf("open media socket: %w", err)
	}
	return &phoneCall{
		phone: p, suite: suite, sock: sock, key: key,
		id: rand.Text(), uri: fmt.Sprintf("sip:%s@%s", number, p.domain),
	}, nil
}

// invite makes the call and reads the answer.
func (c *phoneCall) invite(ctx context.Context) error {
	at := c.sock.LocalAddr().(*net.UDPAddr).AddrPort()
	m := c.phone.request("INVITE", c.uri, "<"+c.uri+">", c.id)
	m.add("Contact", c.phone.contact())
	m.withSDP(sdp(at, "RTP/SAVP", "0", "PCMU/8000", fmt.Sprintf("a=crypto:1 %s inline:%s", c.suite, c.key)))
	r, err := c.phone.ask(ctx, m)
	if err != nil {
		return err
	}
	if r.status() != 200 {
		c.dialogTo = r.get("To")
		ack := c.within("ACK", m) // same branch: it belongs to the INVITE (RFC 3261 section 17.1.1.3)
		ack.set("Via", m.get("Via"))
		ack.start = "ACK " + c.uri + " SIP/2.0"
		return errors.Join(fmt.Errorf("the answer is %q", r.start), c.phone.send(ack))
	}
	c.dialogTo, c.target = r.get("To"), nameaddr.URI(r.get("Contact"))
	for _, f := range r.fields {
		if f.name == "Record-Route" {
			c.route = append([]string{f.value}, c.route...)
		}
	}
	if err := c.phone.send(c.within("ACK", m)); err != nil {
		return err
	}
	if err := c.secure(r.body); err != nil {
		// The call stands; end it before telling.
		return errors.Join(err, c.bye(ctx))
	}
	return nil
}

// secure reads the answer's SDP. What is not SRTP under our suite is refused.
func (c *phoneCall) secure(body []byte) error {
	m, err := parseSDP(body)
	if err != nil {
		return err
	}
	if m.proto != "RTP/SAVP" || m.crypto != string(c.suite) {
		return fmt.Errorf("the answer is %s with %q, not RTP/SAVP with %s", m.proto, m.crypto, c.suite)
	}
	if c.out, err = c.suite.context(c.key); err != nil {
		return err
	}
	if c.in, err = c.suite.context(m.key); err != nil {
		return err
	}
	c.remote = m.addr
	if c.phone.Media != nil {
		c.remote, err = c.phone.Media(m.addr)
	}
	return err
}

// within begins a request of the dialog; an ACK takes its INVITE's number.
func (c *phoneCall) within(method string, invite *message) *message {
	target := c.target
	if target == "" {
		target = c.uri
	}
	before := c.phone.cseq
	m := c.phone.request(method, target, c.dialogTo, c.id)
	if invite != nil {
		c.phone.cseq = before
		var n int
		_, _ = fmt.Sscan(invite.get("CSeq"), &n)
		m.set("CSeq", fmt.Sprintf("%d %s", n, method))
	}
	for _, r := range c.route {
		m.add("Route", r)
	}
	return m
}

func (c *phoneCall) bye(ctx context.Context) error {
	r, err := c.phone.ask(ctx, c.within("BYE", nil))
	if err != nil {
		return fmt.Errorf("hang up: %w", err)
	}
	if r.status() != 200 {
		return fmt.Errorf("hang up: the answer is %q", r.start)
	}
	return nil
}

// talk sends a tone and listens, for a while or until ctx ends.
func (c *phoneCall) talk(ctx context.Context, hertz float64, length time.Duration) (Heard, error) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	if err := c.sock.SetReadDeadline(time.Now().Add(length)); err != nil {
		return Heard{}, fmt.Errorf("set deadline: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.sock.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var sending sync.WaitGroup
	sending.Go(func() { c.speak(ctx, hertz) }) // ends with ctx; waited for here
	heard := c.hear()
	cancel()
	sending.Wait()
	return heard, nil
}

func (c *phoneCall) speak(ctx context.Context, hertz float64) {
	tick := time.NewTicker(frameTime)
	defer tick.Stop()
	f := newFrames(hertz, randomUint32())
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		plain, err := f.next().Marshal()
		if err != nil {
			continue
		}
		if sealed, err := c.out.EncryptRTP(nil, plain, nil); err == nil {
			_, _ = c.sock.WriteToUDPAddrPort(sealed, c.remote)
		}
	}
}

func (c *phoneCall) hear() Heard {
	var h Heard
	var e ear
	buf := make([]byte, 2048)
	for {
		n, _, err := c.sock.ReadFromUDPAddrPort(buf)
		if err != nil {
			h.Sound, h.Packets = e.sound()
			return h
		}
		if isRTCP(buf[:n]) {
			continue
		}
		var header rtp.Header
		plain, err := c.in.DecryptRTP(nil, buf[:n], &header)
		if err != nil {
			h.Bad++
			continue
		}
		e.hear(plain[header.MarshalSize():])
	}
}
