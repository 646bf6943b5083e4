package sdp

import (
	"net/netip"
	"strings"
)

// Session is a description.
type Session struct {
	Origin    Origin
	Name      string
	Addr      netip.Addr // of the session's c=; zero if it has none, or a host name
	Direction Direction  // of the session; every Media has its own resolved
	Groups    []Group
	ICELite   bool
	Media     []Media
}

// Origin is the o= line.
type Origin struct {
	Username    string
	ID, Version uint64
	Addr        netip.Addr // zero if it is a host name
}

// Group is a=group (RFC 5888).
type Group struct {
	Semantics string
	MIDs      []string
}

// Media is one m-line with its attributes; what the session says for all is
// resolved into each.
type Media struct {
	Kind      string // audio, video, image, application, …
	Port      uint16 // 0: rejected or not used
	Proto     Proto
	Formats   []Format
	Addr      netip.Addr     // zero if unknown
	RTCP      netip.AddrPort // of a=rtcp; no Addr if it gave the port alone; zero if absent
	RTCPMux   bool
	Direction Direction
	Ptime     int // milliseconds; 0: not said
	Maxptime  int
	Crypto    []Crypto
	Transport Transport
	Label     Label
	SSRCs     []SSRC
	Bandwidth []Bandwidth
}

// Transport is what ICE and DTLS need to know.
type Transport struct {
	Ufrag, Pwd   string
	ICEOptions   string
	Candidates   []string // values, checked for characters only
	Complete     bool     // end-of-candidates
	Fingerprints []Fingerprint
	Setup        string // active, passive, actpass, holdconn
}

// Fingerprint is a certificate's hash.
type Fingerprint struct {
	Hash  string // sha-256, …
	Value string // upper-case hexadecimal with colons
}

// Label is what names a stream to WebRTC and to users.
type Label struct {
	MID, MSID string
	RTCPRsize bool
	Extmap    []string
	Label     string
	Content   string
}

// SSRC is a=ssrc (RFC 5576).
type SSRC struct {
	ID    uint32
	CNAME string
}

// Bandwidth is a b= line.
type Bandwidth struct {
	Type  string
	Value uint64
}

// Format is one entry of an m-line's list.
type Format struct {
	Name      string // the payload type's number; a word where the proto is not RTP
	Codec     string // encoding name; empty if unknown
	ClockRate int
	Channels  int // 0: not said
	Fmtp      string
	Feedback  []string // rtcp-fb values
}

// Proto is an m-line's transport protocol.
type Proto string

// The RTP protocols.
const (
	AVP      Proto = "RTP/AVP"
	AVPF     Proto = "RTP/AVPF"
	SAVP     Proto = "RTP/SAVP"
	SAVPF    Proto = "RTP/SAVPF"
	TLSSAVP  Proto = "UDP/TLS/RTP/SAVP"
	TLSSAVPF Proto = "UDP/TLS/RTP/SAVPF"
)

// RTP tells whether it carries RTP in a way we know.
func (p Proto) RTP() bool { return p == AVP || p == AVPF || p.Secure() }

// Secure tells whether it promises SRTP.
func (p Proto) Secure() bool { return p == SAVP || p == SAVPF || p.DTLS() }

// DTLS tells whether its keys come by DTLS.
func (p Proto) DTLS() bool { return p == TLSSAVP || p == TLSSAVPF }

// Feedback tells whether it is a profile of RFC 4585.
func (p Proto) Feedback() bool { return strings.HasSuffix(string(p), "F") }

// Direction is who sends (RFC 3264 section 5.1).
type Direction uint8

// The directions; the zero value is the default.
const (
	SendRecv Direction = iota
	SendOnly
	RecvOnly
	Inactive
)

var directions = [...]string{"sendrecv", "sendonly", "recvonly", "inactive"}

// String is the attribute's name.
func (d Direction) String() string { return directions[d&3] }

// Held tells of the old way to hold: an address of zeros (RFC 3264 section
// 8.4), which says "send me nothing".
func (m *Media) Held() bool {
	return m.Port != 0 && m.Addr.IsValid() && m.Addr.IsUnspecified()
}

// RTPAddr is where RTP is wanted; zero if nowhere.
func (m *Media) RTPAddr() netip.AddrPort {
	if m.Port == 0 || !m.Addr.IsValid() || m.Addr.IsUnspecified() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(m.Addr, m.Port)
}

// RTCPAddr is where RTCP is wanted: with RTP if muxed, where a=rtcp says, or
// one port above; zero if nowhere.
func (m *Media) RTCPAddr() netip.AddrPort {
	rtp := m.RTPAddr()
	switch {
	case !rtp.IsValid() || m.RTCPMux:
		return rtp
	case m.RTCP.Port() == 0:
		if rtp.Port() == 65535 {
			return netip.AddrPort{}
		}
		return netip.AddrPortFrom(rtp.Addr(), rtp.Port()+1)
	case m.RTCP.Addr().IsValid():
		return m.RTCP
	}
	return netip.AddrPortFrom(rtp.Addr(), m.RTCP.Port())
}
