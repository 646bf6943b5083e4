package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func text[T any, P interface {
	*T
	UnmarshalText([]byte) error
}](t testing.TB, s string) T {
	t.Helper()
	var v T
	if err := P(&v).UnmarshalText([]byte(s)); err != nil {
		t.Fatalf("%q %v", s, err)
	}
	return v
}

func ask(p *Policy, user, number string) Verdict {
	return p.Decide(Event{Kind: Call, Source: netip.MustParseAddr("192.0.2.1"), User: user, Login: user, Number: number})
}

func TestNumbers(t *testing.T) {
	p, _ := build(t, func(c *Config) {
		c.Calls.Groups = []Group{text[Group](t, "office: 1001 20*"), text[Group](t, "boss: 1099")}
		for _, r := range []string{"allow boss *", "allow office +49 0049", "deny * 0900 +49900", "deny office 00 +", "allow * *"} {
			c.Calls.Numbers = append(c.Calls.Numbers, text[NumberRule](t, r))
		}
	})
	for _, tc := range []struct {
		user, number string
		allowed      bool
	}{
		{"1001", "602", true}, {"1001", "004930123", true}, {"1001", "+4930123", true}, {"1001", "0044123", false}, {"2050", "+44123", false},
		{"1002", "0044123", true}, {"1002", "0900123", false}, {"1099", "0900123", true}, {"1001", "0900123", false},
		// What hides a prefix from a reader, and not from Asterisk.
		{"1002", "0-900-123", false}, {"1002", "(0)900.123", false}, {"1001", "0 0 44", false}, {"1002", "0900123;phone-context=x", false},
	} {
		if v := ask(p, tc.user, tc.number); v.Allowed != tc.allowed || !v.Allowed && (v.Rule != "policy.calls.numbers" || v.Say == "" || v.Reason == "") {
			t.Errorf("%s calls %s: %+v", tc.user, tc.number, v)
		}
	}
}

func TestEmergency(t *testing.T) {
	p, _ := build(t, func(c *Config) {
		c.Calls.Numbers = []NumberRule{text[NumberRule](t, "deny * *")}
		c.Calls.MaxCallsPerUser, c.Calls.CallsPerHour = 1, 1
	})
	for range 5 {
		if v := ask(p, "1001", "11-2"); !v.Allowed || !v.Began().Allowed {
			t.Fatalf("a call for help: %+v", v)
		}
	}
	if v := ask(p, "1001", "1123"); v.Allowed { // the control
		t.Error("another number is let through")
	}
	// Its request passes the watch, where somebody has authenticated.
	q, _ := build(t, nil)
	mustEnter(t, q, "192.0.2.1").register("1001", true)
	stranger, phone := mustEnter(t, q, "192.0.2.1"), mustEnter(t, q, "192.0.2.1")
	phone.register("1001", true)
	guess(t, q, "192.0.2.1", 100, func(i int) string { return fmt.Sprint("guess", i) })
	if v := stranger.request(Event{Method: "INVITE", User: "x", Number: "112"}); v.Allowed {
		t.Error("a stranger passes as one who calls for help")
	}
	if v := phone.request(Event{Method: "INVITE", User: "x", Login: "x", Number: "112"}); !v.Allowed {
		t.Errorf("a phone's call for help: %+v", v)
	}
}

// Calls are counted once, when the PBX has accepted them.
func TestCallsAtATime(t *testing.T) {
	p, _ := build(t, func(c *Config) { c.Calls.MaxCallsPerUser = 2; c.Calls.MaxCalls = 3 })
	var calls []Verdict
	begin := func(user string) Verdict {
		v := ask(p, user, "602")
		if v.Allowed {
			if began := v.Began(); !began.Allowed {
				v.Release()
				return began
			}
			calls = append(calls, v)
		}
		return v
	}
	// An INVITE without credentials, challenged: it counts nothing.
	for range 10 {
		v := p.Decide(Event{Kind: Call, Source: netip.MustParseAddr("192.0.2.1"), User: "1001", Number: "602"})
		if !v.Allowed {
			t.Fatalf("%+v", v)
		}
		v.Release()
	}
	begin("1001")
	begin("1001")
	if v := begin("1001"); v.Allowed || v.Rule != "policy.calls.max_calls_per_user" {
		t.Errorf("a third call of one user: %+v", v)
	}
	begin("1002")
	if v := begin("1003"); v.Allowed || v.Rule != "policy.calls.max_calls" {
		t.Errorf("a fourth call: %+v", v)
	}
	calls[0].Release()
	calls[0].Release() // twice is once
	if v := begin("1001"); !v.Allowed {
		t.Errorf("after one has ended: %+v", v)
	}
	if v := begin("1004"); v.Allowed {
		t.Error("two releases made two places")
	}
}

