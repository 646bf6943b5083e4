package sipproxy

import (
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/sdp"
)

// This file is what lines have to say of a transport that they share (RFC 8843).

// inherit gives each line of a bundle what it leaves out and the tagged line
// says: what is about the transport need only be there (RFC 8843 section 7.1.3,
// RFC 8829 section 5.2.2). The tagged line is the first one of the group.
func inherit(in *sdp.Session) {
	for _, g := range in.Groups {
		if g.Semantics != "BUNDLE" || len(g.MIDs) == 0 {
			continue
		}
		at := slices.IndexFunc(in.Media, func(m sdp.Media) bool { return m.MID == g.MIDs[0] })
		if at < 0 {
			continue
		}
		tagged := &in.Media[at]
		for i := range in.Media {
			m := &in.Media[i]
			if m.MID == "" || !slices.Contains(g.MIDs, m.MID) || m.Port == 0 && !m.BundleOnly {
				continue
			}
			if m.ICE.Ufrag == "" || m.ICE.Pwd == "" {
				m.ICE.Ufrag, m.ICE.Pwd = tagged.ICE.Ufrag, tagged.ICE.Pwd
			}
			if len(m.Fingerprints) == 0 && len(m.Crypto) == 0 {
				m.Fingerprints = tagged.Fingerprints
			}
			if m.Setup == "" {
				m.Setup = tagged.Setup
			}
			m.RTCPMux = m.RTCPMux || tagged.RTCPMux
		}
	}
}

// nameLine is a line's name in our offers: the one that it has, whoever gave it
// (RFC 8829 section 5.2.2: it never changes), or a new one.
func (n *negotiation) nameLine(s *stream) string {
	for i := s.at[flow.Secure]; s.mid == ""; i++ {
		name := strconv.Itoa(i)
		if !slices.ContainsFunc(n.lines[flow.Secure], func(o *stream) bool { return o.mid == name }) {
			s.mid = name
		}
	}
	return s.mid
}
