package sipproxy

import (
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// A BYE that a trunk's connection took along when it broke is owed to the far end, which
// would else hold the call until its media are missed. Whoever hung up needs not wait for
// that: the BYE is sent again by the trunk's next connection. So is a phone's, which may
// have been where there was no network any longer.

const (
	owedFor   = 32 * time.Second // 64 times T1, as a BYE is repeated by UDP (RFC 3261 section 17.1.2.2)
	owedRetry = 250 * time.Millisecond
	maxOwed   = 4096 // of one trunk
)

// owe sends a BYE of before to a trunk's far end as soon as it has a connection.
func (p *Proxy) owe(to *leg, bye *sip.Request) {
	t := to.trunk
	if t == nil || t.owed.Add(1) > maxOwed {
		if t != nil {
			t.owed.Add(-1)
		}
		return
	}
	if t.Account.User != "" { // it may have been sent with the answer to a challenge
		bye = bye.Clone()
		bye.CSeq().SeqNo += maxTries
	}
	p.pay(to, bye, time.Now().Add(owedFor))
}

// owes tells whether a BYE waits for a connection, or for its answer.
func (t *trunk) owes() bool { return t.owed.Load() > 0 }

// Owes tells whether a trunk's far end is to be told yet that a call is over. It is no
// longer than two transactions take.
func (p *Proxy) Owes() bool {
	for _, t := range p.trunks {
		if t.owes() {
			return true
		}
	}
	return false
}

// byeAgain sends a BYE of before to a phone that did not get it by one connection, if it
// has registered by another since.
func (p *Proxy) byeAgain(d *dialog, lost *flow.Flow, bye *sip.Request) {
	d.call.mu.Lock()
	defer d.call.mu.Unlock()
	at := p.reach(d, flow.Secure)
	if d.secure.trunk != nil || at == lost || closed(at) {
		return
	}
	req := bye.Clone()
	removeAll(req, "Via")
	req.PrependHeader(p.via(at))
	if _, err := p.tx.Request(at, req, func(*sip.Response, error) {}); err != nil {
		d.call.log.Debug("send BYE", "call_id", d.call.callID, "reason", err)
	}
}

// pay tries to, until a time.
func (p *Proxy) pay(to *leg, bye *sip.Request, until time.Time) {
	t := to.trunk
	f := t.far.Flow()
	if f == nil || !p.payBy(to, f, bye, until) {
		if time.Now().After(until) {
			t.owed.Add(-1)
			p.log.Debug("BYE not sent again", "trunk", t.Name, "call_id", bye.CallID().Value())
			return
		}
		time.AfterFunc(owedRetry, func() { p.pay(to, bye, until) }) // ends at until at the latest
	}
}

// payBy sends it by one connection, and tells whether that could be.
func (p *Proxy) payBy(to *leg, f *flow.Flow, bye *sip.Request, until time.Time) bool {
	req := bye.Clone()
	removeAll(req, "Via")
	req.PrependHeader(p.via(f))
	_, err := p.asOurselves(to, p.sendTo(f))(req, hearer{on: func(_ *flow.Flow, res *sip.Response, err error) {
		switch {
		case err != nil && time.Now().Before(until):
			time.AfterFunc(owedRetry, func() { p.pay(to, bye, until) })
		case err != nil || res.StatusCode >= 200:
			to.trunk.owed.Add(-1)
		}
	}})
	return err == nil
}
