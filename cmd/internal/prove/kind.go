package prove

// Kind is what a packet is counted as. Each is of exactly one.
type Kind uint8

// The kinds. What is not known yet is Unproven until it is.
const (
	Other Kind = iota // neither SIP nor media

	TLS      // of the edge's connections: records, or nothing but TCP's own
	DTLS     // records
	STUN     // authenticated by a call's password
	SRTP     // verified under a call's key
	SRTCP    // likewise, and encrypted
	MediaTCP // media by TCP: frames of STUN, DTLS, SRTP and SRTCP, each as above

	StrangeSTUN // without what authenticates it
	StrangeSIP
	StrangeMedia // like RTP or RTCP
	StrangeTCP   // no TLS, where the edge speaks nothing else
	StrangeOther // what no protocol of a media port begins with

	LeakSIP
	LeakRTP  // or SRTP of nobody's call
	LeakRTCP // likewise
	LeakTCP  // on the edge's TLS connections, and no TLS
	LeakOther

	Unproven
	numKinds
)

// Group is what a kind says of the proof.
type Group uint8

// The groups.
const (
	Beside   Group = iota // no SIP, no media
	Proved                // encrypted, and verified to be
	Stranger              // inbound, not ours
	Leaked
	Missed // not to be told
)

var kinds = [numKinds]struct {
	name  string // in JSON
	group Group
	text  string
}{
	Other:        {"other", Beside, "other"},
	TLS:          {"tls", Proved, "SIP, TLS records"},
	DTLS:         {"dtls", Proved, "DTLS records"},
	STUN:         {"stun", Proved, "STUN, authenticated"},
	SRTP:         {"srtp", Proved, "SRTP"},
	SRTCP:        {"srtcp", Proved, "SRTCP"},
	MediaTCP:     {"media_tcp", Proved, "media by TCP"},
	StrangeSTUN:  {"stranger_stun", Stranger, "STUN, not authenticated"},
	StrangeSIP:   {"stranger_sip", Stranger, "SIP in clear, unanswered"},
	StrangeMedia: {"stranger_media", Stranger, "like RTP, of no call"},
	StrangeTCP:   {"stranger_tcp", Stranger, "TCP, no TLS"},
	StrangeOther: {"stranger_other", Stranger, "datagrams of no kind"},
	LeakSIP:      {"sip", Leaked, "SIP in clear"},
	LeakRTP:      {"rtp", Leaked, "RTP, under no call's key"},
	LeakRTCP:     {"rtcp", Leaked, "RTCP, under no call's key"},
	LeakTCP:      {"tcp", Leaked, "TCP of the edge, no TLS"},
	LeakOther:    {"datagram", Leaked, "datagrams of the edge, of no kind"},
	Unproven:     {"unproven", Missed, "not to be told"},
}

var groups = [...]string{Beside: "beside", Proved: "proved", Stranger: "not ours", Leaked: "leak", Missed: "unproven"}

// String is the kind's name in JSON.
func (k Kind) String() string { return kinds[k].name }

// Group is what the kind says of the proof.
func (k Kind) Group() Group { return kinds[k].group }

// String is the group's name.
func (g Group) String() string { return groups[g] }

// strange is what a leak is if it comes in from a stranger.
func (k Kind) strange() Kind {
	switch k {
	case LeakSIP:
		return StrangeSIP
	case LeakRTP, LeakRTCP:
		return StrangeMedia
	case LeakTCP:
		return StrangeTCP
	}
	return StrangeOther
}

// Direction is where a packet goes, as the edge sees it.
type Direction uint8

// The directions.
const (
	Past Direction = iota // between others
	In
	Out
	numDirections
)

// String is the direction's name.
func (d Direction) String() string { return [...]string{"past", "in", "out"}[d] }

// frames are packets of the interface, and their bytes as it carries them.
type frames struct{ packets, bytes uint64 }

func (f *frames) add(n frames) {
	f.packets += n.packets
	f.bytes += n.bytes
}

func (f *frames) sub(n frames) {
	f.packets -= n.packets
	f.bytes -= n.bytes
}
