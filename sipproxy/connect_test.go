package sipproxy

import (
	"encoding/base64"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pion/srtp/v3"
)

// A PBX that would have RTCP on the port of its RTP is answered without rtcp-mux, so that
// it gets RTCP on the port above (RFC 5761 section 5.1.1).
func TestRTCPOfPBXThatWouldMux(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	rtp, rtcp := b.portPair()
	port := strconv.Itoa(rtp.LocalAddr().(*net.UDPAddr).Port)
	b.fromPBX(b.inviteTo(token, "in1", strings.Replace(plainSDP, "30000", port, 1)+"a=rtcp-mux\r\n"))
	inv := p.next("INVITE")
	p.send(reply(inv, 200, "anna", strings.Replace(secureSDP, "crypto:1", "crypto:2", 1), contact))
	if answer := b.atPBX("200").body; strings.Contains(answer, "rtcp-mux") {
		t.Errorf("the PBX is answered\n%s", answer)
	}

	theirs, err := base64.StdEncoding.DecodeString("d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj")
	if err != nil {
		t.Fatal(err)
	}
	seal, err := srtp.CreateContext(theirs[:16], theirs[16:], srtp.ProtectionProfileAes128CmHmacSha1_80)
	if err != nil {
		t.Fatal(err)
	}
	report, err := seal.EncryptRTCP(nil, []byte{0x80, 201, 0, 1, 0, 0, 0, 9}, nil)
	if err != nil {
		t.Fatal(err)
	}
	line := mediaLine.FindStringSubmatch(inv.body)
	secure, _ := strconv.Atoi(line[1])
	media, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, uint16(secure+1))))
	if err != nil {
		t.Fatal(err)
	}
	defer media.Close()
	if _, err := media.Write(report); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	_ = rtcp.SetReadDeadline(time.Now().Add(3 * time.Second))
	if n, err := rtcp.Read(buf); err != nil || n != 8 || buf[1] != 201 {
		t.Errorf("the PBX got %d bytes of RTCP (%v)", n, err)
	}
}

// portPair are two sockets of the PBX, one port above the other.
func (b *bench) portPair() (rtp, rtcp *net.UDPConn) {
	b.t.Helper()
	for range 100 {
		at := net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(freePort(b.t))}
		one, err := net.ListenUDP("udp", &at)
		if err != nil {
			continue
		}
		at.Port++
		if two, err := net.ListenUDP("udp", &at); err == nil {
			b.t.Cleanup(func() {
				one.Close()
				two.Close()
			})
			return one, two
		}
		one.Close()
	}
	b.t.Fatal("no two ports are free")
	return nil, nil
}
