package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeReportsAllFaults(t *testing.T) {
	const file = `[edge]
domain = 5
publik_ip = "203.0.113.7"
drain = "soon"
listen_ip = ["192.0.2.1", "x", 7]

[pbx]
address = "pbx.example.com:99999"

[sip]
tls_listen = "5061"
max_head = "large"
keepalive = 30
wss_phone = "yes"

[media]
port = 10000.5
plain_ports = "29999-20000"
suites = "AEAD_AES_128_GCM"

[policy]
deny = ["192.0.2.0/24", "2001:db8::/129"]
new_connections_per_second = "many"

[medja]
port = 1

[log]
level = 2026-01-01

[[admin]]
listen = "127.0.0.1:9060"

[tls]
acme = "yes"
`
	var c Config
	d := decode("f.toml", []byte(file), &c)
	var got []string
	for _, f := range d.sorted() {
		got = append(got, f.Error())
	}
	want := []string{
		`f.toml:2: edge.domain: is 5, and must be a string; put it in quotes`,
		`f.toml:3: edge.publik_ip: unknown key; did you mean edge.public_ip?`,
		`f.toml:4: edge.drain: is "soon", and must be a time; write it like "90s" or "5m"`,
		`f.toml:5: edge.listen_ip: is "x", and must be an IP address; write it like "203.0.113.7" or "2001:db8::7"; is 7, and must be an IP address; write it like "203.0.113.7" or "2001:db8::7"`,
		`f.toml:8: pbx.address: is "pbx.example.com:99999", and must be a host and a port; write it like "10.0.0.5:5060" or "pbx.internal:5060"`,
		`f.toml:11: sip.tls_listen: is "5061", and must be a port, with or without an address; write it like ":5061" or "192.0.2.1:5061"`,
		`f.toml:12: sip.max_head: is "large", and must be a whole number; write it without quotes`,
		`f.toml:13: sip.keepalive: is 30, and must be a time; write it like "90s" or "5m"`,
		`f.toml:14: sip.wss_phone: is "yes", and must be true or false; write it without quotes`,
		`f.toml:17: media.port: is 10000.5, and must be a whole number; write it without quotes`,
		`f.toml:18: media.plain_ports: is "29999-20000", and must be a range of ports; write it like "20000-29999"`,
		`f.toml:22: policy.deny: is "2001:db8::/129", and must be an address or a network; write it like "192.0.2.0/24"`,
		`f.toml:23: policy.new_connections_per_second: is "many", and must be a number; write it without quotes`,
		`f.toml:25: medja: unknown section; did you mean media?`,
		`f.toml:29: log.level: is a date, and must be a string; put it in quotes`,
		`f.toml:31: admin: is a list, and must be a section; write [admin]`,
		`f.toml:35: tls.acme: is "yes", and must be true or false; write it without quotes`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	if !cmp.Equal(c.Media.Suites, []string{"AEAD_AES_128_GCM"}) {
		t.Errorf("one value without brackets became %q", c.Media.Suites)
	}
}

func TestDecodeForms(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		fault      string // of the whole; empty: it is good
		line       int
	}{
		{name: "empty"},
		{name: "inline table", file: "edge = {domain = 'a.example'}"},
		{name: "dotted key", file: "edge.domain = 'a.example'"},
		{name: "inline table at fault", file: "\nedge = {domian = 'a.example'}", fault: "edge.domian", line: 2},
		{name: "dotted key at fault", file: "\n\nedge.domian = 'a.example'", fault: "edge.domian", line: 3},
		{name: "key without a section", file: "domain = 'a.example'", fault: "domain: stands before any section; write it below [edge] or [pbx] or [[trunk]]", line: 1},
		{name: "no key, without a section", file: "domian = 'a.example'", fault: "domian: unknown section", line: 1},
		{name: "section with a key's name", file: "[domain]", fault: "domain: unknown section", line: 1},
		{name: "section as a value", file: "edge = 'a.example'", fault: "edge: is a string, and must be a section", line: 1},
		{name: "no TOML", file: "[edge]\ndomain pbx", fault: "this is not TOML", line: 2},
		{name: "the same key twice", file: "[edge]\ndomain = 'a'\ndomain = 'b'", fault: "this is not TOML", line: 3},
		{name: "too large a number", file: "[sip]\nmax_body = 99999999999", fault: "out of all proportion", line: 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c Config
			d := decode("f.toml", []byte(tc.file), &c)
			faults := d.sorted()
			if tc.fault == "" {
				if len(faults) > 0 {
					t.Fatalf("faults: %v", faults)
				}
				return
			}
			if len(faults) != 1 || faults[0].line != tc.line || !strings.Contains(faults[0].Error(), tc.fault) {
				t.Fatalf("faults %v, want %q at line %d", faults, tc.fault, tc.line)
			}
		})
	}
}

