package policy

import (
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is a time that a test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

func build(t testing.TB, change func(*Config)) (*Policy, *clock) {
	t.Helper()
	cfg := Defaults()
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg, Parts{})
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{t: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	p.now = c.now
	return p, c
}

func from(s string) Event { return Event{Kind: Connection, Source: netip.MustParseAddr(s)} }

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

func TestAddresses(t *testing.T) {
	p, _ := build(t, func(c *Config) {
		c.Allow = prefixes("192.0.2.9/32", "2001:db8:1::/48")
		c.Deny = prefixes("192.0.2.0/24", "2001:db8::/32", "203.0.113.5/32")
	})
	for _, tc := range []struct {
		name, source string
		allowed      bool
		rule         string
	}{
		{"unlisted", "198.51.100.1", true, ""},
		{"denied", "192.0.2.1", false, "policy.deny"},
		{"denied host", "203.0.113.5", false, "policy.deny"},
		{"beside a denied host", "203.0.113.6", true, ""},
		{"allowed within denied", "192.0.2.9", true, "policy.allow"},
		{"denied IPv6", "2001:db8:2::1", false, "policy.deny"},
		{"allowed IPv6", "2001:db8:1::1", true, "policy.allow"},
		{"denied, as a dual-stack socket shows it", "::ffff:192.0.2.1", false, "policy.deny"},
		{"denied, with a zone", "2001:db8:2::1%eth0", false, "policy.deny"},
	} {
		for _, kind := range []Kind{Connection, Request} {
			t.Run(fmt.Sprintf("%s/%s", tc.name, kind), func(t *testing.T) {
				v := p.Decide(Event{Kind: kind, Source: netip.MustParseAddr(tc.source)})
				defer v.Release()
				if v.Allowed != tc.allowed || v.Rule != tc.rule {
					t.Fatalf("verdict %+v, want allowed = %v by %q", v, tc.allowed, tc.rule)
				}
				if !v.Allowed && v.Reason == "" {
					t.Fatal("refused without a reason")
				}
			})
		}
	}
}

func TestFailsClosed(t *testing.T) {
	p, _ := build(t, nil)
	if v := p.Decide(Event{Kind: Call}); v.Allowed || v.Reason == "" {
		t.Errorf("an event without a source got %+v", v)
	}
	if (Verdict{}).Allowed {
		t.Error("the zero Verdict allows")
	}
	Verdict{}.Release() // nothing to release: no panic
}

func TestConnectionsAtOnce(t *testing.T) {
	p, _ := build(t, func(c *Config) { c.MaxConnectionsPerAddress = 2; c.MaxConnections = 4 })
	first := p.Decide(from("192.0.2.1"))
	p.Decide(from("192.0.2.1"))
	if v := p.Decide(from("192.0.2.1")); v.Allowed || v.Rule != "policy.max_connections_per_address" {
		t.Fatalf("third connection of one address: %+v", v)
	}
	// A verdict on a request holds no place.
	for range 10 {
		p.Decide(Event{Kind: Request, Source: netip.MustParseAddr("192.0.2.1")})
	}
	if got := p.Stats().Connections; got != 2 {
		t.Fatalf("%d connections counted, want 2", got)
	}
	first.Release()
	first.Release() // twice is once
	if v := p.Decide(from("192.0.2.1")); !v.Allowed {
		t.Fatalf("after a release: %+v", v)
	}
	if v := p.Decide(from("192.0.2.1")); v.Allowed {
		t.Fatal("a double release made two places")
	}
	// One /64 is one source; another is another.
	p.Decide(from("2001:db8::1"))
	p.Decide(from("2001:db8::2"))
	if v := p.Decide(from("2001:db8::3")); v.Allowed {
		t.Fatal("a /64 passed the limit by changing its low bits")
	}
	if v := p.Decide(from("2001:db8:0:1::1")); v.Allowed || v.Rule != "policy.max_connections" {
		t.Fatalf("past the total: %+v", v)
	}
}

func TestAllowedSourcesPassEveryLimit(t *testing.T) {
	p, _ := build(t, func(c *Config) {
		c.Allow = prefixes("192.0.2.0/24")
		c.MaxConnections, c.MaxConnectionsPerAddress, c.NewConnectionsBurst = 3, 1, 1
	})
	for range 10 {
		if v := p.Decide(from("192.0.2.1")); !v.Allowed || v.Rule != "policy.allow" {
			t.Fatalf("verdict %+v", v)
		}
	}
	if v := p.Decide(from("198.51.100.1")); v.Allowed {
		t.Fatal("their connections are not counted in all")
	}
}

func TestRate(t *testing.T) {
	p, c := build(t, func(c *Config) { c.NewConnectionsPerSecond = 2; c.NewConnectionsBurst = 5 })
	connect := func(source string) (allowed int) {
		for range 20 {
			v := p.Decide(from(source))
			if v.Allowed {
				allowed++
				v.Release() // the rate counts connections that have ended too
			} else if v.Rule != "policy.new_connections_per_second" {
				t.Fatalf("refused by %+v", v)
			}
		}
		return allowed
	}
	for _, step := range []struct {
		name   string
		wait   time.Duration
		source string
		want   int
	}{
		{"burst", 0, "192.0.2.1", 5},
		{"another source", 0, "192.0.2.2", 5},
		{"at once", 0, "192.0.2.1", 0},
		{"a second later", time.Second, "192.0.2.1", 2},
		{"half a second later", time.Second / 2, "192.0.2.1", 1},
		{"long after", time.Hour, "192.0.2.1", 5},
		{"the clock stepped back", -2 * time.Hour, "192.0.2.1", 0},
		{"and went on", time.Second, "192.0.2.1", 2},
	} {
		c.advance(step.wait)
		if got := connect(step.source); got != step.want {
			t.Errorf("%s: %d connections, want %d", step.name, got, step.want)
		}
	}
}

func TestRefusedConnectionCostsNoToken(t *testing.T) {
	p, _ := build(t, func(c *Config) { c.MaxConnectionsPerAddress = 1; c.NewConnectionsBurst = 2 })
	v := p.Decide(from("192.0.2.1"))
	for range 10 {
		p.Decide(from("192.0.2.1"))
	}
	v.Release()
	if v := p.Decide(from("192.0.2.1")); !v.Allowed {
		t.Fatalf("verdict %+v", v)
	}
}

func TestNoLimit(t *testing.T) {
	p, _ := build(t, func(c *Config) { c.MaxConnectionsPerAddress, c.NewConnectionsPerSecond = 0, 0 })
	for range 5_000 {
		if v := p.Decide(from("192.0.2.1")); !v.Allowed {
			t.Fatalf("verdict %+v", v)
		}
	}
}

// A million sources, each with a bucket not yet full, may not make the table
// grow past its bound; those with a connection open may not be forgotten.
func TestMemoryIsBounded(t *testing.T) {
	p, c := build(t, func(c *Config) { c.NewConnectionsPerSecond = 0.001; c.MaxConnectionsPerAddress = 1 })
	const staying = 1_000
	source := func(i int) netip.Addr {
		return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	}
	for i := range staying {
		p.Decide(Event{Kind: Connection, Source: source(i)})
	}
	before := heap()
	for i := staying; i < 1_000_000; i++ {
		c.advance(time.Microsecond)
		p.Decide(Event{Kind: Connection, Source: source(i)}).Release()
	}
	s := p.Stats()
	if s.Sources > maxIdle+staying || s.Connections != staying {
		t.Fatalf("%d sources and %d connections are remembered", s.Sources, s.Connections)
	}
	if grown := int64(heap()) - int64(before); grown > 400*maxIdle {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	for i := range staying {
		if p.Decide(Event{Kind: Connection, Source: source(i)}).Allowed {
			t.Fatalf("source %d was forgotten with a connection open", i)
		}
	}
	// Once their buckets would be full again, they leave by themselves.
	c.advance(1_000 * time.Hour)
	for range maxIdle {
		p.Decide(from("198.51.100.1")).Release()
	}
	if s := p.Stats(); s.Sources > staying+2 {
		t.Errorf("%d sources are remembered after their time", s.Sources)
	}
	runtime.KeepAlive(p)
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestConcurrentUse(t *testing.T) {
	const limit = 50
	p, _ := build(t, func(c *Config) { c.MaxConnections = limit; c.NewConnectionsPerSecond = 0 })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				v := p.Decide(from("192.0.2.1"))
				if n := p.Stats().Connections; n > limit {
					t.Errorf("%d connections, over the limit", n)
				}
				v.Release()
			}
		})
	}
	wg.Wait()
	if s := p.Stats(); s.Connections != 0 {
		t.Errorf("%d connections left", s.Connections)
	}
}

