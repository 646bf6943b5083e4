package sipproxy

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/sdp"
)

// This file is keys that come by DTLS (RFC 5763), over ICE if the phone does
// it: how the transport is offered, answered and agreed on.

// link is one transport of a call on the secure side: of one m-line, or of all
// that are bundled (RFC 8843).
type link struct {
	transport *media.Transport
	local     media.Credentials
	role      media.Role
	ice, mux  bool
	used      bool   // an answer agreed on it
	ufrag     string // the phone's, as agreed last
	apart     bool   // the phone, when that was agreed, bundled nothing
}

func (n *negotiation) newLink() (*link, *refusal) {
	t, err := n.session.AddTransport(n.phone, n.suites)
	if err != nil {
		return nil, refuse(503, "Service Unavailable", "no media transport: %v", err)
	}
	return &link{transport: t, local: t.Credentials()}, nil
}

// chooseLink takes a line of a phone's offer onto a transport: of the line it
// is bundled with, the one it had, or a new one.
func (n *negotiation) chooseLink(s *stream, in *sdp.Session, i int) (r *refusal) {
	m := &in.Media[i]
	if m.Setup == "holdconn" {
		return refuseMedia(302, "%s is offered with setup:holdconn, which never connects", m.Kind)
	}
	if !n.dtls() {
		return refuseMedia(306, "%s is offered with DTLS-SRTP, which has none of the suites that are turned on here", m.Kind)
	}
	s.next = s.link
	switch l := n.bundledWith(in, i); {
	case l != nil:
		s.next = l
	case n.taken(i, s.next): // it was bundled until now
		s.next = nil
	}
	if s.next == nil {
		if s.next, r = n.newLink(); r != nil {
			return r
		}
	}
	s.relayed = true
	return nil
}

// dtls tells whether keys may come by DTLS.
func (n *negotiation) dtls() bool { return slices.ContainsFunc(n.suites, media.Suite.DTLS) }

// bundledWith finds the transport that a line shares: with a line before it, or
// with one behind it that is in use.
func (n *negotiation) bundledWith(in *sdp.Session, i int) *link {
	if !n.bundles() {
		return nil
	}
	lines := n.lines[flow.Secure]
	for j := range i {
		if o := lines[j]; o.next != nil && o.wanted && in.Bundled(i, j) {
			return o.next
		}
	}
	for j := i + 1; j < min(len(lines), len(in.Media)) && lines[i].link == nil; j++ {
		if m := &in.Media[j]; lines[j].link != nil && (m.Port != 0 || m.BundleOnly) && in.Bundled(i, j) {
			return lines[j].link
		}
	}
	return nil
}

// taken tells whether a line before one has a transport.
func (n *negotiation) taken(i int, l *link) bool {
	return slices.ContainsFunc(n.lines[flow.Secure][:i], func(o *stream) bool { return o.wanted && o.next == l })
}

// offerLink gives a line of our offer to a phone its transport. A browser has
// all lines bundled, unless two use one payload type for different things; a
// phone has what it had, or the choice of DTLS and SDES (as in RFC 8643 section
// 3.1); a trunk SDES alone: nobody is on the way to read the descriptions.
func (n *negotiation) offerLink(s *stream, from *sdp.Session) (r *refusal) {
	s.next = s.link
	if s.next != nil || s.sdes.inUse != 0 || n.trunk || !n.dtls() && !n.page {
		return nil
	}
	if n.web && distinctPayloads(from) {
		for _, o := range n.lines[flow.Secure] {
			if o != s && o.next != nil && o.relayed && !o.next.apart {
				s.next = o.next
				return nil
			}
		}
	}
	s.next, r = n.newLink()
	return r
}

// distinctPayloads tells whether a description's lines can share a transport
// (RFC 8843 section 9.2).
func distinctPayloads(in *sdp.Session) bool {
	seen := make(map[string]bool)
	for i := range in.Media {
		for _, f := range in.Media[i].Formats {
			if in.Media[i].Port != 0 && seen[f.Name] {
				return false
			}
			seen[f.Name] = true
		}
	}
	return true
}

