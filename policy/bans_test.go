package policy

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// saved runs a Policy with a ledger while it is used.
func saved(t *testing.T, cfg Config, l Ledger, use func(*Policy)) {
	t.Helper()
	p, err := New(cfg, Parts{Ledger: l})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }() // ends with ctx; waited for below
	use(p)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What one process bans, another takes, and tells a third of it; unless it keeps the source
// out for longer.
func TestBansAreTaken(t *testing.T) {
	var chain [3]*Policy
	told := make([]int, len(chain))
	for i := len(chain) - 1; i >= 0; i-- {
		var err error
		if chain[i], err = New(Defaults(), Parts{Banned: func(b Ban) {
			if told[i]++; i+1 < len(chain) {
				chain[i+1].TakeBan(b)
			}
		}}); err != nil {
			t.Fatal(err)
		}
	}
	guess(t, chain[0], "192.0.2.1", 100, one)
	for i, p := range chain {
		if got := p.Decide(from("192.0.2.1")); got.Allowed || told[i] != 1 {
			t.Errorf("process %d lets the source in: %v, and told of %d bans", i, got.Allowed, told[i])
		}
		mustEnter(t, p, "192.0.2.2")
	}
	if got, want := chain[2].Bans()[0], chain[0].Bans()[0]; got != want {
		t.Errorf("the last has %+v, the first %+v", got, want)
	}
	last := chain[2]
	for name, b := range map[string]Ban{
		"ends earlier":     {Source: prefixes("192.0.2.1/32")[0], Until: last.now().Add(time.Second)},
		"is over":          {Source: prefixes("192.0.2.9/32")[0], Until: last.now().Add(-time.Second)},
		"is of no source":  {Until: last.now().Add(time.Hour)},
		"is of no network": {Source: netip.MustParsePrefix("192.0.2.9/24"), Until: last.now().Add(time.Hour)},
	} {
		if last.TakeBan(b); told[2] != 1 || last.Bans()[0] != chain[0].Bans()[0] || len(last.Bans()) != 1 {
			t.Errorf("one that %s was taken: %+v", name, last.Bans())
		}
	}
}

func TestBansSurviveRestart(t *testing.T) {
	for name, l := range map[string]Ledger{"memory": new(Memory), "file": File(filepath.Join(t.TempDir(), "bans.json"))} {
		t.Run(name, func(t *testing.T) {
			cfg := Defaults()
			cfg.Allow = prefixes("203.0.113.0/24")
			saved(t, cfg, l, func(p *Policy) {
				guess(t, p, "192.0.2.1", 100, one)
				for _, source := range []string{"198.51.100.0/24", "2001:db8::7/128", "203.0.113.0/24"} {
					if _, err := p.AddBan(netip.MustParsePrefix(source), 0, "said so"); err != nil {
						t.Fatal(err)
					}
				}
			})
			saved(t, cfg, l, func(p *Policy) {
				for source, in := range map[string]bool{
					"192.0.2.1": false, "192.0.2.2": true, "198.51.100.9": false, "2001:db8::8": false, "2001:db8:0:1::7": true,
					"203.0.113.1": true, // allowed before banned
				} {
					if got := p.Decide(from(source)); got.Allowed != in {
						t.Errorf("%s: %+v", source, got)
					}
				}
				if !p.RemoveBan(netip.MustParsePrefix("192.0.2.1/32")) || p.RemoveBan(netip.MustParsePrefix("192.0.2.9/32")) {
					t.Error("removed what was not, or not what was")
				}
				mustEnter(t, p, "192.0.2.1")
			})
			saved(t, cfg, l, func(p *Policy) {
				mustEnter(t, p, "192.0.2.1")
				if n := len(p.Bans()); n != 3 {
					t.Errorf("%d bans are left", n)
				}
			})
		})
	}
}