func TestStats(t *testing.T) {
	p, _ := build(t, func(c *Config) { c.Deny = prefixes("192.0.2.0/24") })
	p.Decide(from("192.0.2.1"))
	p.Decide(from("192.0.2.1"))
	p.Decide(from("198.51.100.1"))
	for _, r := range p.Stats().Rules {
		want := RuleStats{Rule: r.Rule}
		switch r.Rule {
		case "policy.deny":
			want.Refused = 2
		case "none":
			want.Allowed = 1
		}
		if r != want {
			t.Errorf("counts %+v, want %+v", r, want)
		}
	}
}

func TestValidateReportsAllFaults(t *testing.T) {
	cfg := Config{
		Allow:                    []netip.Prefix{{}, netip.PrefixFrom(netip.MustParseAddr("::ffff:192.0.2.1"), 128)},
		Deny:                     prefixes("192.0.2.7/24"),
		MaxConnections:           0,
		MaxConnectionsPerAddress: -1,
		NewConnectionsPerSecond:  math.NaN(),
	}
	_, err := New(cfg, Parts{})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"policy.allow: not a proper prefix", "policy.allow: ::ffff:192.0.2.1/128",
		"policy.deny: 192.0.2.7/24", "write 192.0.2.0/24, or 192.0.2.7/32",
		"policy.max_connections: ", "policy.max_connections_per_address: ",
		"policy.new_connections_per_second: ", "policy.new_connections_burst: ",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("faults do not say %q:\n%v", want, err)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, kind := range []Kind{Connection, Request} {
		b.Run(kind.String(), func(b *testing.B) {
			p, _ := build(b, func(c *Config) { c.NewConnectionsPerSecond = 0; c.Deny = prefixes("192.0.2.0/24") })
			e := Event{Kind: kind, Source: netip.MustParseAddr("198.51.100.1")}
			b.ReportAllocs()
			for b.Loop() {
				p.Decide(e).Release()
			}
		})
	}
}