// connectLink begins a transport as offer and answer agreed. Of those that are
// bundled, the first line tells it for all (RFC 8843 section 7.1.3): in the first
// offer, each may have an ICE of its own in case that we do not bundle.
func (n *negotiation) connectLink(s *stream, answerer flow.Side, said *sdp.Session, to *media.SecureParams) *refusal {
	l, phone := s.next, &said.Media[s.at[flow.Secure]]
	if first := n.begun(s); first != nil {
		if !said.Bundled(first.at[flow.Secure], s.at[flow.Secure]) {
			l.apart = true
			return refuseMedia(302, "the phone answered %s outside of the bundle that it was offered in", s.kind)
		}
		s.link, s.sdes.inUse, to.Transport = l, 0, l.transport
		return nil
	}
	if l == nil || len(phone.Fingerprints) == 0 {
		return refuseMedia(302, "the phone answered %s without keys: neither a=crypto nor a=fingerprint", s.kind)
	}
	// Two ends of ICE-lite have nobody who checks (RFC 8445 section 6.1.1); what
	// has no rtcp-mux would need a second component.
	ice := phone.ICE.Ufrag != "" && phone.ICE.Pwd != "" && phone.RTCPMux && !said.ICELite
	role, ok := l.roleFor(phone.Setup, answerer, ice)
	if !ok {
		return refuseMedia(302, "the phone's a=setup:%s of %s does not answer ours", phone.Setup, s.kind)
	}
	if ice && l.used && answerer == flow.Plain && phone.ICE.Ufrag != l.ufrag { // RFC 8839 section 4.4.1.1
		l.local = l.transport.RestartICE()
	}
	l.role, l.ice, l.mux, l.used, l.ufrag = role, ice, phone.RTCPMux, true, phone.ICE.Ufrag
	l.apart = !said.Bundled(s.at[flow.Secure], s.at[flow.Secure])
	p := media.TransportParams{
		Role: role, Suites: n.suites, ICE: ice, RTCPMux: phone.RTCPMux,
		Hint: n.hint(phone.RTPAddr().Port()), RTCPHint: n.hint(phone.RTCPAddr().Port()),
	}
	for _, f := range phone.Fingerprints {
		p.Fingerprints = append(p.Fingerprints, media.Fingerprint(f))
	}
	if err := l.transport.Start(p); err != nil {
		return refuse(500, "Server Internal Error", "%v", err)
	}
	s.link, s.sdes.inUse = l, 0
	to.Transport = l.transport
	return nil
}

// begun finds the line before one that has begun their transport, or nil.
func (n *negotiation) begun(s *stream) *stream {
	for _, o := range n.lines[flow.Secure] {
		if o == s {
			break
		}
		if o.relayed && o.link != nil && o.link == s.next {
			return o
		}
	}
	return nil
}

// roleFor is ours for the setup that the phone offered or answered (RFC 5763
// section 5). Where we may choose, we begin if the phone does ICE: then no
// stranger's ClientHello is looked at, and it saves a round trip. A phone
// without ICE has to begin, or the NAT before it lets nothing in.
func (l *link) roleFor(setup string, answerer flow.Side, ice bool) (media.Role, bool) {
	switch {
	case setup == "active", setup == "" && answerer == flow.Plain: // RFC 4145 section 4
		return media.Passive, true
	case setup == "passive", setup == "":
		return media.Active, true
	case setup != "actpass" || answerer == flow.Secure:
		return 0, false
	case l.used: // RFC 8842 section 5.3
		return l.role, true
	case ice:
		return media.Active, true
	}
	return media.Passive, true
}

// linkLine gives a line towards the phone its transport.
func (n *negotiation) linkLine(s *stream, m *sdp.Media, isOffer bool) {
	l := s.next
	m.Fingerprints = []sdp.Fingerprint{sdp.Fingerprint(l.transport.Fingerprint())}
	ice := l.ice
	if isOffer {
		m.Setup = "actpass" // also in later offers (RFC 8842 section 5.2)
		ice = ice || n.web && !l.used
		m.RTCPMux = n.web || l.used && l.mux
		if n.web || n.shared(l) { // others need no names, and may stumble over them
			m.MID = n.nameLine(s)
		}
	} else {
		offered := &n.pending.session.Media[s.at[flow.Secure]]
		m.MID = offered.MID
		m.Setup = "passive"
		if l.role == media.Active {
			m.Setup = "active"
		}
	}
	if ice {
		m.ICE = sdp.ICE{Ufrag: l.local.Ufrag, Pwd: l.local.Pwd, Candidates: n.candidates(s), EndOfCandidates: true}
	}
	if m.MID != "" && (m.Direction == sdp.SendRecv || m.Direction == sdp.SendOnly) { // what a browser makes its streams from (RFC 8830)
		m.MSID = "pbx " + m.Kind + m.MID
	}
	if m.Kind == "video" && m.Proto.Feedback() {
		for i := range m.Formats {
			m.Formats[i].Feedback = []string{"nack pli", "ccm fir"} // what asks for a whole picture
		}
	}
}

