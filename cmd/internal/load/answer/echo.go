package answer

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"

	"github.com/sallyport/sallyport/cmd/internal/load/media"
)

// echo is what sends the sound of many calls back, and reports to who does.
type echo struct {
	media.Echo
	rtp, rtcp *net.UDPConn // two ports in a row (RFC 3550 section 11)
}

const maxPairs = 100 // of ports that are tried

func newEcho(at netip.Addr) (*echo, error) {
	for range maxPairs {
		rtp, err := listen(netip.AddrPortFrom(at, 0))
		if err != nil {
			return nil, err
		}
		if n := port(rtp); n%2 == 0 {
			if rtcp, err := listen(netip.AddrPortFrom(at, n+1)); err == nil {
				return &echo{rtp: rtp, rtcp: rtcp}, nil
			}
		}
		rtp.Close()
	}
	return nil, fmt.Errorf("listen on %s: no two ports in a row are free", at)
}

func port(c *net.UDPConn) uint16 { return c.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

// echo sends back what comes to one of its ports, until that is closed.
func (s *Server) echo(e *echo, conn *net.UDPConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if closed(err) {
				return
			}
			continue // an ICMP message of before
		}
		p := buf[:n]
		switch {
		case n >= 8 && p[1] >= 192 && p[1] <= 223: // RFC 5761 section 4
			s.counts.reports.Add(1)
			p = e.Report(p, from)
		case n >= 12 && conn == e.rtp:
			s.counts.packets.Add(1)
			e.Sound(p, from)
		default:
			continue
		}
		if p != nil {
			_, _ = conn.WriteToUDPAddrPort(p, from) // lost, as media may be
		}
	}
}

// describe answers an offer with the echo.
func (s *Server) describe(callID, offer string) (string, error) {
	sum := sha256.Sum256([]byte(callID))
	at := s.sound[int(sum[0])%len(s.sound)]
	return media.Describe(offer, netip.AddrPortFrom(s.config.Listen.Addr(), port(at.rtp)), s.config.Codecs)
}
