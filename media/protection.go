package media

// protection is the SRTP of streams: the phone's keys and ours. A stream whose
// keys come by SDES has one of its own, for RTP and RTCP. Streams on one DTLS
// transport (RFC 8843 section 9) share the transport's, and with it the record
// of what was seen and sent: no packet is accepted twice, and no nonce used
// twice, whichever of them it is for.
type protection struct {
	rx receiver
	tx sender
}

// ready tells whether there are keys.
func (p *protection) ready() bool { return p.rx.now.ctx != nil }
