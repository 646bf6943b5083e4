package sipproxy

import (
	"iter"
	"math"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// This file is where a trunk is no phone. Nobody registers over it; who it is, its
// certificate has said, and whom it names as a caller is believed. The PBX says what
// is for it: by the address it sends to or, where trunks share the phones', by the
// number or the domain. What is for a trunk goes by one of the trunk's connections or
// is refused: there is no other way.

// trunk is one at work.
type trunk struct {
	Trunk
	far  *flow.Trunk
	pool *pool        // the PBXs, by the trunk's own address or by that of the phones
	with enrolment    // with a provider
	owed atomic.Int64 // BYEs that its far end has not had
}

// AttachTrunk gives a trunk of the Config its far end and, if it has an address of its
// own, the socket on that. It is called once for each, after Attach and before anything
// runs.
func (p *Proxy) AttachTrunk(name string, far *flow.Trunk, plain PlainSide) {
	t := p.trunks[name]
	if t.far = far; t.own() {
		t.pool.plain = plain
		t.pool.set(p.cfg.PBXs)
	}
}

// trunkOf is the trunk that a flow belongs to; nil: it is the phones'.
func (p *Proxy) trunkOf(f *flow.Flow) *trunk {
	if f.Side() == flow.Secure {
		if far := f.Trunk(); far != nil {
			return p.trunks[far.Name()]
		}
		return nil
	}
	for _, t := range p.trunks {
		if t.own() && t.Listen == f.Local() {
			return t
		}
	}
	return nil
}

// trunkFor is the trunk that a new request comes from or is for, or nil.
func (p *Proxy) trunkFor(f *flow.Flow, in *sip.Request) *trunk {
	if t := p.trunkOf(f); t != nil || f.Side() == flow.Secure || p.bindings.get(p.addressee(in)) != nil {
		return t
	}
	if p.addressee(in) != in.Recipient.User { // a phone's, by its token, be it here or not
		return nil
	}
	var found *trunk
	longest := 0
	for _, t := range p.trunks {
		if t.own() {
			continue
		}
		if fit := t.fits(in.Recipient); fit > longest {
			found, longest = t, fit
		}
	}
	return found
}

// fits tells how well a Request-URI fits a trunk's domains and prefixes: 0 is not at
// all, and a domain is better than any number. Only numbers have prefixes.
func (t Trunk) fits(u sip.Uri) (best int) {
	if slices.ContainsFunc(t.Domains, func(domain string) bool { return strings.EqualFold(domain, u.Host) }) {
		return math.MaxInt
	}
	number := account(u)
	if !dialled.MatchString(number) { // like the token of a phone, which may begin with any
		return 0
	}
	for _, prefix := range t.Prefixes {
		if strings.HasPrefix(number, prefix) {
			best = max(best, len(prefix))
		}
	}
	return best
}

// outlet is the connection by which a request of the PBX goes to a trunk's far end.
func (t *trunk) outlet(in *sip.Request) (*flow.Flow, *refusal) {
	if len(t.Prefixes)+len(t.Domains) > 0 && in.Recipient.User != "" && t.fits(in.Recipient) == 0 {
		return nil, refuse(sip.StatusNotFound, "Not Found", "%s is nothing that trunk %s takes by its prefixes and domains", account(in.Recipient), t.Name)
	}
	if far := t.far.Flow(); far != nil {
		return far, nil
	}
	return nil, t.isDown()
}

// poolOf is the PBXs by the address that a flow of the plain side is on.
func (p *Proxy) poolOf(f *flow.Flow) *pool {
	if t := p.trunkOf(f); t != nil {
		return t.pool
	}
	return p.pool
}

// pools are those of all our addresses.
func (p *Proxy) pools() iter.Seq[*pool] {
	return func(yield func(*pool) bool) {
		if !yield(p.pool) {
			return
		}
		for _, t := range p.trunks {
			if t.own() && !yield(t.pool) {
				return
			}
		}
	}
}

// legsFromTrunk are the two legs of a dialog that a trunk's far end begins, and what
// stands for it at the PBX.
func (p *Proxy) legsFromTrunk(t *trunk, f *flow.Flow, in *sip.Request) (token string, caller, callee *leg, r *refusal) {
	if caller, r = p.callerLeg(f, in); r != nil {
		return "", nil, nil, r
	}
	token = randomCallToken()
	target := p.inwardURI(in.Recipient)
	caller.trunk, caller.began = t, true
	caller.contact = p.contactForPhone(f, in.Recipient.Scheme, p.calledAs(in.Recipient), target.User)
	callee = &leg{
		trunk: t, peer: p.inwardParty(caller.self), self: p.legibleParty(caller.peer),
		target: target, contact: contactForPBX(t.pool, token),
	}
	return token, caller, callee, nil
}

// legsToTrunk are the two legs of a dialog that the PBX begins with a trunk's far end.
func (p *Proxy) legsToTrunk(t *trunk, f *flow.Flow, in *sip.Request) (token string, caller, callee *leg, r *refusal) {
	far, r := t.outlet(in)
	if r != nil {
		return "", nil, nil, r
	}
	if caller, r = p.callerLeg(f, in); r != nil {
		return "", nil, nil, r
	}
	token = randomCallToken()
	caller.trunk = t
	caller.contact = contactForPBX(t.pool, token)
	callee = &leg{
		flow: far, trunk: t, peer: p.beyond(t, caller.self), self: p.fromHere(t, caller.peer),
		target: t.target(in.Recipient), routes: t.serviceRoutes(),
	}
	callee.contact = p.contactForPhone(far, "sip", p.cfg.Domain, userOf(caller.target.String()))
	return token, caller, callee, nil
}

// fromTrunk forwards a request of a trunk's far end that is no call.
func (p *Proxy) fromTrunk(t *trunk, f *flow.Flow, tx *transaction.Server, in *sip.Request) *refusal {
	from, err := flow.Address(in, "From")
	if err != nil {
		return refuse(sip.StatusBadRequest, "Bad Request", "%v", err)
	}
	token, contact := randomCallToken(), ""
	if len(in.GetHeaders("Contact")) > 0 {
		contact = contactForPBX(t.pool, token)
	}
	target := p.inwardURI(in.Recipient)
	return p.standalone(f, tx, in, &leg{trunk: t, self: from}, outgoing{
		uri: target, contact: contact, body: p.toldIn(f, in),
		from: p.legibleParty(from).String(), dest: p.inwardParties(in.GetHeader("To").Value()),
	}, p.contactForPhone(f, in.Recipient.Scheme, p.calledAs(in.Recipient), target.User))
}

// toTrunk forwards a request of the PBX to a trunk's far end.
func (p *Proxy) toTrunk(t *trunk, f *flow.Flow, tx *transaction.Server, in *sip.Request) *refusal {
	far, r := t.outlet(in)
	if r != nil {
		return r
	}
	from, err := flow.Address(in, "From")
	if err != nil {
		return refuse(sip.StatusBadRequest, "Bad Request", "%v", err)
	}
	to, err := flow.Address(in, "To")
	if err != nil {
		return refuse(sip.StatusBadRequest, "Bad Request", "%v", err)
	}
	contact := ""
	if len(in.GetHeaders("Contact")) > 0 {
		contact = p.contactForPhone(far, "sip", p.cfg.Domain, userOf(from.URI))
	}
	from = p.fromHere(t, from)
	if t.Account.User != "" && in.Method == sip.OPTIONS && in.Recipient.User == "" { // the PBX's check names nobody whom a provider knows
		from.Display, from.URI = "", t.aor()
	}
	return p.standalone(f, tx, in, &leg{flow: far, trunk: t, self: from}, outgoing{
		to: far, uri: t.target(in.Recipient), routes: t.serviceRoutes(), contact: contact, body: p.toldIn(f, in),
		from: from.String(), dest: p.beyond(t, to).String(),
	}, contactForPBX(t.pool, randomCallToken()))
}

// asksForTrunk tells whether an OPTIONS asks whether there is a trunk, or a PBX behind
// one.
func (p *Proxy) asksForTrunk(f *flow.Flow, in *sip.Request) bool {
	t := p.trunkOf(f)
	return t != nil && (f.Side() == flow.Secure || in.Recipient.User == "")
}

// qualifyTrunk answers such an OPTIONS. The far end hears 503 if no PBX is up; the PBX
// hears nothing if the far end is not, or has none, since to it any answer is a yes.
func (p *Proxy) qualifyTrunk(f *flow.Flow, tx *transaction.Server, in *sip.Request) *refusal {
	t := p.trunkOf(f)
	if f.Side() == flow.Secure && takesLeave(in) {
		p.log.Info("the far end of the trunk is replaced: new calls go by its other connections", "trunk", t.Name, "peer", f.Remote().String())
		f.Spare()
	}
	switch {
	case f.Side() == flow.Secure && t.pool.anyUp():
		_ = tx.Respond(p.capabilities(in, methods))
		return nil
	case f.Side() == flow.Secure:
		return p.unreachable(nil, flow.Plain, errNoPBX)
	}
	r := p.toTrunk(t, f, tx, in)
	if r != nil {
		p.counters.optionsDropped.Add(1)
		tx.Drop()
	}
	return nil
}

// target is a Request-URI at the far end: the number at its domain.
func (t *trunk) target(u sip.Uri) sip.Uri {
	out := sip.Uri{Scheme: "sip", User: u.User, Host: t.Domain}
	if phone, ok := u.UriParams.Get("user"); ok {
		out.UriParams.Add("user", phone)
	}
	return out
}

// beyond is an address that the PBX gave to one at the far end, as that may know it.
func (p *Proxy) beyond(t *trunk, n flow.NameAddr) flow.NameAddr {
	u, err := parseURI(n.URI)
	if err != nil || !p.isInside(u.Host) {
		return n
	}
	at := t.target(u)
	n.URI = at.String()
	return n
}

// fromHere is who calls, as the far end may know him. To a provider we are its user, of
// its own domain.
func (p *Proxy) fromHere(t *trunk, n flow.NameAddr) flow.NameAddr {
	if t.Account.User != "" {
		return p.beyond(t, n)
	}
	return p.outward(n)
}

// isDown refuses what is for a trunk that has no connection.
func (t *trunk) isDown() *refusal {
	return refuse(sip.StatusServiceUnavailable, "Service Unavailable", "trunk %s is down: %s", t.Name, t.far.State().Reason).with("Retry-After", retryAfter)
}
