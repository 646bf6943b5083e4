package policy

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// maxAccounts bounds the users remembered without a call, about 400 bytes each.
const maxAccounts = 1 << 15

// budget counts the calls of users, once the PBX has accepted them, and of all.
type budget struct {
	cfg Calls

	mu      sync.Mutex // guards what follows, and the tabs
	all     account
	users   *recent[string, account]
	pending map[pending]int
	abroad  *recent[string, struct{}] // users that have called abroad
}

// pending is a user as a source says that it is one, until the PBX says so too.
type pending struct {
	user   string
	source netip.Prefix
}

// account is what one user calls, or all do.
type account struct {
	running int
	hour    tally // calls begun, leaking in an hour
	at      time.Time
	used    [2]time.Duration // on the day of at, until then: abroad, premium
	timed   [2]int           // calls that use it up, each all the time: those running that were answered
}

// tab is one call. All but policy is guarded by the budget's mutex.
type tab struct {
	policy   *Policy
	user     string
	number   string
	class    Class
	source   netip.Addr
	handed   bool    // it takes the place of another
	waits    pending // its place in budget.pending; zero: none
	began    bool    // the PBX accepted it
	answered bool    // its time runs, once it began
	over     bool
}

func newBudget(cfg Calls) *budget {
	return &budget{
		cfg: cfg, pending: make(map[pending]int), abroad: newRecent[string, struct{}](maxAccounts, nil),
		users: newRecent[string, account](maxAccounts, func(a *account) bool { return a.running > 0 }),
	}
}

// spent tells how long an account has called today, with what its calls under way
// have used so far.
func (b *budget) spent(a *account, now time.Time, kind int) time.Duration {
	b.turn(a, now)
	return a.used[kind]
}

// counts tells whether a call uses up a kind of time.
func (t *tab) counts(kind int) bool { return [2]bool{t.class.Abroad, t.class.Premium}[kind] }

// turn adds what an account's calls have used since it was looked at last. It does
// not look at each: there may be thousands, and each asks every few seconds. A new
// day begins with nothing.
func (b *budget) turn(a *account, now time.Time) {
	local := now.In(b.cfg.zone())
	midnight := time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, local.Location())
	from := a.at
	if from.Before(midnight) {
		from, a.used = midnight, [2]time.Duration{}
	}
	for kind, calls := range a.timed {
		a.used[kind] += time.Duration(calls) * max(0, now.Sub(from)) // a clock may step back
	}
	a.at = now
}

// meter has a call use up its accounts' time from now on, or no longer. b.mu is held.
func (b *budget) meter(t *tab, now time.Time, calls int) {
	for _, a := range []*account{b.users.get(t.user), &b.all} {
		b.turn(a, now)
		for kind := range a.timed {
			if t.counts(kind) {
				a.timed[kind] += calls
			}
		}
	}
}

// over finds the first limit that one more call would pass, of a user and of all.
// besides are calls that count though the PBX has not accepted them yet. One that is
// handed on takes the place of another. b.mu is held.
func (b *budget) over(user string, class Class, besides int, handed bool, now time.Time) (key, reason string) {
	c := b.cfg
	own := b.users.find(user)
	if own == nil {
		own = &account{}
	}
	for _, who := range []struct {
		a            *account
		suffix, name string
		calls, hour  int
		daily        [2]time.Duration
		besides      int
	}{
		{own, "_per_user", "user " + user, c.MaxCallsPerUser, c.CallsPerHourPerUser, c.daily(true), besides},
		{&b.all, "", "all users together", c.MaxCalls, c.CallsPerHour, c.daily(false), 0},
	} {
		switch {
		case who.calls > 0 && !handed && who.a.running+who.besides >= who.calls:
			return "policy.calls.max_calls" + who.suffix, fmt.Sprintf("%s: %d calls at a time, as many as are allowed", who.name, who.calls)
		case who.hour > 0 && reached(who.a.hour.now(now, float64(who.hour)/3600), float64(who.hour)):
			return "policy.calls.per_hour" + who.suffix, fmt.Sprintf("%s: %d calls in an hour, as many as are allowed", who.name, who.hour)
		}
		if key, reason := b.dry(who.a, who.suffix, who.name, class, who.daily, now); key != "" {
			return key, reason
		}
	}
	return "", ""
}

// daily is for how long may be called abroad and premium, on a day.
func (c Calls) daily(user bool) [2]time.Duration {
	if user {
		return [2]time.Duration{c.Abroad.PerUser, c.PremiumTime.PerUser}
	}
	return [2]time.Duration{c.Abroad.InAll, c.PremiumTime.InAll}
}

// dry tells whether an account's time for a class is used up. b.mu is held.
func (b *budget) dry(a *account, suffix, name string, class Class, most [2]time.Duration, now time.Time) (key, reason string) {
	for kind, applies := range [2]bool{class.Abroad, class.Premium} {
		if applies && most[kind] > 0 && b.spent(a, now, kind) >= most[kind] {
			word := [2]string{"abroad", "premium"}[kind]
			return "policy.calls." + word + "_a_day" + suffix, fmt.Sprintf("%s: the %s of a day (%s) are used up", name, most[kind], word)
		}
	}
	return "", ""
}

