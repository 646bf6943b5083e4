package sipproxy

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/sdp"
)

// negotiation carries a call's offers and answers (RFC 3264) from one side to
// the other, written anew, and sets up the media between them. The call's
// mutex guards it.
//
// Each side is shown its own list of m-lines, in an order that never changes and
// that never shrinks (RFC 3264 section 8); a stream knows its place in both.
// Nothing that only an offer says takes effect before its answer: a refused
// re-INVITE leaves the media as they were (RFC 3264 section 8).
type negotiation struct {
	engine *media.Engine
	notify media.Notify
	suites []media.Suite
	public []netip.Addr // ours on the secure side
	peer

	session *media.Session      // nil until the first offer, and after close
	closed  bool                // for good: what comes late opens no media
	voices  [2]voice            // by side
	lines   [2][]*stream        // by side
	spare   []media.StreamAddrs // of lines that were offered and refused
	pending *offer
	said    [2]*sdp.Session // what each side said last, as it was agreed
	keys    keys
}

// peer is who is on the secure side.
type peer struct {
	phone netip.Addr // where the phone's signalling comes from
	web   bool       // it speaks WebSocket: it is offered ICE, and all that goes with it
	page  bool       // it is a browser's page: it is offered nothing but what that takes
	trunk bool       // it is no phone: all its calls are on one pair of addresses, and told apart by their sources
	alone bool       // DTLS is offered to it alone: see offerAnew
	anew  bool       // it was offered something else before, and took nothing of that
}

// stream is one m-line on both sides.
type stream struct {
	kind    string
	at      [2]int // its m-line by side; -1 if that side never saw it
	addrs   media.StreamAddrs
	open    bool   // it has a place in the media session
	wanted  bool   // by the offer being handled
	relayed bool   // by its answer too
	agreed  bool   // relayed, as it was agreed last: no offer changes it
	mid     string // its name towards the phone, if it has one
	sdes    sdes
	link    *link              // the transport in use, if keys come by DTLS
	next    *link              // the same in the offer being handled
	proto   sdp.Proto          // the phone's, as agreed last; empty: nothing yet
	secure  media.SecureParams // what was agreed last
}

// offer is one that waits for its answer, or was answered last.
type offer struct {
	from     flow.Side
	session  *sdp.Session
	lines    [2]int // how many lines there were before it
	response bool   // a response carried it
	answered bool
}

// newNegotiation is a call's with the far end of its leg on the secure side.
func (p *Proxy) newNegotiation(c *call, far *leg) *negotiation {
	f := far.flow
	n := &negotiation{
		engine: p.engine, suites: p.cfg.Suites, public: p.cfg.PublicIPs,
		peer:   peer{phone: f.Remote().Addr(), web: f.Transport() == "WSS", page: f.Browser(), alone: p.bindings.wantsDTLS(c.token)},
		notify: func(e media.Event) { p.mediaEvent(c, e) },
	}
	if far.trunk != nil {
		n.suites, n.trunk = far.trunk.Suites, true
	}
	n.voices[flow.Secure] = newVoice(p.publicAddr(f).Addr())
	n.voices[flow.Plain] = newVoice(p.cfg.PlainAddr.Addr())
	return n
}

// follow takes the far end's media to come from where its signalling does, and to
// find us where that does: a phone may move between IPv4 and IPv6.
func (n *negotiation) follow(f *flow.Flow) {
	n.phone = f.Remote().Addr()
	n.voices[flow.Secure].at = sameFamily(n.public, n.phone)
}

// mediaEvent ends a call whose phone has fallen silent.
func (p *Proxy) mediaEvent(c *call, e media.Event) {
	switch e.Kind {
	case media.Silence:
		c.mu.Lock()
		talking := !c.answered.IsZero()
		c.mu.Unlock()
		if talking { // before, a phone may only listen; the ring timeout ends that
			p.hangUp(c, "no media from the "+c.outside().whose())
		}
	case media.Secured:
		c.log.Debug("media keyed by DTLS", "call_id", c.callID, "peer", e.Remote.String(), "tcp", e.TCP)
	case media.Failed:
		p.mediaFailed(c, e.Cause)
	case media.Latched:
		c.log.Debug("media latched", "call_id", c.callID, "peer", e.Remote.String(), "tcp", e.TCP)
	}
}