// To hand a call on takes no place of its own, and a user is one in any case.
func TestHandedCalls(t *testing.T) {
	p, _ := build(t, func(c *Config) { c.Calls.MaxCallsPerUser, c.Calls.CallsPerHourPerUser = 2, 4 })
	for _, user := range []string{"anna", "ANNA"} {
		if v := ask(p, user, "602"); !v.Allowed || !v.Began().Allowed {
			t.Fatalf("%s: %+v", user, v)
		}
	}
	if v := ask(p, "Anna", "602"); v.Allowed {
		t.Error("the user has another call by another spelling")
	}
	hand := func() Verdict {
		v := p.Decide(Event{Kind: Call, Source: netip.MustParseAddr("192.0.2.1"), User: "anna", Login: "anna", Number: "602", Handed: true})
		if v.Allowed {
			v = v.Began()
		}
		return v
	}
	for range 2 {
		if v := hand(); !v.Allowed {
			t.Errorf("a transfer: %+v", v)
		}
	}
	if v := hand(); v.Allowed || v.Rule != "policy.calls.per_hour_per_user" {
		t.Errorf("the fifth in an hour: %+v", v)
	}
}

// A burst before the PBX has answered the first does not pass the limit.
func TestBurstOfCalls(t *testing.T) {
	p, _ := build(t, func(c *Config) { c.Calls.MaxCallsPerUser = 2 })
	var let []Verdict
	for range 20 {
		if v := ask(p, "1001", "602"); v.Allowed {
			let = append(let, v)
		}
	}
	if len(let) != 2 {
		t.Fatalf("%d calls at once", len(let))
	}
	// Who only says that it is the user does not use up the user's own calls.
	v := p.Decide(Event{Kind: Call, Source: netip.MustParseAddr("198.51.100.1"), User: "1001", Login: "1001", Number: "602"})
	if !v.Allowed {
		t.Errorf("from elsewhere: %+v", v)
	}
	// But when the PBX has accepted more than there may be, the last must end.
	for i, each := range append(let, v) {
		if got := each.Began(); got.Allowed != (i < 2) {
			t.Errorf("call %d: %+v", i, got)
		}
		if !each.Began().Allowed {
			t.Errorf("call %d is counted twice", i)
		}
	}
	for _, each := range append(let, v) {
		each.Release()
	}
	if len(p.budget.pending) != 0 || p.budget.all.running != 0 {
		t.Errorf("left are %v and %d calls", p.budget.pending, p.budget.all.running)
	}
}

func TestCallsPerHour(t *testing.T) {
	p, c := build(t, func(c *Config) { c.Calls.CallsPerHourPerUser = 6 })
	dial := func(tries int) (n int) {
		for range tries {
			v := ask(p, "1001", "602")
			if v.Allowed && v.Began().Allowed {
				n++
			}
			v.Release()
		}
		return n
	}
	for _, step := range []struct {
		wait time.Duration
		want int
	}{{0, 6}, {time.Minute, 0}, {10 * time.Minute, 1}, {time.Hour, 6}} {
		c.advance(step.wait)
		if n := dial(20); n != step.want {
			t.Errorf("after %s %d calls, want %d", step.wait, n, step.want)
		}
	}
}

func TestMinutes(t *testing.T) {
	p, c := build(t, func(c *Config) {
		c.Calls.Abroad.PerUser, c.Calls.PremiumTime.InAll, c.Calls.EndCalls = 10*time.Minute, 20*time.Minute, true
		c.Calls.Home, c.Calls.Premium, c.Calls.Zone = []string{"+49", "0049"}, []string{"0900"}, time.UTC
	})
	var alarms []string
	p.alarms.tell = func(a Alarm) { alarms = append(alarms, a.What+" "+a.User+" "+a.Rule) }
	talk := func(user, number string) Verdict {
		t.Helper()
		v := ask(p, user, number)
		if !v.Allowed || !v.Began().Allowed {
			t.Fatalf("%s may not call %s: %+v", user, number, v)
		}
		v.Answered()
		return v
	}
	call := talk("1001", "0044123")
	c.advance(9 * time.Minute)
	if v := call.Lasts(); !v.Allowed {
		t.Fatalf("%+v", v)
	}
	home := talk("1001", "004930123")
	c.advance(2 * time.Minute)
	if v := call.Lasts(); v.Allowed || v.Rule != "policy.calls.abroad_a_day_per_user" {
		t.Errorf("after 11 minutes: %+v", v)
	}
	if v := home.Lasts(); !v.Allowed {
		t.Errorf("a call at home: %+v", v)
	}
	call.Release()
	if v := ask(p, "1001", "+1555"); v.Allowed {
		t.Errorf("another call abroad: %+v", v)
	}
	for _, number := range []string{"602", "+4930", "0900123"} {
		if v := ask(p, "1001", number); !v.Allowed {
			t.Errorf("to %s: %+v", number, v)
		}
	}
	talk("1002", "0900123")
	c.advance(20 * time.Minute)
	if v := ask(p, "1003", "0900456"); v.Allowed || v.Rule != "policy.calls.premium_a_day" {
		t.Errorf("a premium call of another: %+v", v)
	}
	c.advance(24 * time.Hour) // the premium call goes on, and counts from midnight
	if v := ask(p, "1001", "+1555"); !v.Allowed {
		t.Errorf("abroad the next day: %+v", v)
	}
	want := "first_call_abroad 1001 ,limit 1001 policy.calls.abroad_a_day_per_user,limit 1003 policy.calls.premium_a_day"
	if got := strings.Join(alarms, ","); got != want {
		t.Errorf("alarms %q, want %q", got, want)
	}
}

