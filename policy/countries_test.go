package policy

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// countryFile writes a file of MaxMind's form (its specification, version 2.0) that
// knows some networks.
func countryFile(t *testing.T, path string, networks map[string]string) {
	t.Helper()
	text := func(s string) []byte { return append([]byte{2<<5 | byte(len(s))}, s...) }
	number := func(kind byte, n uint32) []byte { return binary.BigEndian.AppendUint32([]byte{kind<<5 | 4}, n) }
	type record struct{ node, data int } // 0: none
	nodes, data := [][2]record{{}}, []byte{}
	for network, country := range networks {
		prefix := netip.MustParsePrefix(network)
		a := prefix.Addr().As16() // IPv4 is in the last 32 bits of ::/96
		if prefix.Addr().Is4() {
			four := prefix.Addr().As4()
			a = [16]byte{}
			copy(a[12:], four[:])
		}
		bits, at := prefix.Bits(), 0
		if prefix.Addr().Is4() {
			bits += 96
		}
		for i := range bits {
			side := a[i/8] >> (7 - i%8) & 1
			if i == bits-1 {
				nodes[at][side] = record{data: len(data) + 1}
				break
			}
			if nodes[at][side].node == 0 {
				nodes = append(nodes, [2]record{})
				nodes[at][side].node = len(nodes) - 1
			}
			at = nodes[at][side].node
		}
		data = append(data, 7<<5|1)
		data = append(data, text("country")...)
		data = append(data, 7<<5|1)
		data = append(append(data, text("iso_code")...), text(country)...)
	}
	var out []byte
	for _, n := range nodes {
		for _, r := range n {
			v := len(nodes)
			switch {
			case r.node > 0:
				v = r.node
			case r.data > 0:
				v = len(nodes) + 16 + r.data - 1
			}
			out = append(out, byte(v>>16), byte(v>>8), byte(v))
		}
	}
	out = append(append(out, make([]byte, 16)...), data...)
	out = append(out, "\xab\xcd\xefMaxMind.com"...)
	out = append(out, 7<<5|9)
	for _, pair := range [][2][]byte{
		{text("node_count"), number(6, uint32(len(nodes)))}, {text("record_size"), {5<<5 | 1, 24}}, {text("ip_version"), {5<<5 | 1, 6}},
		{text("database_type"), text("Test")}, {text("languages"), {0, 4}}, {text("description"), {7 << 5}},
		{text("binary_format_major_version"), {5<<5 | 1, 2}}, {text("binary_format_minor_version"), {5 << 5}}, {text("build_epoch"), {1, 2, 1}},
	} {
		out = append(append(out, pair[0]...), pair[1]...)
	}
	if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCountries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "country.mmdb")
	countryFile(t, path, map[string]string{"192.0.2.0/24": "DE", "198.51.100.0/24": "XX", "2001:db8::/32": "DE"})
	for _, tc := range []struct {
		name        string
		allow, deny []string
		in          map[string]bool
	}{
		{"allowed alone", []string{"DE"}, nil, map[string]bool{"192.0.2.1": true, "::ffff:192.0.2.1": true, "2001:db8::1": true, "198.51.100.1": false, "203.0.113.1": false, "10.0.0.1": true, "fd00::1": true,
			"100.64.0.1": true, "100.127.255.254": true, "100.63.255.254": false, "100.128.0.1": false}},
		{"denied", nil, []string{"XX"}, map[string]bool{"192.0.2.1": true, "198.51.100.1": false, "203.0.113.1": true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, _ := build(t, func(c *Config) { c.CountriesFile, c.CountriesAllow, c.CountriesDeny = path, tc.allow, tc.deny })
			for source, in := range tc.in {
				if v := p.Decide(from(source)); v.Allowed != in || !in && (v.Rule != "policy.countries" || v.Reason == "") {
					t.Errorf("%s: %+v", source, v)
				}
			}
		})
	}
	t.Run("another file", func(t *testing.T) {
		p, _ := build(t, func(c *Config) { c.CountriesFile, c.CountriesDeny = path, []string{"XX"} })
		countryFile(t, path, map[string]string{"192.0.2.0/24": "XX"})
		later := time.Now().Add(time.Minute)
		if err := os.Chtimes(path, later, later); err != nil {
			t.Fatal(err)
		}
		if changed, err := p.countries.reload(); !changed || err != nil {
			t.Fatalf("reload: %v, %v", changed, err)
		}
		if v := p.Decide(from("192.0.2.1")); v.Allowed {
			t.Error("it is not taken")
		}
		if err := os.WriteFile(path, []byte("none"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := p.countries.reload(); err == nil {
			t.Error("a file that is none was taken")
		}
		if v := p.Decide(from("192.0.2.1")); v.Allowed {
			t.Error("the former is gone")
		}
		cfg := Defaults()
		cfg.CountriesFile = path
		if _, err := New(cfg, Parts{}); err == nil || !strings.HasPrefix(err.Error(), "policy.countries_file: read ") {
			t.Errorf("New: %v", err)
		}
	})
	t.Run("faults", func(t *testing.T) {
		cfg := Defaults()
		cfg.CountriesAllow, cfg.CountriesDeny = []string{"de"}, []string{"Germany"}
		for _, want := range []string{`policy.countries_allow: "de" is no country`, `policy.countries_deny: "Germany"`, "policy.countries_deny: needs policy.countries_file"} {
			if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
	})
}
