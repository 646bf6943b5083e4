package sipproxy

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// dialogID names a dialog as this proxy sees it (RFC 3261 section 12). The
// tags are told apart by side: a PBX that is itself a proxy sends one dialog
// through us twice, with the same Call-ID and tags, but from opposite sides.
type dialogID struct {
	callID    string
	secureTag string
	plainTag  string
}

// leg is one half of a dialog: what we must know to speak to its far end.
type leg struct {
	flow    *flow.Flow
	former  *flow.Flow    // that a phone left, which may be there all the same; or nil
	trunk   *trunk        // that the dialog is by; nil: it is a phone's
	began   bool          // its far end is a trunk's, and began the dialog: see asOurselves
	tag     string        // the far end's
	peer    flow.NameAddr // the far end's address, as written on this leg
	self    flow.NameAddr // the other party's address, as written on this leg
	by      string        // who that is, as aorKey writes it, if the address does not say it: see speaker
	target  sip.Uri       // the far end's Contact
	routes  []string      // the far end's route set, in the order to write it
	contact string        // ours
	cseq    uint32        // the highest number the far end has used
	// shift is by how much its far end counts further than the other does, as
	// challenges were answered in that one's place (login.go), or keys replaced (rekey.go).
	shift uint32
}

// dialog is a call between two tags. A forked INVITE gives a call several,
// all with the caller's leg in common.
type dialog struct {
	id        dialogID
	call      *call
	secure    *leg
	plain     *leg
	confirmed bool
	accepted  *accepted // its last INVITE, once that had a 2xx
	under     *invite   // a later INVITE on its way; nil: none is
	keyed     *accepted // the last INVITE that was answered here (rekey.go), until its ACK
}

func (d *dialog) leg(s flow.Side) *leg {
	if s == flow.Secure {
		return d.secure
	}
	return d.plain
}

// call is what one INVITE set up: its dialogs and their media.
type call struct {
	callID  string
	token   string    // the user part of our Contact at the PBX
	caller  flow.Side // the side the INVITE came from
	from    string    // who calls, for the log
	to      string    // who is called
	started time.Time
	log     *slog.Logger

	mu       sync.Mutex // guards what follows, and the legs and flags of the dialogs
	media    *negotiation
	callerAt *leg               // the caller's leg
	calleeAt *leg               // the callee's, as far as it is known before a dialog
	dialogs  map[string]*dialog // by the callee's tag
	first    *invite            // what began the call, until it has its final answer
	answered time.Time          // zero until a 2xx
	gone     time.Time          // since when its phone has no connection; zero: it has one
	ended    bool
	counted  bool           // by count
	toll     policy.Verdict // that let a phone make it
}

// calls finds dialogs.
type calls struct {
	mu       sync.Mutex // guards the maps
	byDialog map[dialogID]*dialog
	active   map[*call]struct{}
}

func newCalls() *calls {
	return &calls{byDialog: make(map[dialogID]*dialog), active: make(map[*call]struct{})}
}

func (t *calls) add(c *call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.active[c] = struct{}{}
}

func (t *calls) addDialog(d *dialog) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byDialog[d.id] = d
}

func (t *calls) dialog(id dialogID) *dialog {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byDialog[id]
}

func (t *calls) removeDialog(d *dialog) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byDialog[d.id] == d {
		delete(t.byDialog, d.id)
	}
}

func (t *calls) remove(c *call) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.active, c)
}

func (t *calls) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.active)
}

func (t *calls) list() []*call {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]*call, 0, len(t.active))
	for c := range t.active {
		list = append(list, c)
	}
	return list
}

// dialogOf returns the dialog that a message from the callee belongs to, and
// makes it if its tag is new. c.mu is held.
func (p *Proxy) dialogOf(c *call, calleeTag string) *dialog {
	if d := c.dialogs[calleeTag]; d != nil {
		return d
	}
	callee := *c.calleeAt
	callee.tag = calleeTag
	d := &dialog{call: c, secure: c.callerAt, plain: &callee}
	if c.caller == flow.Plain {
		d.secure, d.plain = d.plain, d.secure
	}
	d.id = dialogID{c.callID, d.secure.tag, d.plain.tag}
	c.dialogs[calleeTag] = d
	p.calls.addDialog(d)
	return d
}

// whose is what the far end of a leg on the secure side is.
func (l *leg) whose() string {
	if l.trunk != nil {
		return "trunk"
	}
	return "phone"
}

