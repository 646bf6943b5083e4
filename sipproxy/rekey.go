package sipproxy

import (
	"errors"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/sdp"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// The keys of a trunk's call are replaced while it lasts, by a re-INVITE of ours that
// offers what was agreed, under a new key, and is answered by a new key (RFC 4568
// section 7.1.4). The PBX hears nothing of it on either side: an offer that differs in
// nothing but keys is answered here. Who called begins; if that one never does, the
// other, a tenth later.

const (
	// rekeyRetry is how long after an attempt that failed the next one is, and twice as
	// long after each that is refused in a row, up to rekeyRarely. The first is sooner
	// than media go over to a key whose answer was lost.
	rekeyRetry  = 20 * time.Second
	rekeyRarely = 10 * time.Minute
)

// rekeyFirst is how long a call is answered before its keys are replaced, whatever
// has passed under them.
const rekeyFirst = 5 * time.Second

// keys is what is known of those that a call has.
type keys struct {
	next   time.Time // no attempt is made before
	failed int       // how many in a row were refused
	under  bool      // one is under way
	before ownKeys   // while it is
}

// outside is the leg on the secure side.
func (c *call) outside() *leg {
	if c.caller == flow.Secure {
		return c.callerAt
	}
	return c.calleeAt
}

// rekey replaces the keys of a trunk's call that has had them for long enough.
func (p *Proxy) rekey(c *call, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.outside().trunk
	if t == nil || c.ended || c.answered.IsZero() || now.Sub(c.answered) < rekeyFirst || !c.media.mayRekey(now) || !c.keysDue(t.Rekey, now) {
		return
	}
	for _, d := range c.dialogs {
		if d.confirmed && d.under == nil { // one INVITE at a time (RFC 3261 section 14.1)
			p.offerKeys(d, now)
			return
		}
	}
}

// keysDue tells whether it is time. c.mu is held.
func (c *call) keysDue(r Rekey, now time.Time) bool {
	patience := 10 // tenths
	if c.caller == flow.Secure {
		patience = 11
	}
	for _, k := range c.media.keyAges() {
		if r.After > 0 && now.Sub(k.Since) >= r.After/10*time.Duration(patience) || r.Packets > 0 && k.Packets >= r.Packets/10*uint64(patience) {
			return true
		}
	}
	return false
}

// offerKeys sends the re-INVITE. call.mu is held.
func (p *Proxy) offerKeys(d *dialog, now time.Time) {
	c := d.call
	c.media.keys.next = now.Add(min(rekeyRetry<<min(c.media.keys.failed, 8), rekeyRarely))
	b, r := c.media.offerKeys()
	if r != nil {
		c.log.Warn("keys not replaced", "call_id", c.callID, "reason", r.text)
		return
	}
	far, near := d.leg(flow.Secure), d.leg(flow.Plain)
	at := p.reach(d, flow.Secure)
	seq := near.cseq + far.shift + 1
	far.shift++ // the PBX does not count it
	if far.trunk.Account.User != "" {
		far.shift += maxTries // nor what answers a challenge
	}
	req := p.ownRequest(sip.INVITE, d, flow.Secure, seq)
	req.AppendHeader(sip.NewHeader("Contact", far.contact))
	appendBody(req, b)
	_, err := p.asOurselves(far, p.sendTo(at))(req, hearer{on: func(_ *flow.Flow, res *sip.Response, err error) { p.keysAnswered(d, res, err) }})
	if err != nil {
		c.media.keepKeys()
	}
}

// keysAnswered takes what the far end said to it. That it knows of no such call ends
// the call (RFC 3261 section 12.2.1.2).
func (p *Proxy) keysAnswered(d *dialog, res *sip.Response, err error) {
	if err == nil && res.StatusCode < 200 {
		return
	}
	p.settleKeys(d, res, err)
	if err == nil && (res.StatusCode == sip.StatusCallTransactionDoesNotExists || res.StatusCode == sip.StatusRequestTimeout) {
		p.hangUp(d.call, "the far end knows the call no longer")
	}
}

func (p *Proxy) settleKeys(d *dialog, res *sip.Response, err error) {
	c := d.call
	c.mu.Lock()
	defer c.mu.Unlock()
	var r *refusal
	if err == nil && res.StatusCode < 300 {
		p.acknowledge(d, flow.Secure, res)
		if !c.media.keys.under { // it repeats itself (RFC 3261 section 13.3.1.4)
			return
		}
		if !c.ended {
			r = c.media.answerKeys(bodyOf(res))
		}
	}
	switch {
	case c.ended:
	case err == nil && res.StatusCode < 300 && r == nil:
		c.media.keys.failed = 0
		c.log.Info("keys replaced", "call_id", c.callID)
	case errors.Is(err, transaction.ErrFlowClosed):
		c.media.keepKeys()
		c.media.keys.next = time.Time{} // by the next connection
	default:
		c.media.keepKeys()
		c.media.keys.failed++
		why := "no answer"
		if r != nil {
			why = r.text
		} else if res != nil {
			why = reasonOf(res)
		}
		c.log.Warn("keys not replaced; trying again", "call_id", c.callID, "reason", why)
	}
}

// takeKeys answers an INVITE inside a trunk's call that says nothing new but a key.
// It tells whether it was one. call.mu is held.
func (p *Proxy) takeKeys(d *dialog, tx *transaction.Server, in *sip.Request, from flow.Side) bool {
	c := d.call
	if in.Method != sip.INVITE || from != flow.Secure || c.outside().trunk == nil {
		return false
	}
	if len(in.GetHeaders("Session-Expires")) > 0 { // it tells the PBX, too, that the caller is there (RFC 4028 section 9)
		return false
	}
	b, ok := c.media.takeKeys(bodyOf(in))
	if !ok {
		return false
	}
	res := bare(in, sip.StatusOK, "OK", "")
	res.AppendHeader(sip.NewHeader("Contact", d.secure.contact))
	appendBody(res, b)
	d.keyed = &accepted{of: &invite{call: c, dialog: d, server: tx, in: in, from: from}, cseq: in.CSeq().SeqNo}
	if err := tx.Respond(res); err == nil {
		c.log.Info("keys replaced by the far end", "call_id", c.callID)
	}
	return true
}

// This is the part of negotiation.

// keyAges are those of all keys in use.
func (n *negotiation) keyAges() (list []media.KeyAge) {
	for _, s := range n.lines[flow.Secure] {
		if !s.agreed {
			continue
		}
		if ages, err := n.session.KeyAges(s.addrs.Index); err == nil && !ages.Tx.Since.IsZero() && !ages.Rx.Since.IsZero() {
			list = append(list, ages.Rx, ages.Tx)
		}
	}
	return list
}

// mayRekey tells whether all is agreed, by keys in the descriptions, and nothing under
// way; and the far end is another edge. Asterisk's res_srtp begins its packet indexes
// anew when the other end's key is another, under the key of its own that it had: it
// would use nonces twice, and not understand us, who go on with the roll-over counter.
func (n *negotiation) mayRekey(now time.Time) bool {
	if n.session == nil || n.keys.under || now.Before(n.keys.next) || n.pending != nil && !n.pending.answered || n.said[flow.Plain] == nil {
		return false
	}
	for _, s := range n.lines[flow.Secure] {
		if s.agreed && (s.link != nil || !s.isEdges()) {
			return false
		}
	}
	return true
}

// isEdges tells whether a stream's far end is another edge, as it says which sources it
// sends.
func (s *stream) isEdges() bool { return len(s.secure.SSRCs) > 0 }

// keysConfirmed has new keys of ours used: the far end has them.
func (n *negotiation) keysConfirmed() {
	if n.session == nil {
		return
	}
	for _, s := range n.lines[flow.Secure] {
		if s.agreed {
			_ = n.session.Confirm(s.addrs.Index) // else the call has just ended
		}
	}
}

// ownKeys are those of ours that others are to take the place of.
type ownKeys map[*stream]map[media.Suite]media.Key

// dropKeys has some streams get other keys of ours with the next description.
func (n *negotiation) dropKeys(of func(*stream) bool) ownKeys {
	dropped := make(ownKeys)
	for _, s := range n.lines[flow.Secure] {
		if of(s) {
			dropped[s], s.sdes.ours = s.sdes.ours, nil
		}
	}
	return dropped
}

// restore returns to them.
func (k ownKeys) restore() {
	for s, ours := range k {
		s.sdes.ours = ours
	}
}

// offerKeys is an offer of what was agreed last, under new keys. The old ones stay in
// use until it is answered.
func (n *negotiation) offerKeys() (body, *refusal) {
	kept, before := n.voices[flow.Plain], n.dropKeys(func(*stream) bool { return true })
	b, r := n.offerSession(flow.Plain, n.said[flow.Plain])
	n.voices[flow.Plain] = kept
	n.keys.under, n.keys.before = true, before
	if r != nil {
		n.keepKeys()
	}
	return b, r
}

// answerKeys takes the answer to it. What the PBX was told last stays true.
func (n *negotiation) answerKeys(b body) *refusal {
	kept, said := n.voices[flow.Plain], n.said[flow.Plain]
	_, r := n.answer(flow.Secure, b)
	n.voices[flow.Plain], n.said[flow.Plain] = kept, said
	if r == nil {
		n.keys.under, n.keys.before = false, nil
	}
	return r
}

// keepKeys returns to the keys of before.
func (n *negotiation) keepKeys() {
	n.keys.before.restore()
	n.keys.under, n.keys.before = false, nil
	n.rollback()
}

// takeKeys answers an offer that differs from what its sender said last in nothing but
// keys, by new ones to an edge. Others may begin with the roll-over counter again under
// ours, too, if that were another (RFC 3711 section 3.3.1 forbids it).
func (n *negotiation) takeKeys(b body) (body, bool) {
	if n.session == nil || n.pending != nil && !n.pending.answered || n.said[flow.Secure] == nil || n.said[flow.Plain] == nil {
		return body{}, false
	}
	in, r := readSDP(flow.Secure, b)
	if r != nil || !otherKeysAlone(in, n.said[flow.Secure]) {
		return body{}, false
	}
	kept, said := n.voices[flow.Plain], n.said[flow.Plain]
	if _, r = n.offerSession(flow.Secure, in); r != nil {
		return body{}, false
	}
	before := n.dropKeys((*stream).isEdges)
	out, r := n.answerSession(flow.Plain, said)
	n.voices[flow.Plain] = kept
	if r != nil {
		before.restore()
		n.rollback()
		return body{}, false
	}
	return out, true
}

// otherKeysAlone tells whether two descriptions of one side say the same, but for
// their keys, and the keys are others.
func otherKeysAlone(a, b *sdp.Session) bool {
	return withoutKeys(a) == withoutKeys(b) && string(a.Marshal()) != string(b.Marshal()) && len(a.Media) > 0
}

// withoutKeys is a description as a text, without version, suites and keys.
func withoutKeys(s *sdp.Session) string {
	c := *s
	c.Origin.Version = 0
	c.Media = append([]sdp.Media(nil), s.Media...)
	for i := range c.Media {
		c.Media[i].Crypto = nil
	}
	return string(c.Marshal())
}
