package sdp

import (
	"net/netip"
	"slices"
)

// Session is a description.
type Session struct {
	Origin    Origin
	Name      string     // empty for "-"
	Addr      netip.Addr // of the session's c=; zero if it has none, or a host name
	Direction Direction  // of the session; every Media has its own, resolved
	Groups    []Group
	ICELite   bool

	// What the session says for all of its media; Parse has resolved it into
	// each that does not say its own.
	ICE          ICE // no candidates
	Fingerprints []Fingerprint
	Setup        string

	Media []Media
}

// Origin is the o= line.
type Origin struct {
	Username    string // empty for "-"
	ID, Version uint64 // the highest number stands for any beyond it
	Addr        netip.Addr
}

// Group is a=group (RFC 5888).
type Group struct {
	Semantics string
	MIDs      []string
}

// Bundled tells whether two m-lines are in one group BUNDLE (RFC 8843).
func (s *Session) Bundled(i, j int) bool {
	a, b := s.Media[i].MID, s.Media[j].MID
	return a != "" && b != "" && slices.ContainsFunc(s.Groups, func(g Group) bool {
		return g.Semantics == "BUNDLE" && slices.Contains(g.MIDs, a) && slices.Contains(g.MIDs, b)
	})
}

// ICE is what RFC 8839 says of one stream.
type ICE struct {
	Ufrag, Pwd      string
	Options         []string
	Candidates      []string // values of a=candidate, checked, addresses unresolved
	EndOfCandidates bool
}

// Fingerprint is a certificate's hash (RFC 8122).
type Fingerprint struct {
	Hash  string // lower case: sha-256, …; maybe one that nobody knows
	Value string // upper-case hexadecimal with colons
}

// SSRC is a=ssrc (RFC 5576).
type SSRC struct {
	ID    uint32
	CNAME string // empty: not said
}

// SSRCGroup is a=ssrc-group.
type SSRCGroup struct {
	Semantics string
	IDs       []uint32
}

// Extmap is a=extmap (RFC 8285).
type Extmap struct {
	ID         int
	Direction  string // empty: not said
	URI        string
	Attributes string
}

// Bandwidth is a b= line.
type Bandwidth struct {
	Type  string // CT, AS, TIAS, RS or RR
	Value uint64 // bits per second; of CT and AS kilobits
}

// Format is one entry of an m-line's list.
type Format struct {
	Name      string // the payload type's number; a token where the proto is not RTP
	Codec     string // encoding name; empty if not said and not static
	ClockRate int    // Hz
	Channels  int    // 0: not said
	Fmtp      string
	Feedback  []string // values of a=rtcp-fb, those for all formats among them
}