// limited is the rule of all budgets. An event that no rule refuses gets its tab
// afterwards.
func (p *Policy) limited(e Event) (Verdict, bool) {
	b, user := p.budget, name(e.who())
	b.mu.Lock()
	defer b.mu.Unlock()
	besides := 0
	if e.Login != "" { // what it claims without credentials, the PBX asks back
		besides = b.pending[pending{user, prefixOf(e.Source)}]
	}
	key, reason := b.over(user, b.cfg.class(dialled(e.Number)), besides, e.Handed, p.now())
	if key == "" {
		return Verdict{}, false
	}
	return p.exceeded(key, reason, user, e.Number, e.Source), true
}

func (p *Policy) exceeded(key, reason, user, number string, source netip.Addr) Verdict {
	p.alarm(Alarm{What: "limit", Rule: key, Reason: reason, User: user, Number: number, Source: source})
	return Verdict{Rule: key, Reason: reason, Say: "the limit for such calls is reached"}
}

// open begins the tab of a call that is let through.
func (p *Policy) open(e Event) *tab {
	t := &tab{policy: p, user: name(e.who()), number: name(e.Number), class: p.cfg.Calls.class(dialled(e.Number)), source: e.Source, handed: e.Handed}
	if e.Login == "" || e.Handed {
		return t
	}
	b := p.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	t.waits = pending{t.user, prefixOf(e.Source)}
	b.pending[t.waits]++
	return t
}

// Began tells that the PBX has accepted a call, which counts from now on, once. The
// answer is a refusal if there is no more room for it by now: the call must end.
func (v Verdict) Began() Verdict {
	if v.tab == nil {
		return Verdict{Allowed: true}
	}
	return v.tab.begin()
}

func (t *tab) begin() Verdict {
	p, b := t.policy, t.policy.budget
	now := p.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.began || t.over {
		return Verdict{Allowed: true}
	}
	b.settle(t)
	key, reason := b.over(t.user, t.class, 0, t.handed, now)
	t.began = true
	for i, a := range []*account{b.users.get(t.user), &b.all} {
		a.running++
		a.hour.now(now, float64([]int{b.cfg.CallsPerHourPerUser, b.cfg.CallsPerHour}[i])/3600)
		a.hour.score++
	}
	if t.answered {
		b.meter(t, now, 1)
	}
	if t.class.Abroad {
		if b.abroad.find(t.user) == nil {
			p.bans.touch() // to be kept
			p.alarm(Alarm{What: "first_call_abroad", Reason: "the first call abroad of this user", User: t.user, Number: t.number, Source: t.source})
		}
		b.abroad.get(t.user)
	}
	if key == "" {
		return Verdict{Allowed: true}
	}
	return p.judged(key, p.exceeded(key, reason, t.user, t.number, t.source), t)
}

// settle gives up a pending call's place. b.mu is held.
func (b *budget) settle(t *tab) {
	if t.waits == (pending{}) {
		return
	}
	if b.pending[t.waits]--; b.pending[t.waits] <= 0 {
		delete(b.pending, t.waits)
	}
	t.waits = pending{}
}

// Answered tells that a call was answered: its time runs.
func (v Verdict) Answered() {
	if t := v.tab; t != nil {
		b, now := t.policy.budget, t.policy.now()
		b.mu.Lock()
		defer b.mu.Unlock()
		if t.began && !t.answered && !t.over {
			b.meter(t, now, 1)
		}
		t.answered = true
	}
}

// Lasts tells whether a call may go on. It is asked every few seconds.
func (v Verdict) Lasts() Verdict {
	t := v.tab
	if t == nil || !t.policy.cfg.Calls.EndCalls {
		return Verdict{Allowed: true}
	}
	p, b := t.policy, t.policy.budget
	now := p.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.over || !t.answered {
		return Verdict{Allowed: true}
	}
	c := b.cfg
	key, reason := b.dry(b.users.get(t.user), "_per_user", "user "+t.user, t.class, c.daily(true), now)
	if key == "" {
		key, reason = b.dry(&b.all, "", "all users together", t.class, c.daily(false), now)
	}
	if key == "" {
		return Verdict{Allowed: true}
	}
	return p.judged(key, p.exceeded(key, reason, t.user, t.number, t.source), t)
}

// end closes a tab.
func (t *tab) end() {
	p, b := t.policy, t.policy.budget
	now := p.now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.over {
		return
	}
	b.settle(t)
	t.over = true
	if !t.began {
		return
	}
	if t.answered {
		b.meter(t, now, -1)
	}
	for _, a := range []*account{b.users.get(t.user), &b.all} {
		a.running--
	}
}