// After a restart nobody is registered yet: a guesser who is quicker than the phones
// beside him does not get them banned. And who has called abroad has done so.
func TestPhonesOutliveRestart(t *testing.T) {
	const office = "192.0.2.1"
	l := File(filepath.Join(t.TempDir(), "bans.json"))
	saved(t, Defaults(), l, func(p *Policy) {
		mustEnter(t, p, office).register("1001", true)
		v := ask(p, "1001", "0044")
		v.Began()
		v.Release()
	})
	saved(t, Defaults(), l, func(p *Policy) {
		told := 0
		p.alarms.tell = func(Alarm) { told++ }
		v := ask(p, "1001", "0044")
		v.Began()
		v.Release()
		if told != 0 {
			t.Error("the user's first call abroad is told again")
		}
		guess(t, p, office, 100, one)
		if len(p.Bans()) != 0 {
			t.Errorf("bans %v", p.Bans())
		}
		guess(t, p, "198.51.100.1", 100, one) // the control
		if len(p.Bans()) != 1 {
			t.Errorf("bans %v", p.Bans())
		}
	})
}

func TestDamagedLedger(t *testing.T) {
	for name, text := range map[string]string{
		"cut short": `{"version":1,"bans":[{"source":"192.0`, "of the future": `{"version":9,"bans":[]}`, "empty": "",
		"a bad source": `{"version":1,"bans":[{"source":"192.0.2.1/24"},{"source":""}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "bans.json")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			saved(t, Defaults(), File(path), func(p *Policy) { // phones need the edge
				if n := len(p.Bans()); n != 0 {
					t.Errorf("%d bans", n)
				}
				if _, err := p.AddBan(netip.MustParsePrefix("192.0.2.1/32"), time.Hour, ""); err != nil {
					t.Error(err)
				}
			})
			if kept, err := File(path).Load(); err != nil || len(kept.Bans) != 1 {
				t.Errorf("kept %v, %v", kept, err)
			}
		})
	}
}

func TestLedgerFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "bans.json")
	if err := File(path).Save(Kept{Bans: []Ban{{Source: netip.MustParsePrefix("192.0.2.1/32")}}}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := File(filepath.Join(dir, "none", "bans.json")).Save(Kept{}); err == nil || !strings.Contains(err.Error(), "write the bans") {
		t.Errorf("into a folder that is not there: %v", err)
	}
}

func TestAddBanRefuses(t *testing.T) {
	p, _ := build(t, nil)
	for _, source := range []netip.Prefix{{}, netip.MustParsePrefix("192.0.2.1/24")} {
		if _, err := p.AddBan(source, 0, ""); err == nil {
			t.Errorf("%s was taken", source)
		}
	}
}

// IPv4 addresses as logs of dual-stack sockets have them are IPv4 addresses.
func TestBansOfMapped(t *testing.T) {
	for source, want := range map[string]string{
		"::ffff:192.0.2.1/128": "192.0.2.1/32",
		"::ffff:192.0.2.0/120": "192.0.2.0/24",
		"2001:db8::7/128":      "2001:db8::/64",
	} {
		p, _ := build(t, nil)
		ban, err := p.AddBan(netip.MustParsePrefix(source), 0, "")
		if err != nil || ban.Source.String() != want {
			t.Errorf("%s: %s is banned, %v; want %s", source, ban.Source, err, want)
		}
		if v := p.Decide(from("192.0.2.1")); v.Allowed == strings.HasPrefix(want, "192") {
			t.Errorf("%s: verdict %+v", source, v)
		}
		mustEnter(t, p, "::1")
		if !p.RemoveBan(netip.MustParsePrefix(source)) || len(p.Bans()) != 0 {
			t.Errorf("%s: left are %v", source, p.Bans())
		}
	}
}

// A ban that is over does not hide a wider one.
func TestNestedBans(t *testing.T) {
	p, c := build(t, nil)
	_, _ = p.AddBan(netip.MustParsePrefix("192.0.2.0/24"), time.Hour, "wide")
	_, _ = p.AddBan(netip.MustParsePrefix("192.0.2.1/32"), time.Minute, "narrow")
	c.advance(2 * time.Minute)
	if v := p.Decide(from("192.0.2.1")); v.Allowed || !strings.Contains(v.Reason, "wide") {
		t.Errorf("verdict %+v", v)
	}
}
