package sipproxy

import (
	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/sdp"
)

// This file is keys that stand in the descriptions (RFC 4568).

// sdes is what one stream knows of them.
type sdes struct {
	ours    map[media.Suite]media.Key // what we encrypt with, kept across re-offers
	chosen  sdp.Crypto                // the phone's line of its own offer being handled
	offered []media.Suite             // in our offer being handled, by tag
	inUse   media.Suite               // what was agreed last; zero: nothing, or by DTLS
}

// chooseCrypto picks the phone's crypto line that we like best (RFC 4568
// section 5.1.2).
func (n *negotiation) chooseCrypto(s *stream, m *sdp.Media) *refusal {
	var why error
	for _, suite := range n.suites {
		for _, c := range m.Crypto {
			if err := c.Usable(); err != nil {
				why = err
			} else if c.Suite == suite.String() {
				s.sdes.chosen, s.relayed = c, true
				return nil
			}
		}
	}
	if why != nil {
		return refuseMedia(306, "no crypto line of %s can be used: %v", m.Kind, why)
	}
	return refuseMedia(306, "no crypto line of %s has a suite that is turned on here", m.Kind)
}

// connectCrypto sets the keys as offer and answer agreed.
func (n *negotiation) connectCrypto(s *stream, answerer flow.Side, phone *sdp.Media, to *media.SecureParams) *refusal {
	theirs := s.sdes.chosen
	if answerer == flow.Secure {
		theirs = phone.Crypto[0]
		if err := theirs.Usable(); err != nil {
			return refuseMedia(306, "the phone's answer: %v", err)
		}
		if theirs.Tag < 1 || theirs.Tag > len(s.sdes.offered) || s.sdes.offered[theirs.Tag-1].String() != theirs.Suite {
			return refuseMedia(306, "the phone answered with a crypto line that was not offered")
		}
	}
	suite, ok := media.ParseSuite(theirs.Suite)
	if !ok {
		return refuseMedia(306, "suite %s is not supported", theirs.Suite)
	}
	ours, err := s.sdes.key(suite)
	if err != nil {
		return refuse(500, "Server Internal Error", "%v", err)
	}
	to.Rx, to.Tx = media.Key{Suite: suite, KeySalt: theirs.Keys[0].KeySalt, MKI: theirs.Keys[0].MKI}, ours
	to.RTCPMux = phone.RTCPMux && (answerer == flow.Plain || n.trunk) // we offer it to trunks alone
	to.Hint, to.RTCPHint = n.hint(phone.RTPAddr().Port()), n.hint(phone.RTCPAddr().Port())
	s.sdes.inUse = suite
	return nil
}

// key is what we encrypt with under a suite: made once for a stream, so that
// a re-offer does not restart it.
func (k *sdes) key(suite media.Suite) (media.Key, error) {
	if made, ok := k.ours[suite]; ok {
		return made, nil
	}
	made, err := media.NewKey(suite)
	if err != nil {
		return made, err
	}
	if k.ours == nil {
		k.ours = make(map[media.Suite]media.Key)
	}
	k.ours[suite] = made
	return made, nil
}

// offeredSuites are those that we offer to a phone: the best, and the one that
// every phone knows. Longer lists make phones in the field fail, and so do
// others than the one in use.
func (n *negotiation) offeredSuites(s *stream) []media.Suite {
	if s.sdes.inUse != 0 {
		return []media.Suite{s.sdes.inUse}
	}
	suites := n.suites[:1:1]
	for _, s := range n.suites[1:] {
		if s == media.AESCM128HMACSHA180 {
			suites = append(suites, s)
		}
	}
	return suites
}

// cryptoLine is our key as an a=crypto line. The key exists already: connect
// or the offer made it.
func (s *stream) cryptoLine(tag int, suite string) sdp.Crypto {
	c := sdp.Crypto{Tag: tag, Suite: suite}
	if id, ok := media.ParseSuite(suite); ok {
		if key, err := s.sdes.key(id); err == nil {
			c.Keys = []sdp.InlineKey{{KeySalt: key.KeySalt}}
		}
	}
	return c
}
