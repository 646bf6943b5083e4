package sipproxy

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sipproxy/flow"
)

// This file is where the proxy and policy meet: what policy is asked, and what
// it is told of the PBX's answers.

var errPolicy = errors.New("closed by policy")

// event is what policy is asked about a request of a phone.
func (p *Proxy) event(kind policy.Kind, f *flow.Flow, in *sip.Request) (policy.Event, *refusal) {
	cred, r := credentialsOf(in) // no login, if it cannot be told whose they are
	var agents []string
	for _, h := range in.GetHeaders("User-Agent") {
		agents = append(agents, h.Value())
	}
	return policy.Event{
		Kind: kind, Source: f.Remote().Addr(), Flow: f.ID(), Method: string(in.Method),
		User: p.claimed(f, in), Inside: p.ongoing(f, in), Number: p.number(in), Login: cred.user, Device: device(in), Agent: strings.Join(agents, " "),
	}, r
}

// party is the address of who a request says it is of: of a REGISTER whom it registers.
func party(in *sip.Request) flow.NameAddr {
	header := "From"
	if in.Method == sip.REGISTER {
		header = "To"
	}
	n, _ := flow.Address(in, header) // checked by package flow
	return n
}

// claimed is the user who sends a request, as far as it says.
func (p *Proxy) claimed(f *flow.Flow, in *sip.Request) string { return p.nameOf(p.sender(f, in)) }

// nameOf is the user whom an address of a phone's own names. Rules and passwords of ours
// are for him by that name, be he another to the PBX or not.
func (p *Proxy) nameOf(n flow.NameAddr) string { return accountOf(p.legibleParty(n).URI) }

// number is whom an INVITE is for.
func (p *Proxy) number(in *sip.Request) string {
	if in.Method != sip.INVITE {
		return ""
	}
	return account(p.inwardURI(in.Recipient))
}

// device is which device a registration is of, if it says so (RFC 5626).
func device(in *sip.Request) string {
	if in.Method != sip.REGISTER {
		return ""
	}
	contacts, _ := flow.Addresses(in, "Contact")
	for _, c := range contacts {
		if instance, ok := c.Param("+sip.instance"); ok {
			return instance
		}
	}
	return ""
}

// decide asks policy.
func (p *Proxy) decide(e policy.Event) (policy.Verdict, *refusal) {
	v := p.judgeBy.Decide(e)
	return v, refusalOf(v)
}

// refusalOf is how a refusal of policy is answered, or nil.
func refusalOf(v policy.Verdict) *refusal {
	if v.Allowed {
		return nil
	}
	r := refuse(sip.StatusForbidden, "Forbidden", "%s", v.Say)
	if v.Later > 0 {
		r = refuse(sip.StatusServiceUnavailable, "Service Unavailable", "%s", v.Say).with("Retry-After", strconv.Itoa(int(v.Later.Seconds())))
	}
	r.verdict = &v
	return r
}

// witness tells policy what the PBX said to a phone's request. It returns the
// answer as the phone may see it, and what is to be done once it has that.
func (p *Proxy) witness(f *flow.Flow, in *sip.Request, res *sip.Response) (*sip.Response, func()) {
	if f.Side() == flow.Plain || p.trunkOf(f) != nil {
		return res, func() {}
	}
	cred, r := credentialsOf(in)
	if r != nil { // admit has let none such through
		return res, func() {}
	}
	user := p.claimed(f, in)
	what, known := became(in, res, cred)
	shown := res
	if p.accountIn(f, in) == nil {
		shown = p.mask.see(f, in, res, cred, p.isRegistered(f, in))
	}
	if !known {
		return shown, func() {}
	}
	defer p.unlessGone(f)
	v := p.judgeBy.Observe(policy.Outcome{What: what, Source: f.Remote().Addr(), Flow: f.ID(), User: user, Login: cred.user, Device: device(in)})
	if v.Allowed {
		return shown, func() {}
	}
	return shown, func() { p.dismiss(f, v) }
}

// became reads from the PBX's answer what became of a request. Only what the PBX
// does for nobody but the password's owner proves anything: many requests it
// refuses, and some it answers, before it looks at their credentials.
func became(in *sip.Request, res *sip.Response, cred credentials) (what policy.What, known bool) {
	status, has, register := res.StatusCode, cred.user != "", in.Method == sip.REGISTER
	switch {
	case isChallenge(status) && (!has || isStale(res)):
		return policy.Challenged, true
	case isChallenge(status), status == sip.StatusForbidden && has && register:
		return policy.Failed, true
	case status == sip.StatusForbidden && has:
		return policy.Forbidden, true
	case status == sip.StatusNotFound && register, isUnknown(status) && !has && in.Method == sip.INVITE, isUnknown(status) && register:
		return policy.Unknown, true
	case register && status >= 200 && status < 300:
		return policy.Registered, true
	case in.Method == sip.INVITE && has && status > 100 && status < 300, in.Method == sip.SUBSCRIBE && has && status >= 200 && status < 300:
		return policy.Accepted, true
	case has && status >= 200:
		return policy.Passed, true
	}
	return 0, false
}

func isUnknown(status int) bool { return status == sip.StatusNotFound || status == sip.StatusForbidden }

// isRegistered tells whether who a request says it is of is registered over a
// flow.
func (p *Proxy) isRegistered(f *flow.Flow, in *sip.Request) bool {
	return p.bindingOf(f, party(in)) != nil
}

// bindingOf is the binding over a flow of a user whom an address of a phone's own names,
// or nil.
func (p *Proxy) bindingOf(f *flow.Flow, n flow.NameAddr) *binding {
	aor, err := aorKey(p.inwardParty(n).URI)
	if err != nil {
		return nil
	}
	return p.bindings.on(aor, f)
}

// dismiss ends a connection that policy wants no more of.
func (p *Proxy) dismiss(f *flow.Flow, v policy.Verdict) {
	if closed(f) {
		return
	}
	p.log.Info("connection closed", "peer", f.Remote().String(), "rule", v.Rule, "reason", v.Reason)
	if v.After > 0 {
		time.AfterFunc(v.After, func() { f.Close(errPolicy) }) // does nothing to a flow that is gone
		return
	}
	f.End(errPolicy)
}

// unlessGone has policy forget a connection that has ended meanwhile: it may have
// been told so before it was told, or asked, what comes here, and would remember
// the connection for good.
func (p *Proxy) unlessGone(f *flow.Flow) {
	if closed(f) {
		p.judgeBy.Observe(policy.Outcome{What: policy.Closed, Source: f.Remote().Addr(), Flow: f.ID()})
	}
}

// departed tells policy that a connection is gone, and if its first message was
// none.
func (p *Proxy) departed(f *flow.Flow, err error) {
	p.mask.forget(f)
	if f.Side() == flow.Plain {
		return
	}
	o := policy.Outcome{What: policy.Closed, Source: f.Remote().Addr(), Flow: f.ID()}
	var bad *flow.Malformed
	if errors.As(err, &bad) && !f.Spoke() {
		o.What = policy.Malformed
		p.judgeBy.Observe(o)
		o.What = policy.Closed
	}
	p.judgeBy.Observe(o)
}
