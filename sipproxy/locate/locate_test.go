package locate

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// zone answers as a name server would.
type zone struct {
	srv  map[string][]*net.SRV
	addr map[string][]string
	down bool   // of SRV
	lost string // a name whose addresses it can't tell
}

func (z zone) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	full := "_" + service + "._" + proto + "." + name
	records, ok := z.srv[full]
	switch {
	case z.down:
		return "", nil, &net.DNSError{Err: "server misbehaving", Name: full, IsTemporary: true}
	case !ok:
		return "", nil, &net.DNSError{Err: "no such host", Name: full, IsNotFound: true}
	}
	return full, records, nil
}

func (z zone) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if host == z.lost {
		return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
	}
	list, ok := z.addr[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out, nil
}

// TestLookup is RFC 3263 section 4.2, for a name of which the transport is known.
func TestLookup(t *testing.T) {
	z := zone{
		srv: map[string][]*net.SRV{
			"_sip._udp.example.com": {
				{Target: "a.example.com.", Port: 5070, Priority: 10, Weight: 60},
				{Target: "b.example.com.", Port: 5060, Priority: 10, Weight: 20},
				{Target: "c.example.com.", Port: 5080, Priority: 20, Weight: 0},
				{Target: "gone.example.com.", Port: 5080, Priority: 30, Weight: 0},
			},
			"_sip._udp.none.example.com":  {{Target: "."}},
			"_sip._udp.empty.example.com": {{Target: "gone.example.com.", Port: 5060}},
		},
		addr: map[string][]string{
			"a.example.com.": {"10.0.0.1"}, "b.example.com.": {"fd00::2", "10.0.0.2"}, "c.example.com.": {"10.0.0.3"},
			"host.example.com": {"fd00::9", "::ffff:10.0.0.9"}, "example.com": {"10.0.9.9"},
		},
	}
	for _, tc := range []struct {
		name, host string
		port       uint16
		want       string
		fault      string
	}{
		{name: "address", host: "10.0.0.5", want: "10.0.0.5:5060/0/0"},
		{name: "address and port", host: "10.0.0.5", port: 5070, want: "10.0.0.5:5070/0/0"},
		{name: "IPv6", host: "fd00::5", want: "[fd00::5]:5060/0/0"},
		{name: "name and port", host: "host.example.com", port: 5071, want: "10.0.0.9:5071/0/0 [fd00::9]:5071/0/0"},
		{name: "name without SRV", host: "host.example.com", want: "10.0.0.9:5060/0/0 [fd00::9]:5060/0/0"},
		{name: "name with SRV", host: "example.com",
			want: "10.0.0.1:5070/10/60 10.0.0.2:5060/10/20 [fd00::2]:5060/10/20 10.0.0.3:5080/20/0"},
		{name: "name with SRV, and a port given", host: "example.com", port: 5099, want: "10.0.9.9:5099/0/0"},
		{name: "service not offered", host: "none.example.com", fault: ErrNotOffered.Error()},
		{name: "targets without addresses", host: "empty.example.com", fault: "look up gone.example.com."},
		{name: "no such name", host: "nowhere.example.com", fault: "look up nowhere.example.com"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			list, err := Lookup(context.Background(), z, tc.host, tc.port)
			var got []string
			for _, s := range list {
				got = append(got, fmt.Sprintf("%s/%d/%d", s.Addr, s.Priority, s.Weight))
			}
			if text := strings.Join(got, " "); text != tc.want {
				t.Errorf("found %s, want %s", text, tc.want)
			}
			if tc.fault == "" && err != nil || tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault)) {
				t.Errorf("error %v, want %q", err, tc.fault)
			}
		})
	}
}

