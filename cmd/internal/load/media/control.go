package media

import (
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/pion/rtcp"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/sound"
)

// control is a session's RTCP (RFC 3550 section 6), encrypted with the keys of its
// RTP (RFC 3711 section 3.4), or an echo's, in clear. Whose it is has a mutex that
// guards it.
type control struct {
	mux   bool           // on the port of RTP (RFC 5761)
	conn  *net.UDPConn   // else of its own; nil: there is none
	to    netip.AddrPort // else where it goes; invalid: nowhere
	cname string
	due   time.Time // when the next report is; zero: never
	heard measure.Control
	last  struct { // report of ours
		spoken, expected, lost int // packets until then
	}
	theirs struct { // last sender report
		stamp uint32 // middle of its NTP time
		at    time.Time
	}
}

// minimum is the least time between reports. Two in a call at 64 kbit/s may take a
// twentieth of that, which is far more than what they need at this pace (RFC 3550
// section 6.2).
const minimum = 5 * time.Second

// interval is how long until the next report (RFC 3550 section 6.3.1): half of it
// or half more, for half as long before the first one, and all divided by e-3/2.
func interval(first bool) time.Duration {
	least := minimum
	if first {
		least /= 2
	}
	return time.Duration(float64(least) * (0.5 + mathrand.Float64()) / 1.21828)
}

func (c *control) begin(now time.Time) { c.due = now.Add(interval(true)) }

func (c *control) isDue(now time.Time) bool { return !c.due.IsZero() && !now.Before(c.due) }

// name is the CNAME (RFC 7022 section 4.2).
func (c *control) name() string {
	if c.cname == "" {
		c.cname = rand.Text()[:16]
	}
	return c.cname
}

// direct takes where reports go. Without mux they are only there for keys of SDES:
// DTLS would need a handshake of their own, and RFC 8834 section 4.5 has mux. The port of
// their own stays while another answer may need it.
func (c *control) direct(d *description, sdes, early bool) {
	c.mux, c.to = d.mux, netip.AddrPort{}
	switch {
	case d.mux && early:
	case d.mux:
		c.close()
	case sdes:
		c.to = d.control
	}
}

// close ends the port of its own.
func (c *control) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// controlLines describe where reports may come: to the port of RTP if the other end
// can do that, and to one of their own unless it is sure that it can. s.mu is held.
func (s *Session) controlLines(mux bool) (lines []string) {
	if mux {
		lines = append(lines, "rtcp-mux")
	}
	sure := s.control.mux || !s.state.offerer
	if s.conn == nil || s.state.closed || mux && sure {
		return lines
	}
	if s.control.conn == nil {
		conn, err := listen(netip.AddrPortFrom(s.at.Addr(), s.at.Port()+1))
		if err != nil { // another has it
			conn, err = listen(netip.AddrPortFrom(s.at.Addr(), 0))
		}
		if err != nil {
			return lines // calls go without reports before they fail for want of a port
		}
		s.control.conn = conn
		s.done.Go(func() { s.readControl(conn) }) // ends when it is closed; Close waits for it
	}
	if at := port(s.control.conn); at.Port() != s.at.Port()+1 {
		lines = append(lines, fmt.Sprintf("rtcp:%d", at.Port())) // RFC 3605
	}
	return lines
}

// readControl takes reports from their own port, until that is closed.
func (s *Session) readControl(conn *net.UDPConn) {
	var buf, plain [2048]byte
	for {
		n, _, err := conn.ReadFromUDPAddrPort(buf[:])
		switch {
		case err == nil && n >= 8 && buf[0]>>6 == 2:
			s.reported(buf[:n], plain[:0])
		case err != nil:
			s.mu.Lock()
			open := s.control.conn == conn
			s.mu.Unlock()
			if !open {
				return
			}
		}
	}
}

