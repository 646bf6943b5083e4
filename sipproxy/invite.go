package sipproxy

import (
	"errors"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// invite is one INVITE on its way through us, the first of a call or a later
// one, with its two transactions.
type invite struct {
	call   *call
	dialog *dialog // nil for the first INVITE, whose dialog its answers make
	server *transaction.Server
	in     *sip.Request
	sent   sent // nil until it is
	from   flow.Side
	// offered tells that the INVITE carried the offer; otherwise the 2xx
	// does, and the ACK the answer (RFC 3264 section 4, RFC 3261 section 13.2.1).
	offered bool
	offer   *offer // either of them
}

// bury lets go of an INVITE whose dialog is over. All that may still come is a 2xx that
// the far end repeats: it is told goodbye. A PBX, by UDP, may have cause to repeat it, so
// nothing is held of a phone's call but for that: not even the INVITE.
func (p *Proxy) bury(inv *invite) {
	switch {
	case inv.sent == nil: // we have answered it
	case inv.dialog == nil && inv.from == flow.Secure:
		c, caller, callee := inv.call, *inv.call.callerAt, *inv.call.calleeAt
		rest := &invite{from: inv.from, call: &call{callID: c.callID, log: c.log, callerAt: &caller, calleeAt: &callee, ended: true}}
		inv.sent.Settle(func(res *sip.Response) { p.answeredLate(rest, callee.flow, res, "caller gone") })
	default:
		inv.sent.Settle(nil)
	}
}

// invite starts a call.
func (p *Proxy) invite(f *flow.Flow, tx *transaction.Server, in *sip.Request) *refusal {
	token, caller, callee, r := p.legs(f, in)
	if r != nil {
		return r
	}
	var toll policy.Verdict
	if f.Side() == flow.Secure && caller.trunk == nil {
		if toll, r = p.mayCall(f, in, account(callee.target)); r != nil {
			return r
		}
	}
	return p.startCall(f.Side(), token, tx, in, caller, callee, toll)
}

// legs are the two legs of a dialog that a request begins, and the token that stands
// at the PBX for who is on the secure side.
func (p *Proxy) legs(f *flow.Flow, in *sip.Request) (token string, caller, callee *leg, r *refusal) {
	t, outside := p.trunkFor(f, in), f.Side() == flow.Secure
	switch {
	case t != nil && outside:
		return p.legsFromTrunk(t, f, in)
	case t != nil:
		return p.legsToTrunk(t, f, in)
	case outside:
		return p.legsFromPhone(f, in)
	}
	return p.legsToPhone(f, in)
}

// legsFromPhone are the two legs of a dialog that a phone begins, and the token
// that stands for the phone.
func (p *Proxy) legsFromPhone(f *flow.Flow, in *sip.Request) (token string, caller, callee *leg, r *refusal) {
	if caller, r = p.callerLeg(f, in); r != nil {
		return "", nil, nil, r
	}
	token = randomCallToken()
	peer := p.inOwnCall(f, in, p.inwardParty(caller.peer))
	var routes []string
	b, by := p.speaker(f, in)
	if b != nil {
		token, routes = b.token, b.routes
	}
	scheme := in.Recipient.Scheme
	if caller.target.Scheme == "sips" {
		scheme = "sips"
	}
	target := p.inwardURI(in.Recipient)
	caller.contact = p.contactForPhone(f, scheme, p.calledAs(in.Recipient), target.User)
	callee = &leg{
		peer: p.inwardParty(caller.self), self: peer, by: by,
		target: target, contact: contactForPBX(p.pool, token), routes: routes,
	}
	return token, caller, callee, nil
}

// legsToPhone are the two legs of a dialog that the PBX begins, and the token of
// the phone that it is with.
func (p *Proxy) legsToPhone(f *flow.Flow, in *sip.Request) (token string, caller, callee *leg, r *refusal) {
	b, r := p.lookup(p.addressee(in))
	if r != nil {
		return "", nil, nil, r
	}
	if caller, r = p.callerLeg(f, in); r != nil {
		return "", nil, nil, r
	}
	target, err := parseURI(b.contact)
	if err != nil {
		return "", nil, nil, refuse(sip.StatusInternalServerError, "Server Internal Error", "%v", err)
	}
	caller.contact = contactForPBX(p.pool, b.token)
	callee = &leg{
		flow: b.flow, target: target,
		peer: flow.NameAddr{Display: caller.self.Display, URI: b.uri},
		self: p.outward(caller.peer),
	}
	callee.contact = p.contactForPhone(b.flow, target.Scheme, b.host, userOf(caller.target.String()))
	return b.token, caller, callee, nil
}

// fallOver sends a call to the phone's next connection, or the trunk's, if the one that
// it went by is gone before anything was said. call.mu is held.
func (p *Proxy) fallOver(inv *invite, err error) bool {
	c := inv.call
	if inv.from != flow.Plain || inv.dialog != nil || len(c.dialogs) > 0 || c.ended || !errors.Is(err, transaction.ErrFlowClosed) {
		return false
	}
	token, _, callee, r := p.legs(c.callerAt.flow, inv.in)
	if r != nil || c.calleeAt.trunk == nil && token != c.token { // there is none, or another phone's
		return false
	}
	c.calleeAt = callee
	c.media.follow(callee.flow)
	c.media.withdraw(inv.from, inv.offered)
	if r := p.sendInvite(inv, callee, ""); r != nil {
		p.inviteFailed(inv, p.refusal(inv.in, r))
	}
	return true
}

// callerLeg reads what an INVITE tells of its sender.
func (p *Proxy) callerLeg(f *flow.Flow, in *sip.Request) (*leg, *refusal) {
	bad := func(err error) *refusal { return refuse(sip.StatusBadRequest, "Bad Request", "%v", err) }
	from, err := flow.Address(in, "From")
	if err != nil {
		return nil, bad(err)
	}
	to, err := flow.Address(in, "To")
	if err != nil {
		return nil, bad(err)
	}
	contact, err := flow.Address(in, "Contact")
	if err != nil {
		return nil, bad(err)
	}
	target, err := parseURI(contact.URI)
	if err != nil {
		return nil, bad(err)
	}
	tag, _ := from.Param("tag")
	return &leg{
		flow: f, tag: tag, peer: from.Without("tag"), self: to.Without("tag"), target: target,
		routes: routeSet(in, false), cseq: in.CSeq().SeqNo,
	}, nil
}

func (p *Proxy) startCall(from flow.Side, token string, tx *transaction.Server, in *sip.Request, caller, callee *leg, toll policy.Verdict) *refusal {
	c := &call{
		callID: p.callID(from, in), token: token, caller: from, started: time.Now(), log: p.log,
		from: accountOf(p.inwardParty(caller.peer).URI), to: accountOf(p.inwardParty(caller.self).URI),
		callerAt: caller, calleeAt: callee, toll: toll, dialogs: make(map[string]*dialog),
	}
	phone := callee
	if from == flow.Secure {
		phone = caller
	}
	c.media = p.newNegotiation(c, phone)
	p.calls.add(c)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.first = &invite{call: c, server: tx, in: in, from: from}
	if r := p.sendInvite(c.first, callee, ""); r != nil {
		c.first = nil
		p.endCall(c, r.text)
		return r
	}
	return nil
}

// sendInvite forwards an INVITE to the leg given. call.mu is held.
func (p *Proxy) sendInvite(inv *invite, to *leg, toTag string) *refusal {
	b := bodyOf(inv.in)
	if inv.call.media.keys.under { // one INVITE at a time (RFC 3261 section 14.1), with an offer or without
		return refuse(491, "Request Pending", "the keys are being replaced")
	}
	inv.offered = b.isSDP()
	if len(b.bytes) > 0 {
		sdp, r := inv.call.media.request(inv.from, inv.in.Method, b)
		if r != nil {
			return r
		}
		if inv.from == flow.Secure {
			sdp.beside = b.beside
		}
		b, inv.offer = sdp, inv.call.media.pending
	}
	_ = inv.server.Respond(p.answer(inv.in, sip.StatusTrying, "Trying"))
	req := p.request(inv.in, outgoing{
		to: to.flow, uri: to.target, routes: to.routes, contact: to.contact, body: b,
		from: to.self.WithTag(flow.Tag(inv.in, "From")), dest: to.peer.WithTag(toTag), shift: to.shift,
	})
	client, err := p.send(to, req, hearer{
		on:   func(at *flow.Flow, res *sip.Response, err error) { p.inviteAnswered(inv, at, res, err) },
		late: func(at *flow.Flow, res *sip.Response) { p.answeredLate(inv, at, res, "another PBX was asked") },
	})
	if err != nil {
		inv.call.media.withdraw(inv.from, inv.offered)
		return p.unreachable(to.trunk, other(inv.from), err)
	}
	if inv.dialog != nil {
		inv.dialog.under = inv
	}
	inv.sent = client
	inv.server.SetNext(client)
	inv.server.OnGone(func() { client.Cancel() })
	return nil
}

// inviteAnswered takes what the far end said to an INVITE. It runs on the
// goroutine that brought it.
func (p *Proxy) inviteAnswered(inv *invite, at *flow.Flow, res *sip.Response, err error) {
	c := inv.call
	c.mu.Lock()
	defer c.mu.Unlock()
	callee := c.calleeAt
	if inv.dialog != nil {
		callee = inv.dialog.leg(other(inv.from))
		if inv.dialog.under == inv && (err != nil || res.StatusCode >= 200) {
			inv.dialog.under = nil
		}
	}
	callee.flow = at
	if err == nil {
		callee.counts(inv.in, res)
	}
	switch {
	case err != nil && p.fallOver(inv, err), err == nil && p.offerAnew(inv, res):
		return
	case err != nil:
		p.inviteFailed(inv, p.refusal(inv.in, p.unreachable(callee.trunk, other(inv.from), err)))
		return
	case inv.dialog == nil && inv.from == flow.Secure:
		var over func()
		res, over = p.witness(c.callerAt.flow, inv.in, res)
		defer over()
	}
	if r := p.mayForward(inv, res); r != nil {
		p.inviteFailed(inv, p.refusal(inv.in, r))
		return
	}
	if r := p.charge(inv, res); r != nil {
		p.stopCall(inv, res, r)
		return
	}
	if res.StatusCode < 300 {
		p.invitePassed(inv, res)
	} else {
		p.inviteFailed(inv, p.response(inv.server, inv.in, res, p.redirects(inv.server, res), body{}))
	}
}

// inviteFailed ends an INVITE with a final answer. call.mu is held.
func (p *Proxy) inviteFailed(inv *invite, res *sip.Response) {
	inv.call.media.withdraw(inv.from, inv.offered)
	if inv.dialog == nil {
		inv.call.first = nil
		if isChallenge(res.StatusCode) && !inv.call.ended {
			p.release(inv.call)
		}
		p.endCall(inv.call, reasonOf(res))
	}
	_ = inv.server.Respond(res)
}

// invitePassed forwards a provisional answer or a 2xx. call.mu is held.
func (p *Proxy) invitePassed(inv *invite, res *sip.Response) {
	c, callee := inv.call, other(inv.from)
	p.count(c)
	d := inv.dialog
	if tag := flow.Tag(res, "To"); d == nil && tag != "" && !c.ended {
		d = p.dialogOf(c, tag)
	}
	gone := closed(inv.server.Conn().(*flow.Flow)) // by which this INVITE came; the call's other end may be there
	if a := d.answerTo(inv); res.StatusCode >= 200 && a != nil && (a.ack != nil || !gone) {
		p.acceptedAgain(inv, d)
		return
	}
	if res.StatusCode >= 200 && (d == nil || c.ended || gone) {
		p.refuseAnswer(inv, d, res, "caller gone")
		// No request may be left without its final answer.
		_ = inv.server.Respond(p.refusal(inv.in, refuse(sip.StatusRequestTerminated, "Request Terminated", "the call is over")))
		return
	}
	if res.StatusCode >= 200 && inv.dialog == nil && !c.answered.IsZero() {
		p.refuseAnswer(inv, d, res, "another has answered") // a fork's: there is one sound for the caller
		return
	}
	if d != nil {
		learnTarget(d.leg(callee), res, inv.dialog == nil)
	}
	b, r := p.answerBody(inv, res)
	if r != nil {
		if res.StatusCode < 200 {
			c.log.Warn("media of provisional answer refused", "call_id", c.callID, "reason", r.text)
		} else {
			p.refuseAnswer(inv, d, res, r.text)
			p.inviteFailed(inv, p.refusal(inv.in, r))
			return
		}
	}
	if res.StatusCode >= 200 {
		d.confirmed, c.first = true, nil
		p.remember(inv)
		if c.answered.IsZero() {
			c.answered = time.Now()
			c.toll.Answered()
			c.log.Info("call answered", "call_id", c.callID, "from", c.from, "to", c.to)
		}
	}
	var contacts []string
	if d != nil {
		contacts = []string{d.leg(inv.from).contact}
	}
	out := p.response(inv.server, inv.in, res, contacts, b)
	if res.StatusCode >= 200 {
		d.accepted = &accepted{of: inv, at: time.Now(), cseq: inv.in.CSeq().SeqNo, res: out, shift: shiftOf(inv.in, res)}
		if inv.offered {
			c.media.withdraw(inv.from, true) // unless it was answered
		}
	}
	if err := inv.server.Respond(out); err != nil && res.StatusCode >= 200 {
		p.refuseAnswer(inv, d, res, "caller gone")
	}
}

// answerBody turns the SDP of an answer into ours for the caller.
func (p *Proxy) answerBody(inv *invite, res *sip.Response) (body, *refusal) {
	b := bodyOf(res)
	if !b.isSDP() {
		return body{}, nil
	}
	n := inv.call.media
	if o := inv.offer; o != nil && o.answered && o != n.pending {
		return body{}, nil // it repeats what a later offer has replaced (RFC 3261 section 13.2.1)
	}
	if inv.offered {
		return n.answer(other(inv.from), b)
	}
	out, r := n.response(other(inv.from), b, inv.offer)
	if r == nil {
		inv.offer = n.pending
	}
	return out, r
}

// cancel takes a CANCEL: it is answered here, and one of ours goes on
// (RFC 3261 section 16.10). What becomes of the INVITE, its own answer tells:
// a 200 that races the CANCEL still reaches the caller.
func (p *Proxy) cancel(f *flow.Flow, tx *transaction.Server, in *sip.Request) *refusal {
	invite := p.tx.Invite(f, in)
	if invite == nil {
		return refuse(sip.StatusCallTransactionDoesNotExists, "Call/Transaction Does Not Exist", "no INVITE to cancel")
	}
	_ = tx.Respond(p.answer(in, sip.StatusOK, "OK"))
	why := in.GetHeaders("Reason")
	if f.Side() == flow.Plain {
		for i, h := range why {
			why[i] = sip.NewHeader(h.Name(), p.outwardWords(h.Value()))
		}
	}
	invite.Cancel(why...)
	return nil
}

// learnTarget takes the callee's Contact, and on the answer that makes the
// dialog its route set (RFC 3261 section 12.1.2).
func learnTarget(l *leg, m sip.Message, routes bool) {
	if contact, err := flow.Address(m, "Contact"); err == nil {
		if uri, err := parseURI(contact.URI); err == nil {
			l.target = uri
		}
	}
	if routes {
		l.routes = routeSet(m, true)
	}
}

// routeSet reads Record-Route as the routes of later requests: in the order
// received by the callee, reversed by the caller.
func routeSet(m sip.Message, reversed bool) []string {
	list, err := flow.Addresses(m, "Record-Route")
	if err != nil {
		return nil
	}
	routes := make([]string, len(list))
	for i, r := range list {
		if reversed {
			routes[len(list)-1-i] = r.String()
		} else {
			routes[i] = r.String()
		}
	}
	return routes
}

// unreachable says truthfully why nobody answered.
func (p *Proxy) unreachable(t *trunk, side flow.Side, err error) *refusal {
	timeout := errors.Is(err, transaction.ErrTimeout)
	switch {
	case side == flow.Secure && t != nil && timeout:
		return refuse(sip.StatusGatewayTimeout, "Server Time-out", "trunk %s does not answer", t.Name)
	case side == flow.Secure && t != nil && !errors.Is(err, transaction.ErrExpired):
		return t.isDown()
	case errors.Is(err, errNoPBX):
		return refuse(sip.StatusServiceUnavailable, "Service Unavailable", "the PBX does not answer").with("Retry-After", retryAfter)
	case errors.Is(err, transaction.ErrExpired):
		return refuse(sip.StatusRequestTimeout, "Request Timeout", "nobody answered in time")
	case side == flow.Secure && timeout:
		return refuse(sip.StatusRequestTimeout, "Request Timeout", "the phone does not answer")
	case side == flow.Secure:
		return refuse(sip.StatusTemporarilyUnavailable, "Temporarily Unavailable", "the phone's connection is gone")
	case timeout:
		return refuse(sip.StatusGatewayTimeout, "Server Time-out", "the PBX does not answer")
	default:
		return refuse(sip.StatusServiceUnavailable, "Service Unavailable", "the PBX cannot be reached")
	}
}
