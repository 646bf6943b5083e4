package sipproxy

import (
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// This file is about what is owed to who says a 2xx: an ACK, as often as it is said, and a
// BYE if nobody can take the call.

// repeatsFor is how long the ends of an INVITE repeat a 2xx, 64 times T1 (RFC
// 3261 section 13.3.1.4).
const repeatsFor = 32 * time.Second

// accepted is an INVITE with a 2xx, which its far ends may repeat.
type accepted struct {
	of    *invite
	at    time.Time
	cseq  uint32
	res   *sip.Response // as the caller got it
	ack   *sip.Request  // as the callee got it; nil before the caller sent it
	shift uint32        // of its CSeq
}

// answerTo is what is kept of an INVITE, if it had a 2xx in a dialog; nil: it had none, or
// there is no dialog.
func (d *dialog) answerTo(inv *invite) *accepted {
	if d == nil || d.accepted == nil || d.accepted.of != inv {
		return nil
	}
	return d.accepted
}

// acceptedAgain takes a repeated 2xx: the callee waits for an ACK. Ours to a
// caller over TLS was not lost, so what may have been is the ACK's second half
// of the way. Its description says nothing new. call.mu is held.
func (p *Proxy) acceptedAgain(inv *invite, d *dialog) {
	var err error
	switch a := d.accepted; {
	case a.ack != nil:
		err = p.reach(d, other(inv.from)).Send(a.ack)
	case inv.from == flow.Plain:
		err = inv.server.Respond(a.res)
	}
	if err != nil {
		inv.call.log.Debug("repeat", "call_id", inv.call.callID, "reason", err)
	}
}

// refuseAnswer is for a callee that answered a call nobody can take: it must
// not be left with it, so it gets its ACK and then a BYE. A call that there was
// before goes on, as it was. call.mu is held.
func (p *Proxy) refuseAnswer(inv *invite, d *dialog, res *sip.Response, reason string) {
	callee := other(inv.from)
	if d == nil { // the call is over
		d = inv.farewell(inv.call.calleeAt.flow, res)
	}
	p.acknowledge(d, callee, res)
	if inv.dialog == nil {
		p.bye(d, callee, reason)
		p.endDialog(d, reason)
		return
	}
	if m := inv.call.media; inv.offer != nil && inv.offer == m.pending { // or it would stand in the way of the next
		m.withdraw(inv.from, inv.offered)
	}
}

// acknowledge sends an ACK of ours for a 2xx. call.mu is held.
func (p *Proxy) acknowledge(d *dialog, callee flow.Side, res *sip.Response) {
	ack := p.ownRequest(sip.ACK, d, callee, res.CSeq().SeqNo)
	appendBody(ack, body{})
	if err := p.reach(d, callee).Send(ack); err != nil {
		d.call.log.Debug("send ACK", "call_id", d.call.callID, "reason", err)
	}
}

// farewell is a dialog that is good for a goodbye alone. call.mu is held.
func (inv *invite) farewell(at *flow.Flow, res *sip.Response) *dialog {
	leg := *inv.call.calleeAt
	leg.flow, leg.tag = at, flow.Tag(res, "To")
	d := &dialog{call: inv.call, secure: inv.call.callerAt, plain: &leg}
	if inv.from == flow.Plain {
		d.secure, d.plain = d.plain, d.secure
	}
	learnTarget(&leg, res, true)
	return d
}

// answeredLate is for a PBX that answered a call after another had been asked, or after
// the end.
func (p *Proxy) answeredLate(inv *invite, at *flow.Flow, res *sip.Response, reason string) {
	inv.call.mu.Lock()
	defer inv.call.mu.Unlock()
	d := inv.farewell(at, res)
	p.acknowledge(d, other(inv.from), res)
	p.bye(d, other(inv.from), reason)
}
