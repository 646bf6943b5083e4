package sipproxy

import (
	"errors"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// onwards forwards a request of either side that is no call and no registration.
func (p *Proxy) onwards(f *flow.Flow, tx *transaction.Server, in *sip.Request) *refusal {
	t, outside := p.trunkFor(f, in), f.Side() == flow.Secure
	switch {
	case t != nil && outside:
		return p.fromTrunk(t, f, tx, in)
	case t != nil:
		return p.toTrunk(t, f, tx, in)
	case outside:
		return p.toPBX(f, tx, in)
	}
	return p.toPhone(f, tx, in)
}

// toPBX forwards a request of a phone that is no call and no registration:
// OPTIONS, MESSAGE, PUBLISH and whatever else.
func (p *Proxy) toPBX(f *flow.Flow, tx *transaction.Server, in *sip.Request) *refusal {
	from, err := flow.Address(in, "From")
	if err != nil {
		return refuse(sip.StatusBadRequest, "Bad Request", "%v", err)
	}
	contact, routes := "", []string(nil)
	b, by := p.speaker(f, in)
	if b != nil {
		routes = b.routes
		if len(in.GetHeaders("Contact")) > 0 {
			contact = contactForPBX(p.pool, b.token)
		}
	}
	target := p.inwardURI(in.Recipient)
	return p.standalone(f, tx, in, &leg{self: p.inwardParty(from), by: by}, outgoing{
		uri: target, routes: routes, contact: contact, body: bodyOf(in),
		from: p.inOwnCall(f, in, p.inwardParty(from)).String(), dest: p.inwardParties(in.GetHeader("To").Value()),
	}, p.contactForPhone(f, in.Recipient.Scheme, p.calledAs(in.Recipient), target.User))
}

// toPhone forwards a request of the PBX to a registered phone.
func (p *Proxy) toPhone(f *flow.Flow, tx *transaction.Server, in *sip.Request) *refusal {
	b, r := p.lookup(p.addressee(in))
	if r != nil {
		return r
	}
	target, err := parseURI(b.contact)
	if err != nil {
		return refuse(sip.StatusInternalServerError, "Server Internal Error", "%v", err)
	}
	from, err := flow.Address(in, "From")
	if err != nil {
		return refuse(sip.StatusBadRequest, "Bad Request", "%v", err)
	}
	to := flow.NameAddr{URI: b.uri}.WithTag(flow.Tag(in, "To"))
	contact := ""
	if len(in.GetHeaders("Contact")) > 0 {
		contact = p.contactForPhone(b.flow, target.Scheme, b.host, userOf(from.URI))
	}
	return p.standalone(f, tx, in, &leg{flow: b.flow, self: from}, outgoing{
		to: b.flow, uri: target, contact: contact, body: p.toldIn(f, in),
		from: p.outward(from).String(), dest: to,
	}, contactForPBX(p.pool, b.token))
}

// standalone forwards a request outside of calls to the far end of a leg. contact is
// ours towards the sender, for answers that carry one.
func (p *Proxy) standalone(f *flow.Flow, tx *transaction.Server, in *sip.Request, to *leg, out outgoing, contact string) *refusal {
	if r := bodyRefused(out.body); r != nil {
		return r
	}
	side := out.side()
	_, err := p.send(to, p.request(in, out), hearer{on: func(_ *flow.Flow, res *sip.Response, err error) {
		if side == flow.Secure && errors.Is(err, transaction.ErrFlowClosed) && p.onwards(f, tx, in) == nil {
			return // by the phone's next connection, or the trunk's
		}
		if err != nil {
			p.giveUp(tx, in, to.trunk, side, err)
			return
		}
		if to.trunk != nil && side == flow.Secure && in.Method == sip.OPTIONS && res.StatusCode == sip.StatusServiceUnavailable {
			p.giveUp(tx, in, to.trunk, side, errNoPBX) // there is none behind the far end
			return
		}
		res, over := p.witness(f, in, res)
		defer over()
		contacts := p.redirects(tx, res)
		if res.StatusCode < 300 && len(contacts) > 0 {
			contacts = []string{contact}
		}
		_ = tx.Respond(p.response(tx, in, res, contacts, withoutSDP(res)))
	}})
	if err != nil {
		return p.unreachable(to.trunk, side, err)
	}
	return nil
}

// lookup finds the phone that a token of ours stands for. A PBX that routes by
// its own table may name the user instead.
func (p *Proxy) lookup(token string) (*binding, *refusal) {
	b := p.bindings.get(token)
	if b == nil {
		b = p.bindings.latest(token)
	}
	if b == nil {
		return nil, refuse(sip.StatusTemporarilyUnavailable, "Temporarily Unavailable", "the phone is not registered here")
	}
	if closed(b.flow) {
		return nil, p.unreachable(nil, flow.Secure, transaction.ErrFlowClosed)
	}
	return b, nil
}
