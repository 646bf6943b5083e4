package sipproxy

import (
	"cmp"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

const (
	// maxSubscriptions bounds what one connection can make us remember. The
	// largest desk phones watch some two hundred others.
	maxSubscriptions = 512
	// maxSubscribed bounds how long one is remembered without a refresh.
	maxSubscribed = 24 * time.Hour
	// notifyWait is how long the notifier has for a NOTIFY that makes a dialog,
	// or that ends one: timer N, 64 times T1 (RFC 6665 section 4.1.2.4).
	notifyWait = 32 * time.Second
)

// subscription is a dialog that a SUBSCRIBE made, or a REFER outside of calls
// (RFC 6665 section 4.4). Unlike a call it has no media, and no end of its own
// but the clock's.
type subscription struct {
	id         dialogID
	token      string     // that stands for the phone at the PBX
	subscriber flow.Side  // who asked for it
	owner      *flow.Flow // the phone's connection when it began, for the bound

	mu      sync.Mutex // guards the legs and what follows
	secure  *leg
	plain   *leg
	expires time.Time
}

func (s *subscription) leg(side flow.Side) *leg {
	if side == flow.Secure {
		return s.secure
	}
	return s.plain
}

// subscriptions finds them. One whose SUBSCRIBE has no answer yet is there
// without the notifier's tag: the first NOTIFY may come before the answer, and
// from each of several notifiers (RFC 6665 section 4.4.1).
type subscriptions struct {
	mu       sync.Mutex // guards the maps
	byDialog map[dialogID]*subscription
	byOwner  map[*flow.Flow]int
}

func newSubscriptions() *subscriptions {
	return &subscriptions{byDialog: make(map[dialogID]*subscription), byOwner: make(map[*flow.Flow]int)}
}

// put adds one, and tells whether there was room.
func (t *subscriptions) put(s *subscription) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byOwner[s.owner] >= maxSubscriptions {
		return false
	}
	t.removeLocked(t.byDialog[s.id])
	t.byDialog[s.id] = s
	t.byOwner[s.owner]++
	return true
}

func (t *subscriptions) get(id dialogID) *subscription {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byDialog[id]
}

func (t *subscriptions) remove(s *subscription) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLocked(s)
}

func (t *subscriptions) removeLocked(s *subscription) {
	if s == nil || t.byDialog[s.id] != s {
		return
	}
	delete(t.byDialog, s.id)
	if t.byOwner[s.owner]--; t.byOwner[s.owner] == 0 {
		delete(t.byOwner, s.owner)
	}
}

func (t *subscriptions) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byDialog)
}

// expire forgets those that nobody refreshed, and those of phones that are gone
// for good.
func (t *subscriptions) expire(now time.Time, gone func(*subscription) bool) {
	t.mu.Lock()
	list := make([]*subscription, 0, len(t.byDialog))
	for _, s := range t.byDialog {
		list = append(list, s)
	}
	t.mu.Unlock()
	for _, s := range list { // their own mutexes are never taken inside the table's
		s.mu.Lock()
		over := now.After(s.expires) || gone(s)
		s.mu.Unlock()
		if over {
			t.remove(s)
		}
	}
}

// isUnreachable tells whether a phone has neither its connection nor a binding
// by which it could have another. s.mu is held.
func (p *Proxy) isUnreachable(s *subscription) bool {
	return closed(s.secure.flow) && p.newFlow(s.secure, s.token) == nil
}

// subscribes tells the requests that begin a subscription outside of calls.
func subscribes(in *sip.Request) bool {
	return (in.Method == sip.SUBSCRIBE || in.Method == sip.REFER) && flow.Tag(in, "To") == ""
}

