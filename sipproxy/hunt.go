package sipproxy

import (
	"errors"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// hunt is one new request on its way to a PBX: to the best that is up, and to the
// next as long as one says nothing, or 503 (RFC 3263 section 4.3). A request inside
// a dialog is not hunted: it belongs where the dialog is.
type hunt struct {
	pool *pool
	tx   *transaction.Layer
	via  func(*flow.Flow) *sip.ViaHeader
	to   hearer

	mu        sync.Mutex   // guards what follows; never held while calling out
	req       *sip.Request // nil once nobody else can be asked
	left      []*pbx       // not tried yet
	try       *try
	cancelled bool
	why       []sip.Header
}

// hearer is who hears what becomes of a request.
type hearer struct {
	// on is called as transaction.Layer.Request has it, with the flow that the answer
	// is of.
	on func(at *flow.Flow, res *sip.Response, err error)
	// late is called with the 2xx of a PBX that had been given up, to an INVITE: it
	// must not be left with the call. It may be nil.
	late func(at *flow.Flow, res *sip.Response)
}

// sent is a request on its way, as *transaction.Client is: a CANCEL can stop it, and who
// heard its answer can let go of it.
type sent interface {
	transaction.Canceler
	Settle(on func(*sip.Response))
}

// sender is a way to send a request.
type sender func(*sip.Request, hearer) (sent, error)

// try is one PBX asked.
type try struct {
	at     *pbx
	client *transaction.Client
	timer  *time.Timer // of impatience, until something is heard; guarded by the hunt's mutex
}

// send sends a request on to the far end of a leg: by its flow or, if that is nil, to
// the best PBX for its sender, as the PBX reads him. It returns errNoPBX if there is
// none, or the one that a dialog is with says nothing any longer.
func (p *Proxy) send(to *leg, req *sip.Request, hear hearer) (sent, error) {
	user, _ := aorKey(to.sender().URI) // who can't be read is nobody, and somewhere all the same
	switch {
	case to.flow == nil && to.trunk != nil:
		return p.hunted(to.trunk.pool, user, nil)(req, hear)
	case to.flow == nil:
		return p.ask(user, p.bindings.home(user), req, hear)
	case to.flow.Side() == flow.Secure && to.trunk != nil:
		return p.asOurselves(to, p.sendTo(to.flow))(req, hear)
	case to.flow.Side() == flow.Secure:
		return p.sendTo(to.flow)(req, hear)
	case p.poolOf(to.flow).isMute(to.flow):
		return nil, errNoPBX
	}
	return p.toItsPBX(to)(req, hear)
}

// toItsPBX sends to the PBX that a dialog is with. Whom a trunk names as the sender is nobody
// in whose name we log in.
func (p *Proxy) toItsPBX(to *leg) sender {
	if to.trunk != nil {
		return p.sendTo(to.flow)
	}
	return p.inTheNameOf(to.sender(), p.sendTo(to.flow))
}

// sender is whom the PBX at the far end of a leg takes for the sender.
func (l *leg) sender() flow.NameAddr {
	n := l.self
	if l.by != "" {
		n.URI = "sip:" + l.by
	}
	return n
}

// sendTo sends by one flow.
func (p *Proxy) sendTo(to *flow.Flow) sender {
	return func(req *sip.Request, hear hearer) (sent, error) {
		return p.tx.Request(to, req, func(res *sip.Response, err error) { hear.on(to, res, err) })
	}
}

// ask sends a request of a user to a PBX: first to the one that he is at, unless
// that is nil. req has no Via yet.
func (p *Proxy) ask(user string, at *flow.Flow, req *sip.Request, hear hearer) (sent, error) {
	return p.inTheNameOf(flow.NameAddr{URI: "sip:" + user}, p.hunted(p.pool, user, at))(req, hear)
}

// hunted sends to the best of some PBXs for a user.
func (p *Proxy) hunted(l *pool, user string, at *flow.Flow) sender {
	return func(req *sip.Request, hear hearer) (sent, error) {
		h := &hunt{pool: l, tx: p.tx, req: req, via: p.via, to: hear, left: l.rank(user, at)}
		first := h.claim(nil)
		if first == nil {
			return nil, errNoPBX
		}
		return h, h.start(first)
	}
}

// start asks the PBX of a try.
func (h *hunt) start(t *try) error {
	req := h.request()
	req.PrependHeader(h.via(t.at.flow)) // a branch of its own (RFC 3261 section 16.6, item 8)
	client, err := h.tx.Request(t.at.flow, req, func(res *sip.Response, err error) { h.answered(t, res, err) })
	if err != nil {
		return err
	}
	h.mu.Lock()
	t.client = client
	t.timer = time.AfterFunc(patience, func() { h.impatient(t) })
	cancelled, why := h.cancelled, h.why
	h.mu.Unlock()
	if cancelled {
		client.Cancel(why...)
	}
	return nil
}

// request is what the next PBX is asked. The last one has it all.
func (h *hunt) request() (req *sip.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.left) > 0 {
		return h.req.Clone()
	}
	req, h.req = h.req, nil
	return req
}

