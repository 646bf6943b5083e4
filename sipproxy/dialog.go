package sipproxy

import (
	"errors"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// dialogOn names the dialog that a request received on f claims to be inside of.
func (p *Proxy) dialogOn(f *flow.Flow, in *sip.Request) dialogID {
	from, to := flow.Tag(in, "From"), flow.Tag(in, "To")
	if f.Side() == flow.Plain {
		from, to = to, from
	}
	return dialogID{p.callID(f.Side(), in), from, to}
}

// find returns the dialog that a request on f is inside of, or nil. A phone's
// request must come by the flow of the call, or by one over which the same
// device has registered since, a trunk's by one of its own: Call-ID and tags alone prove nothing.
func (p *Proxy) find(f *flow.Flow, in *sip.Request) *dialog {
	d := p.calls.dialog(p.dialogOn(f, in))
	if d == nil || f.Side() == flow.Plain {
		return d
	}
	d.call.mu.Lock()
	defer d.call.mu.Unlock()
	if !p.hears(d.secure, d.call.token, f) {
		return nil
	}
	d.follow()
	return d
}

func noSuchCall() *refusal {
	return refuse(sip.StatusCallTransactionDoesNotExists, "Call/Transaction Does Not Exist", "no such call on this connection")
}

// inDialog forwards a request inside a dialog, other than ACK and CANCEL.
func (p *Proxy) inDialog(d *dialog, f *flow.Flow, tx *transaction.Server, in *sip.Request) *refusal {
	from := f.Side()
	c := d.call
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended { // since find
		return noSuchCall()
	}
	near, far := d.leg(from), d.leg(other(from))
	near.cseq = max(near.cseq, in.CSeq().SeqNo)
	far.flow = p.reach(d, other(from))
	if in.Method == sip.INVITE || in.Method == sip.UPDATE || in.Method == sip.SUBSCRIBE {
		learnTarget(near, in, false) // target refresh (RFC 3261 section 12.2)
	}
	if p.takeKeys(d, tx, in, from) {
		return nil
	}
	if in.Method == sip.INVITE {
		return p.sendInvite(&invite{call: c, dialog: d, server: tx, in: in, from: from}, far, far.tag)
	}
	return p.sendInDialog(d, tx, in, from)
}

// sendInDialog forwards anything but INVITE. call.mu is held.
func (p *Proxy) sendInDialog(d *dialog, tx *transaction.Server, in *sip.Request, from flow.Side) *refusal {
	c, far := d.call, d.leg(other(from))
	b, offered := bodyOf(in), false
	if len(b.bytes) > 0 && carriesSession(in.Method) {
		sdp, r := c.media.request(from, in.Method, b)
		if r != nil {
			return r
		}
		b, offered = sdp, true
	} else if r := bodyRefused(b); r != nil {
		return r
	}
	contact := ""
	if len(in.GetHeaders("Contact")) > 0 {
		contact = far.contact
	}
	req := p.request(in, outgoing{
		to: far.flow, uri: far.target, routes: far.routes, contact: contact, body: b,
		from: far.self.WithTag(d.leg(from).tag), dest: far.peer.WithTag(far.tag), shift: far.shift,
	})
	_, err := p.send(far, req, hearer{on: func(at *flow.Flow, res *sip.Response, err error) {
		if err != nil && in.Method == sip.BYE && from == flow.Plain {
			p.owe(far, req)
			p.byeAgain(d, at, req)
		}
		p.inDialogAnswered(d, tx, in, from, offered, res, err)
	}})
	if err == nil {
		return nil
	}
	if in.Method == sip.BYE { // the far end is gone: that is what the sender wants
		if from == flow.Plain {
			p.owe(far, req)
		} else if errors.Is(err, errNoPBX) { // UDP says it for half a minute, and the PBX may be back
			_, _ = p.toItsPBX(far)(req, hearer{on: func(*flow.Flow, *sip.Response, error) {}})
		}
		p.endDialog(d, "far end unreachable")
		_ = tx.Respond(p.answer(in, sip.StatusOK, "OK"))
		return nil
	}
	if offered {
		c.media.rollback()
	}
	return p.unreachable(far.trunk, other(from), err)
}

func (p *Proxy) inDialogAnswered(d *dialog, tx *transaction.Server, in *sip.Request, from flow.Side, offered bool, res *sip.Response, err error) {
	c := d.call
	c.mu.Lock()
	defer c.mu.Unlock()
	if offered && (err != nil || res.StatusCode >= 200) {
		defer c.media.rollback() // unless it was answered
	}
	if err != nil {
		if in.Method == sip.BYE {
			p.endDialog(d, d.byeReason(from))
			_ = tx.Respond(p.answer(in, sip.StatusOK, "OK"))
		} else {
			p.giveUp(tx, in, d.leg(from).trunk, other(from), err)
		}
		return
	}
	d.leg(other(from)).counts(in, res)
	var b body
	if sdp := bodyOf(res); sdp.isSDP() && offered {
		var r *refusal
		if b, r = c.media.answer(other(from), sdp); r != nil {
			_ = tx.Respond(p.refusal(in, r))
			return
		}
	} else if !sdp.isSDP() {
		b = sdp
	}
	var contacts []string
	if len(res.GetHeaders("Contact")) > 0 {
		contacts = []string{d.leg(from).contact}
		if res.StatusCode < 300 && in.Method == sip.UPDATE {
			learnTarget(d.leg(other(from)), res, false)
		}
	}
	// A BYE that the PBX challenged comes again; any other answer ends the call, also a
	// refusal: the far end does not know the dialog.
	if in.Method == sip.BYE && res.StatusCode >= 200 && !(from == flow.Secure && isChallenge(res.StatusCode)) {
		p.endDialog(d, d.byeReason(from))
	}
	_ = tx.Respond(p.response(tx, in, res, contacts, b))
}

// ack forwards the ACK of a 2xx: end to end, in no transaction (RFC 3261
// section 13.2.2.4).
func (p *Proxy) ack(f *flow.Flow, in *sip.Request) {
	d := p.find(f, in)
	if d == nil || maxForwards(in) == 0 { // nobody answers an ACK
		return
	}
	from := f.Side()
	c := d.call
	c.mu.Lock()
	defer c.mu.Unlock()
	if from == flow.Secure && d.keyed != nil && d.keyed.cseq == in.CSeq().SeqNo {
		d.keyed.of.server.Acknowledged()
		d.keyed = nil
		c.media.keysConfirmed()
		return
	}
	far := d.leg(other(from))
	b, r := c.media.acknowledge(from, bodyOf(in))
	if r != nil { // too late to refuse: the call stays, without media
		c.log.Warn("media of ACK refused", "call_id", c.callID, "reason", r.text)
	}
	shift := far.shift
	if d.accepted != nil && d.accepted.cseq == in.CSeq().SeqNo {
		shift = d.accepted.shift
	}
	req := p.request(in, outgoing{
		to: p.reach(d, other(from)), uri: far.target, routes: far.routes, body: b,
		from: far.self.WithTag(d.leg(from).tag), dest: far.peer.WithTag(far.tag), shift: shift,
	})
	if d.accepted != nil && d.accepted.cseq == in.CSeq().SeqNo {
		d.accepted.ack = req
		d.accepted.of.server.Acknowledged()
	}
	if err := far.flow.Send(req); err != nil {
		c.log.Debug("send ACK", "call_id", c.callID, "reason", err)
	}
}

// carriesSession tells the methods whose bodies are session descriptions.
func carriesSession(m sip.RequestMethod) bool {
	return m == sip.INVITE || m == sip.UPDATE || m == sip.PRACK
}

// isChallenge tells a status that asks for credentials: the request will come
// again.
func isChallenge(status int) bool {
	return status == sip.StatusUnauthorized || status == sip.StatusProxyAuthRequired
}

func (d *dialog) byeReason(from flow.Side) string {
	if from == flow.Secure {
		return d.secure.whose() + " hung up"
	}
	return "PBX hung up"
}
