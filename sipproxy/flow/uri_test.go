package flow

import (
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
)

// What is let through is read as it was judged: the host is that behind the user part,
// whatever characters of a host stand elsewhere (RFC 3261 section 25.1).
func TestParseURI(t *testing.T) {
	for uri, want := range map[string]struct {
		user, host string
		port       int
	}{
		"sip:o;[]":                                            {"", "o", 0},
		"sip:o:5061;maddr=[2001:db8::1]":                      {"", "o", 5061},
		"SIPS:o?Route=[2001:db8::1]":                          {"", "o", 0},
		"sip:[2001:db8::1];maddr=[2001:db8::2]":               {"", "[2001:db8::1]", 0},
		"sip:a@o;maddr=[2001:db8::1]":                         {"a", "o", 0},
		"sip:a@[2001:db8::1]:1;x=[]":                          {"a", "[2001:db8::1]", 1},
		"sip:a?b@o:1":                                         {"a?b", "o", 1},
		"sip:[0000:0000:0000:0000:0000:ffff:10.168.1.1]:5061": {"", "[0000:0000:0000:0000:0000:ffff:10.168.1.1]", 5061},
		"sip:a@o?Replaces=b@h":                                {"a", "o", 0},
	} {
		var u sip.Uri
		if !IsURI(uri) {
			t.Errorf("%s is not let through", uri)
		} else if err := ParseURI(uri, &u); err != nil || u.User != want.user || u.Host != want.host || u.Port != want.port {
			t.Errorf("%s is read as user %q, host %q, port %d, %v", uri, u.User, u.Host, u.Port, err)
		}
	}
	for _, uri := range []string{"sip:a?b@", "sip:a?b@h:99999", "sip:a?b@h@h", "sip:a?b[]@h", "sip:h?", "sip:a@h;x=b@h", "sip:[o];[]",
		"sip:[0000:0000:0000:0000:0000:ffff:192.168.1.1]", "sip:a@[0000:0000:0000:0000:0000:ffff:192.168.100.100]:5061"} {
		if IsURI(uri) {
			t.Errorf("%s is let through", uri)
		}
	}
}

// What is let through of SIP has a host and a port, as they were judged.
func FuzzURI(f *testing.F) {
	for _, s := range []string{"sip:o;[]", "sip:a?b@h:1?c=d@e", "sips:a:b@[::1]:5061;x=[]", "sip:h?x=[]", "sip:a;b@h;c", "sip:[0000:0000:0000:0000:0000:ffff:192.168.100.100]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		scheme, _, _ := strings.Cut(strings.ToLower(uri), ":")
		if !IsURI(uri) || scheme != "sip" && scheme != "sips" {
			return
		}
		var u sip.Uri
		if err := ParseURI(uri, &u); err != nil {
			t.Fatalf("%q is let through: %v", uri, err)
		}
		if !isHost(u.Host) || u.Port < 0 || u.Port > 65535 {
			t.Errorf("%q is let through, and has host %q and port %d", uri, u.Host, u.Port)
		}
	})
}