func TestNightsAndWeekends(t *testing.T) {
	p, c := build(t, func(c *Config) {
		c.Calls.Night, c.Calls.ClosedTo, c.Calls.Zone = text[Span](t, "22:00-06:00"), Class{Abroad: true}, time.UTC
	})
	for _, tc := range []struct {
		at      string
		allowed bool
	}{
		{"2026-01-05 12:00", true}, {"2026-01-05 21:59", true}, {"2026-01-05 22:00", false}, {"2026-01-06 05:59", false}, {"2026-01-06 06:00", true},
		{"2026-01-10 12:00", false}, {"2026-01-11 12:00", false}, // Saturday, Sunday
	} {
		c.t, _ = time.Parse("2006-01-02 15:04", tc.at)
		if v := ask(p, "1001", "0044123"); v.Allowed != tc.allowed || !v.Allowed && v.Rule != "policy.calls.closed_to" {
			t.Errorf("abroad at %s: %+v", tc.at, v)
		}
		if v := ask(p, "1001", "0301234"); !v.Allowed {
			t.Errorf("nearby at %s: %+v", tc.at, v)
		}
	}
}

func TestCallsInADryRun(t *testing.T) {
	p, _ := build(t, func(c *Config) {
		c.DryRun, c.Calls.MaxCallsPerUser, c.Calls.Numbers = true, 1, []NumberRule{text[NumberRule](t, "deny * 00")}
	})
	told := 0
	p.alarms.tell = func(Alarm) { told++ }
	for range 5 {
		if v := ask(p, "1001", "0044"); !v.Allowed || !v.Began().Allowed {
			t.Fatalf("%+v", v)
		}
	}
	spared := map[string]uint64{}
	for _, r := range p.Stats().Rules {
		spared[r.Rule] = r.Spared
	}
	if spared["policy.calls.numbers"] != 5 || spared["policy.calls"] < 4 || told != 2 {
		t.Errorf("counted %v, %d alarms", spared, told)
	}
}

// A thousand thousand users who call once.
func TestAccountsAreBounded(t *testing.T) {
	p, c := build(t, func(c *Config) { c.Calls.CallsPerHourPerUser = 5; c.Calls.MaxCallsPerUser = 5 })
	lasting := ask(p, "0", "0044")
	lasting.Began()
	for i := range 50_000 {
		c.advance(time.Millisecond)
		v := ask(p, fmt.Sprint(i+1), "0044")
		v.Began()
		v.Release()
	}
	if n := p.budget.users.len(); n > maxAccounts || p.budget.all.running != 1 || p.budget.abroad.len() > maxAccounts {
		t.Errorf("%d users, %d calls", n, p.budget.all.running)
	}
	lasting.Release()
	if p.budget.all.running != 0 {
		t.Error("a call under way was forgotten")
	}
}

func TestCallsValidate(t *testing.T) {
	c := DefaultCalls()
	c.MaxCalls, c.Numbers, c.Premium = -1, []NumberRule{{Group: "nobody", Prefixes: []string{"0"}}}, []string{"0900-"}
	c.Groups = []Group{{"a", []string{"1"}}, {"a", []string{"2"}}}
	err := c.Validate()
	for _, want := range []string{"policy.calls.max_calls: is -1", `policy.calls.numbers: there is no group "nobody"`, `policy.calls.premium: "0900-"`, "policy.calls.groups: a is there twice"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("faults %v do not say %q", err, want)
		}
	}
	for _, bad := range []string{"", "office", ": 1", "*: 1", "a b: 1", "a:"} {
		if new(Group).UnmarshalText([]byte(bad)) == nil {
			t.Errorf("group %q was taken", bad)
		}
	}
	for _, bad := range []string{"", "allow", "allow x", "permit x 0"} {
		if new(NumberRule).UnmarshalText([]byte(bad)) == nil {
			t.Errorf("rule %q was taken", bad)
		}
	}
	for _, bad := range []string{"22", "22:00", "25:00-06:00", "06:00-06:00"} {
		if new(Span).UnmarshalText([]byte(bad)) == nil {
			t.Errorf("span %q was taken", bad)
		}
	}
}
