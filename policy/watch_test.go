package policy

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// guest is one connection of a source, as the proxy sees it.
type guest struct {
	t      *testing.T
	p      *Policy
	source netip.Addr
	flow   uint64
	hold   Verdict
}

var flows uint64

// enter connects, and tells whether that was allowed.
func enter(t *testing.T, p *Policy, source string) (*guest, bool) {
	t.Helper()
	flows++
	g := &guest{t: t, p: p, source: netip.MustParseAddr(source), flow: flows}
	g.hold = p.Decide(Event{Kind: Connection, Source: g.source})
	return g, g.hold.Allowed
}

func mustEnter(t *testing.T, p *Policy, source string) *guest {
	t.Helper()
	g, ok := enter(t, p, source)
	if !ok {
		t.Fatalf("%s was kept out: %+v", source, g.hold)
	}
	return g
}

func (g *guest) request(e Event) Verdict {
	e.Kind, e.Source, e.Flow = Request, g.source, g.flow
	if e.Method == "" {
		e.Method = "REGISTER"
	}
	return g.p.Decide(e)
}

func (g *guest) observe(what What, user string) Verdict {
	o := Outcome{What: what, Source: g.source, Flow: g.flow, User: user}
	if what == Accepted || what == Failed {
		o.Login = user
	}
	return g.p.Observe(o)
}

// register does what a phone does, with the right password or not; it tells
// whether it got through to the PBX with it.
func (g *guest) register(user string, right bool) (reached bool, last Verdict) {
	if v := g.request(Event{User: user}); !v.Allowed {
		return false, v
	}
	if v := g.observe(Challenged, user); !v.Allowed {
		return false, v
	}
	if v := g.request(Event{User: user, Login: user}); !v.Allowed {
		return false, v
	}
	what := Failed
	if right {
		what = Accepted
	}
	return true, g.observe(what, user)
}

func (g *guest) leave() {
	g.p.Observe(Outcome{What: Closed, Source: g.source, Flow: g.flow})
	g.hold.Release()
}

// guess lets a source guess passwords until it is kept out, and returns how many
// reached the PBX.
func guess(t *testing.T, p *Policy, source string, tries int, user func(int) string) (reached int) {
	g, in := enter(t, p, source)
	for i := range tries {
		if !in {
			break
		}
		got, v := g.register(user(i), false)
		if got {
			reached++
		}
		if !v.Allowed {
			g.leave()
			g, in = enter(t, p, source)
		}
	}
	if in {
		g.leave()
	}
	return reached
}

func one(int) string { return "1001" }

func TestGuessingIsBanned(t *testing.T) {
	for _, tc := range []struct {
		name, source, beside, other string
	}{
		{"IPv4", "192.0.2.1", "192.0.2.1", "192.0.2.2"},
		{"IPv6 by its /64", "2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, c := build(t, nil)
			if n := guess(t, p, tc.source, 1000, one); n != 10 {
				t.Errorf("%d guesses reached the PBX, want 10", n)
			}
			g, in := enter(t, p, tc.beside)
			if in || g.hold.Rule != "policy.bans" || g.hold.Reason == "" {
				t.Fatalf("after it: %+v", g.hold)
			}
			mustEnter(t, p, tc.other).leave()
			// Each ban is twice as long as the one before, until the longest.
			for _, want := range []time.Duration{10 * time.Minute, 20 * time.Minute, 40 * time.Minute} {
				if got := p.Bans()[0].Until.Sub(c.now()); got != want {
					t.Errorf("banned for %s, want %s", got, want)
				}
				c.advance(want)
				guess(t, p, tc.source, 1000, one)
			}
			for range 10 {
				c.advance(p.Bans()[0].Until.Sub(c.now()))
				guess(t, p, tc.source, 1000, one)
			}
			if got := p.Bans()[0].Until.Sub(c.now()); got != 24*time.Hour {
				t.Errorf("banned for %s in the end, want a day", got)
			}
			c.advance(49 * time.Hour) // long forgotten
			guess(t, p, tc.source, 1000, one)
			if got := p.Bans()[0].Until.Sub(c.now()); got != 10*time.Minute {
				t.Errorf("banned for %s after a long peace, want 10m", got)
			}
		})
	}
	t.Run("control: with the watch off", func(t *testing.T) {
		p, _ := build(t, func(c *Config) { c.AuthFailures = 0 })
		if n := guess(t, p, "192.0.2.1", 1000, one); n != 1000 {
			t.Errorf("%d guesses reached the PBX", n)
		}
	})
	t.Run("control: from an allowed source", func(t *testing.T) {
		p, _ := build(t, func(c *Config) { c.Allow = prefixes("192.0.2.0/24") })
		if n := guess(t, p, "192.0.2.1", 1000, one); n != 1000 {
			t.Errorf("%d guesses reached the PBX", n)
		}
	})
	t.Run("dry run", func(t *testing.T) {
		p, _ := build(t, func(c *Config) { c.DryRun = true; c.Deny = prefixes("192.0.2.0/24") })
		if n := guess(t, p, "192.0.2.1", 1000, one); n != 1000 || len(p.Bans()) != 0 {
			t.Errorf("%d guesses reached the PBX, %d bans", n, len(p.Bans()))
		}
		for _, r := range p.Stats().Rules {
			if (r.Rule == "policy.deny" && r.Spared < 1000) || r.Refused != 0 {
				t.Errorf("counted %+v", r)
			}
		}
	})
}