// settle notes that a try had the final answer, so that nobody else is asked. It
// tells whether the try was the one that counts.
func (h *hunt) settle(t *try) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.try != t {
		return false
	}
	h.req, h.left = nil, nil
	return true
}

// isCurrent tells whether a try is the one that counts.
func (h *hunt) isCurrent(t *try) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.try == t
}

// answered takes what a PBX said.
func (h *hunt) answered(t *try, res *sip.Response, err error) {
	h.mu.Lock()
	if t.timer != nil { // nothing is left to be impatient about
		t.timer.Stop()
		t.timer = nil
	}
	h.mu.Unlock()
	final := err != nil || res.StatusCode >= 200
	switch {
	case !h.isCurrent(t):
		h.tooLate(t, res, err)
	case errors.Is(err, transaction.ErrExpired): // it rang, and would ring there again
		h.to.on(t.at.flow, nil, err)
	case (err != nil || res.StatusCode == sip.StatusServiceUnavailable) && h.goOn(t):
	case final && !h.settle(t): // since a moment
		h.tooLate(t, res, err)
	default:
		h.to.on(t.at.flow, res, err)
	}
}

// tooLate takes what a PBX said after the next had been asked.
func (h *hunt) tooLate(t *try, res *sip.Response, err error) {
	if h.to.late != nil && err == nil && res.StatusCode >= 200 && res.StatusCode < 300 {
		h.to.late(t.at.flow, res)
	}
}

// impatient looks after a while whether a PBX said anything. If it did not, it is
// suspect, and the next is asked; without one it is waited for, until it is known
// to be down.
func (h *hunt) impatient(t *try) {
	if !h.isCurrent(t) || t.client.Heard() {
		return
	}
	h.pool.suspect(t.at)
	switch {
	case h.goOn(t):
		t.client.Abandon()
	case t.at.isDown() && h.giveUp(t):
		t.client.Abandon()
		h.to.on(t.at.flow, nil, errNoPBX)
	default:
		h.mu.Lock()
		if t.timer != nil {
			t.timer.Reset(patience)
		}
		h.mu.Unlock()
	}
}

// goOn asks the next PBX that is up, and tells whether there is one.
func (h *hunt) goOn(t *try) bool {
	next := h.claim(t)
	return next != nil && h.start(next) == nil
}

// claim makes the next PBX that is up the one that counts after a try; nil if
// there is none, or the try is not the one that counts any longer.
func (h *hunt) claim(after *try) *try {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.left) > 0 && h.left[0].isDown() {
		h.left = h.left[1:]
	}
	if h.try != after || h.cancelled || len(h.left) == 0 {
		return nil
	}
	h.try = &try{at: h.left[0]}
	h.left = h.left[1:]
	return h.try
}

// giveUp makes a try the last one.
func (h *hunt) giveUp(t *try) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	current := h.try == t
	if current {
		h.try = nil
	}
	return current
}

// Cancel stops an INVITE, as transaction.Client.Cancel does.
func (h *hunt) Cancel(headers ...sip.Header) {
	h.mu.Lock()
	h.cancelled, h.why = true, headers
	t := h.try
	var client *transaction.Client
	if t != nil {
		client = t.client
	}
	h.mu.Unlock()
	if client != nil {
		client.Cancel(headers...)
	}
}

// Settle does as transaction.Client.Settle, of the try that counts.
func (h *hunt) Settle(on func(*sip.Response)) {
	h.mu.Lock()
	var client *transaction.Client
	if h.try != nil {
		client = h.try.client
	}
	h.mu.Unlock()
	if client != nil {
		client.Settle(on)
	}
}
