package sdp

import (
	"net/netip"
	"strings"
)

// Media is one m-line with its attributes; what the session says for all is
// resolved into each. It has a field for each attribute of the model, and so
// more than a struct should: nesting them would only hide which they are.
type Media struct {
	Kind      string // audio, video, image, application, …
	Port      uint16 // 0: rejected or not used
	Proto     Proto
	Formats   []Format
	Addr      netip.Addr     // zero if unknown
	RTCP      netip.AddrPort // of a=rtcp; no Addr if it gave the port alone; zero if absent
	RTCPMux   bool
	RTCPRsize bool
	Direction Direction
	Ptime     int // milliseconds; 0: not said
	Maxptime  int // milliseconds; 0: not said
	Bandwidth []Bandwidth

	Crypto       []Crypto
	Fingerprints []Fingerprint
	Setup        string // active, passive, actpass, holdconn; empty: not said
	ICE          ICE

	MID, MSID  string
	BundleOnly bool // to be used in its bundle alone; in an offer its port is 0 (RFC 8843 section 6)
	SSRCs      []SSRC
	SSRCGroups []SSRCGroup
	Extmap     []Extmap
	Label      string
	Content    string
}

// Held tells of the old way to hold: an address of zeros (RFC 3264 section
// 8.4), which says "send me nothing". An ICE agent that has no candidate yet
// writes the same with port 9 (RFC 8840 section 4.1.1), and is not on hold.
func (m *Media) Held() bool {
	return m.Port != 0 && m.Addr.IsUnspecified() && (m.Port != 9 || m.ICE.Ufrag == "")
}

// RTPAddr is where RTP is wanted; zero if nowhere.
func (m *Media) RTPAddr() netip.AddrPort {
	return destination(m.Addr, m.Port)
}

// RTCPAddr is where RTCP is wanted, unless both sides agree to mux: where a=rtcp
// says, else one port above; zero if nowhere. That one side would mux changes
// nothing, and once both do it is RTPAddr (RFC 5761 sections 5.1.1 and 5.1.3).
func (m *Media) RTCPAddr() netip.AddrPort {
	switch {
	case !m.RTPAddr().IsValid():
		return netip.AddrPort{}
	case m.RTCP.Addr().IsValid():
		return destination(m.RTCP.Addr(), m.RTCP.Port())
	case m.RTCP.Port() != 0:
		return destination(m.Addr, m.RTCP.Port())
	}
	return destination(m.Addr, m.Port+1) // 65535 wraps to nowhere
}

func destination(a netip.Addr, port uint16) netip.AddrPort {
	if port == 0 || !a.IsValid() || a.IsUnspecified() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, port)
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
func (p Proto) Feedback() bool { return p == AVPF || p == SAVPF || p == TLSSAVPF }

// parseProto reads tokens with slashes between. The ones we know are known in
// any case of letters, and written in capitals.
func parseProto(s string) (Proto, bool) {
	if !tokens(strings.Split(s, "/")) || len(s) > maxToken {
		return "", false
	}
	if p := Proto(strings.ToUpper(s)); p.RTP() {
		return p, true
	}
	return Proto(s), true
}

// Direction is who sends (RFC 3264 section 5.1).
type Direction uint8

// The directions; the zero value is the default.
const (
	SendRecv Direction = iota
	SendOnly
	RecvOnly
	Inactive
)

// String is the attribute's name.
func (d Direction) String() string {
	switch d {
	case SendOnly:
		return "sendonly"
	case RecvOnly:
		return "recvonly"
	case Inactive:
		return "inactive"
	}
	return "sendrecv"
}

// Reverse is the same as the other end sees it.
func (d Direction) Reverse() Direction {
	switch d {
	case SendOnly:
		return RecvOnly
	case RecvOnly:
		return SendOnly
	}
	return d
}

func parseDirection(s string) (Direction, bool) {
	for d := SendRecv; d <= Inactive; d++ {
		if s == d.String() {
			return d, true
		}
	}
	return 0, false
}
