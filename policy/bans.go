package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gaissmai/bart"
)

const (
	// maxBans bounds those remembered, about 300 bytes each.
	maxBans = 1 << 15
)

// Ban is a source that is kept out. Once it is over it is remembered for some
// time, so that the next is longer.
type Ban struct {
	Source netip.Prefix `json:"source"`
	Since  time.Time    `json:"since"`
	Until  time.Time    `json:"until"` // zero: for good
	Times  int          `json:"times"` // how often it was banned
	Reason string       `json:"reason"`
}

// Active tells whether a ban holds at a time.
func (b Ban) Active(now time.Time) bool { return b.Until.IsZero() || now.Before(b.Until) }

// bans are the sources kept out.
type bans struct {
	first, most time.Duration // how long the first ban is, and the longest
	changed     chan struct{} // of room for one: there is something to save
	told        func(Ban)     // of each that is made for what was seen; nil: nobody is

	mu       sync.Mutex                       // one change at a time
	byPrefix atomic.Pointer[bart.Table[*Ban]] // never changed, but replaced: who reads waits for nobody, and many are read at leisure
	total    atomic.Uint64                    // since the start
}

func newBans(cfg Config) *bans {
	t := &bans{first: cfg.BanTime, most: cfg.BanTimeMax, changed: make(chan struct{}, 1)}
	t.replace(nil)
	return t
}

// replace forgets all bans but these.
func (t *bans) replace(list []Ban) {
	table := new(bart.Table[*Ban])
	for _, b := range list {
		table.Insert(b.Source, &b)
	}
	t.byPrefix.Store(table)
}

// restore takes the bans of before a restart, in place of those that there are.
func (t *bans) restore(kept []Ban, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept = slices.DeleteFunc(slices.Clone(kept), func(b Ban) bool {
		return prefixFaults("", []netip.Prefix{b.Source}) != nil || t.forgotten(b, now)
	})
	t.replace(first(kept, maxBans))
	t.total.Store(0)
	if len(kept) > 0 {
		t.touch()
	}
}

// of returns the ban that holds for an address now.
func (t *bans) of(a netip.Addr, now time.Time) (Ban, bool) {
	table := t.byPrefix.Load()
	if !table.Contains(a) { // nearly always
		return Ban{}, false
	}
	// A ban that is over may hide a wider one that is not.
	for _, b := range table.Supernets(netip.PrefixFrom(a, a.BitLen())) {
		if b.Active(now) {
			return *b, true
		}
	}
	return Ban{}, false
}

// add bans a source, each time for twice as long as before.
func (t *bans) add(source netip.Prefix, reason string, now time.Time) Ban {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := Ban{Source: source, Since: now, Times: 1, Reason: reason}
	if before, ok := t.byPrefix.Load().Get(source); ok {
		if before.Active(now) {
			return *before
		}
		if !t.forgotten(*before, now) {
			b.Times = before.Times + 1
		}
	}
	span := t.first
	for range b.Times - 1 {
		if span *= 2; span >= t.most {
			break
		}
	}
	b.Until = now.Add(min(span, t.most))
	t.put(b, now)
	return b
}

// set bans as an operator says, whatever was before.
func (t *bans) set(b Ban) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.put(b, b.Since)
}

// take keeps a ban that another process has made, unless one here lasts longer, and tells
// whether it did.
func (t *bans) take(b Ban, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if before, ok := t.byPrefix.Load().Get(b.Source); !b.Active(now) || ok && !ends(*before).Before(ends(b)) {
		return false
	}
	t.put(b, now)
	return true
}

// put keeps a ban, and tells that there is something to save. t.mu is held.
func (t *bans) put(b Ban, now time.Time) {
	if _, known := t.byPrefix.Load().Get(b.Source); !known && t.byPrefix.Load().Size() >= maxBans {
		t.shed(now)
	}
	t.byPrefix.Store(t.byPrefix.Load().InsertPersist(b.Source, &b))
	t.total.Add(1)
	t.touch()
}

func (t *bans) touch() {
	select {
	case t.changed <- struct{}{}:
	default: // it is known already
	}
}

// shed forgets what is over for long, and if that is nothing, an eighth of all:
// those that end first. t.mu is held.
func (t *bans) shed(now time.Time) {
	list := t.list()
	kept := slices.DeleteFunc(slices.Clone(list), func(b Ban) bool { return t.forgotten(b, now) })
	if len(kept) == len(list) {
		slices.SortFunc(kept, func(a, b Ban) int { return ends(a).Compare(ends(b)) })
		kept = kept[len(kept)/8:]
	}
	t.replace(kept)
}

