package sipproxy

import (
	"errors"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// A PBX asks by OPTIONS whether a phone is there, and takes any final answer for
// a yes, 408, 430 and 480 too: chan_sip 16 and chan_pjsip 22 both do. So a phone
// whose connection is gone is told by silence, which is no; calls to it get their
// 480 at once all the same, if the PBX tries at all.

// methods are those that cross us.
const methods = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, SUBSCRIBE, NOTIFY, PUBLISH, MESSAGE"

// qualify takes an OPTIONS of the PBX outside of calls.
func (p *Proxy) qualify(f *flow.Flow, tx *transaction.Server, in *sip.Request) *refusal {
	token := p.addressee(in)
	b, r := p.lookup(token)
	switch {
	case token == "": // it asks for us
		_ = tx.Respond(p.capabilities(in, methods))
		return nil
	case r == nil && p.cfg.AnswerQualify:
		_ = tx.Respond(p.capabilities(in, b.allow))
		return nil
	case r == nil:
		r = p.toPhone(f, tx, in)
	}
	if r != nil && r.status == sip.StatusTemporarilyUnavailable {
		p.counters.optionsDropped.Add(1)
		p.log.Debug("OPTIONS not answered", "call_id", in.CallID().Value(), "reason", r.text)
		tx.Drop()
		return nil
	}
	return r
}

// capabilities is our answer to an OPTIONS (RFC 3261 section 11.2).
func (p *Proxy) capabilities(in *sip.Request, allow string) *sip.Response {
	res := bare(in, sip.StatusOK, "OK", "sp-"+randomToken(6))
	res.AppendHeader(sip.NewHeader("Allow", allow))
	res.AppendHeader(sip.NewHeader("Accept", "application/sdp"))
	appendBody(res, body{})
	return res
}

// allowOf is what a phone said in its REGISTER that it takes.
func allowOf(in *sip.Request) string {
	allow := ""
	for _, h := range in.GetHeaders("Allow") {
		if allow != "" {
			allow += ", "
		}
		allow += h.Value()
	}
	if allow == "" {
		return methods
	}
	return allow
}

// giveUp ends a request other than INVITE to which a side gave no answer. The
// sender is told, unless silence tells it better: a 408 would come after the
// sender has given up (RFC 4320 section 4.2), and to an OPTIONS of the PBX any
// answer says that the phone is there.
func (p *Proxy) giveUp(tx *transaction.Server, in *sip.Request, t *trunk, side flow.Side, err error) {
	if side == flow.Secure && (in.Method == sip.OPTIONS || errors.Is(err, transaction.ErrTimeout)) {
		if in.Method == sip.OPTIONS {
			p.counters.optionsDropped.Add(1)
		}
		tx.Drop()
		return
	}
	_ = tx.Respond(p.refusal(in, p.unreachable(t, side, err)))
}
