package peers

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/rtp"
)

// This file is what a Phone's Media sends and hears.

// Speak sends a tone of that frequency from now on, one of whole hertz, whose
// second ends where it begins.
func (m *Media) Speak(hz float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tone, m.at = Sine(hz, 1), 0
}

// pcma is the payload type of A-law (RFC 3551 section 6).
const pcma = 8

// Speaks changes the codec of the next description, and of all that comes from
// now on; what is sent changes with the next Apply.
func (m *Media) Speaks(payload uint8) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Payload = payload
}

// Packets that are counted have tones of their own, a hundred one after the other, none
// of them a tone that the tests speak with, which may still be on its way.
const countFrom, countStep, countOf = 510, 20, 100

// Count has each packet sound other than all near it, so that what is missing of them
// at the far end can be told by sound.
func (m *Media) Count() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts, m.count = true, 0
}

// Skipped tells how much of such a sound was heard, in packets, and the longest run
// that is missing in the middle of it.
func (m *Media) Skipped() (heard, longest int) { return skipped(m.Samples()) }

func skipped(samples []int16) (heard, longest int) {
	last := -1
	for _, hz := range Pitches(samples) {
		n := int(math.Round((hz - countFrom) / countStep))
		if n < 0 || n >= countOf || math.Abs(hz-float64(countFrom+countStep*n)) > countStep/4 {
			continue // it is none: missed where the next one is
		}
		heard++
		if last >= 0 && n != last {
			longest = max(longest, (n-last+countOf)%countOf-1)
		}
		last = n
	}
	return heard, longest
}

// Silence stops the packets, or lets them go on.
func (m *Media) Silence(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.silent = on
}

// NewSource goes on with another SSRC and sequence.
func (m *Media) NewSource() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.SSRC = binary.BigEndian.Uint32(random(4))
	m.header.SSRC, m.header.SequenceNumber = m.SSRC, binary.BigEndian.Uint16(random(2))
}

// From begins with a sequence number.
func (m *Media) From(seq uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.header.SequenceNumber = seq
}

// Shift goes on from other ports of the phone's own host.
func (m *Media) Shift() {
	m.p.t.Helper()
	m.Move(m.p.Host)
}

// Move goes on from other ports, of another host perhaps.
func (m *Media) Move(h *Host) {
	m.p.t.Helper()
	conn, rtcp := m.sockets(h, 0)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conn.Close()
	m.rtcp.Close()
	m.conn, m.rtcp = conn, rtcp
	if m.DTLS != nil && m.DTLS.ICE != nil {
		m.DTLS.ICE.moved()
	}
	go m.receive(conn)     // ends when Stop or Move closes the socket
	go m.receiveRTCP(rtcp) // likewise
}

// Packet is the next RTP packet, encrypted.
func (m *Media) Packet() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.packetLocked()
}

func (m *Media) packetLocked() []byte {
	payload, encode := make([]byte, frame), MuLaw
	if m.counts {
		m.tone, m.at = Sine(float64(countFrom+countStep*m.count), 1.0/50), 0
		m.count = (m.count + 1) % countOf
	}
	if m.header.PayloadType == pcma {
		encode = ALaw
	}
	for i := range payload {
		payload[i] = encode(m.tone[(m.at+i)%len(m.tone)])
	}
	m.at += len(payload)
	plain, err := (&rtp.Packet{Header: m.header, Payload: payload}).Marshal()
	if err != nil {
		return nil
	}
	m.header.SequenceNumber++
	m.header.Timestamp += 160
	sealed, err := m.seal.guard(plain)
	if err != nil {
		return nil
	}
	return sealed
}

// Send sends packets as they are from the phone's RTP port.
func (m *Media) Send(packets ...[]byte) {
	m.mu.Lock()
	conn, to := m.conn, m.to
	m.mu.Unlock()
	for _, p := range packets {
		_, _ = conn.WriteToUDPAddrPort(p, to)
	}
}

func (m *Media) send() {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-tick.C:
		}
		m.mu.Lock()
		if !m.silent && m.seal.guard != nil {
			_, _ = m.conn.WriteToUDPAddrPort(m.packetLocked(), m.to)
			m.sent++
		}
		m.mu.Unlock()
	}
}