// report sends what there is to tell (RFC 3550 sections 6.1 and 6.4), and says
// goodbye at the end. Who never sent anything has nothing to end (section 6.3.7).
// s.mu is held.
func (s *Session) report(now time.Time, goodbye bool) {
	c, spoken := &s.control, s.speech.packets
	c.due = now.Add(interval(false))
	if s.keys.out == nil || goodbye && spoken+c.heard.Sent == 0 {
		return
	}
	conn, to := s.conn, s.to
	if !c.mux {
		conn, to = c.conn, c.to
	}
	if conn == nil || !usable(to) {
		return
	}
	plain, err := c.compound(&rtcp.SenderReport{
		SSRC: s.speech.ssrc(), NTPTime: ntp(now), RTPTime: s.speech.stamp(), PacketCount: uint32(spoken), OctetCount: uint32(spoken * sound.FrameSamples),
		Reports: c.reception(&s.hearing().received, now),
	}, goodbye)
	if err != nil {
		return // never: it is as it should be
	}
	sealed, err := s.keys.out.EncryptRTCP(nil, plain, nil)
	if err != nil {
		return // the other end misses a report, as it may
	}
	if _, err := conn.WriteToUDPAddrPort(sealed, to); err == nil {
		c.heard.Sent++
	}
}

// compound is a packet of all that is to be told (RFC 3550 section 6.1): a sender's
// report, or a receiver's where nothing was sent since the last one.
func (c *control) compound(r *rtcp.SenderReport, goodbye bool) ([]byte, error) {
	all := []rtcp.Packet{r}
	if spoken := int(r.PacketCount); spoken == c.last.spoken {
		all[0] = &rtcp.ReceiverReport{SSRC: r.SSRC, Reports: r.Reports}
	} else {
		c.last.spoken = spoken
	}
	all = append(all, rtcp.NewCNAMESourceDescription(r.SSRC, c.name()))
	if goodbye {
		all = append(all, &rtcp.Goodbye{Sources: []uint32{r.SSRC}})
	}
	return rtcp.Marshal(all)
}

// reception tells what came of the other end (RFC 3550 section 6.4.1 and appendix
// A.3); nothing if nothing did.
func (c *control) reception(r *received, now time.Time) []rtcp.ReceptionReport {
	if r.whole == 0 {
		return nil
	}
	lost := r.lost() - r.before
	expected := r.whole + lost
	b := rtcp.ReceptionReport{SSRC: r.ssrc, TotalLost: uint32(min(lost, 1<<23-1)), LastSequenceNumber: r.high, Jitter: uint32(r.jitter)}
	if since, of := lost-c.last.lost, expected-c.last.expected; since > 0 && of > 0 {
		b.FractionLost = uint8(min(255, since*256/of))
	}
	c.last.lost, c.last.expected = lost, expected
	if !c.theirs.at.IsZero() {
		b.LastSenderReport, b.Delay = c.theirs.stamp, fixed(now.Sub(c.theirs.at))
	}
	return []rtcp.ReceptionReport{b}
}

// reported takes an RTCP packet, borrowed.
func (s *Session) reported(p, plain []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys.in == nil { // the other end may have its keys first
		return
	}
	c, now := &s.control, time.Now()
	plain, err := s.keys.in.DecryptRTCP(plain, p, nil)
	var all []rtcp.Packet
	if err == nil {
		all, err = rtcp.Unmarshal(plain)
	}
	if err != nil {
		c.heard.Bad++
		return
	}
	c.heard.Received++
	for _, one := range all {
		switch r := one.(type) {
		case *rtcp.SenderReport:
			c.theirs.stamp, c.theirs.at = uint32(r.NTPTime>>16), now
			c.learn(r.Reports, s.speech.ssrc(), now)
		case *rtcp.ReceiverReport:
			c.learn(r.Reports, s.speech.ssrc(), now)
		}
	}
}

// learn takes what the other end says of what it hears.
func (c *control) learn(all []rtcp.ReceptionReport, ours uint32, now time.Time) {
	for _, r := range all {
		if r.SSRC != ours {
			continue
		}
		c.heard.Told = true
		c.heard.Lost = int(int32(r.TotalLost<<8) >> 8) // of 24 bits; duplicates make it negative
		c.heard.Jitter = time.Duration(r.Jitter) * time.Second / sound.Rate
		if r.LastSenderReport == 0 {
			continue
		}
		trip := int32(uint32(ntp(now)>>16) - r.LastSenderReport - r.Delay) // RFC 3550 section 6.4.1
		c.heard.RoundTrip = time.Duration(max(0, trip)) * time.Second >> 16
		c.heard.Measured = true
	}
}

// ntp is a time since 1900, in 2^-32 s (RFC 3550 section 4).
func ntp(t time.Time) uint64 {
	const since1900 = 2_208_988_800 // s, until 1970
	return uint64(t.Unix()+since1900)<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}

// fixed is a duration in 2^-16 s.
func fixed(d time.Duration) uint32 { return uint32(d << 16 / time.Second) }
