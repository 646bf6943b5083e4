package sipproxy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/policy"
)

// What only speaks of who somebody is ends here, in requests, ACKs and answers;
// unless the phone is trusted, by where it is or who it is.
func TestWhoSaysWhoSomebodyIs(t *testing.T) {
	spoofs := []string{"P-Asserted-Identity: <sip:ceo@pbx.example.com>", "Remote-Party-ID: <sip:ceo@pbx.example.com>", "Diversion: <sip:ceo@pbx.example.com>",
		"x-caller: ceo", "X-Caller: ceo"}
	for name, tc := range map[string]struct {
		rules func(*policy.Config)
		want  int
	}{
		"nobody is":                     {func(*policy.Config) {}, 0},
		"a source":                      {func(c *policy.Config) { c.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }, len(spoofs)},
		"a user":                        {func(c *policy.Config) { c.TrustedUsers = []string{"10*"} }, len(spoofs)},
		"another":                       {func(c *policy.Config) { c.TrustedUsers = []string{"2000"} }, 0},
		"a user, and nobody is watched": {func(c *policy.Config) { c.TrustedUsers, c.AuthFailures = []string{"1001"}, 0 }, len(spoofs)},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBenchUnder(t, tc.rules)
			p := b.phone()
			token := b.register(p)
			count := func(what string, m *message) {
				t.Helper()
				if n := strings.Count(fmt.Sprint(m.h), "ceo"); n != tc.want {
					t.Errorf("the PBX got %d of them in %s: %v", n, what, m.h)
				}
			}
			p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP, append(spoofs, contact)...))
			inv := b.atPBX("INVITE")
			count("an INVITE", inv)
			b.fromPBX(reply(inv, 200, "pbx", plainSDP, pbxContact))
			p.next("200")
			p.send(p.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 1, "", spoofs...))
			count("an ACK", b.atPBX("ACK"))
			b.fromPBX(b.inviteTo(token, "in", plainSDP))
			p.send(reply(p.next("INVITE"), 180, "phone", "", append(spoofs, contact)...))
			count("an answer", b.atPBX("180"))
		})
	}
}

