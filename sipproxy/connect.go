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
func (n *negotiation) connect(s *stream, o *offer, answerer flow.Side, answer *sdp.Media) *refusal {
	offered := &o.session.Media[s.at[o.from]]
	phone, pbx := offered, answer
	theirs := s.chosen
	if answerer == flow.Secure {
		phone, pbx = answer, offered
		if len(answer.Crypto) != 1 {
			return refuseMedia(302, "the phone answered %s without one crypto line", s.kind)
		}
		theirs = answer.Crypto[0]
		if err := theirs.Usable(); err != nil {
			return refuseMedia(306, "the phone's answer: %v", err)
		}
		if theirs.Tag < 1 || theirs.Tag > len(s.offered) || s.offered[theirs.Tag-1].String() != theirs.Suite {
			return refuseMedia(306, "the phone answered with a crypto line that was not offered")
		}
	}
	if !pbx.Addr.IsValid() { // a name, which nobody here looks up: the call would be silent one way
		return refuseMedia(301, "the PBX names no IP address for its %s", s.kind)
	}
	suite, ok := media.ParseSuite(theirs.Suite)
	if !ok {
		return refuseMedia(306, "suite %s is not supported", theirs.Suite)
	}
	ours, err := s.key(suite)
	if err != nil {
		return refuse(500, "Server Internal Error", "%v", err)
	}
	secure := media.SecureParams{
		Rx:       media.Key{Suite: suite, KeySalt: theirs.Keys[0].KeySalt, MKI: theirs.Keys[0].MKI},
		Tx:       ours,
		RTCPMux:  phone.RTCPMux && answerer == flow.Plain, // only a phone's offer brings it in
		Hint:     n.hint(phone.RTPAddr().Port()),
		RTCPHint: n.hint(phone.RTCPAddr().Port()),
		Inactive: maySilence(phone, pbx),
	}
	for _, f := range answer.Formats {
		if pt, err := strconv.ParseUint(f.Name, 10, 7); err == nil {
			secure.Formats = append(secure.Formats, media.Format{PayloadType: uint8(pt), Codec: f.Codec, ClockRate: uint32(f.ClockRate)})
		}
	}
	for _, ssrc := range phone.SSRCs {
		secure.SSRCs = append(secure.SSRCs, ssrc.ID)
	}
	if err := n.session.SetSecure(s.addrs.Index, secure); err != nil {
		return refuse(500, "Server Internal Error", "%v", err)
	}
	s.inUse, s.secure = suite, secure
	if err := n.session.SetPlain(s.addrs.Index, media.PlainParams{RTP: pbx.RTPAddr(), RTCP: pbx.RTCPAddr()}); err != nil {
		return refuse(500, "Server Internal Error", "%v", err)
	}
	return nil
}

// rest lets a stream be that was relayed and no longer is: nothing is sent to
// the PBX, and the phone may be silent.
func (n *negotiation) rest(s *stream) *refusal {
	if s.relayed || s.inUse == 0 {
		return nil
	}
	s.secure.Inactive = true
	err := n.session.SetSecure(s.addrs.Index, s.secure)
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

// key is what we encrypt with under a suite: made once for a stream, so that
// a re-offer does not restart it.
func (s *stream) key(suite media.Suite) (media.Key, error) {
	if k, ok := s.ours[suite]; ok {
		return k, nil
	}
	k, err := media.NewKey(suite)
	if err != nil {
		return k, err
	}
	if s.ours == nil {
		s.ours = make(map[media.Suite]media.Key)
	}
	s.ours[suite] = k
	return k, nil
}

// offeredSuites are those that we offer to a phone: the best, and the one that
// every phone knows. Longer lists make phones in the field fail, and so do
// others than the one in use.
func (n *negotiation) offeredSuites(s *stream) []media.Suite {
	if s.inUse != 0 {
		return []media.Suite{s.inUse}
	}
	suites := n.suites[:1:1]
	for _, s := range n.suites[1:] {
		if s == media.AESCM128HMACSHA180 {
			suites = append(suites, s)
		}
	}
	return suites
}