// What is slow enough is an honest phone whose password was changed.
func TestScoresLeak(t *testing.T) {
	p, c := build(t, nil)
	reached := 0
	for range 60 {
		reached += guess(t, p, "192.0.2.1", 1, one)
		c.advance(2 * time.Minute)
	}
	if reached != 60 || len(p.Bans()) != 0 {
		t.Errorf("%d of 60 reached the PBX, bans %v", reached, p.Bans())
	}
}

// A phone whose nonces the PBX does not call stale fails once before each success.
func TestSuccessForgives(t *testing.T) {
	p, _ := build(t, nil)
	g := mustEnter(t, p, "192.0.2.1")
	for i := range 100 {
		if _, v := g.register("1001", false); !v.Allowed {
			t.Fatalf("round %d: %+v", i, v)
		}
		if reached, v := g.register("1001", true); !reached || !v.Allowed {
			t.Fatalf("round %d: %+v", i, v)
		}
	}
	if len(p.Bans()) != 0 {
		t.Errorf("bans %v", p.Bans())
	}
}

// Behind a NAT with phones nobody is banned: the guesser's connections end, it
// is let guess once a minute, and the phones may go and come as they like.
func TestPhonesBesideAGuesser(t *testing.T) {
	p, c := build(t, nil)
	const office = "192.0.2.1"
	var phones []*guest
	for i := range 50 {
		g := mustEnter(t, p, office)
		if reached, v := g.register(fmt.Sprint(1000+i), true); !reached || !v.Allowed {
			t.Fatalf("phone %d: %+v", i, v)
		}
		phones = append(phones, g)
	}
	if n := guess(t, p, office, 1000, func(i int) string { return fmt.Sprint("guess", i) }); n > 11 {
		t.Errorf("%d guesses reached the PBX at once", n)
	}
	c.advance(time.Minute)
	if n := guess(t, p, office, 1000, func(i int) string { return fmt.Sprint("guess", i) }); n > 2 {
		t.Errorf("%d guesses reached the PBX a minute later", n)
	}
	if len(p.Bans()) != 0 {
		t.Fatalf("bans %v", p.Bans())
	}
	for _, g := range phones {
		if v := g.request(Event{User: "1001", Method: "INVITE"}); !v.Allowed {
			t.Fatalf("a call: %+v", v)
		}
	}
	// The NAT restarts: all are gone, and come back.
	for _, g := range phones {
		g.leave()
	}
	guess(t, p, office, 1000, func(i int) string { return fmt.Sprint("guess", i) })
	if len(p.Bans()) != 0 {
		t.Fatalf("banned when the phones were away: %v", p.Bans())
	}
	for i := range phones {
		g, in := enter(t, p, office)
		for !in { // let in slowly, but surely
			c.advance(time.Second)
			g, in = enter(t, p, office)
		}
		if reached, v := g.register(fmt.Sprint(1000+i), true); !reached || !v.Allowed {
			t.Fatalf("phone %d comes back: %+v", i, v)
		}
	}
	t.Run("control: without phones", func(t *testing.T) {
		p, _ := build(t, nil)
		guess(t, p, office, 1000, one)
		if len(p.Bans()) != 1 {
			t.Errorf("bans %v", p.Bans())
		}
	})
}

