package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
)

func TestPBXAddress(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.5":                             "10.0.0.5:0 -1 1",
		"10.0.0.5:5080 priority=2 weight=7":    "10.0.0.5:5080 2 7",
		"  pbx.internal   weight=0 ":           "pbx.internal:0 -1 0",
		"[2001:db8::5]:5060 priority=0":        "[2001:db8::5]:5060 0 1",
		"":                                     "",
		"10.0.0.5 weight":                      "",
		"10.0.0.5 weight=-1":                   "",
		"10.0.0.5 weight=65536":                "",
		"10.0.0.5 weigth=1":                    "",
		"10.0.0.5, 10.0.0.6":                   "",
		"user@10.0.0.5 priority=1":             "",
		"10.0.0.5 priority=1 weight=2 extra=3": "",
	} {
		var a pbxAddress
		err := a.UnmarshalText([]byte(text))
		if got := fmt.Sprintf("%s %d %d", a.String(), a.Priority, a.Weight); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q is read as %s, %v; want %q", text, got, err, want)
		}
	}
}

// Places in the list, and priorities given, become one order.
func TestPBXOrder(t *testing.T) {
	for _, tc := range []struct {
		name, list, want string
	}{
		{"one", "10.0.0.5", "10.0.0.5:5060/0/1"},
		{"in the order of the list", "10.0.0.6 10.0.0.5:5070", "10.0.0.6:5060/0/1 10.0.0.5:5070/1/1"},
		{"by priority", "10.0.0.7,priority=9 10.0.0.5,priority=1,weight=3 10.0.0.6,priority=1,weight=5",
			"10.0.0.5:5060/0/3 10.0.0.6:5060/0/5 10.0.0.7:5060/1/1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c pbxConfig
			for _, text := range strings.Fields(tc.list) {
				var a pbxAddress
				if err := a.UnmarshalText([]byte(strings.ReplaceAll(text, ",", " "))); err != nil {
					t.Fatal(err)
				}
				c.Address = append(c.Address, a)
			}
			servers, err := c.locate(context.Background(), net.DefaultResolver)
			var got []string
			for _, s := range servers {
				got = append(got, fmt.Sprintf("%s/%d/%d", s.Addr, s.Priority, s.Weight))
			}
			if text := strings.Join(got, " "); err != nil || text != tc.want {
				t.Errorf("order %s, %v; want %s", text, err, tc.want)
			}
		})
	}
}