func TestAddError(t *testing.T) {
	d := &document{file: "f.toml", lines: map[string]int{"media.port": 4, "media.dscp": 6}}
	d.add("media.dscp", "is no number")
	d.addError(errors.Join(
		errors.New("media.port: is odd"), errors.New("media.port: is high"),
		errors.New("media.dscp: is 0"), errors.New("no key: at all"),
	))
	d.addError(nil)
	var got []string
	for _, f := range d.sorted() {
		got = append(got, f.Error())
	}
	want := []string{"f.toml:4: media.port: is odd", "f.toml:4: media.port: is high", "f.toml:6: media.dscp: is no number", "f.toml: no key: at all"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestValues(t *testing.T) {
	for text, want := range map[string]hostPort{
		"10.0.0.5":            {Host: "10.0.0.5"},
		"10.0.0.5:5080":       {Host: "10.0.0.5", Port: 5080},
		"pbx.internal":        {Host: "pbx.internal"},
		"pbx.internal:5060":   {Host: "pbx.internal", Port: 5060},
		"2001:db8::5":         {Host: "2001:db8::5"},
		"[2001:db8::5]":       {Host: "2001:db8::5"},
		"[2001:db8::5]:5060":  {Host: "2001:db8::5", Port: 5060},
		"":                    {},
		":5060":               {},
		"host:":               {},
		"host:0":              {},
		"host:sip":            {},
		"user@host":           {},
		"sip://host":          {},
		"[2001:db8::5]:x":     {},
		"a host":              {},
		"2001:db8::5]:5060:1": {},
	} {
		var h hostPort
		if err := h.UnmarshalText([]byte(text)); (err == nil) != (want.Host != "") || err == nil && h != want {
			t.Errorf("%q is read as %+v, %v; want %+v", text, h, err, want)
		}
	}
	for text, want := range map[string]string{
		":5061": "192.0.2.1:5061", "198.51.100.1:1": "198.51.100.1:1", "[::1]:5061": "[::1]:5061",
		"5061": "", ":0": "", "host:5061": "", "": "", ":65536": "",
	} {
		var l listenAddr
		err := l.UnmarshalText([]byte(text))
		if (err == nil) != (want != "") || err == nil && l.on(netip.MustParseAddr("192.0.2.1")).String() != want {
			t.Errorf("%q is read as %+v, %v; want %q", text, l, err, want)
		}
	}
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "2001:db8::1": "2001:db8::1/128", "192.0.2.0/24": "192.0.2.0/24",
		"192.0.2.0/33": "", "x": "", "fe80::1%eth0": "",
	} {
		var p prefix
		if err := p.UnmarshalText([]byte(text)); (err == nil) != (want != "") || err == nil && p.String() != want {
			t.Errorf("%q is read as %v, %v; want %q", text, p, err, want)
		}
	}
}

// Whatever a file holds, reading it ends in faults, never in a panic.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("edge = {domain = ['a', {b = 1}]}\n[[sip]]\n"))
	f.Add([]byte("x = "))
	f.Add([]byte("[[trunk]]\nname = 'a'\npin = 1\n[[trunk]]\nname = 'a'\n[[trunk]]\n[edge]\ndrain = 9e99\n"))
	f.Add([]byte("[sip]\nbalancers = [" + strings.Repeat("1,", 200) + "]\n"))                  // a fault for each
	f.Add([]byte("[pbx]\naddr = \"" + strings.Repeat("\u0080", 3000) + "\"\nbalancers = 1\n")) // which is shown escaped
	f.Fuzz(func(t *testing.T, data []byte) {
		c := defaults()
		d := decode("f.toml", data, &c)
		if !d.unreadable {
			c.validate(d)
		}
		for _, fault := range d.sorted() {
			if fault.text == "" || len(fault.Error()) > 4096+128*len(data) {
				t.Errorf("fault %q", fault)
			}
		}
		if c.Edge.Drain == time.Duration(-1) && len(d.faults) == 0 {
			t.Error("a negative drain passed")
		}
	})
}
