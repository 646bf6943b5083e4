package sipproxy

import (
	"slices"

	"github.com/sallyport/sallyport/sipproxy/sdp"
)

// This file is what a phone's lines say of a transport that they share (RFC
// 8843).

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