// endDialog forgets one dialog, and ends the call with its last one. c.mu is
// held.
func (p *Proxy) endDialog(d *dialog, reason string) {
	p.forget(d)
	c := d.call
	for tag, each := range c.dialogs {
		if each == d {
			delete(c.dialogs, tag)
		}
	}
	for _, each := range c.dialogs {
		if each.confirmed {
			return
		}
	}
	p.endCall(c, reason)
}

// forget lets go of a dialog. Nobody waits for its ACK any longer.
func (p *Proxy) forget(d *dialog) {
	p.calls.removeDialog(d)
	for _, a := range []*accepted{d.accepted, d.keyed} {
		if a != nil {
			a.of.server.Acknowledged()
			p.bury(a.of)
		}
	}
	d.accepted, d.keyed = nil, nil
}

// endCall frees all that a call holds and writes its record. c.mu is held.
func (p *Proxy) endCall(c *call, reason string) {
	if c.ended {
		return
	}
	stats := p.release(c)
	p.count(c)
	attrs := []any{
		"call_id", c.callID, "from", c.from, "to", c.to, "reason", reason,
		"lasted", time.Since(c.started).Round(time.Millisecond),
	}
	if t := c.outside().trunk; t != nil {
		attrs = append(attrs, "trunk", t.Name)
	}
	if !c.answered.IsZero() {
		attrs = append(attrs, "talked", time.Since(c.answered).Round(time.Millisecond))
	}
	c.log.Info("call ended", append(attrs, stats...)...)
	p.counters.callEnded(reason)
}

// release frees all that a call holds. c.mu is held.
func (p *Proxy) release(c *call) (stats []any) {
	c.ended = true
	for _, d := range c.dialogs {
		p.forget(d)
	}
	p.calls.remove(c)
	c.toll.Release()
	return c.media.close()
}

// count counts a call, once, when more has become of it than a challenge: the
// same call comes again then, with credentials. c.mu is held.
func (p *Proxy) count(c *call) {
	if !c.counted {
		c.counted = true
		p.counters.callStarted(c.caller, c.outside().trunk != nil)
	}
}

// hangUp ends a call on our own account: a BYE to each far end that has
// answered, and to an INVITE that has no answer yet a CANCEL and ours. It is
// for a call that neither end can be left to finish.
func (p *Proxy) hangUp(c *call, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	if inv := c.first; inv != nil {
		c.first = nil
		inv.server.Cancel()
		_ = inv.server.Respond(p.refusal(inv.in, refuse(sip.StatusServiceUnavailable, "Service Unavailable", "%s", reason)))
	}
	for _, d := range c.dialogs {
		if d.confirmed {
			p.bye(d, flow.Secure, reason)
			p.bye(d, flow.Plain, reason)
		}
	}
	p.endCall(c, reason)
}

// goneAfter is how long a call is kept whose phone has lost its connection. It
// may come back and register again.
const goneAfter = 2 * time.Minute

// sweep lets go of what calls have no more use for, and hangs up those whose
// phone is gone for good, and which nothing else would end: on hold there is no
// media to miss, and a PBX that was restarted says no BYE.
func (p *Proxy) sweep(now time.Time) {
	for _, c := range p.calls.list() {
		c.tidy(now)
		if p.isAbandoned(c, now) {
			p.hangUp(c, "the "+c.outside().whose()+"'s connection is gone")
		}
		p.collect(c)
		p.rekey(c, now)
	}
}

// tidy forgets answers that nobody repeats any longer.
func (c *call) tidy(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.dialogs {
		if d.accepted != nil && now.Sub(d.accepted.at) > repeatsFor {
			d.accepted = nil
		}
	}
}

func (p *Proxy) isAbandoned(c *call, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	gone := false // a call that rings ends with its INVITE
	for _, d := range c.dialogs {
		if !closed(p.reach(d, flow.Secure)) {
			c.gone = time.Time{}
			return false
		}
		gone = gone || d.confirmed
	}
	if gone && c.gone.IsZero() {
		c.gone = now
	}
	return gone && now.Sub(c.gone) >= goneAfter && now.Sub(c.media.heard()) >= goneAfter
}