// subscribe forwards a request that asks for a subscription.
func (p *Proxy) subscribe(f *flow.Flow, tx *transaction.Server, in *sip.Request) *refusal {
	from := f.Side()
	token, near, far, r := p.legs(f, in)
	if r != nil {
		return r
	}
	if r := bodyRefused(bodyOf(in)); r != nil {
		return r
	}
	s := &subscription{token: token, subscriber: from, secure: near, plain: far, expires: time.Now().Add(2 * notifyWait)}
	if from == flow.Plain {
		s.secure, s.plain = far, near
	}
	s.owner, s.id = s.secure.flow, dialogID{p.callID(from, in), s.secure.tag, s.plain.tag}
	if !p.watches.put(s) {
		return refuse(sip.StatusServiceUnavailable, "Service Unavailable", "more than %d subscriptions on one connection", maxSubscriptions).with("Retry-After", "60")
	}
	s.mu.Lock() // from here on a NOTIFY may find it, and have it another flow
	defer s.mu.Unlock()
	req := p.request(in, outgoing{
		to: far.flow, uri: far.target, routes: far.routes, contact: far.contact, body: bodyOf(in),
		from: far.self.WithTag(near.tag), dest: far.peer.WithTag(""),
	})
	_, err := p.send(far, req, hearer{on: func(at *flow.Flow, res *sip.Response, err error) {
		p.subscribed(s, tx, in, at, res, err)
	}})
	if err != nil {
		p.watches.remove(s)
		return p.unreachable(far.trunk, other(from), err)
	}
	return nil
}

// subscribed takes the answer to a request that asked for a subscription.
func (p *Proxy) subscribed(s *subscription, tx *transaction.Server, in *sip.Request, at *flow.Flow, res *sip.Response, err error) {
	notifier := other(s.subscriber)
	if err != nil {
		p.watches.remove(s)
		p.giveUp(tx, in, s.secure.trunk, notifier, err)
		return
	}
	res, over := p.witness(tx.Conn().(*flow.Flow), in, res) // what Proxy.Receive gave it
	defer over()
	var contacts []string
	switch {
	case res.StatusCode < 200:
	case res.StatusCode < 300:
		made := p.establish(s, flow.Tag(res, "To"), at, res)
		if made != nil {
			made.mu.Lock()
			made.keep(lifeOf(in, res))
			made.leg(notifier).counts(in, res)
			contacts = []string{made.leg(s.subscriber).contact}
			made.mu.Unlock()
		}
		s.mu.Lock()
		s.expires = time.Now().Add(notifyWait) // for other notifiers
		s.mu.Unlock()
	default:
		p.watches.remove(s)
		contacts = p.redirects(tx, res)
	}
	_ = tx.Respond(p.response(tx, in, res, contacts, withoutSDP(res)))
}

// establish returns the dialog with one notifier, and makes it if it is new:
// by the answer to the SUBSCRIBE or by the first NOTIFY, whichever comes first.
func (p *Proxy) establish(asked *subscription, tag string, at *flow.Flow, m sip.Message) *subscription {
	if tag == "" {
		return nil
	}
	asked.mu.Lock()
	defer asked.mu.Unlock()
	secure, plain := *asked.secure, *asked.plain
	s := &subscription{token: asked.token, subscriber: asked.subscriber, owner: asked.owner, secure: &secure, plain: &plain}
	far := s.leg(other(s.subscriber))
	far.tag, far.flow = tag, cmp.Or(far.flow, at)
	s.id = dialogID{asked.id.callID, secure.tag, plain.tag}
	if known := p.watches.get(s.id); known != nil {
		return known
	}
	learnTarget(far, m, true)
	if _, request := m.(*sip.Request); request { // its receiver reads the routes the other way round
		far.routes = routeSet(m, false)
	}
	s.keep(time.Minute)
	if !p.watches.put(s) {
		return nil
	}
	return s
}

// keep remembers a subscription for as long as it was granted, and for its last
// NOTIFY after that. s.mu is held.
func (s *subscription) keep(granted time.Duration) {
	s.expires = time.Now().Add(min(granted, maxSubscribed) + notifyWait)
}

// lifeOf reads how long a subscription was granted: what the answer says, else
// what was asked for. A REFER says it in its first NOTIFY.
func lifeOf(in *sip.Request, res *sip.Response) time.Duration {
	for _, text := range []string{expiresOf(res), expiresOf(in)} {
		if seconds, err := strconv.Atoi(text); err == nil {
			return time.Duration(min(seconds, int(maxSubscribed/time.Second))) * time.Second
		}
	}
	if in.Method == sip.REFER {
		return time.Minute
	}
	return time.Hour
}