// Many sources that guess one user's password: those where the user is known go on.
func TestUserIsGuarded(t *testing.T) {
	p, _ := build(t, nil)
	home := mustEnter(t, p, "198.51.100.1")
	home.register("1001", true)
	reached := 0
	for i := range 100 {
		reached += guess(t, p, fmt.Sprintf("192.0.2.%d", i+1), 9, one)
	}
	if reached > 60 {
		t.Errorf("%d guesses reached the PBX from a hundred sources", reached)
	}
	if ok, v := home.register("1001", true); !ok || !v.Allowed {
		t.Errorf("the user's own phone: %+v", v)
	}
	if ok, v := mustEnter(t, p, "198.51.100.1").register("1001", true); !ok || !v.Allowed {
		t.Errorf("the user's phone reconnects: %+v", v)
	}
	if ok, v := mustEnter(t, p, "198.51.100.1").register("1002", true); !ok || !v.Allowed {
		t.Errorf("another user: %+v", v)
	}
}

// One phone with an old password does not get its office banned.
func TestDeviceIsHeldOff(t *testing.T) {
	p, c := build(t, nil)
	for range 200 {
		g, in := enter(t, p, "192.0.2.1")
		if !in {
			t.Fatalf("the office is banned: %+v", g.hold)
		}
		if g.request(Event{User: "1001", Login: "1001", Device: "urn:uuid:1"}).Allowed {
			p.Observe(Outcome{What: Failed, Source: g.source, Flow: g.flow, User: "1001", Login: "1001", Device: "urn:uuid:1"})
		}
		g.leave()
		c.advance(5 * time.Second)
	}
	g := mustEnter(t, p, "192.0.2.1")
	if reached, _ := g.register("1002", true); !reached {
		t.Error("another phone does not get through")
	}
	t.Run("control: it does not say which it is", func(t *testing.T) {
		p, _ := build(t, nil)
		guess(t, p, "192.0.2.1", 100, one)
		if len(p.Bans()) != 1 {
			t.Error("not banned")
		}
	})
}

func TestSweeps(t *testing.T) {
	t.Run("users on one connection", func(t *testing.T) {
		p, _ := build(t, nil)
		g, n := mustEnter(t, p, "192.0.2.1"), 0
		for i := range 1000 {
			user := fmt.Sprint(1000 + i)
			if !g.request(Event{User: user}).Allowed {
				break
			}
			n++
			g.observe(Challenged, user)
		}
		if n != 32 || len(p.Bans()) != 1 {
			t.Errorf("%d users were asked for, bans %v", n, p.Bans())
		}
	})
	t.Run("users, with credentials that nobody looks at between", func(t *testing.T) {
		p, _ := build(t, nil)
		g, n := mustEnter(t, p, "192.0.2.1"), 0
		for i := range 1000 {
			user := fmt.Sprint(1000 + i)
			if !g.request(Event{User: user}).Allowed {
				break
			}
			n++
			g.observe(Challenged, user)
			g.observe(Passed, user)
		}
		if n != 32 {
			t.Errorf("%d users were asked for", n)
		}
	})
	t.Run("a console that watches a thousand phones", func(t *testing.T) {
		p, _ := build(t, nil)
		g := mustEnter(t, p, "192.0.2.1")
		g.register("1001", true)
		for i := range 1000 {
			if v := g.observe(Challenged, "1001"); !v.Allowed || !g.request(Event{Method: "SUBSCRIBE", User: "1001"}).Allowed {
				t.Fatalf("subscription %d: %+v", i, v)
			}
		}
	})
	t.Run("a user on each connection", func(t *testing.T) {
		p, _ := build(t, nil)
		n := 0
		for i := range 1000 {
			g, in := enter(t, p, "192.0.2.1")
			if !in {
				break
			}
			n++
			g.request(Event{User: fmt.Sprint(i)})
			g.observe(Challenged, fmt.Sprint(i))
			g.leave()
		}
		if n != 37 {
			t.Errorf("%d users were asked for, want 37", n)
		}
	})
	t.Run("an office that comes back", func(t *testing.T) {
		p, _ := build(t, nil)
		var phones []*guest
		for i := range 400 { // all ask before the first is answered
			g := mustEnter(t, p, "192.0.2.1")
			g.request(Event{User: fmt.Sprint(i)})
			g.observe(Challenged, fmt.Sprint(i))
			phones = append(phones, g)
		}
		for i, g := range phones {
			if v := g.observe(Accepted, fmt.Sprint(i)); !v.Allowed {
				t.Fatalf("phone %d: %+v", i, v)
			}
		}
		if len(p.Bans()) != 0 {
			t.Errorf("bans %v", p.Bans())
		}
	})
	t.Run("OPTIONS", func(t *testing.T) {
		p, _ := build(t, nil)
		g, n := mustEnter(t, p, "192.0.2.1"), 0
		for range 1000 {
			if !g.request(Event{Method: "OPTIONS"}).Allowed {
				break
			}
			n++
		}
		if n != maxOptions {
			t.Errorf("%d were let through", n)
		}
		phone := mustEnter(t, p, "192.0.2.2")
		phone.register("1001", true)
		for i := range 1000 { // control: a phone's keep-alive
			if v := phone.request(Event{Method: "OPTIONS"}); !v.Allowed {
				t.Fatalf("OPTIONS %d of a phone: %+v", i, v)
			}
		}
	})
	for _, what := range []What{Malformed, Foreign} {
		t.Run(what.String(), func(t *testing.T) {
			p, _ := build(t, nil)
			for range 9 {
				p.Observe(Outcome{What: what, Source: netip.MustParseAddr("192.0.2.1")})
			}
			mustEnter(t, p, "192.0.2.1")
			p.Observe(Outcome{What: what, Source: netip.MustParseAddr("192.0.2.1")})
			if _, in := enter(t, p, "192.0.2.1"); in {
				t.Error("not banned")
			}
		})
	}
}

