package sipproxy

import (
	"strconv"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// Phones refresh their registrations each minute, to keep a NAT open or to be
// found again soon, and a PBX checks a digest and writes a database each time.
// With Config.RefreshInterval the PBX is asked for that long, and sees one
// refresh in it; those between are answered here, as long as what the PBX
// granted lasts. Only a REGISTER that changes nothing is, and only on the
// connection over which the PBX took the contact's credentials.

// asked is how many seconds a REGISTER asks for a contact (RFC 3261 section
// 10.2.1.1). What is none is an hour (section 20.10).
func (reg *registration) asked(c flow.NameAddr) int {
	text, ok := c.Param("expires")
	if !ok {
		text = expiresOf(reg.in)
	}
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < 0 {
		return 3600
	}
	return min(seconds, maxGranted)
}

// followWithin is how long a phone is told that its contact is kept, in seconds,
// where there are several PBXs: when its own is gone, it is this soon at another.
const followWithin = 120

// wanted is how many seconds a phone is to be told, if the PBX keeps it longer.
func (p *Proxy) wanted(reg *registration, c flow.NameAddr) int {
	if len(p.pool.all()) > 1 {
		return min(reg.asked(c), followWithin)
	}
	return reg.asked(c)
}

// isRefresh tells whether a REGISTER leaves all as it is, or may.
func (p *Proxy) isRefresh(reg *registration) bool {
	if p.cfg.RefreshInterval == 0 || reg.star || len(reg.contacts) == 0 {
		return false
	}
	for _, c := range reg.contacts {
		if reg.removes(c.phone) {
			return false
		}
	}
	return true
}

// stretch notes for how long the PBX shall keep each contact at least: also for
// as long as the device is registered by another connection, whose contact it is
// as well.
func (p *Proxy) stretch(reg *registration, now time.Time) {
	least := time.Duration(0)
	if p.isRefresh(reg) {
		least = p.cfg.RefreshInterval
	}
	for i, c := range reg.contacts {
		reg.contacts[i].least = int(max(least, p.bindings.others(c, now)) / time.Second)
	}
}

// expiresForPBX is how many seconds the PBX is asked for a contact.
func (reg *registration) expiresForPBX(c registrant) int {
	return max(reg.asked(c.phone), c.least)
}

// stretchHeader puts that into the Expires header, which some registrars read
// before a contact's own.
func (reg *registration) stretchHeader(req *sip.Request) {
	longest, changed := 0, false
	for _, c := range reg.contacts {
		longest, changed = max(longest, reg.expiresForPBX(c)), changed || c.least > 0
	}
	if changed && req.RemoveHeader("Expires") {
		req.AppendHeader(sip.NewHeader("Expires", strconv.Itoa(longest)))
	}
}

// answerRefresh answers a refresh that the PBX need not see, and tells whether
// it was one.
func (p *Proxy) answerRefresh(reg *registration, tx *transaction.Server, now time.Time) bool {
	if !p.isRefresh(reg) {
		return false
	}
	fresh := make([]*binding, len(reg.contacts))
	for i, c := range reg.contacts {
		b := p.bindings.find(c.token, regID(c.phone))
		if b == nil || !p.isSpared(reg, c, b, now) {
			return false
		}
		next := *b
		next.expires, next.cseq = now.Add(time.Duration(p.wanted(reg, c.phone))*time.Second), reg.in.CSeq().SeqNo
		fresh[i] = &next
	}
	for _, b := range fresh {
		p.bindings.put(b)
	}
	p.counters.refreshesSpared.Add(1)
	res := p.answer(reg.in, sip.StatusOK, "OK")
	for _, b := range p.bindings.of(reg.aor) {
		if left := b.expires.Sub(now) / time.Second; left > 0 {
			res.AppendHeader(sip.NewHeader("Contact", b.shown(int(left))))
		}
	}
	p.confirm(reg, res)
	_ = tx.Respond(res)
	return true
}

// doubt lets the PBX see all that phones say of some of a user's contacts from now
// on, until it has accepted them again.
func (t *bindings) doubt(aor string, which func(*binding) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for token := range t.byAOR[aor] {
		for i, b := range t.byToken[token] {
			if which(b) {
				doubted := *b
				doubted.refreshed = time.Time{}
				t.byToken[token][i] = &doubted
				t.leaveLocked(b)
				t.joinLocked(&doubted)
			}
		}
	}
}

// isSpared tells whether a refresh says nothing new of a contact, and is
// covered by what the PBX granted, where the user belongs.
func (p *Proxy) isSpared(reg *registration, c registrant, b *binding, now time.Time) bool {
	wanted := time.Duration(p.wanted(reg, c.phone)) * time.Second
	return b.flow == reg.flow && b.aor == reg.aor && b.contact == c.phone.URI && b.params == c.phone.Without("expires").Params &&
		b.callID == reg.in.CallID().Value() && b.cseq < reg.in.CSeq().SeqNo && now.Before(b.expires) &&
		now.Sub(b.refreshed) < p.cfg.RefreshInterval && !now.Add(wanted).After(b.granted) && p.pool.isFirst(b.pbx, reg.aor)
}