// candidates are our addresses (RFC 8839 section 5.1): host candidates all,
// since phones reach us there, whatever NAT is between. By TCP the phone connects
// (RFC 6544 section 4.5), so that ours are passive ones.
func (n *negotiation) candidates(s *stream) (list []string) {
	for i, a := range s.addrs.Secure {
		// RFC 8445 section 5.1.2.1: type preference 126, component 1.
		priority := 126<<24 | (65535-i)<<8 | 255
		list = append(list, fmt.Sprintf("%d 1 UDP %d %s %d typ host", i+1, priority, a.Addr(), a.Port()))
	}
	for i, a := range s.addrs.TCP {
		// RFC 6544 section 4.2: a type preference below that of any UDP candidate,
		// so that UDP is used where it works; the direction preference of passive
		// host candidates is 4.
		priority := 90<<24 | (4<<13|(8191-i))<<8 | 255
		list = append(list, fmt.Sprintf("%d 1 TCP %d %s %d typ host tcptype passive", len(s.addrs.Secure)+i+1, priority, a.Addr(), a.Port()))
	}
	return list
}

// bundles tells whether lines may share a transport. Whose they are, a packet says by a
// header extension (RFC 8843 section 9.2), which we do not write. A browser knows it by
// the source that we announce; Linphone goes by the extension alone, and would hear
// nothing, even of one line.
func (n *negotiation) bundles() bool { return n.web }

// bundle groups the lines of one description that share a transport.
func (n *negotiation) bundle(out *sdp.Session, isOffer bool) {
	if !n.bundles() {
		return
	}
	var tagged *link
	var mids []string
	for i, s := range n.lines[flow.Secure][:len(out.Media)] {
		m := &out.Media[i]
		if m.Port == 0 || s.next == nil || m.MID == "" || tagged != nil && s.next != tagged {
			continue
		}
		if !isOffer && !slices.ContainsFunc(n.pending.session.Groups, func(g sdp.Group) bool { return g.Semantics == "BUNDLE" && slices.Contains(g.MIDs, m.MID) }) {
			continue
		}
		if tagged != nil && isOffer && !s.next.used { // who does not bundle must refuse it (RFC 8843 section 7.2)
			m.Port, m.BundleOnly = 0, true
		}
		tagged, mids = s.next, append(mids, m.MID)
	}
	if tagged != nil {
		out.Groups = []sdp.Group{{Semantics: "BUNDLE", MIDs: mids}}
	}
}

// shared tells whether more than one line is on a transport.
func (n *negotiation) shared(l *link) bool {
	lines := 0
	for _, s := range n.lines[flow.Secure] {
		if s.next == l {
			lines++
		}
	}
	return lines > 1
}

// dropLinks closes what was offered and not agreed on.
func (n *negotiation) dropLinks(s *stream) {
	l := s.next
	s.next = s.link
	n.release(l)
}

// release closes a transport that no line has any longer.
func (n *negotiation) release(l *link) {
	if l == nil {
		return
	}
	for _, lines := range n.lines {
		for _, o := range lines {
			if o.link == l || o.next == l {
				return
			}
		}
	}
	l.transport.Close()
}

// retireLink closes the transport of a line that was turned off, unless another
// is on it. The phone has done so too, and no longer checks it; what it offers
// on this line again is new (RFC 8842 section 5.1, RFC 8839 section 4.4.1.2).
func (n *negotiation) retireLink(s *stream) {
	l := s.link
	if l == nil {
		return
	}
	for _, o := range n.lines[flow.Secure] {
		if o.relayed && o.link == l {
			return
		}
	}
	s.link, s.secure.Transport = nil, nil
	if s.next == l {
		s.next = nil
	}
	n.release(l)
}
