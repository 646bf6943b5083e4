package policy

import (
	"context"
	"net/netip"
	"time"
)

const (
	// saveEvery is the least time between two writes of the ledger, and keepEvery
	// the most.
	saveEvery = time.Second
	keepEvery = time.Minute
	// saveShare is the part of the time that writing may take.
	saveShare = 20
)

// Kept is what outlives a restart.
type Kept struct {
	Bans   []Ban    `json:"bans"`
	Phones []Phones `json:"phones"`
	Abroad []string `json:"abroad"` // users that have called abroad
}

// Phones is a source where users have authenticated: it is not banned as a whole.
type Phones struct {
	Source netip.Prefix `json:"source"`
	Seen   time.Time    `json:"seen"`
}

// Ledger keeps it.
type Ledger interface {
	Load() (Kept, error)
	Save(Kept) error
}

// Restore takes what the ledger keeps, in place of the bans that there are: New does, and
// whoever has waited since then for another process to let go of the ledger.
func (p *Policy) Restore() {
	if p.ledger == nil {
		return
	}
	kept, err := p.ledger.Load()
	if err != nil { // phones need the edge more than it needs its bans
		p.log.Warn("bans of before are lost", "reason", err)
		return
	}
	p.bans.restore(kept.Bans, p.now())
	p.watch.restore(kept.Phones, p.now())
	p.budget.restore(kept.Abroad)
}

// Save writes what is to be kept at once.
func (p *Policy) Save() {
	if p.ledger == nil {
		return
	}
	p.saving.Lock() // what is written last must not be older than what was before
	defer p.saving.Unlock()
	err := p.ledger.Save(Kept{Bans: p.bans.list(), Phones: p.watch.phones(p.now()), Abroad: p.budget.farCallers()})
	if err != nil {
		p.log.Warn("bans are not kept for the next start", "reason", err)
	}
}

// keep saves what changes until ctx ends, and once more then.
func (p *Policy) keep(ctx context.Context) {
	if p.ledger == nil {
		return
	}
	defer p.Save()
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.bans.changed:
		case <-tick.C:
		}
		began := time.Now()
		p.Save()
		pause := time.NewTimer(max(saveEvery, saveShare*time.Since(began)))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}

// phones are the sources where there are phones, or were just now.
func (w *watch) phones(now time.Time) []Phones {
	w.mu.Lock()
	list := make([]Phones, 0, w.sources.len())
	w.mu.Unlock()
	w.each(func(s *suspect) {
		switch {
		case s.phones > 0:
			list = append(list, Phones{s.prefix, now})
		case s.shelters(now):
			list = append(list, Phones{s.prefix, s.left})
		}
	})
	return list
}

// restore gives phones their time to come back.
func (w *watch) restore(list []Phones, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, each := range list {
		if each.Source.IsValid() && each.Source == prefixOf(each.Source.Addr()) && !each.Seen.After(now) {
			// From now on: the edge itself was away.
			w.suspect(each.Source.Addr()).left = now
		}
	}
}

// farCallers are the users that have called abroad.
func (b *budget) farCallers() (list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for at := b.abroad.order.Front(); at != nil; at = at.Next() {
		list = append(list, at.Value.(*entry[string, struct{}]).key)
	}
	return list
}

func (b *budget) restore(users []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, user := range users {
		b.abroad.get(name(user))
	}
}