func TestScanners(t *testing.T) {
	for _, tc := range []struct {
		agent  string
		banned bool
	}{
		{"friendly-scanner", true}, {"SIPVicious 0.3", true}, {"sipcli/v1.8", true}, {"VaxSIPUserAgent/3.1", true},
		{"eyeBeam release 1102q stamp 51814", false}, {"Yealink SIP-T46S 66.86.0.15", false}, {"", false},
	} {
		t.Run(tc.agent, func(t *testing.T) {
			p, _ := build(t, nil)
			g := mustEnter(t, p, "192.0.2.1")
			v := g.request(Event{Method: "OPTIONS", Agent: tc.agent})
			if v.Allowed == tc.banned || tc.banned && (v.Rule != "policy.scanners" || !v.End || !v.Hush || v.Say != "") {
				t.Errorf("verdict %+v", v)
			}
			if _, in := enter(t, p, "192.0.2.1"); in == tc.banned {
				t.Error("banned and let in again, or neither")
			}
		})
	}
	t.Run("beside phones", func(t *testing.T) {
		p, _ := build(t, nil)
		mustEnter(t, p, "192.0.2.1").register("1001", true)
		g := mustEnter(t, p, "192.0.2.1")
		g.request(Event{Agent: "friendly-scanner"})
		if v := g.request(Event{}); v.Allowed || len(p.Bans()) != 0 {
			t.Errorf("verdict %+v, bans %v", v, p.Bans())
		}
	})
	t.Run("tarpit", func(t *testing.T) {
		p, c := build(t, func(c *Config) { c.Tarpit = time.Minute })
		held := 0
		for i := range 200 {
			g := mustEnter(t, p, fmt.Sprintf("198.51.100.%d", i))
			if v := g.request(Event{Agent: "sipcli"}); v.After > 0 {
				held++
				if again := g.request(Event{}); again.Allowed || !again.Hush || again.End {
					t.Fatalf("the next request gets %+v", again)
				}
			}
		}
		if held != maxHeld {
			t.Errorf("%d are held", held)
		}
		c.advance(time.Minute)
		if v := mustEnter(t, p, "203.0.113.1").request(Event{Agent: "sipcli"}); v.After != time.Minute {
			t.Errorf("no place is free again: %+v", v)
		}
	})
}

// A million sources, users and devices, and connections that come and go.
func TestWatchIsBounded(t *testing.T) {
	p, c := build(t, func(c *Config) { c.BanTime, c.BanTimeMax = time.Hour, time.Hour })
	before := heap()
	for i := range 100_000 {
		c.advance(time.Microsecond)
		o := Outcome{What: Failed, Source: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), Flow: uint64(i + 1)}
		o.User, o.Login, o.Device = fmt.Sprint(i), fmt.Sprint(i), fmt.Sprint("device", i)
		p.Observe(o)
		o.What = Closed
		p.Observe(o)
		p.ban(prefixOf(o.Source), "test")
	}
	if s := p.Stats(); s.Watched["connections"] != 0 || s.Watched["sources"] > maxSuspects || s.Watched["users"] > maxUsers || s.Watched["devices"] > maxDevices || s.Bans > maxBans {
		t.Errorf("remembered are %v, and %d bans", s.Watched, s.Bans)
	}
	if grown := int64(heap()) - int64(before); grown > 100<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if mustEnter(t, p, "192.0.2.1").request(Event{}); p.Stats().Watched["connections"] != 1 {
		t.Error("nobody is let in any more")
	}
}
