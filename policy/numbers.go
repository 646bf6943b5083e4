package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// everybody is the group of all users, and the prefix of all numbers.
const everybody = "*"

// Group is some users by a common name. A user that ends in * is all that begin so.
type Group struct {
	Name  string
	Users []string
}

// UnmarshalText reads "office: 1001 1002 20*".
func (g *Group) UnmarshalText(text []byte) error {
	name, users, ok := strings.Cut(string(text), ":")
	g.Name, g.Users = strings.TrimSpace(name), strings.Fields(users)
	if !ok || g.Name == "" || g.Name == everybody || strings.Contains(g.Name, " ") || len(g.Users) == 0 {
		return fmt.Errorf("is %q, and must be a name and its users; write it like \"office: 1001 1002 20*\"", text)
	}
	return nil
}

func (g Group) has(user string) bool {
	user = strings.ToLower(user)
	return slices.ContainsFunc(g.Users, func(pattern string) bool {
		if prefix, wide := strings.CutSuffix(strings.ToLower(pattern), "*"); wide {
			return strings.HasPrefix(user, prefix)
		}
		return strings.EqualFold(user, pattern)
	})
}

// NumberRule allows or denies a group some numbers, by how they begin.
type NumberRule struct {
	Allow    bool
	Group    string
	Prefixes []string
}

// UnmarshalText reads "deny office 00 +", and "allow * *" for everybody and all.
func (r *NumberRule) UnmarshalText(text []byte) error {
	words := strings.Fields(string(text))
	if len(words) < 3 || words[0] != "allow" && words[0] != "deny" {
		return fmt.Errorf("is %q, and must be allow or deny, a group, and prefixes; write it like \"deny office 00 +\", or \"allow * *\"", text)
	}
	*r = NumberRule{Allow: words[0] == "allow", Group: words[1], Prefixes: words[2:]}
	return nil
}

// Span is a part of each day, over midnight if its end is before its beginning.
type Span struct{ From, To time.Duration } // since midnight; the same: none

// UnmarshalText reads "22:00-06:00", and nothing for none.
func (s *Span) UnmarshalText(text []byte) error {
	*s = Span{}
	if len(text) == 0 {
		return nil
	}
	from, to, ok := strings.Cut(string(text), "-")
	a, errA := time.Parse("15:04", strings.TrimSpace(from))
	b, errB := time.Parse("15:04", strings.TrimSpace(to))
	if !ok || errA != nil || errB != nil || a.Equal(b) {
		return fmt.Errorf("is %q, and must be two times of the day; write it like \"22:00-06:00\"", text)
	}
	midnight := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	*s = Span{a.Sub(midnight), b.Sub(midnight)}
	return nil
}

func (s Span) holds(now time.Time) bool {
	at := time.Duration(now.Hour())*time.Hour + time.Duration(now.Minute())*time.Minute
	if s.From <= s.To {
		return s.From <= at && at < s.To
	}
	return at >= s.From || at < s.To
}

// Class is what a number costs like. One can be of both.
type Class struct{ Abroad, Premium bool }

// String implements fmt.Stringer.
func (c Class) String() string {
	switch {
	case c.Abroad && c.Premium:
		return "international and premium"
	case c.Abroad:
		return "international"
	case c.Premium:
		return "premium"
	}
	return "national"
}

// dialled is a number as a PBX reads it: without what is written between its
// digits for people (RFC 3966 section 5.1.1), and without parameters. Asterisk
// passes over the first when it looks a number up, so they must not hide a prefix.
func dialled(number string) string {
	number, _, _ = strings.Cut(number, ";")
	return strings.Map(func(c rune) rune {
		switch c {
		case '-', '.', '(', ')', ' ':
			return -1
		}
		return c
	}, number)
}

func begins(number string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return p == everybody || strings.HasPrefix(number, p) })
}

// class tells what a number costs like. number is as dialled has it.
func (c Calls) class(number string) Class {
	return Class{
		Abroad:  begins(number, c.International) && !begins(number, c.Home),
		Premium: begins(number, c.Premium),
	}
}

// IsSomebody tells whether a user has authenticated over a connection.
func (p *Policy) IsSomebody(flow uint64) bool { return p.watch.isSomebody(flow) }

// IsEmergency tells whether a number is one for help.
func (p *Policy) IsEmergency(number string) bool {
	return slices.Contains(p.cfg.Calls.Emergency, dialled(number))
}

// emergency lets calls for help through, whoever makes them, whatever they cost.
// Before the call there is its request: that passes the watch where somebody has
// authenticated, as a guesser may say that it calls for help too.
func (p *Policy) emergency(e Event) (Verdict, bool) {
	if !p.IsEmergency(e.Number) {
		return Verdict{}, false
	}
	if e.Kind == Request && !p.watch.isSomebody(e.Flow) {
		return Verdict{}, false
	}
	return Verdict{Allowed: true, Reason: "a call for help"}, true
}

// numbered goes by the number rules: the first that fits decides.
func (p *Policy) numbered(e Event) (Verdict, bool) {
	number, user := dialled(e.Number), e.who()
	for _, r := range p.cfg.Calls.Numbers {
		if !begins(number, r.Prefixes) || !p.cfg.Calls.isIn(r.Group, user) {
			continue
		}
		if r.Allow {
			return Verdict{}, false
		}
		return Verdict{Reason: fmt.Sprintf("user %s may not call %s (%q of group %s)", user, number, "deny "+strings.Join(r.Prefixes, " "), r.Group),
			Say: "this number may not be called"}, true
	}
	return Verdict{}, false
}

func (c Calls) isIn(group, user string) bool {
	return group == everybody || slices.ContainsFunc(c.Groups, func(g Group) bool { return g.Name == group && g.has(user) })
}

// closed keeps what is dear from being called when nobody is there to call.
func (p *Policy) closed(e Event) (Verdict, bool) {
	c := p.cfg.Calls
	class, now := c.class(dialled(e.Number)), p.now().In(c.zone())
	if !(class.Abroad && c.ClosedTo.Abroad || class.Premium && c.ClosedTo.Premium) {
		return Verdict{}, false
	}
	if !c.Night.holds(now) && !slices.Contains(c.Weekend, now.Weekday()) {
		return Verdict{}, false
	}
	return Verdict{Reason: fmt.Sprintf("%s calls are not made at this time (%s)", class, now.Format("Mon 15:04")), Say: "this number may not be called at this time"}, true
}

// who is the user that an event is judged as.
func (e Event) who() string {
	if e.Login != "" {
		return e.Login
	}
	return e.User
}
