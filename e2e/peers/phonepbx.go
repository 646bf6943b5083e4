package peers

import (
	"bufio"
	"net"
	"net/netip"
)

// NewPBXPhone is a Phone in the place of the PBX: it speaks plain SIP over UDP
// with the edge, as user, and sees and says what no real PBX can be made to.
// Its media are to be Plain. It repeats nothing, and shows what is repeated.
func NewPBXPhone(l *Lab, user string) *Phone {
	l.t.Helper()
	p := &Phone{t: l.t, Host: l.PBX, User: user, pbx: true, cseq: 1, tag: Random(4), id: Random(8)}
	err := l.PBX.Do(func() (err error) {
		p.raw, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.PBX.Addr, 5060)),
			net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(EdgeInside), 5060)))
		return err
	})
	if err != nil {
		l.t.Fatalf("listen as the PBX: %v", err)
	}
	p.conn, p.r = p.raw, bufio.NewReaderSize(p.raw, 64<<10) // a datagram whole
	l.t.Cleanup(p.Close)
	return p
}

// NewPlainMedia are the media of one in the place of the PBX.
func (p *Phone) NewPlainMedia() *Media {
	p.t.Helper()
	m := p.NewMedia("AES_CM_128_HMAC_SHA1_80")
	m.Plain = true
	return m
}