// bye sends a BYE of ours to one end of a dialog, in the name of the other.
// c.mu is held.
func (p *Proxy) bye(d *dialog, to flow.Side, reason string) {
	far := d.leg(other(to))
	far.cseq++
	req := p.ownRequest(sip.BYE, d, to, far.cseq+d.leg(to).shift)
	req.AppendHeader(sip.NewHeader("Reason", fmt.Sprintf("SIP;cause=503;text=%q", reason)))
	appendBody(req, body{})
	send, owed := p.sendTo(p.reach(d, to)), func() {}
	if t := d.leg(to).trunk; t != nil && to == flow.Secure { // whose provider may ask who wants it
		send, owed = p.asOurselves(d.leg(to), send), func() { p.owe(d.leg(to), req) }
	}
	_, err := send(req, hearer{on: func(_ *flow.Flow, _ *sip.Response, err error) {
		if err != nil {
			owed()
		}
	}})
	if err != nil {
		owed()
		d.call.log.Debug("send BYE", "call_id", d.call.callID, "side", to.String(), "reason", err)
	}
}

// ownRequest is a request of ours to one end of a dialog, in the name of the
// other.
func (p *Proxy) ownRequest(method sip.RequestMethod, d *dialog, to flow.Side, cseq uint32) *sip.Request {
	near, far := d.leg(to), d.leg(other(to))
	req := sip.NewRequest(method, near.target)
	req.AppendHeader(p.via(near.flow))
	for _, r := range near.routes {
		req.AppendHeader(sip.NewHeader("Route", r))
	}
	req.AppendHeader(sip.NewHeader("Max-Forwards", "70"))
	req.AppendHeader(sip.NewHeader("From", near.self.WithTag(far.tag)))
	req.AppendHeader(sip.NewHeader("To", near.peer.WithTag(near.tag)))
	id := d.call.callID
	if to == flow.Secure {
		id = p.crossCallID(id)
	}
	req.AppendHeader(sip.NewHeader("Call-ID", id))
	req.AppendHeader(&sip.CSeqHeader{SeqNo: cseq, MethodName: method})
	return req
}

// reach returns the flow to one end of a dialog. A phone that registered again by
// another is reached by that, and a trunk by any that it has. c.mu is held.
func (p *Proxy) reach(d *dialog, to flow.Side) *flow.Flow {
	l := d.leg(to)
	if to == flow.Secure {
		if f := p.newFlow(l, d.call.token); f != nil {
			if l.flow.Spared() && !f.Spared() {
				return f // not for good: the process that has the call may connect again
			}
			l.moveTo(f)
			d.follow()
		}
	}
	return l.flow
}

// newFlow is the way to the far end of a leg that is not reached by its own flow any
// longer; nil: it is, or by none.
func (p *Proxy) newFlow(l *leg, token string) *flow.Flow {
	switch {
	case l.trunk == nil:
		return p.bindings.instead(token, l.flow)
	case closed(l.flow):
		return l.trunk.far.Instead(l.flow)
	}
	return nil
}

// speaksFor tells whether a flow may speak for the far end of a leg that had another:
// it is of the same trunk, or the same device has registered over it.
func (p *Proxy) speaksFor(l *leg, token string, f *flow.Flow) bool {
	if l.trunk != nil {
		return p.trunkOf(f) == l.trunk
	}
	return p.bindings.over(token, f) != nil
}

// hears tells whether the far end of a leg on the secure side may speak by a flow, by
// which it is reached from then on. What it says by one that it has left is heard; it is
// spoken to where it has registered since.
func (p *Proxy) hears(l *leg, token string, f *flow.Flow) bool {
	switch {
	case l.flow == f:
	case p.speaksFor(l, token, f):
		l.moveTo(f)
	default:
		return l.former == f
	}
	return true
}

// follow expects the phone's media from where it is reached. c.mu is held.
func (d *dialog) follow() { d.call.media.follow(d.secure.flow) }

// moveTo has the far end of a leg be reached by another flow.
func (l *leg) moveTo(f *flow.Flow) {
	if l.former = nil; l.trunk == nil && !closed(l.flow) {
		l.former = l.flow
	}
	l.flow = f
}

func closed(f *flow.Flow) bool {
	select {
	case <-f.Done():
		return true
	default:
		return false
	}
}

func other(s flow.Side) flow.Side {
	if s == flow.Secure {
		return flow.Plain
	}
	return flow.Secure
}

var _ transaction.Conn = (*flow.Flow)(nil)