func ends(b Ban) time.Time {
	if b.Until.IsZero() {
		return time.Unix(1<<40, 0)
	}
	return b.Until
}

// forgotten tells whether a ban is over for so long that the next is a first.
func (t *bans) forgotten(b Ban, now time.Time) bool {
	return !b.Active(now) && now.Sub(b.Until) > max(t.most, 24*time.Hour)
}

// remove lets a source in again, and tells whether it was banned. What was is
// forgotten too.
func (t *bans) remove(source netip.Prefix, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, ok := t.byPrefix.Load().Get(source)
	if !ok {
		return false
	}
	t.byPrefix.Store(t.byPrefix.Load().DeletePersist(source))
	t.touch()
	return b.Active(now)
}

// list returns the bans, those that are over too, in the order of addresses.
func (t *bans) list() []Ban {
	table := t.byPrefix.Load()
	out := make([]Ban, 0, table.Size())
	for _, b := range table.AllSorted() {
		out = append(out, *b)
	}
	return out
}

// active counts those that hold now.
func (t *bans) active(now time.Time) (n int, total uint64) {
	for _, b := range t.byPrefix.Load().All() {
		if b.Active(now) {
			n++
		}
	}
	return n, t.total.Load()
}

// Bans lists the sources that are banned now.
func (p *Policy) Bans() []Ban {
	now := p.now()
	return slices.DeleteFunc(p.bans.list(), func(b Ban) bool { return !b.Active(now) })
}

// meant is the source that an operator names: a single IPv6 address is its /64, and an
// IPv4 address may be written as a dual-stack socket shows it, ::ffff:192.0.2.1.
func meant(source netip.Prefix) netip.Prefix {
	switch a := source.Addr(); {
	case a.Is4In6() && source.Bits() >= 96:
		return netip.PrefixFrom(a.Unmap(), source.Bits()-96)
	case a.Is6() && !a.Is4In6() && source.Bits() > 64:
		return prefixOf(a)
	}
	return source
}

// AddBan bans a source as an operator says; for 0 it is for good, and no time is
// less. A single IPv6 address is banned with its /64.
func (p *Policy) AddBan(source netip.Prefix, span time.Duration, reason string) (Ban, error) {
	source = meant(source)
	if err := prefixFaults("source", []netip.Prefix{source}); err != nil {
		return Ban{}, err
	}
	if span < 0 {
		return Ban{}, fmt.Errorf("a ban for %s is none; give a time, or 0 for good", span)
	}
	b := Ban{Source: source, Since: p.now(), Times: 1, Reason: reason}
	if span > 0 {
		b.Until = b.Since.Add(span)
	}
	p.bans.set(b)
	p.log.Info("source banned", "source", source.String(), "until", untilText(b), "reason", reason)
	return b, nil
}

// TakeBan keeps out whom another process has banned for what it saw.
func (p *Policy) TakeBan(b Ban) {
	if prefixFaults("source", []netip.Prefix{b.Source}) != nil || !p.bans.take(b, p.now()) {
		return
	}
	p.log.Warn("source banned by the process before", "source", b.Source.String(), "until", untilText(b), "times", b.Times, "reason", b.Reason)
	p.pass(b)
}

// pass tells of a ban.
func (p *Policy) pass(b Ban) {
	if p.bans.told != nil {
		p.bans.told(b)
	}
}

// RemoveBan lets a source in again, and tells whether it was banned. What was
// held against it is forgotten.
func (p *Policy) RemoveBan(source netip.Prefix) bool {
	source = meant(source)
	p.watch.forgive(source)
	was := p.bans.remove(source, p.now())
	if was {
		p.log.Info("ban removed", "source", source.String())
	}
	return was
}

func untilText(b Ban) string {
	if b.Until.IsZero() {
		return "for good"
	}
	return b.Until.UTC().Format(time.RFC3339)
}

func (p *Policy) banned(e Event) (Verdict, bool) {
	b, held := p.bans.of(e.Source, p.now())
	if !held {
		return Verdict{}, false
	}
	return Verdict{Reason: fmt.Sprintf("%s is banned until %s: %s", b.Source, untilText(b), b.Reason), Hush: true, End: !p.watch.isHeld(e.Flow)}, true
}

// ban keeps a source out for what was seen of it.
func (p *Policy) ban(source netip.Prefix, reason string) {
	if p.cfg.DryRun {
		p.log.Info("dry run: would ban", "source", source.String(), "reason", reason)
		return
	}
	b := p.bans.add(source, reason, p.now())
	p.alarm(Alarm{What: "ban", Reason: reason, Source: source.Addr()})
	p.log.Warn("source banned", "source", source.String(), "until", untilText(b), "times", b.Times, "reason", reason)
	p.pass(b)
}
