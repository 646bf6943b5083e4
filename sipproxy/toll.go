package sipproxy

import (
	"cmp"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sipproxy/flow"
)

// This file is about what calls cost: policy is asked before a phone calls, or has
// the PBX call for it, and told when a call begins, is answered and ends.

// mayCall asks whether a phone may make a call. The Verdict is the call's until it
// is released.
func (p *Proxy) mayCall(f *flow.Flow, in *sip.Request, number string) (policy.Verdict, *refusal) {
	e, r := p.event(policy.Call, f, in)
	if r != nil {
		return policy.Verdict{}, r
	}
	e.Number = number
	return p.decide(e)
}

// charge tells policy that a phone's call has begun, by the first answer that the
// PBX gives to nobody but who has the right to call. It returns why the call must
// not go on, if so. call.mu is held.
func (p *Proxy) charge(inv *invite, res *sip.Response) *refusal {
	if inv.dialog != nil || inv.from == flow.Plain || res.StatusCode >= 300 {
		return nil
	}
	return refusalOf(inv.call.toll.Began())
}

// stopCall ends a call that has begun and must not go on. call.mu is held.
func (p *Proxy) stopCall(inv *invite, res *sip.Response, r *refusal) {
	p.log.Info("call stopped", "call_id", inv.call.callID, "from", inv.call.from, "to", inv.call.to, "rule", r.rule(), "reason", r.why())
	p.count(inv.call)
	if res.StatusCode >= 200 {
		p.refuseAnswer(inv, nil, res, r.text)
	} else {
		inv.server.Cancel()
	}
	p.inviteFailed(inv, p.refusal(inv.in, r))
}

// collect hangs up a call whose time is used up.
func (p *Proxy) collect(c *call) {
	c.mu.Lock()
	v := c.toll.Lasts()
	c.mu.Unlock()
	if !v.Allowed {
		p.log.Info("call stopped", "call_id", c.callID, "from", c.from, "to", c.to, "rule", v.Rule, "reason", v.Reason)
		p.hangUp(c, v.Say)
	}
}

// mayTransfer asks whether a phone may have the PBX call whom its REFER names.
// That is a call as any other, but that its end is not seen here.
func (p *Proxy) mayTransfer(f *flow.Flow, in *sip.Request) *refusal {
	to, err := flow.Address(in, "Refer-To")
	if err != nil {
		return nil // the PBX says what it lacks
	}
	target, err := parseURI(p.inwardParty(to).URI)
	if err != nil {
		return refuse(sip.StatusBadRequest, "Bad Request", "%v", err)
	}
	e, r := p.event(policy.Call, f, in)
	if r != nil {
		return r
	}
	b := cmp.Or(p.bindingOf(f, p.sender(f, in)), p.bindings.anyOn(f)) // inside a call, From may be anything
	if b != nil {
		e.User = p.nameOf(b.address())
	}
	e.Number, e.Handed = account(target), true
	v, r := p.decide(e)
	if r == nil {
		r = refusalOf(v.Began())
	}
	v.Release()
	return r
}

// mayForward asks so of a phone that forwards a call.
func (p *Proxy) mayForward(inv *invite, res *sip.Response) *refusal {
	if inv.from != flow.Plain || inv.call.calleeAt.trunk != nil || res.StatusCode < 300 || res.StatusCode >= 400 {
		return nil
	}
	contacts, err := flow.Addresses(res, "Contact")
	if err != nil {
		return nil // none is passed on
	}
	phone := inv.call.calleeAt
	for _, c := range contacts {
		target, err := parseURI(p.inwardParty(c).URI)
		if err != nil {
			continue
		}
		v, r := p.decide(policy.Event{
			Kind: policy.Call, Source: phone.flow.Remote().Addr(), Flow: phone.flow.ID(), User: p.nameOf(phone.peer), Number: account(target), Handed: true,
		})
		if r == nil {
			r = refusalOf(v.Began())
		}
		v.Release()
		if r != nil {
			p.log.Info("forwarding refused", "call_id", inv.call.callID, "from", inv.call.from, "to", inv.call.to, "rule", r.rule(), "reason", r.why())
			return r
		}
	}
	return nil
}
