package sipproxy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestTrunkValidate(t *testing.T) {
	good := Trunk{
		Name: "bar", Listen: netip.MustParseAddrPort("10.0.0.1:5071"), Domain: "bar.example.com",
		Prefixes: []string{"2", "+49", "*98"}, Domains: []string{"bar.example.com"}, Rekey: DefaultRekey(),
		Account: Account{User: "acct", Password: "secret", Register: true, Interval: DefaultRegisterInterval},
	}
	if err := good.Validate(); err != nil {
		t.Fatalf("the control: %v", err)
	}
	for _, tc := range []struct {
		name   string
		change func(*Trunk)
		want   string // how its one fault begins
	}{
		{"no name", func(t *Trunk) { t.Name = "" }, `trunk "": name: `},
		{"a name that is a path", func(t *Trunk) { t.Name = "../bar" }, `trunk "../bar": name: `},
		{"a name in capitals", func(t *Trunk) { t.Name = "Bar" }, `trunk "Bar": name: `},
		{"any address", func(t *Trunk) { t.Listen = netip.MustParseAddrPort("0.0.0.0:5071") }, `trunk "bar": listen: 0.0.0.0:5071`},
		{"nothing goes there", func(t *Trunk) { t.Listen, t.Prefixes, t.Domains = netip.AddrPort{}, nil, nil }, `trunk "bar": listen: missing`},
		{"no domain", func(t *Trunk) { t.Domain = "" }, `trunk "bar": domain: `},
		{"a domain that is a URI", func(t *Trunk) { t.Domain = "sip:1@bar" }, `trunk "bar": domain: `},
		{"a prefix that is none", func(t *Trunk) { t.Prefixes = []string{"2", "4 9"} }, `trunk "bar": prefixes: "4 9"`},
		{"a domain to route that is none", func(t *Trunk) { t.Domains = []string{"a b"} }, `trunk "bar": domains: "a b"`},
		{"keys changed all the time", func(t *Trunk) { t.Rekey.After = time.Second }, `trunk "bar": rekey_after: 1s`},
		{"keys changed at each packet", func(t *Trunk) { t.Rekey.Packets = 1 }, `trunk "bar": rekey_packets: 1 `},
		{"registered as nobody", func(t *Trunk) { t.Account.User = "" }, `trunk "bar": user: missing`},
		{"without a password", func(t *Trunk) { t.Account.Password = "" }, `trunk "bar": password_file: missing`},
		{"a user that breaks a URI", func(t *Trunk) { t.Account.User = "a@b" }, `trunk "bar": user: "a@b"`},
		{"refreshed too often", func(t *Trunk) { t.Account.Interval = time.Second }, `trunk "bar": register_interval: 1s`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := good
			tc.change(&c)
			if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("faults %v, want one that begins %s", err, tc.want)
			}
		})
	}
	shown := fmt.Sprintf("%v %+v %#v", good, good, good.Account)
	if strings.Contains(shown, "secret") {
		t.Errorf("the password is in %s", shown)
	}
}

// Of two trunks that share the phones' address, each has domains of its own: which one a
// call goes by must not be chance.
func TestTrunksShareNoDomain(t *testing.T) {
	foo := Trunk{Name: "foo", Domain: "foo.example.com", Domains: []string{"example.com"}}
	bar := Trunk{Name: "bar", Domain: "bar.example.com", Domains: []string{"Example.com"}}
	if err := validateTrunks([]Trunk{foo, bar}); err == nil || !strings.HasPrefix(err.Error(), `trunk "bar": domains: "Example.com"`) {
		t.Errorf("faults %v", err)
	}
	bar.Domains = []string{"bar.example.com"}
	if err := validateTrunks([]Trunk{foo, bar}); err != nil {
		t.Errorf("faults %v of trunks that get along", err)
	}
}
