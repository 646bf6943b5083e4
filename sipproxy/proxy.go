package sipproxy

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// Judge is asked before a request or a call goes on, and told what became of it.
type Judge interface {
	Decide(policy.Event) policy.Verdict
	Observe(policy.Outcome) policy.Verdict
	// Trusts tells whether who is behind a connection may say who somebody is.
	Trusts(source netip.Addr, flow uint64) bool
	// IsSomebody tells whether a user has authenticated over a connection.
	IsSomebody(flow uint64) bool
	// IsEmergency tells whether a number is one for help.
	IsEmergency(number string) bool
}

// Proxy is the SIP edge. It implements flow.Handler.
type Proxy struct {
	cfg      Config
	log      *slog.Logger
	judgeBy  Judge
	engine   *media.Engine
	tx       *transaction.Layer
	bindings *bindings
	calls    *calls
	watches  *subscriptions
	asking   *asking
	counters counters
	pool     *pool             // by the phones' address
	trunks   map[string]*trunk // by name
	draining chan struct{}
	succession
	inside   atomic.Pointer[insideHosts]
	mask     *mask
	identity identity
	ends     patterns // headers of phones that end here
	bodies   patterns // that go on
}

// New returns a proxy that forwards nothing until Attach gives it a PBX.
func New(cfg Config, engine *media.Engine, judge Judge, log *slog.Logger) (*Proxy, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	timers := transaction.DefaultTimers()
	timers.C = cfg.RingTimeout
	p := &Proxy{
		cfg: cfg, log: log, judgeBy: judge, engine: engine,
		tx: transaction.NewLayer(timers, cfg.Requests), bindings: newBindings(), calls: newCalls(), watches: newSubscriptions(), asking: newAsking(),
		draining: make(chan struct{}),
		mask:     newMask(cfg.ShowUsers),
		identity: newIdentity(cfg),
		ends:     newPatterns(cfg.Inbound.Headers),
		bodies:   newPatterns(cfg.Inbound.Bodies),
	}
	p.tx.Rank(p.precedence)
	p.pool = newPool(cfg.PlainAddr, health{cfg.CheckInterval, p.checkPBX}, log)
	p.trunks = make(map[string]*trunk)
	for _, t := range cfg.Trunks {
		made := &trunk{Trunk: t, pool: p.pool}
		if len(t.Suites) == 0 {
			made.Suites = cfg.Suites
		}
		if t.own() {
			made.pool = newPool(t.Listen, p.pool.health, log)
		}
		p.trunks[t.Name] = made
	}
	p.inside.Store(newInsideHosts(cfg, cfg.PBXs, nil))
	return p, nil
}

// Attach gives the socket that leads to the PBXs by the phones' address. It is called
// once, before any listener runs.
func (p *Proxy) Attach(plain PlainSide) {
	p.pool.plain = plain
	p.setPBXs(p.cfg.PBXs)
}

// Run checks the PBXs, expires bindings, and ends abandoned calls, until ctx ends.
func (p *Proxy) Run(ctx context.Context) error {
	tick, watch := time.NewTicker(5*time.Second), time.NewTicker(patience/4)
	defer p.pool.lookups.wg.Wait()
	defer tick.Stop()
	defer watch.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-watch.C:
			yielded := p.yielded.Load()
			for l := range p.pools() {
				if !yielded || l.anyUnwell() { // phones in calls register here, and call
					l.watch(now)
				}
			}
			if yielded {
				continue
			}
			p.relocate(ctx, now)
			p.enrol(now)
		case now := <-tick.C:
			for _, b := range p.bindings.expire(now) {
				p.log.Info("registration expired", "user", b.aor, "peer", b.flow.Remote().String())
			}
			p.sweep(now)
			p.identity.accounts.Refresh()
			p.watches.expire(now, p.isUnreachable)
		}
	}
}

// Receive takes one message, on its flow's reader goroutine.
func (p *Proxy) Receive(f *flow.Flow, m sip.Message) {
	defer p.survive(f, m)
	if f.Side() == flow.Plain {
		p.poolOf(f).hear(f, time.Now())
	}
	p.strip(f, m)
	p.markSource(f, m)
	switch m := m.(type) {
	case *sip.Request:
		p.receiveRequest(f, m)
	case *sip.Response:
		if !p.tx.Deliver(f, m) {
			p.counters.strayResponses.Add(1)
		}
	}
}

