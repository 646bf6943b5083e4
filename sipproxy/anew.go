package sipproxy

import (
	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// This file is phones that take one of our descriptions, and not another that says the
// same.

// offerAnew sends a call to the phone once more, by the other keying, if it takes
// nothing of what it was offered (RFC 3261 section 8.1.3.5). call.mu is held.
func (p *Proxy) offerAnew(inv *invite, res *sip.Response) bool {
	c := inv.call
	refused := res.StatusCode == sip.StatusNotAcceptableHere || res.StatusCode == 606
	if !refused || inv.from != flow.Plain || inv.dialog != nil || len(c.dialogs) > 0 || c.ended || !inv.offered ||
		inv.server.Cancelled() || inv.server.Final() || !c.media.otherKeying() {
		return false
	}
	c.log.Debug("call offered anew", "call_id", c.callID, "status", res.StatusCode)
	c.media.withdraw(inv.from, inv.offered)
	c.calleeAt.shift++
	if r := p.sendInvite(inv, c.calleeAt, ""); r != nil {
		p.inviteFailed(inv, p.refusal(inv.in, r))
	}
	return true
}

// otherKeying has the next offer to a phone be for DTLS alone, or no longer so, and tells
// whether it may be tried. Some phones that do nothing but DTLS look for it in the
// m-line (RFC 5764 section 8) before they look at the keys.
func (n *negotiation) otherKeying() bool {
	if n.anew || n.page || n.trunk || !n.dtls() {
		return false
	}
	n.alone, n.anew = !n.alone, true
	return true
}

// remember notes what a phone took that had been offered something else before: it is
// spared that the next time.
func (p *Proxy) remember(inv *invite) {
	if m := inv.call.media; inv.dialog == nil && m.anew {
		p.bindings.setDTLS(inv.call.token, m.alone)
	}
}

// wantsDTLS tells whether a phone took nothing else.
func (t *bindings) wantsDTLS(token string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dtls[token]
}

// setDTLS notes that. It is forgotten with the phone's last binding.
func (t *bindings) setDTLS(token string, alone bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if delete(t.dtls, token); alone && len(t.byToken[token]) > 0 {
		t.dtls[token] = true
	}
}
