package sipproxy

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/sdp"
)

// voice is our own part on one side.
type voice struct {
	at     netip.Addr // where that side finds us now
	origin sdp.Origin // but for the version it never changes (RFC 3264 section 8)
	last   string     // the description with that version
}

func newVoice(at netip.Addr) voice {
	var b [8]byte
	_, _ = rand.Read(b[:])                   // never fails (crypto/rand)
	id := binary.BigEndian.Uint64(b[:]) >> 2 // RFC 8866 section 5.2: fits a signed 64-bit number
	return voice{at: at, origin: sdp.Origin{ID: id, Addr: at}}
}

// cname names our source towards a phone (RFC 7022 section 4.2: one for each session).
func (n *negotiation) cname() string { return strconv.FormatUint(n.voices[flow.Secure].origin.ID, 36) }

// describe writes our description for one side from what the other side said:
// our offer from its offer, or our answer from its answer.
func (n *negotiation) describe(to flow.Side, said *sdp.Session, isOffer bool) *sdp.Session {
	out := &sdp.Session{Addr: n.voices[to].at}
	lines := n.lines[to]
	if !isOffer { // an answer has the lines of its offer (RFC 3264 section 6)
		lines = lines[:min(len(lines), len(n.pending.session.Media))]
	}
	for _, s := range lines {
		var theirs *sdp.Media
		if at := s.at[other(to)]; at >= 0 && at < len(said.Media) {
			theirs = &said.Media[at]
		}
		if !s.relayed || theirs == nil {
			out.Media = append(out.Media, n.rejected(to, s, isOffer))
			continue
		}
		m := n.carry(theirs)
		m.Addr = out.Addr
		if to == flow.Secure {
			n.secureLine(s, &m, isOffer)
		} else {
			n.plainLine(s, &m, isOffer)
		}
		out.Media = append(out.Media, m)
	}
	if to == flow.Secure {
		n.bundle(out, isOffer)
		out.ICELite = slices.ContainsFunc(out.Media, func(m sdp.Media) bool { return m.ICE.Ufrag != "" })
	}
	return out
}

// carry copies what means the same on both sides.
func (n *negotiation) carry(theirs *sdp.Media) sdp.Media {
	m := sdp.Media{
		Kind: theirs.Kind, Direction: theirs.Direction, Ptime: theirs.Ptime, Maxptime: theirs.Maxptime,
		Bandwidth: theirs.Bandwidth,
	}
	for _, f := range theirs.Formats {
		f.Feedback = nil // a profile of RFC 4585 on neither side
		m.Formats = append(m.Formats, f)
	}
	// The old way to hold names no address. Ours must stay a real one, so the
	// direction says it (RFC 3264 section 8.4).
	if theirs.Held() {
		switch m.Direction {
		case sdp.SendRecv:
			m.Direction = sdp.SendOnly
		case sdp.RecvOnly:
			m.Direction = sdp.Inactive
		}
	}
	return m
}

// secureLine gives a line towards the phone its port and our keys.
func (n *negotiation) secureLine(s *stream, m *sdp.Media, isOffer bool) {
	for _, a := range s.addrs.Secure {
		if a.Addr() == m.Addr {
			m.Port = a.Port()
		}
	}
	if n.announces() {
		m.SSRCs = []sdp.SSRC{{ID: s.addrs.SSRC, CNAME: n.cname()}}
	}
	if !isOffer { // an answer keeps the offer's profile and tag (RFC 3264 section 6, RFC 4568 section 5.1.2)
		offered := &n.pending.session.Media[s.at[flow.Secure]]
		m.Proto, m.RTCPMux = offered.Proto, offered.RTCPMux
		if s.link != nil {
			n.linkLine(s, m, false)
		} else {
			m.Crypto = []sdp.Crypto{s.cryptoLine(s.sdes.chosen.Tag, s.sdes.chosen.Suite)}
		}
		return
	}
	alone := n.alone && s.proto == "" // a line that is up keeps its keying
	switch m.Proto = s.proto; {
	case m.Proto != "":
	case n.page, alone && n.web:
		m.Proto = sdp.TLSSAVPF
	case alone:
		m.Proto = sdp.TLSSAVP
	case n.web:
		m.Proto = sdp.SAVPF
	default:
		m.Proto = sdp.SAVP
	}
	m.RTCPMux = n.trunk
	s.sdes.offered = nil
	if s.link == nil && !n.page && !alone {
		s.sdes.offered = n.offeredSuites(s)
		for i, suite := range s.sdes.offered {
			m.Crypto = append(m.Crypto, s.cryptoLine(i+1, suite.String()))
		}
	}
	if s.next != nil {
		n.linkLine(s, m, true)
	}
}

// plainLine gives a line towards the PBX its port.
func (n *negotiation) plainLine(s *stream, m *sdp.Media, isOffer bool) {
	m.Proto, m.Port = sdp.AVP, s.addrs.Plain.Port()
	if !isOffer { // RTP/AVPF perhaps, without its feedback
		m.Proto = n.pending.session.Media[s.at[flow.Plain]].Proto
	}
}

// announces tells whether we say which source we send by (RFC 5576): to browsers, which
// make their streams from it, and to trunks.
func (n *negotiation) announces() bool { return n.web || n.trunk }

// rejected is a line with port 0, which keeps its place (RFC 3264 section 6).
func (n *negotiation) rejected(to flow.Side, s *stream, isOffer bool) sdp.Media {
	m := sdp.Media{Kind: s.kind, Proto: sdp.AVP, Addr: n.voices[to].at, Direction: sdp.Inactive}
	if to == flow.Secure {
		m.Proto = sdp.SAVP
		if n.page {
			m.Proto = sdp.TLSSAVPF
		}
	}
	if isOffer && to == flow.Secure {
		m.MID = s.mid
	}
	if at := s.at[to]; !isOffer && n.pending != nil && at < len(n.pending.session.Media) {
		offered := &n.pending.session.Media[at]
		m.Proto, m.MID = offered.Proto, offered.MID
		if len(offered.Formats) > 0 {
			m.Formats = []sdp.Format{{Name: offered.Formats[0].Name}}
		}
	}
	return m
}

// write gives a description its origin: a new version if it says something
// new, the same if it repeats (RFC 3264 section 8).
func (n *negotiation) write(side flow.Side, s *sdp.Session) body {
	v := &n.voices[side]
	s.Origin = v.origin
	if text := string(s.Marshal()); text != v.last {
		v.origin.Version++
		s.Origin = v.origin
		v.last = string(s.Marshal())
	}
	return body{kind: "application/sdp", bytes: []byte(v.last)}
}
