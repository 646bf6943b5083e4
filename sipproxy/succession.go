package sipproxy

import (
	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// When the edge is replaced, the process before this one goes on with its calls: on
// its phones' connections, which cannot be handed over, and by the same plain socket,
// which this one reads. What the PBX says is for either. Answers tell by their branch,
// requests inside of calls by Call-ID and tags, all others by the phone's token.

// IsForeign implements flow.Stranger.
func (p *Proxy) IsForeign(f *flow.Flow, m sip.Message) bool {
	if f.Side() != flow.Plain || p.tx.Has(f, m) {
		return false
	}
	in, ok := m.(*sip.Request)
	switch {
	case !ok, in.Method == sip.CANCEL:
		return true
	case flow.Tag(in, "To") == "":
		return p.isElsewhere(f, in)
	}
	id := p.dialogOn(f, in)
	if p.calls.dialog(id) != nil || p.watches.get(id) != nil {
		return false
	}
	if in.Method == sip.NOTIFY {
		id.plainTag = "" // of a subscription that has no dialog yet
		return p.watches.get(id) == nil
	}
	return true
}

// isElsewhere tells whether a new request is for a phone that has not come here yet.
func (p *Proxy) isElsewhere(f *flow.Flow, in *sip.Request) bool {
	token := p.addressee(in)
	return token != "" && p.trunkFor(f, in) == nil && p.bindings.get(token) == nil && p.bindings.latest(token) == nil && !p.asking.has(token)
}

// Yield leaves all that is not a call's own business to the process after this one:
// whether the PBXs are there, and registering with providers.
func (p *Proxy) Yield() { p.yielded.Store(true) }

// IsIdle tells whether nothing is under way on a phone's or a trunk's connection.
func (p *Proxy) IsIdle(f *flow.Flow) bool { return !p.tx.Busy(f) && !p.isTalking(f) }

// Calls tells how many calls there are.
func (p *Proxy) Calls() int { return p.calls.len() }
