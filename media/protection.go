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

// set takes the keys that an offer and its answer agreed on, and tells whether
// the phone's is another. Ours may have to wait until the phone has the answer.
func (p *protection) set(rx opener, tx *sealer, waits bool, now int64) (changed bool) {
	changed = p.rx.set(rx, now)
	before := p.tx.next
	p.tx.set(tx, waits, now)
	if p.tx.next != before {
		p.tx.proof = 0
		if changed {
			p.tx.proof = p.rx.epoch
		}
	}
	return changed
}

// confirm notes that the phone uses its key in force. If that came by the offer
// that ours answers, it has the answer.
func (p *protection) confirm(now int64) {
	p.rx.confirm(now)
	if p.tx.proof == p.rx.epoch {
		p.tx.confirm(now)
	}
}

// ready tells whether there are keys.
func (p *protection) ready() bool { return p.rx.now.ctx != nil }
