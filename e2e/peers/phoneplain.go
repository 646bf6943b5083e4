package peers

import (
	"bufio"
	"net"
	"net/netip"
)

// NewPBXPhone is a Phone in the place of the PBX: it speaks plain SIP over UDP
// with the edge, as user, and sees and says what no real PBX can be made to.
// Its media are to be Plain. It repeats nothing, and hears once what is repeated.
func NewPBXPhone(l *Lab, user string) *Phone {
	l.t.Helper()
	return newPlainPhone(l.PBX, 5060, netip.MustParseAddrPort(EdgeInside+":5060"), user)
}

// newPlainPhone is a Phone that speaks plain SIP over UDP with a server.
func newPlainPhone(h *Host, port uint16, server netip.AddrPort, user string) *Phone {
	l := h.lab
	l.t.Helper()
	p := &Phone{t: l.t, Host: h, User: user, plain: true, cseq: 1, tag: Random(4), id: Random(8)}
	err := h.Do(func() (err error) {
		p.raw, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.Addr, port)), net.UDPAddrFromAddrPort(server))
		return err
	})
	if err != nil {
		l.t.Fatalf("open a port for plain SIP on %s: %v", h.Name, err)
	}
	p.conn = &once{Conn: p.raw, came: make(map[string]bool)}
	p.r = bufio.NewReaderSize(p.conn, 64<<10) // a datagram whole
	l.t.Cleanup(p.Close)
	return p
}

// once reads each datagram once. What a far end repeats while a test is slow is no news
// (RFC 3261 section 17).
type once struct {
	net.Conn
	came map[string]bool
}

// Read reads the next that did not come before.
func (c *once) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.came[string(b[:n])] {
			c.came[string(b[:n])] = true
			return n, err
		}
	}
}

// NewPlainMedia are the media of one that speaks plain RTP.
func (p *Phone) NewPlainMedia() *Media {
	p.t.Helper()
	m := p.NewMedia("AES_CM_128_HMAC_SHA1_80")
	m.Plain = true
	return m
}
