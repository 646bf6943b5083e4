package sipproxy

import (
	"net/netip"
	"strconv"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/sdp"
)

// This file sets media up as an offer and its answer agreed.

// connect sets one stream's media up, as offer and answer agreed.
func (n *negotiation) connect(s *stream, o *offer, answerer flow.Side, said *sdp.Session) *refusal {
	answer := &said.Media[s.at[answerer]]
	offered := &o.session.Media[s.at[o.from]]
	if answer.Kind != offered.Kind || !answer.Proto.RTP() { // RFC 3264 section 6
		return refuseMedia(304, "%s was offered, and answered by %s over %s", offered.Kind, answer.Kind, answer.Proto)
	}
	phone, pbx, phoneSaid := offered, answer, o.session
	if answerer == flow.Secure {
		phone, pbx, phoneSaid = answer, offered, said
	}
	if !pbx.Addr.IsValid() { // a name, which nobody here looks up: the call would be silent one way
		return refuseMedia(301, "the PBX names no IP address for its %s", s.kind)
	}
	secure := media.SecureParams{Inactive: maySilence(phone, pbx), CNAME: n.cname(), Announced: n.announces(), Await: answerer == flow.Plain}
	before := s.link
	var r *refusal
	if s.byCrypto(answerer, answer) {
		r = n.connectCrypto(s, answerer, phone, &secure)
	} else {
		r = n.connectLink(s, answerer, phoneSaid, &secure)
	}
	if r != nil {
		return r
	}
	for _, f := range answer.Formats {
		if pt, err := strconv.ParseUint(f.Name, 10, 7); err == nil {
			secure.Formats = append(secure.Formats, media.Format{PayloadType: uint8(pt), Codec: f.Codec, ClockRate: uint32(f.ClockRate)})
		}
	}
	for _, ssrc := range phone.SSRCs {
		secure.SSRCs = append(secure.SSRCs, ssrc.ID)
	}
	// What a trunk describes is so: nothing leads its media elsewhere. One whose media
	// have another address than its signalling is found by its packets, as phones are.
	secure.Sole = n.trunk && len(secure.SSRCs) > 0
	secure.Fixed = n.trunk && phone.RTPAddr().Addr() == n.phone
	if err := n.session.SetSecure(s.addrs.Index, secure); err != nil {
		return refuse(500, "Server Internal Error", "%v", err)
	}
	s.proto, s.secure = phone.Proto, secure
	if secure.Transport == nil {
		s.link = nil
	}
	n.dropLinks(s)
	if before != s.link {
		n.release(before)
	}
	if err := n.session.SetPlain(s.addrs.Index, media.PlainParams{RTP: pbx.RTPAddr(), RTCP: pbx.RTCPAddr()}); err != nil {
		return refuse(500, "Server Internal Error", "%v", err)
	}
	return nil
}

// rest lets a stream be that was relayed and no longer is: nothing is sent to
// the PBX, and the phone may be silent.
func (n *negotiation) rest(s *stream) *refusal {
	if s.relayed || s.proto == "" {
		return nil
	}
	n.retireLink(s)
	s.secure.Inactive = true
	var err error
	if s.secure.Transport != nil || s.secure.Rx.Suite != 0 {
		err = n.session.SetSecure(s.addrs.Index, s.secure)
	}
	if err == nil {
		err = n.session.SetPlain(s.addrs.Index, media.PlainParams{})
	}
	if err != nil {
		return refuse(500, "Server Internal Error", "%v", err)
	}
	return nil
}

// maySilence tells whether a phone may send nothing: it does not send, or
// nobody wants it, or it holds. On hold it says sendonly (RFC 3264 section 8.4),
// with or without a music to send.
func maySilence(phone, pbx *sdp.Media) bool {
	return phone.Held() || phone.Direction != sdp.SendRecv || pbx.Held() || pbx.Direction == sdp.Inactive || pbx.Direction == sdp.SendOnly
}

// hint is where the phone's media may be before it was heard: at the address
// that its own connection comes from, so that its SDP can aim us at nobody.
func (n *negotiation) hint(port uint16) netip.AddrPort {
	if port == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(n.phone, port)
}

// byCrypto tells whether the keys stand in the descriptions. An answer to our
// offer of both ways says it by the key it has.
func (s *stream) byCrypto(answerer flow.Side, answer *sdp.Media) bool {
	if answerer == flow.Plain {
		return s.sdes.chosen.Suite != ""
	}
	return len(answer.Crypto) == 1 && len(s.sdes.offered) > 0
}