// Closed ends what hung on a flow: open transactions now, bindings when they
// expire (the phone may come back before), calls when their media stops, or
// if they have none some time later.
func (p *Proxy) Closed(f *flow.Flow, err error) {
	p.log.Debug("flow closed", "peer", f.Remote().String(), "reason", err)
	p.tx.FlowClosed(f)
	p.departed(f, err)
}

// receiveRequest is a request's path: match, judge, route. What each step
// refuses is answered in one place, with its reason.
func (p *Proxy) receiveRequest(f *flow.Flow, in *sip.Request) {
	stampVia(in, f.Remote())
	tx, fresh := p.tx.Accept(f, in)
	if !fresh {
		return
	}
	if in.Method == sip.ACK {
		p.ack(f, in)
		return
	}
	p.counters.request(f.Side(), in.Method)
	p.traceRequest(f, in)
	if r := p.faultOf(tx); r != nil {
		p.turnAway(f, tx, in, r, slog.LevelDebug) // there may be very many of these
		return
	}
	p.dispatch(f, tx, in)
}

// dispatch lets a request go on, or answers why not.
func (p *Proxy) dispatch(f *flow.Flow, tx *transaction.Server, in *sip.Request) {
	r := p.admit(f, in)
	if r == nil && p.isEarly(f, tx, in) {
		return
	}
	if r == nil {
		r = p.route(f, tx, in)
	}
	if r != nil {
		p.turnAway(f, tx, in, r, slog.LevelInfo)
	}
}

// turnAway answers a request by us, and says why, once.
func (p *Proxy) turnAway(f *flow.Flow, tx *transaction.Server, in *sip.Request, r *refusal, level slog.Level) {
	if r.routine {
		level = slog.LevelDebug
	} else {
		p.counters.refused(r.status)
	}
	p.log.Log(context.Background(), level, "request refused", "method", string(in.Method), "call_id", in.CallID().Value(),
		"peer", f.Remote().String(), "status", r.status, "rule", r.rule(), "reason", r.why())
	if v := r.verdict; v != nil && v.Hush {
		tx.Drop() // it takes no place of those that wait for an answer, or its sender would get one when there is none left
	} else if err := tx.Respond(p.refusal(in, r)); err != nil {
		p.log.Debug("send refusal", "peer", f.Remote().String(), "reason", err)
	}
	if v := r.verdict; v != nil && v.End {
		p.dismiss(f, *v)
	}
}

// traceRequest tells at level debug what was read of a request: that the PBX
// reads the same is what all of this package stands on.
func (p *Proxy) traceRequest(f *flow.Flow, in *sip.Request) {
	if !p.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	from, _ := flow.Address(in, "From") // both checked by package flow
	to, _ := flow.Address(in, "To")
	p.log.Debug("request", "side", f.Side().String(), "peer", f.Remote().String(), "method", string(in.Method),
		"call_id", in.CallID().Value(), "cseq", in.CSeq().SeqNo, "number", account(in.Recipient),
		"from", accountOf(from.URI), "from_tag", flow.Tag(in, "From"), "to", accountOf(to.URI), "to_tag", flow.Tag(in, "To"))
}

// precedence lets calls that there are go on and end, and calls for help begin, when
// there is no room for other requests of phones; and of a phone that has proved who it
// is, it takes more than of a stranger. That one is inside a call, a tag alone does not
// prove.
func (p *Proxy) precedence(conn transaction.Conn, in *sip.Request) transaction.Precedence {
	f, ok := conn.(*flow.Flow)
	switch {
	case !ok:
	case flow.Tag(in, "To") != "":
		if in.Method != sip.REGISTER && p.find(f, in) != nil {
			return transaction.Underway
		}
	case in.Method == sip.INVITE && p.judgeBy.IsEmergency(account(p.inwardURI(in.Recipient))):
		return transaction.Emergency
	}
	if ok && (p.bindings.anyOn(f) != nil || p.judgeBy.IsSomebody(f.ID()) || p.judgeBy.Trusts(f.Remote().Addr(), f.ID()) || p.trunkOf(f) != nil) {
		return transaction.Ordinary
	}
	return transaction.Unproven
}

// faultOf refuses what there is no room for, and what is here already: two ways
// led to us, or one in a circle.
func (p *Proxy) faultOf(tx *transaction.Server) *refusal {
	switch {
	case errors.Is(tx.Fault(), transaction.ErrTooMany):
		return refuse(sip.StatusServiceUnavailable, "Service Unavailable", "too many requests wait for their answer").with("Retry-After", "10")
	case errors.Is(tx.Fault(), transaction.ErrMerged):
		return refuse(sip.StatusLoopDetected, "Loop Detected", "the same request is here already")
	}
	return nil
}