// mediaFailed ends a call whose phone does not come about on the media path.
// Before it is answered, the one who rings may still give it up, or send
// another description.
func (p *Proxy) mediaFailed(c *call, cause string) {
	c.mu.Lock()
	talking := !c.answered.IsZero()
	c.mu.Unlock()
	if talking {
		p.hangUp(c, cause)
	}
}

// request takes the body of a request that may carry a description: an offer,
// or in a PRACK the answer to one that the other side made in a response. Two
// offers at a time would be taken for each other's answers (RFC 3261 section
// 14.2, RFC 3311 section 5.2).
func (n *negotiation) request(from flow.Side, method sip.RequestMethod, b body) (body, *refusal) {
	if n.keys.under {
		return body{}, refuse(491, "Request Pending", "the keys are being replaced")
	}
	if o := n.pending; o != nil && !o.answered && o.from == other(from) {
		if method == sip.PRACK {
			return n.answer(from, b)
		}
		return body{}, refuse(491, "Request Pending", "the other side's offer is under way")
	}
	return n.offer(from, b)
}

// response takes the offer that a response carries when its request had none. Before
// is the one of a response to the same request, or nil: where that comes again, as it does
// until it is acknowledged (RFC 3262 section 3), and in the 2xx after it (RFC 3261 section
// 13.2.1), it is no other.
func (n *negotiation) response(from flow.Side, b body, before *offer) (body, *refusal) {
	in, r := readSDP(from, b)
	if r != nil {
		return body{}, r
	}
	if before != nil && before == n.pending && before.from == from && before.says(in) {
		return body{kind: "application/sdp", bytes: []byte(n.voices[other(from)].last)}, nil
	}
	out, r := n.offerSession(from, in)
	if r == nil {
		n.pending.response = true
	}
	return out, r
}

// says tells whether a description is that of the offer. Its origin may count on.
func (o *offer) says(in *sdp.Session) bool {
	one, another := *o.session, *in
	one.Origin, another.Origin = sdp.Origin{}, sdp.Origin{}
	return bytes.Equal(one.Marshal(), another.Marshal())
}

// acknowledge takes the body of an ACK: the answer to an offer that the 2xx
// carried, or nothing.
func (n *negotiation) acknowledge(from flow.Side, b body) (body, *refusal) {
	if len(b.bytes) > 0 {
		return n.answer(from, b)
	}
	if o := n.pending; o != nil && o.response && o.from == other(from) {
		n.rollback()
	}
	return body{}, nil
}

// offer takes one side's offer and returns ours for the other.
func (n *negotiation) offer(from flow.Side, b body) (body, *refusal) {
	in, r := readSDP(from, b)
	if r != nil {
		return body{}, r
	}
	return n.offerSession(from, in)
}

func (n *negotiation) offerSession(from flow.Side, in *sdp.Session) (body, *refusal) {
	if err := n.open(); err != nil {
		return body{}, refuse(503, "Service Unavailable", "no media session: %v", err)
	}
	n.rollback()
	o := &offer{from: from, session: in, lines: [2]int{len(n.lines[0]), len(n.lines[1])}}
	n.pending = o
	// Some phones leave out a line that they no longer want, against RFC 3264
	// section 8: it is turned off.
	for _, s := range n.lines[from][min(len(in.Media), len(n.lines[from])):] {
		s.wanted, s.relayed = false, false
	}
	for _, s := range n.lines[other(from)] {
		if s.at[from] < 0 { // it is in no offer of this side, but may have been in one that was rolled back
			s.wanted, s.relayed = false, false
		}
	}
	var why *refusal
	live := 0
	for i := range in.Media {
		s := n.streamAt(from, i, in.Media[i].Kind)
		r := n.consider(from, in, i)
		if s.relayed && n.alternative(from, in, i) {
			s.relayed = false
		}
		if r == nil && s.relayed {
			r = n.place(s, other(from), in)
		}
		s.relayed = s.relayed && r == nil
		if s.wanted = s.relayed; s.wanted {
			live++
		} else if r != nil && (why == nil || in.Media[i].Kind == "audio") {
			why = r
		}
	}
	if live == 0 && why != nil {
		n.rollback()
		return body{}, why
	}
	return n.write(other(from), n.describe(other(from), in, true)), nil
}

