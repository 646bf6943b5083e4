package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Calls is the operator's rules for calls that phones make. 0 is no limit.
type Calls struct {
	Groups    []Group
	Numbers   []NumberRule // the first that fits decides; none: allowed
	Emergency []string     // numbers that may always be called

	International, Home, Premium []string // prefixes: abroad, of those not abroad, and dear

	MaxCalls, MaxCallsPerUser         int // at a time
	CallsPerHour, CallsPerHourPerUser int
	Abroad, PremiumTime               Daily

	Night    Span
	Weekend  []time.Weekday
	ClosedTo Class          // what is not called at night and at the weekend
	Zone     *time.Location // of days, nights and weekends; nil: this machine's

	EndCalls bool // calls under way end when their time is used up
}

// Daily is for how long is called on a day.
type Daily struct{ InAll, PerUser time.Duration }

// DefaultCalls knows the emergency numbers that are such nearly everywhere they can
// be called, and how one calls abroad nearly everywhere.
func DefaultCalls() Calls {
	return Calls{
		Emergency:     []string{"112", "911", "999", "110", "000"},
		International: []string{"+", "00", "011"},
		Weekend:       []time.Weekday{time.Saturday, time.Sunday},
	}
}

func (c Calls) zone() *time.Location {
	if c.Zone == nil {
		return time.Local
	}
	return c.Zone
}

// Validate reports every fault at once.
func (c Calls) Validate() error {
	var faults []error
	fault := func(bad bool, key, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("policy.calls."+key+": "+format, args...))
		}
	}
	for key, n := range map[string]int{
		"max_calls": c.MaxCalls, "max_calls_per_user": c.MaxCallsPerUser, "per_hour": c.CallsPerHour, "per_hour_per_user": c.CallsPerHourPerUser,
	} {
		fault(n < 0, key, "is %d; give 1 or more, or 0 for no limit", n)
	}
	for key, d := range map[string]time.Duration{
		"abroad_a_day": c.Abroad.InAll, "abroad_a_day_per_user": c.Abroad.PerUser,
		"premium_a_day": c.PremiumTime.InAll, "premium_a_day_per_user": c.PremiumTime.PerUser,
	} {
		fault(d < 0, key, "is %s; give a time, or 0s for no limit", d)
	}
	fault(c.EndCalls && c.Abroad == Daily{} && c.PremiumTime == Daily{}, "end_calls", "no call has a time to use up; give one of abroad_a_day, premium_a_day and those with _per_user")
	seen := map[string]bool{}
	for _, g := range c.Groups {
		fault(seen[g.Name], "groups", "%s is there twice; put all its users in one line", g.Name)
		seen[g.Name] = true
	}
	for _, r := range c.Numbers {
		fault(r.Group != everybody && !seen[r.Group], "numbers", "there is no group %q; name it in groups, or write * for everybody", r.Group)
	}
	for key, list := range map[string][]string{"emergency": c.Emergency, "international": c.International, "home": c.Home, "premium": c.Premium} {
		for _, number := range list {
			fault(number == "" || number != dialled(number), key, "%q has nothing to dial, or more; write digits alone, with + or * or # perhaps", number)
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}
