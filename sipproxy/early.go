package sipproxy

import (
	"sync"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// chan_pjsip answers a REGISTER on one thread and tells the new contact of its
// mailbox, or asks it whether it is there, on another: such a request can be
// here before the 200 that makes the contact's binding. Refused, the phone would
// know nothing of its mailbox, and the PBX hold it to be away. So a request for a
// contact that the PBX is just being asked for waits for that answer, and only
// then is routed, or refused.

// maxEarly bounds how many requests wait for one contact.
const maxEarly = 8

// early is a request that waits.
type early struct {
	flow *flow.Flow
	tx   *transaction.Server
	in   *sip.Request
}

// asking are the contacts that the PBX was asked for and has not answered, and
// what waits for them.
type asking struct {
	mu      sync.Mutex // guards the map
	byToken map[string]*outstanding
}

// outstanding is one contact that was asked for.
type outstanding struct {
	times   int // REGISTERs under way
	waiting []early
}

func newAsking() *asking { return &asking{byToken: make(map[string]*outstanding)} }

// begin notes that the PBX is asked for the contacts of a REGISTER.
func (a *asking) begin(reg *registration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range reg.contacts {
		if a.byToken[c.token] == nil {
			a.byToken[c.token] = new(outstanding)
		}
		a.byToken[c.token].times++
	}
}

// has tells whether the PBX is being asked for a contact.
func (a *asking) has(token string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.byToken[token] != nil
}

// end notes the answer, and returns what has waited for it, in order.
func (a *asking) end(reg *registration) []early {
	a.mu.Lock()
	defer a.mu.Unlock()
	var waited []early
	for _, c := range reg.contacts {
		of := a.byToken[c.token]
		waited = append(waited, of.waiting...)
		of.waiting = nil
		if of.times--; of.times == 0 {
			delete(a.byToken, c.token)
		}
	}
	return waited
}

// wait takes a request in, if the PBX is being asked for the contact, and there
// is room.
func (a *asking) wait(token string, e early) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	of := a.byToken[token]
	if of == nil || len(of.waiting) >= maxEarly {
		return false
	}
	of.waiting = append(of.waiting, e)
	return true
}

// isEarly tells whether a request of the PBX waits for a contact, and keeps it.
// One whose phone is there needs not to; a CANCEL waits behind its INVITE.
func (p *Proxy) isEarly(f *flow.Flow, tx *transaction.Server, in *sip.Request) bool {
	if f.Side() != flow.Plain || flow.Tag(in, "To") != "" {
		return false
	}
	token := p.addressee(in)
	if b := p.bindings.get(token); b != nil && !closed(b.flow) {
		return false
	}
	return p.asking.wait(token, early{f, tx, in})
}

// answered lets in what has waited for a REGISTER's answer. It is called when
// the phone has that.
func (p *Proxy) answered(reg *registration) {
	for _, e := range p.asking.end(reg) {
		p.dispatch(e.flow, e.tx, e.in)
	}
}