// alternative tells whether a line offers what one before it does: phones for
// which encryption is optional offer the same audio, at the same port, once as
// RTP/SAVP and once as RTP/AVP. The PBX is to see it once.
func (n *negotiation) alternative(from flow.Side, in *sdp.Session, i int) bool {
	for j := range i {
		if n.lines[from][j].wanted && in.Media[j].Kind == in.Media[i].Kind && in.Media[j].Port == in.Media[i].Port && !in.Bundled(i, j) {
			return true
		}
	}
	return false
}

// consider decides whether one line of an offer is relayed. A line that the
// offerer itself turned off is not, for no fault.
func (n *negotiation) consider(from flow.Side, in *sdp.Session, i int) *refusal {
	s, m := n.lines[from][i], &in.Media[i]
	s.relayed, s.next, s.sdes.chosen = false, nil, sdp.Crypto{}
	if from == flow.Secure && m.MID != "" {
		s.mid = m.MID
	}
	switch {
	case m.Port == 0 && !(m.BundleOnly && n.bundles()):
		return nil
	case m.Kind == "image":
		return refuseMedia(304, "T.38 fax cannot be encrypted and is not relayed")
	case m.Kind != "audio" && m.Kind != "video":
		return refuseMedia(304, "media type %s is not relayed", m.Kind)
	case !m.Proto.RTP():
		return refuseMedia(302, "transport %s is not relayed", m.Proto)
	case from == flow.Plain && m.Proto.Secure():
		return refuseMedia(302, "the plain side takes RTP/AVP, not %s", m.Proto)
	case from == flow.Secure:
		return n.choose(s, in, i)
	}
	s.relayed = true
	return nil
}

// choose decides how a line of a phone's offer is keyed: as it was before, by
// SDES, or by DTLS. A phone that offers neither is refused: there is no
// unencrypted call.
func (n *negotiation) choose(s *stream, in *sdp.Session, i int) *refusal {
	m := &in.Media[i]
	switch {
	case len(m.Fingerprints) > 0 && (m.Proto.DTLS() || len(m.Crypto) == 0 || s.link != nil):
		return n.chooseLink(s, in, i)
	case m.Proto.DTLS():
		return refuseMedia(302, "%s is offered with DTLS-SRTP, but without a=fingerprint", m.Kind)
	case len(m.Crypto) > 0:
		return n.chooseCrypto(s, m)
	}
	return refuseMedia(302, "%s is offered without encryption; turn on SRTP (SDES or DTLS) in the phone", m.Kind)
}

// place gives a relayed stream its line on the other side and its ports.
func (n *negotiation) place(s *stream, side flow.Side, in *sdp.Session) *refusal {
	if !s.open {
		addrs, err := n.addStream()
		if err != nil {
			return refuse(503, "Service Unavailable", "no media ports: %v", err)
		}
		s.addrs, s.open = addrs, true
	}
	if s.at[side] < 0 {
		s.at[side] = len(n.lines[side])
		n.lines[side] = append(n.lines[side], s)
	}
	if side == flow.Secure {
		return n.offerLink(s, in)
	}
	return nil
}

// addStream opens a stream of the session, or takes one that a line had which
// did not come about: a session never closes one.
func (n *negotiation) addStream() (media.StreamAddrs, error) {
	if last := len(n.spare) - 1; last >= 0 {
		addrs := n.spare[last]
		n.spare = n.spare[:last]
		return addrs, nil
	}
	return n.session.AddStream()
}

// answer takes the answer of one side to the other's offer, returns ours for
// the offerer, and sets the media up. It may come again: a 183 and a 200 both
// carry it, and forks answer each for themselves; the last one counts.
func (n *negotiation) answer(from flow.Side, b body) (body, *refusal) {
	in, r := readSDP(from, b)
	if r != nil {
		return body{}, r
	}
	return n.answerSession(from, in)
}

