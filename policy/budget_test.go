package policy

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// abroad is a policy with daily limits, and a call abroad that is answered of each
// of so many users.
func abroad(t testing.TB, calls int) []Verdict {
	t.Helper()
	p, _ := build(t, func(c *Config) {
		c.Calls.EndCalls, c.Calls.Zone = true, time.UTC
		c.Calls.Abroad = Daily{InAll: 1e6 * time.Hour, PerUser: time.Hour}
	})
	all := make([]Verdict, calls)
	for i := range all {
		all[i] = ask(p, fmt.Sprint("user", i), "+123")
		if v := all[i].Began(); !all[i].Allowed || !v.Allowed {
			t.Fatal(v.Reason)
		}
		all[i].Answered()
	}
	return all
}

// Calls of all kinds begin, are answered and end in any order, over days: what is spent
// is what adding up each of them says.
func TestSpentIsTheSumOfCalls(t *testing.T) {
	p, c := build(t, func(c *Config) {
		c.Calls.Home, c.Calls.Premium, c.Calls.Zone = []string{"+49"}, []string{"0900", "+1900"}, time.FixedZone("", 3*3600)
	})
	type talk struct {
		v               Verdict
		answered, ended time.Time
	}
	random := rand.New(rand.NewPCG(1, 2))
	users, numbers := []string{"anna", "bob"}, []string{"+44123", "0900123", "+1900123", "+49123"}
	var all []*talk
	for range 5000 {
		c.advance(time.Duration(random.Int64N(int64(20 * time.Minute))))
		if random.IntN(500) == 0 {
			c.advance(30 * time.Hour) // in which nobody asks
		}
		if len(all) == 0 || random.IntN(3) == 0 {
			each := &talk{v: ask(p, users[random.IntN(2)], numbers[random.IntN(4)])}
			each.v.Began()
			all = append(all, each)
		}
		switch each := all[max(0, len(all)-1-random.IntN(30))]; random.IntN(3) {
		case 0:
			each.v.Answered()
			if each.answered.IsZero() && each.ended.IsZero() {
				each.answered = c.now()
			}
		case 1:
			each.v.Release()
			if each.ended.IsZero() {
				each.ended = c.now()
			}
		}
		local := c.now().In(p.budget.cfg.Zone)
		midnight := time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, local.Location())
		for kind, name := range []string{"abroad", "premium"} {
			sum := make(map[string]time.Duration)
			for _, each := range all {
				from, until := each.answered, each.ended
				if until.IsZero() {
					until = c.now()
				}
				if from.IsZero() || !each.v.tab.counts(kind) || until.Before(midnight) {
					continue
				}
				if from.Before(midnight) {
					from = midnight
				}
				sum[each.v.tab.user] += until.Sub(from)
				sum[""] += until.Sub(from)
			}
			for _, who := range []string{"anna", "bob", ""} {
				a := &p.budget.all
				if who != "" {
					a = p.budget.users.get(who)
				}
				if got := p.budget.spent(a, c.now(), kind); got != sum[who] {
					t.Fatalf("%s, user %q: %s are spent, the calls add up to %s", name, who, got, sum[who])
				}
			}
		}
	}
}

// What it costs to ask does not grow with the number of calls.
func TestLastsLooksAtNoOtherCall(t *testing.T) {
	quickest := func(calls int) time.Duration {
		all := abroad(t, calls)
		best := time.Hour
		for range 20 {
			began := time.Now()
			for range 10 {
				all[0].Lasts()
			}
			best = min(best, time.Since(began))
		}
		return best
	}
	if one, many := quickest(1), quickest(5000); many > 50*one {
		t.Errorf("one call takes %s, one of 5,000 %s", one, many)
	}
}

// BenchmarkLasts asks for one of many calls that use up their users' time, and that
// of all, whether it may go on.
func BenchmarkLasts(b *testing.B) {
	for _, calls := range []int{1, 500, 5000} {
		b.Run(fmt.Sprint(calls), func(b *testing.B) {
			all := abroad(b, calls)
			for b.Loop() {
				all[0].Lasts()
			}
		})
	}
}