// admit holds what every request must pass. Policy is asked first: who gets no answer is
// not told what is wrong with a request either.
func (p *Proxy) admit(f *flow.Flow, in *sip.Request) *refusal {
	outside := f.Side() == flow.Secure
	phone := outside && p.trunkOf(f) == nil
	if phone {
		defer p.unlessGone(f)
		e, wrong := p.event(policy.Request, f, in)
		if _, r := p.decide(e); r != nil {
			return r
		}
		if wrong != nil {
			return wrong
		}
	}
	if maxForwards(in) == 0 {
		return refuse(483, "Too Many Hops", "Max-Forwards reached 0")
	}
	if tags := in.GetHeaders("Proxy-Require"); len(tags) > 0 && in.Method != sip.CANCEL { // RFC 3261 sections 16.3, item 5, and 8.2.2.3
		r := refuse(sip.StatusBadExtension, "Bad Extension", "Proxy-Require is not supported: %s", tags[0].Value())
		for _, tag := range tags {
			r = r.with("Unsupported", tag.Value())
		}
		return r
	}
	if !outside {
		return nil
	}
	r := p.accepts(in)
	if r != nil || !phone {
		return r
	}
	if r = p.inOwnName(f, in); r == nil {
		r = p.identify(f, in)
	}
	if r == nil && in.Method == sip.REFER {
		r = p.mayTransfer(f, in)
	}
	return r
}

// route finds who takes a request.
func (p *Proxy) route(f *flow.Flow, tx *transaction.Server, in *sip.Request) *refusal {
	outside := f.Side() == flow.Secure
	var d *dialog
	var s *subscription
	if flow.Tag(in, "To") != "" && in.Method != sip.CANCEL && in.Method != sip.REGISTER {
		var r *refusal
		if d, s, r = p.within(f, in); r != nil {
			return r
		}
	}
	switch {
	case in.Method == sip.CANCEL:
		return p.cancel(f, tx, in)
	case in.Method == sip.REGISTER && (!outside || p.trunkOf(f) != nil):
		return refuse(sip.StatusMethodNotAllowed, "Method Not Allowed", "nobody registers here").with("Allow", methods)
	case in.Method == sip.REGISTER:
		return p.register(f, tx, in)
	case d != nil:
		return p.inDialog(d, f, tx, in)
	case s != nil:
		return p.inSubscription(s, f, tx, in)
	case in.Method == sip.INVITE && p.isDraining():
		return p.leaving()
	case in.Method == sip.INVITE:
		return p.invite(f, tx, in)
	case subscribes(in):
		return p.subscribe(f, tx, in)
	case in.Method == sip.OPTIONS && p.asksForTrunk(f, in):
		return p.qualifyTrunk(f, tx, in)
	case in.Method == sip.OPTIONS && !outside:
		return p.qualify(f, tx, in)
	}
	return p.onwards(f, tx, in)
}

// within finds the call or the subscription that a request with a To tag is
// inside of. Some requests have none, and go on as they are.
func (p *Proxy) within(f *flow.Flow, in *sip.Request) (*dialog, *subscription, *refusal) {
	if d := p.find(f, in); d != nil {
		return d, nil, nil
	}
	if p.calls.dialog(p.dialogOn(f, in)) != nil {
		return nil, nil, noSuchCall()
	}
	s, known := p.findSubscription(f, in)
	switch {
	case s != nil:
		return nil, s, nil
	case known, in.Method == sip.SUBSCRIBE && f.Side() == flow.Secure:
		return nil, nil, noSuchSubscription()
	case !outsideCalls(in.Method) && !p.endsLost(f, in):
		return nil, nil, noSuchCall()
	}
	return nil, nil, nil
}

// endsLost tells whether a BYE may end a call that nobody here knows: the edge was
// started again, and the PBX would be left with it. The phone must be one that the
// PBX has accepted on this connection, or a trunk's far end; whether it is its call, the
// PBX knows by the tags.
func (p *Proxy) endsLost(f *flow.Flow, in *sip.Request) bool {
	if in.Method != sip.BYE || f.Side() == flow.Plain {
		return false
	}
	if p.trunkOf(f) != nil {
		return true
	}
	return p.isRegistered(f, in)
}

// outsideCalls tells the methods that may carry a To tag and belong to no
// dialog that is known here: one may be older than we are, or a call that has
// ended and whose transfer goes on.
func outsideCalls(m sip.RequestMethod) bool {
	return m == sip.SUBSCRIBE || m == sip.NOTIFY || m == sip.PUBLISH || m == sip.MESSAGE
}