func (n *negotiation) answerSession(from flow.Side, in *sdp.Session) (body, *refusal) {
	o := n.pending
	if o == nil || o.from == from || n.session == nil {
		return body{}, refuseMedia(399, "an answer without an offer")
	}
	if len(in.Media) > len(n.lines[from]) { // of one that lacks lines we take them to be refused
		return body{}, refuseMedia(304, "the answer has %d m-lines, the offer had %d", len(in.Media), len(n.lines[from]))
	}
	live := 0
	var why *refusal
	for i, s := range n.lines[from] {
		s.relayed = s.wanted && i < len(in.Media) && in.Media[i].Port != 0
		if !s.relayed {
			continue
		}
		if r := n.connect(s, o, from, in); r != nil {
			s.relayed, why = false, r
			continue
		}
		live++
	}
	if live == 0 && why != nil {
		return body{}, why
	}
	for _, s := range n.lines[from] {
		if r := n.rest(s); r != nil {
			return body{}, r
		}
	}
	o.answered, n.said = true, [2]*sdp.Session{}
	n.said[o.from], n.said[from] = o.session, in
	for _, s := range n.lines[flow.Secure] {
		s.agreed = s.relayed
	}
	return n.write(o.from, n.describe(o.from, in, false)), nil
}

func (n *negotiation) streamAt(side flow.Side, i int, kind string) *stream {
	if i < len(n.lines[side]) {
		s := n.lines[side][i]
		s.kind = kind
		return s
	}
	s := &stream{kind: kind}
	s.at[side], s.at[other(side)] = i, -1
	n.lines[side] = append(n.lines[side], s)
	return s
}

func (n *negotiation) open() error {
	if n.session != nil {
		return nil
	}
	if n.closed {
		return media.ErrClosed
	}
	session, err := n.engine.Open(n.notify)
	n.session = session
	return err
}

// rollback forgets an offer that was refused or never answered, and of one that
// was what its answer did not take.
func (n *negotiation) rollback() {
	for _, s := range n.lines[flow.Secure] {
		n.dropLinks(s)
	}
	o := n.pending
	if o == nil || o.answered {
		return
	}
	for side := range n.lines {
		for _, s := range n.lines[side][o.lines[side]:] {
			s.at[side] = -1
			if s.open && s.at[flow.Secure] < 0 && s.at[flow.Plain] < 0 {
				n.spare, s.open = append(n.spare, s.addrs), false
			}
		}
		n.lines[side] = n.lines[side][:o.lines[side]]
	}
	n.pending = nil
}

// withdraw does likewise at the end of an INVITE, for what was offered by it, or
// by a response to it if it had none. An offer that the other side has under
// way is not touched (RFC 3261 section 14.2, RFC 3311 section 5.2).
func (n *negotiation) withdraw(inviter flow.Side, offered bool) {
	if o := n.pending; o != nil && !o.answered && (o.response == offered || (o.from == inviter) != offered) {
		return
	}
	n.rollback()
}

// heard is when the phone's media was heard last.
func (n *negotiation) heard() (last time.Time) {
	if n.session == nil {
		return last
	}
	for _, s := range n.session.Stats().Streams {
		if s.LastHeard.After(last) {
			last = s.LastHeard
		}
	}
	return last
}

// close ends the media, and returns what the call's record says of them. Keys and
// descriptions go at once: transactions know the call for a while longer.
func (n *negotiation) close() []any {
	if n.pending != nil { // its INVITE knows it too
		n.pending.session = nil
	}
	n.pending, n.closed = nil, true
	n.lines, n.spare, n.said = [2][]*stream{}, nil, [2]*sdp.Session{}
	for i := range n.voices {
		n.voices[i].last = ""
	}
	if n.session == nil {
		return nil
	}
	stats := n.session.Close()
	n.session = nil
	return stats.Attrs()
}

func readSDP(from flow.Side, b body) (*sdp.Session, *refusal) {
	if !b.isSDP() || b.encoded {
		return nil, refuse(415, "Unsupported Media Type", "a session is described by plain application/sdp, not %s", b.kind).with("Accept", "application/sdp")
	}
	s, err := sdp.Parse(b.bytes)
	if err != nil {
		return nil, refuse(400, "Bad Request", "%v", err)
	}
	if from == flow.Secure {
		inherit(s)
	}
	return s, nil
}