// By TLS a name has records and a port of its own.
func TestLookupTLS(t *testing.T) {
	z := zone{
		srv: map[string][]*net.SRV{
			"_sips._tcp.example.com": {{Target: "b.example.com.", Port: 5063, Priority: 2}, {Target: "a.example.com.", Port: 5062, Priority: 1}},
			"_sip._udp.example.com":  {{Target: "c.example.com.", Port: 5060}},
			"_sip._udp.host.example": {{Target: "c.example.com.", Port: 5060}},
		},
		addr: map[string][]string{"a.example.com.": {"10.0.0.1"}, "b.example.com.": {"10.0.0.2"}, "c.example.com.": {"10.0.0.3"}, "host.example": {"10.0.0.4"}},
	}
	for host, want := range map[string]string{
		"example.com": "10.0.0.1:5062 10.0.0.2:5063", "host.example": "10.0.0.4:5061", "10.0.0.5": "10.0.0.5:5061",
	} {
		list, err := LookupTLS(context.Background(), z, host, 0)
		var got []string
		for _, s := range list {
			got = append(got, s.Addr.String())
		}
		if text := strings.Join(got, " "); text != want || err != nil {
			t.Errorf("%s: found %s, %v; want %s", host, text, err, want)
		}
	}
}

// A name of /etc/hosts needs no name server; for any other the name server's own
// fault is what to tell.
func TestResolverDown(t *testing.T) {
	z := zone{down: true, addr: map[string][]string{"asterisk": {"10.0.0.9"}}}
	if list, err := Lookup(context.Background(), z, "asterisk", 0); err != nil || len(list) != 1 {
		t.Errorf("found %v, %v", list, err)
	}
	if list, err := Lookup(context.Background(), z, "example.com", 0); err == nil || !strings.Contains(err.Error(), "misbehaving") {
		t.Errorf("found %v, %v", list, err)
	}
}

// A name that had records is not taken for one without as long as no name server says so.
func TestMemory(t *testing.T) {
	z := &zone{
		srv:  map[string][]*net.SRV{"_sip._udp.example.com": {{Target: "a.", Port: 5070}, {Target: "b.", Port: 5080}}},
		addr: map[string][]string{"a.": {"10.0.0.1"}, "b.": {"10.0.0.2"}, "example.com": {"10.0.9.9"}, "asterisk": {"10.0.0.9"}},
	}
	m := Remember(z)
	found := func(when, host, want string) {
		t.Helper()
		list, err := Lookup(t.Context(), m, host, 0)
		var got []string
		for _, s := range list {
			got = append(got, s.Addr.String())
		}
		if text := strings.Join(got, " "); text != want || (err == nil) != (want != "") {
			t.Errorf("%s: found %q, %v; want %q", when, text, err, want)
		}
	}
	z.down = true
	found("no name server, and a name of /etc/hosts", "asterisk", "10.0.0.9:5060")
	found("no name server from the first on", "example.com", "10.0.9.9:5060")
	z.down = false
	found("all is well", "example.com", "10.0.0.1:5070 10.0.0.2:5080")
	z.down = true
	found("no name server any longer", "example.com", "")
	found("no name server, and a name of /etc/hosts that moves", "asterisk", "10.0.0.9:5060")
	z.down, z.lost = false, "b."
	found("one target is not to be told", "example.com", "")
	z.lost = ""
	delete(z.addr, "b.")
	found("it is gone", "example.com", "10.0.0.1:5070")
	delete(z.srv, "_sip._udp.example.com")
	found("the records are gone", "example.com", "10.0.9.9:5060")
	z.down = true
	found("and are forgotten", "example.com", "10.0.9.9:5060")
}

func TestTooManyServers(t *testing.T) {
	z := zone{srv: map[string][]*net.SRV{}, addr: map[string][]string{"a.": {"10.0.0.1"}}}
	for range MaxServers + 1 {
		z.srv["_sip._udp.many"] = append(z.srv["_sip._udp.many"], &net.SRV{Target: "a.", Port: 5060})
	}
	if list, err := Lookup(context.Background(), z, "many", 0); err == nil {
		t.Fatalf("took %d servers", len(list))
	}
}
