package peers

// engine is rtpengine as one phone's SRTP: the phone speaks plain RTP to it,
// inside its own host, and it speaks SRTP to the edge.
type engine struct {
	*RTPEngine
	callID string
	plain  string // its offer to the phone, in a call that the edge offered
}

const (
	enginePhone = "phone" // the tags that rtpengine knows the two ends by
	engineEdge  = "edge"
)

// Through lets rtpengine, on the phone's own host, do the SRTP. It chooses its
// keys itself, and writes the descriptions.
func (m *Media) Through(r *RTPEngine) {
	m.p.t.Helper()
	m.engine = &engine{RTPEngine: r, callID: Random(8)}
}

// Relayed tells whether it does so.
func (m *Media) Relayed() bool { return m.engine != nil }

func (e *engine) offer(m *Media) string {
	return e.Offer(e.callID, enginePhone, m.PlainOffer(), NG{
		"transport-protocol": "RTP/SAVP", "SDES": []string{"only-" + m.Suite}, "ICE": "remove", "rtcp-mux": []string{"demux"},
	})
}

func (e *engine) accept(m *Media, offer string) string {
	// Offered both, it would take DTLS.
	e.plain = e.Offer(e.callID, engineEdge, offer, NG{"transport-protocol": "RTP/AVP", "DTLS": "disable", "ICE": "remove", "rtcp-mux": []string{"demux"}})
	return e.Answer(e.callID, engineEdge, enginePhone, m.PlainOffer(), NG{"DTLS": "disable", "ICE": "remove"})
}

// remote is where the phone sends to.
func (e *engine) remote(description string) string {
	if e.plain == "" { // the phone's own offer was answered
		e.plain = e.Answer(e.callID, enginePhone, engineEdge, description, NG{"ICE": "remove"})
	}
	return e.plain
}
