package policy

import (
	"net/netip"
	"sync"
	"time"
)

const (
	alarmPause = time.Minute // between two of the same kind and user
	maxAlarms  = 1 << 12     // remembered, to keep that
)

// Alarm is what an operator wants to know now.
type Alarm struct {
	Time   time.Time  `json:"time"`
	What   string     `json:"what"` // "limit", "first_call_abroad" or "ban"
	Rule   string     `json:"rule,omitempty"`
	Reason string     `json:"reason"`
	User   string     `json:"user,omitempty"`
	Number string     `json:"number,omitempty"`
	Source netip.Addr `json:"source"`
}

// alarms keeps one thing from being told over and over.
type alarms struct {
	tell func(Alarm) // nil: nobody is told

	mu   sync.Mutex // guards last
	last *recent[string, time.Time]
}

func newAlarms(tell func(Alarm)) *alarms {
	return &alarms{tell: tell, last: newRecent[string, time.Time](maxAlarms, nil)}
}

// alarm tells, unless it did so just now. In a dry run too.
func (p *Policy) alarm(a Alarm) {
	a.Time = p.now()
	if p.alarms.isRepeated(a) {
		return
	}
	p.log.Warn("alarm", "what", a.What, "user", a.User, "number", a.Number, "source", a.Source.String(), "rule", a.Rule, "reason", a.Reason)
	if p.alarms.tell != nil {
		p.alarms.tell(a)
	}
}

func (t *alarms) isRepeated(a Alarm) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.last.get(a.What + " " + a.Rule + " " + a.User)
	if !at.IsZero() && a.Time.Sub(*at) < alarmPause && !a.Time.Before(*at) && a.What != "ban" {
		return true
	}
	*at = a.Time
	return false
}
