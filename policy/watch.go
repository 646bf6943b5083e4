package policy

import (
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Bounds of what is remembered, about 300 bytes each, and what a fault weighs.
const (
	maxSuspects = 1 << 16 // more than there can be connections
	maxUsers    = 1 << 15
	maxDevices  = 1 << 15
	maxKnown    = 1 << 12 // users known at one source
	maxName     = 128     // of a user's name, of which there may be a whole message

	guardFactor = 5                // a user is guarded at so many times the failures that ban a source
	grace       = 10 * time.Minute // for phones to come back, in which their source is not banned
	deviceShare = 2                // a device is held off at that part of the failures that ban a source
	entryRate   = 1.0              // new connections a second from a source that is not banned for its phones' sake
	entryBurst  = 20               // and at once, besides two for each of its users
	maxWaits    = 5                // requests put off on one connection
	abandoned   = 0.25             // what it weighs to come, ask and go
	maxOptions  = 30               // at once, of one connection that has not authenticated
	optionsRate = 0.5              // and sustained, each second
	heldFor     = 128              // sources looked at in one go
)

// What became of something that was allowed.
type What uint8

// The outcomes.
const (
	Challenged What = iota // asked for credentials that it lacked, or whose nonce was stale
	Accepted               // taken by the PBX, with credentials
	Registered             // likewise, of a REGISTER, with or without
	Failed                 // its credentials were wrong
	Forbidden              // refused with credentials: they were wrong, or it asked too much
	Passed                 // answered, with credentials that may not have been looked at: it proves nothing
	Unknown                // there is no such user
	Malformed              // a connection's first message could not be read
	Foreign                // not TLS: plain SIP or HTTP
	Closed                 // the connection is gone
	whats                  // how many there are
)

var whatNames = [whats]string{"challenged", "accepted", "registered", "failed", "forbidden", "passed", "unknown_user", "malformed", "not_tls", "closed"}

// String implements fmt.Stringer.
func (w What) String() string { return whatNames[w] }

// Outcome is what became of something that was allowed, as who saw it tells. A
// field it does not have is empty.
type Outcome struct {
	What   What
	Source netip.Addr
	Flow   uint64 // the connection's own number; 0: none yet
	User   string // who it claimed to be
	Login  string // whose credentials it carried
	Device string
}

// watch weighs what the PBX said to whom. Scores leak, so that what is long ago
// weighs nothing.
type watch struct {
	limit   float64       // of a source; 0: nothing is watched
	leak    float64       // of its score, each second
	perFlow float64       // failures of one connection
	sweep   int           // users that one connection may ask for and not be
	window  time.Duration // in which limit leaks away

	mu       sync.Mutex // guards what follows
	flows    map[uint64]*visitor
	sources  *recent[netip.Prefix, suspect]
	users    *recent[string, tally]
	devices  *recent[string, tally]
	outcomes [whats]uint64
}

// tally is a score that leaks.
type tally struct {
	score float64
	at    time.Time // when score was right
}

// now is the score at a time, leaking so much each second.
func (t *tally) now(now time.Time, leak float64) float64 {
	if past := now.Sub(t.at); past > 0 { // a clock may step back
		t.score = max(0, t.score-past.Seconds()*leak)
	}
	t.at = now
	return t.score
}

// reached tells whether a score has come to a limit, but for what has leaked of it
// since its first fault.
func reached(score, limit float64) bool { return score > 0 && score > limit-1 }

// suspect is a source, whether there is anything against it or not.
type suspect struct {
	tally
	prefix netip.Prefix
	flows  int                 // its connections that spoke
	phones int                 // those over which a user has authenticated
	left   time.Time           // when the last of those went
	known  map[string]struct{} // users that have authenticated from here
	entry  tally               // of new connections
}

// visitor is one connection.
type visitor struct {
	tally
	source  *suspect
	asked   map[string]struct{} // users that it asked for, and was not yet
	proven  map[string]struct{} // users that it is
	failed  map[string]float64  // by user, until that is proven
	asks    int                 // in a row without an answer of its own
	options tally
	waits   int  // requests put off
	ended   bool // it is to be closed, whatever it says
	hushed  bool // and to be told nothing
}

func newWatch(cfg Config) *watch {
	w := &watch{
		limit: float64(cfg.AuthFailures), perFlow: float64(cfg.AuthFailuresPerConnection), sweep: cfg.Sweep, window: cfg.AuthWindow,
		flows: make(map[uint64]*visitor), users: newRecent[string, tally](maxUsers, nil), devices: newRecent[string, tally](maxDevices, nil),
		sources: newRecent[netip.Prefix](maxSuspects, func(s *suspect) bool { return s.flows > 0 }),
	}
	w.leak = w.limit / cfg.AuthWindow.Seconds()
	return w
}

// name is a user's or device's name as it is remembered: short, and a copy, for
// the whole message would stay with it; and in lower case, since to some PBXs Anna
// and ANNA are one, who is not to have two budgets.
func name(s string) string { return strings.Clone(strings.ToLower(s[:min(len(s), maxName)])) }

// suspect finds or begins a source. w.mu is held.
func (w *watch) suspect(a netip.Addr) *suspect {
	s := w.sources.get(prefixOf(a))
	s.prefix = prefixOf(a)
	return s
}

// visitor finds or begins a connection. w.mu is held.
func (w *watch) visitor(flow uint64, a netip.Addr) *visitor {
	v := w.flows[flow]
	if v == nil {
		v = &visitor{source: w.suspect(a)}
		v.source.flows++
		w.flows[flow] = v
	}
	return v
}

// isProven tells whether a user has authenticated over the connection.
func (v *visitor) isProven(user string) bool {
	_, ok := v.proven[user]
	return ok
}

// shelters tells whether a source has phones for whose sake it is not banned.
func (s *suspect) shelters(now time.Time) bool {
	return s.phones > 0 || !s.left.IsZero() && now.Sub(s.left) < grace
}

// isKnown tells whether a user has authenticated from a source.
func (s *suspect) isKnown(user string) bool {
	_, ok := s.known[user]
	return ok
}

// Observe takes what became of something. The Verdict refuses when the
// connection is to be closed.
func (p *Policy) Observe(o Outcome) Verdict {
	if !o.Source.IsValid() {
		return Verdict{Allowed: true}
	}
	o.Source, o.User, o.Login, o.Device = plain(o.Source), name(o.User), name(o.Login), name(o.Device)
	w := p.watch
	w.mu.Lock()
	w.outcomes[o.What]++
	end, ban, why := false, false, ""
	if w.limit > 0 && !p.allow.Contains(o.Source) {
		end, ban, why = w.take(o, p.now())
	} else {
		w.note(o, p.now())
	}
	w.mu.Unlock()
	if ban {
		p.ban(prefixOf(o.Source), why)
	}
	if end && !p.cfg.DryRun {
		return Verdict{Rule: keyFailures, Reason: why, End: true}
	}
	return Verdict{Allowed: true}
}

// take weighs an outcome: whether the connection ends, and the source is
// banned, and why. w.mu is held.
func (w *watch) take(o Outcome, now time.Time) (end, ban bool, why string) {
	switch o.What {
	case Malformed:
		return w.fault(w.suspect(o.Source), nil, 1, now, "sends what is no SIP")
	case Foreign:
		return w.fault(w.suspect(o.Source), nil, 1, now, "speaks no TLS")
	case Closed:
		if v := w.gone(o.Flow, now); v != nil && len(v.proven) == 0 && !v.ended && (len(v.asked) > 0 || v.options.score > 0) {
			_, ban, why = w.fault(v.source, nil, abandoned, now, "comes again and again, and never is anybody")
		}
		return false, ban, why
	}
	v := w.visitor(o.Flow, o.Source)
	switch o.What {
	case Challenged:
		return w.challenged(v, o.User, now)
	case Accepted, Registered:
		w.accepted(v, o)
	case Failed, Forbidden, Unknown:
		if o.What == Unknown && o.Login == "" { // what is done about it must not tell that there is no such user
			return w.challenged(v, o.User, now)
		}
		if o.What == Forbidden && v.isProven(o.Login) {
			return false, false, "" // a number that this user may not call
		}
		w.failure(v, o, now)
		return w.fault(v.source, v, 1, now, "guesses users or passwords")
	}
	return false, false, ""
}

// challenged counts the users that a connection asks for and does not answer
// for. w.mu is held.
func (w *watch) challenged(v *visitor, user string, now time.Time) (end, ban bool, why string) {
	if v.isProven(user) { // a console asks for each of the phones that it watches
		return false, false, ""
	}
	if v.asked == nil {
		v.asked = make(map[string]struct{})
	}
	v.asked[user] = struct{}{}
	v.asks++
	if len(v.asked) >= w.sweep || v.asks >= 10*w.sweep {
		return w.fault(v.source, v, w.limit, now, fmt.Sprintf("asked for %d users on one connection and answered for none", len(v.asked)))
	}
	return false, false, ""
}

// accepted clears a user on a connection. What it failed before was a password
// mistyped, or a nonce that the PBX did not call stale. w.mu is held.
func (w *watch) accepted(v *visitor, o Outcome) {
	user := o.Login
	if user == "" {
		user = o.User
	}
	s := v.source
	if len(v.proven) == 0 {
		s.phones++
	}
	if v.proven == nil {
		v.proven = make(map[string]struct{})
	}
	if s.known == nil {
		s.known = make(map[string]struct{})
	}
	users := []string{user}
	if o.What == Registered { // of a call, From may be anything
		users = append(users, o.User)
	}
	for _, each := range users {
		if len(v.proven) < maxKnown {
			v.proven[each] = struct{}{}
		}
		if len(s.known) < maxKnown {
			s.known[each] = struct{}{}
		}
		delete(v.asked, each)
		v.score, s.score = max(0, v.score-v.failed[each]), max(0, s.score-v.failed[each])
		delete(v.failed, each)
	}
	v.asks = 0
	w.devices.remove(deviceKey(user, o.Device))
}

func deviceKey(user, device string) string { return user + "\x00" + device }

// failure notes whom a guess was about. w.mu is held.
func (w *watch) failure(v *visitor, o Outcome, now time.Time) {
	user := o.Login
	if user == "" {
		user = o.User
	}
	if v.failed == nil || len(v.failed) > w.sweep {
		v.failed = make(map[string]float64)
	}
	v.failed[user]++
	if !v.isProven(user) {
		delete(v.source.known, user) // whoever that is, it may not be who it was
	}
	t := w.users.get(user)
	t.now(now, w.leak*guardFactor)
	t.score++
	if o.Device != "" {
		d := w.devices.get(deviceKey(user, o.Device))
		d.now(now, 1/w.window.Seconds())
		d.score++
	}
}

// fault adds to what is held against a source, and a connection if there is one.
// w.mu is held.
func (w *watch) fault(s *suspect, v *visitor, weight float64, now time.Time, why string) (end, ban bool, reason string) {
	s.now(now, w.leak)
	if s.shelters(now) { // what one does there is not to keep the others out for long
		s.score = min(s.score+min(weight, 1), w.limit)
	} else if s.score += weight; reached(s.score, w.limit) {
		s.score = 0 // paid for by the ban
		ban = true
	}
	suspected := reached(s.score, w.limit)
	if v != nil {
		v.now(now, w.leak)
		v.score += weight
		allowed := w.perFlow
		switch {
		case len(v.proven) > 0: // its own users' calls hang on it
			allowed = max(allowed, w.limit)
		case suspected:
			allowed = min(allowed, 2)
		}
		end = ban || reached(v.score, allowed)
		v.ended = v.ended || end
	}
	return end, ban, fmt.Sprintf("%s %s", s.prefix, why)
}

// gone forgets a connection, and returns what was known of it. w.mu is held.
func (w *watch) gone(flow uint64, now time.Time) *visitor {
	v := w.flows[flow]
	if v == nil {
		return nil
	}
	delete(w.flows, flow)
	v.source.flows--
	if len(v.proven) > 0 {
		v.source.phones--
		v.source.left = now
	}
	return v
}

// note keeps who is who of those whom the watch does not judge. w.mu is held.
func (w *watch) note(o Outcome, now time.Time) {
	switch o.What {
	case Accepted, Registered:
		w.accepted(w.visitor(o.Flow, o.Source), o)
	case Closed:
		w.gone(o.Flow, now)
	}
}

// suspected holds off what the watch has reason to.
func (p *Policy) suspected(e Event) (Verdict, bool) {
	w, now := p.watch, p.now()
	if w.limit == 0 {
		return Verdict{}, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Kind == Connection {
		return w.entering(w.sources.find(prefixOf(e.Source)), now)
	}
	v := w.visitor(e.Flow, e.Source)
	if v.ended {
		return Verdict{Reason: fmt.Sprintf("the connection has failed %.0f times", math.Ceil(v.score)), End: !v.hushed, Hush: v.hushed}, true
	}
	if e.Method == "OPTIONS" && len(v.proven) == 0 {
		if v.options.now(now, optionsRate) >= maxOptions {
			v.ended = true
			return Verdict{Reason: "too many OPTIONS on a connection on which nobody has authenticated", End: true}, true
		}
		v.options.score++
	}
	login := name(e.Login)
	user := login
	if user == "" {
		user = name(e.User)
	}
	s := v.source
	known := s.isKnown(user) || v.isProven(user)
	switch {
	case !known && len(v.proven) == 0 && reached(s.now(now, w.leak), w.limit):
		v.waits++
		return Verdict{Reason: fmt.Sprintf("too many failures from %s, which is not banned for its phones' sake; who was not there before may try again later", s.prefix),
			Later: w.pause(), End: v.waits > maxWaits}, true
	case login == "" || v.isProven(login):
		return Verdict{}, false
	case !known && reached(w.score(w.users, user, now, w.leak*guardFactor), w.limit*guardFactor):
		return Verdict{Reason: "too many failures for this user from elsewhere, and it was not heard from here before", Later: w.pause(), End: true}, true
	case e.Device != "" && reached(w.score(w.devices, deviceKey(user, name(e.Device)), now, 1/w.window.Seconds()), w.limit/deviceShare):
		return Verdict{Reason: "the device has tried a wrong password too often; it is let try again later", Later: w.window}, true
	}
	return Verdict{}, false
}

// pause is how long it takes until one more failure would be let through.
func (w *watch) pause() time.Duration {
	return time.Duration(float64(w.window) / w.limit).Round(time.Second)
}

// score is what is held against a user or a device. w.mu is held.
func (w *watch) score(of *recent[string, tally], key string, now time.Time, leak float64) float64 {
	if t := of.find(key); t != nil {
		return t.now(now, leak)
	}
	return 0
}

// isHeld tells whether a connection is held open without an answer.
func (w *watch) isHeld(flow uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := w.flows[flow]
	return v != nil && v.hushed
}

// isSomebody tells whether a user has authenticated over a connection.
func (w *watch) isSomebody(flow uint64) bool {
	return w.isAnyOf(flow, func(string) bool { return true })
}

// entering slows new connections of a source that would be banned if no phones
// were there. w.mu is held.
func (w *watch) entering(s *suspect, now time.Time) (Verdict, bool) {
	if s == nil || !reached(s.now(now, w.leak), w.limit) {
		return Verdict{}, false
	}
	users := float64(len(s.known))
	if s.entry.now(now, entryRate+users/30) >= entryBurst+2*users {
		return Verdict{Reason: fmt.Sprintf("too many failures from %s; it is not banned for its phones' sake, but let in slowly", s.prefix)}, true
	}
	s.entry.score++
	return Verdict{}, false
}

// condemn closes a connection for what it did, and holds so much against its
// source that it is banned unless there are phones.
func (p *Policy) condemn(e Event, why string, hush bool) {
	w := p.watch
	if w.limit == 0 || p.cfg.DryRun {
		return
	}
	w.mu.Lock()
	v := w.visitor(e.Flow, e.Source)
	_, ban, reason := w.fault(v.source, v, w.limit, p.now(), why)
	v.ended, v.hushed = true, hush
	w.mu.Unlock()
	if ban {
		p.ban(prefixOf(e.Source), reason)
	}
}

// forgive forgets what is held against sources.
func (w *watch) forgive(sources netip.Prefix) {
	w.each(func(s *suspect) {
		if sources.Overlaps(s.prefix) {
			s.score = 0
		}
	})
}

// each runs f for all sources. w.mu is held for some of them at a time: every
// request waits for it, and there may be 65,536.
func (w *watch) each(f func(*suspect)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, at := range w.sources.byKey {
		f(&at.Value.(*entry[netip.Prefix, suspect]).value)
		if n++; n%heldFor == 0 {
			w.mu.Unlock()
			runtime.Gosched() // or who waits for the mutex is woken too late to get it
			w.mu.Lock()
		}
	}
}