// A phone calls as who it is: by its credentials, or by who is registered on its
// connection.
func TestCallerID(t *testing.T) {
	const as = "sip:1001@pbx"
	for _, tc := range []struct {
		name, from, login string
		rules             func(*policy.Config)
		refused           bool
	}{
		{name: "its own name", from: as, login: "1001"},
		{name: "another's", from: "sip:1002@pbx", login: "1001", refused: true},
		{name: "another's, in escapes", from: "sip:%31002@pbx", login: "1001", refused: true},
		{name: "registered, by another username", from: "sip:1009@pbx", login: "auth-1009"},
		{name: "nobody's", from: "sip:anonymous@pbx", login: "1001"},
		{name: "a gateway", from: "sip:+4930123@pbx", login: "trunk1", rules: func(c *policy.Config) { c.TrustedUsers = []string{"trunk*"} }},
		{name: "no gateway", from: "sip:+4930123@pbx", login: "trunk1", refused: true},
		{name: "any", from: "sip:1002@pbx", login: "1001", rules: func(c *policy.Config) { c.OtherCallers = true }},
		{name: "from a source that is never refused", from: "sip:1002@pbx", login: "1001", refused: true,
			rules: func(c *policy.Config) { c.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rules := tc.rules
			if rules == nil {
				rules = func(*policy.Config) {}
			}
			b := newBenchUnder(t, rules)
			p := b.phone()
			p.send(strings.ReplaceAll(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg", 1, "", contact, "Expires: 600"), as, "sip:1009@pbx"))
			reg := b.atPBX("REGISTER")
			b.fromPBX(reply(reg, 200, "r", "", "Contact: "+reg.h.Get("Contact")+";expires=600"))
			p.next("200")
			credentials := fmt.Sprintf(`Authorization: Digest username="%s", realm="asterisk", nonce="n", uri="sip:x", response="0"`, tc.login)
			p.send(strings.Replace(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP, contact, credentials), as, tc.from, 1))
			if tc.refused {
				p.refused(t, "the caller is somebody else")
				return
			}
			if inv := b.atPBX("INVITE"); !strings.Contains(inv.h.Get("From"), tc.from) {
				t.Errorf("the PBX got From %s", inv.h.Get("From"))
			}
		})
	}
}

// Where it is to, the edge writes the caller itself; the phone's own words come back.
func TestOwnCaller(t *testing.T) {
	rules := policy.Defaults()
	rules.OtherCallers = true
	b := newBenchFor(t, media.Defaults().Silence, func(c *Config) { c.Inbound.OwnCaller = true }, rules)
	p := b.phone()
	credentials := `Authorization: Digest username="1001@asterisk", realm="asterisk", nonce="n", uri="sip:x", response="0"`
	for i, method := range []string{"INVITE", "MESSAGE", "SUBSCRIBE"} {
		body := ""
		if method == "INVITE" {
			body = secureSDP
		}
		p.send(strings.Replace(p.request(method, "sip:602@pbx.example.com", to602, fmt.Sprint("c", i), 1, body, contact, credentials, "Event: presence"),
			`"Anna" <sip:1001@`, `"The Bank" <sip:1002@`, 1))
		m := b.atPBX(method)
		if got := m.h.Get("From"); got != "<sip:1001@pbx.example.com>;tag=anna" {
			t.Errorf("%s: the PBX got From %s", method, got)
		}
		b.fromPBX(reply(m, 486, "pbx", ""))
		if got := p.next("486").h.Get("From"); got != `"The Bank" <sip:1002@pbx.example.com>;tag=anna` {
			t.Errorf("%s: the phone got From %s", method, got)
		}
	}
}

func TestMethodsAndBodies(t *testing.T) {
	b := newBenchFor(t, media.Defaults().Silence, func(c *Config) {
		c.Inbound.Methods = []string{"INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "MESSAGE", "OPTIONS"}
		c.Inbound.Bodies = []string{"application/sdp", "text/*"}
	}, policy.Defaults())
	p := b.phone()
	for i, method := range []string{"PUBLISH", "JUMP", "REFER"} {
		p.send(p.request(method, "sip:602@pbx.example.com", to602, fmt.Sprint("m", i), 1, "", contact))
		if m := p.next("405"); !strings.Contains(m.h.Get("Allow"), "MESSAGE") || strings.Contains(m.h.Get("Allow"), method) {
			t.Errorf("%s: Allow is %q", method, m.h.Get("Allow"))
		}
	}
	for kind, passes := range map[string]bool{"text/plain": true, "TEXT/html;charset=utf-8": true, "application/octet-stream": false, "image/png": false} {
		p.send(strings.Replace(p.request("MESSAGE", "sip:602@pbx.example.com", to602, "b"+kind[:6]+fmt.Sprint(len(kind)), 1, "x"), "application/sdp", kind, 1))
		if !passes {
			if m := p.next("415"); m.h.Get("Accept") != "application/sdp, text/*" {
				t.Errorf("%s: Accept is %q", kind, m.h.Get("Accept"))
			}
			continue
		}
		b.fromPBX(reply(b.atPBX("MESSAGE"), 200, "", ""))
		p.next("200")
	}
}

func TestAllMethods(t *testing.T) {
	b := newBenchFor(t, media.Defaults().Silence, func(c *Config) { c.Inbound.Methods = []string{"*"} }, policy.Defaults())
	p := b.phone()
	p.send(p.request("JUMP", "sip:602@pbx.example.com", to602, "j", 1, "", contact))
	b.fromPBX(reply(b.atPBX("JUMP"), 501, "", ""))
	p.next("501")
}

func TestInboundFaults(t *testing.T) {
	c := DefaultInbound()
	c.Headers, c.Bodies, c.Methods = []string{"X-[", ""}, []string{"["}, []string{"INVITE", "ACK", "BYE"}
	var said []string
	c.faults(func(bad bool, format string, args ...any) {
		if bad {
			said = append(said, fmt.Sprintf(format, args...))
		}
	})
	if text := strings.Join(said, "\n"); len(said) != 4 || !strings.Contains(text, `policy.headers: "X-["`) || !strings.Contains(text, "policy.methods: without CANCEL") {
		t.Errorf("faults are\n%s", text)
	}
}