// findSubscription returns the subscription that a request on f is inside of,
// or nil. A phone's must come by the subscription's own connection, or by one
// over which the same device has registered since; known tells that there is
// one, but not for this connection.
func (p *Proxy) findSubscription(f *flow.Flow, in *sip.Request) (s *subscription, known bool) {
	id := p.dialogOn(f, in)
	if s = p.watches.get(id); s == nil && in.Method == sip.NOTIFY {
		tag := &id.plainTag // the notifier's
		if f.Side() == flow.Secure {
			tag = &id.secureTag
		}
		asked := *tag
		*tag = ""
		if pending := p.watches.get(id); pending != nil && pending.subscriber != f.Side() && p.onFlow(pending, f) {
			s = p.establish(pending, asked, f, in)
		}
	}
	if s == nil {
		return nil, false
	}
	if !p.onFlow(s, f) {
		return nil, true
	}
	return s, true
}

// onFlow tells whether a request inside a subscription may come by a flow.
func (p *Proxy) onFlow(s *subscription, f *flow.Flow) bool {
	if f.Side() == flow.Plain {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.hears(s.secure, s.token, f)
}

// inSubscription forwards a request inside a subscription.
func (p *Proxy) inSubscription(s *subscription, f *flow.Flow, tx *transaction.Server, in *sip.Request) *refusal {
	told := p.toldIn(f, in)
	if r := bodyRefused(told); r != nil {
		return r
	}
	from := f.Side()
	s.mu.Lock()
	defer s.mu.Unlock()
	near, far := s.leg(from), s.leg(other(from))
	if in.Method == sip.SUBSCRIBE || in.Method == sip.NOTIFY {
		learnTarget(near, in, false) // target refresh (RFC 6665 section 4.4.1)
	}
	if to := p.newFlow(s.secure, s.token); to != nil {
		s.secure.moveTo(to)
	}
	contact := ""
	if len(in.GetHeaders("Contact")) > 0 {
		contact = far.contact
	}
	req := p.request(in, outgoing{
		to: far.flow, uri: far.target, routes: far.routes, contact: contact, body: told,
		from: far.self.WithTag(near.tag), dest: far.peer.WithTag(far.tag), shift: far.shift,
	})
	_, err := p.send(far, req, hearer{on: func(_ *flow.Flow, res *sip.Response, err error) {
		p.inSubscriptionAnswered(s, tx, in, from, res, err)
	}})
	switch {
	case errors.Is(err, errNoPBX) && in.Method == sip.SUBSCRIBE:
		p.watches.remove(s)
		return noSuchSubscription() // it asks anew, and another PBX is asked (RFC 6665 section 4.1.2.2)
	case err != nil:
		return p.unreachable(far.trunk, other(from), err)
	}
	return nil
}

func (p *Proxy) inSubscriptionAnswered(s *subscription, tx *transaction.Server, in *sip.Request, from flow.Side, res *sip.Response, err error) {
	if err != nil {
		p.giveUp(tx, in, s.secure.trunk, other(from), err)
		return
	}
	s.mu.Lock()
	s.leg(other(from)).counts(in, res)
	var contacts []string
	if res.StatusCode < 300 && len(res.GetHeaders("Contact")) > 0 {
		contacts = []string{s.leg(from).contact}
	}
	over := res.StatusCode == sip.StatusCallTransactionDoesNotExists
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		switch in.Method {
		case sip.SUBSCRIBE:
			learnTarget(s.leg(other(from)), res, false)
			s.keep(lifeOf(in, res))
		case sip.NOTIFY:
			state, seconds := stateOf(in)
			if over = state == "terminated"; seconds > 0 {
				s.keep(time.Duration(seconds) * time.Second)
			}
		}
	}
	s.mu.Unlock()
	if over {
		p.watches.remove(s)
	}
	_ = tx.Respond(p.response(tx, in, res, contacts, withoutSDP(res)))
}

// stateOf reads Subscription-State: the state, and how many seconds it will
// last, or 0 if it does not say (RFC 6665 section 8.2.3).
func stateOf(in *sip.Request) (state string, seconds int) {
	h := in.GetHeaders("Subscription-State")
	if len(h) == 0 {
		return "", 0
	}
	state, params, _ := strings.Cut(h[0].Value(), ";")
	if text, ok := (flow.NameAddr{Params: ";" + params}).Param("expires"); ok && isNumber(text) {
		seconds, _ = strconv.Atoi(text)
	}
	return strings.ToLower(strings.TrimSpace(state)), min(seconds, int(maxSubscribed/time.Second))
}

func noSuchSubscription() *refusal {
	return refuse(sip.StatusCallTransactionDoesNotExists, "Call/Transaction Does Not Exist", "no such subscription on this connection")
}