// Report sends a report, encrypted, by the port that RTCP leaves from.
func (m *Media) Report() {
	m.mu.Lock()
	defer m.mu.Unlock()
	conn, to := m.rtcp, netip.AddrPortFrom(m.to.Addr(), m.to.Port()+1)
	if m.Mux {
		conn, to = m.conn, m.to
	}
	if sealed, err := m.seal.guard(m.reportLocked()); err == nil {
		_, _ = conn.WriteToUDPAddrPort(sealed, to)
	}
}

// reportLocked is a sender report with the phone's CNAME behind it (RFC 3550
// sections 6.4.1 and 6.5).
func (m *Media) reportLocked() []byte {
	const rtcpSR, rtcpSDES, cname = 200, 202, 1
	b := make([]byte, 28)
	b[0], b[1], b[3] = 0x80, rtcpSR, 6
	binary.BigEndian.PutUint32(b[4:], m.SSRC)
	item := append([]byte{cname, byte(len(m.CNAME))}, m.CNAME...)
	item = append(item, make([]byte, 4-len(item)%4)...) // at least one byte ends the list
	b = append(b, 0x81, rtcpSDES, 0, byte(1+len(item)/4))
	b = binary.BigEndian.AppendUint32(b, m.SSRC)
	return append(b, item...)
}

func (m *Media) receive(conn *net.UDPConn) {
	buf := make([]byte, 2048)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		switch p := buf[:n]; {
		case m.DTLS != nil && n > 0 && p[0] < 64:
			m.takeSetup(conn, p)
		case isRTCP(p):
			m.takeRTCP(p, 0)
		default:
			m.takeRTP(p)
		}
	}
}

// takeSetup takes what is no media: STUN and DTLS (RFC 7983).
func (m *Media) takeSetup(conn *net.UDPConn, p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch ice := m.DTLS.ICE; {
	case p[0] >= 20:
		m.DTLS.takeLocked(p)
	case ice != nil:
		ice.takeLocked(conn, p)
	}
}

func (m *Media) takeRTP(p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open.guard == nil { // the edge may have its keys first
		m.early++
		return
	}
	var h rtp.Header
	plain, err := m.open.guard(p)
	if err != nil {
		m.bad++
		return
	}
	size, err := h.Unmarshal(plain)
	if err != nil || h.PayloadType != m.Payload {
		return
	}
	m.ssrcs[h.SSRC]++
	decode := FromMuLaw
	if h.PayloadType == pcma {
		decode = FromALaw
	}
	for _, b := range plain[size:] {
		m.heard = append(m.heard, decode(b))
	}
}

func (m *Media) receiveRTCP(conn *net.UDPConn) {
	buf := make([]byte, 2048)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		m.takeRTCP(buf[:n], 1)
	}
}

func (m *Media) takeRTCP(p []byte, port int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open.guard == nil {
		m.early++
		return
	}
	if _, err := m.open.guard(p); err != nil {
		m.bad++
		return
	}
	m.reports[port]++
}

// Samples is what was heard so far.
func (m *Media) Samples() []int16 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.heard)
}

// Forget drops what was heard: what Hears finds comes later.
func (m *Media) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.heard = nil
}

// Counts are the RTP and RTCP packets that were decrypted, and those of either
// that could not be.
func (m *Media) Counts() (packets, reports, bad int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.ssrcs {
		packets += n
	}
	return packets, m.reports[0] + m.reports[1], m.bad
}

// Came counts all packets of media that came, whether there was a key for them
// or not.
func (m *Media) Came() int {
	packets, reports, bad := m.Counts()
	m.mu.Lock()
	defer m.mu.Unlock()
	return packets + reports + bad + m.early
}

// Reports are the RTCP packets that came on the RTP port, and on the next one.
func (m *Media) Reports() (muxed, other int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reports[0], m.reports[1]
}

// Sent counts the RTP packets that left at the phone's own pace.
func (m *Media) Sent() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sent
}

// Sources counts the SSRCs that were heard.
func (m *Media) Sources() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.ssrcs)
}

// Hears waits until a second of a tone was heard, within 1 %.
func (m *Media) Hears(hz float64, timeout time.Duration) {
	m.p.t.Helper()
	var got, share float64
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if s := m.Samples(); len(s) > Rate {
			if got, share = Tone(s, Rate); Near(got, hz) && share > 0.8 {
				return
			}
		}
	}
	packets, reports, bad := m.Counts()
	m.p.t.Fatalf("phone %s hears %.1f Hz (%.0f %% of the sound), want %.0f Hz; %s", m.p.User, got, 100*share, hz,
		fmt.Sprintf("%d packets and %d reports were decrypted, %d not", packets, reports, bad))
}
