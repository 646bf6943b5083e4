package sipproxy

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// hidden has a request of the bench's user say nothing of who he is.
func hidden(request string) string {
	return strings.Replace(request, `"Anna" <sip:1001@pbx.example.com>`, `"Anonymous" <sip:anonymous@anonymous.invalid>`, 1)
}

// A call whose From names nobody is its phone's, and moves with it; so is one of a
// gateway, in whose From is somebody else.
func TestHiddenCallMovesWithItsPhone(t *testing.T) {
	number := func(request string) string {
		return strings.Replace(request, "<sip:1001@pbx.example.com>", "<sip:+4930123@pbx.example.com>", 1)
	}
	for name, as := range map[string]func(string) string{"nobody": hidden, "a gateway": number} {
		t.Run(name, func(t *testing.T) {
			b := newBenchUnder(t, func(c *policy.Config) { c.TrustedUsers = []string{"1001"} })
			p := b.phone()
			token := b.register(p)
			p.send(as(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP, contact)))
			inv := b.atPBX("INVITE")
			if tokenIn(inv) != token {
				t.Errorf("the PBX got Contact %s, want %s", inv.h.Get("Contact"), token)
			}
			b.fromPBX(reply(inv, 200, "pbx", plainSDP, pbxContact))
			p.next("200")
			p.send(as(p.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 1, "")))
			b.atPBX("ACK")
			b.leaves(p)
			again := b.phone()
			again.send(as(again.request("INFO", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2, "")))
			again.next("481")
			b.register(again)
			again.send(as(again.request("INFO", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 3, "")))
			b.fromPBX(reply(b.atPBX("INFO"), 200, "", ""))
			again.next("200")
			b.fromPBX(b.inDialog("BYE", inv, 5, ""))
			again.send(reply(again.next("BYE"), 200, "", ""))
			b.atPBX("200")
			b.noCallLeft()
		})
	}
}

// Who hides goes where he is registered, before he is asked for a password and after,
// and a phone that says nothing of two users is neither.
func TestHiddenCallerIsAtHome(t *testing.T) {
	for _, forced := range []bool{false, true} {
		s := newSpareBench(t, func(c *Config) { c.Inbound.OwnCaller = forced })
		p := s.phone()
		s.down(0, true)
		token := s.register(p)
		s.down(0, false)
		for i, more := range [][]string{nil, {digestLine(`username="1001", ` + otherParams)}, {digestLine(`username="auth-1001", ` + otherParams)}} {
			p.send(hidden(p.request("INVITE", "sip:602@pbx.example.com", to602, fmt.Sprint("c", i), 1, secureSDP, append(more, contact)...)))
			inv := s.atPBX("INVITE")
			if tokenIn(inv) != token {
				t.Errorf("the PBX got Contact %s, want %s", inv.h.Get("Contact"), token)
			}
			s.fromPBX(reply(inv, 486, "x", ""))
			p.next("486")
			p.send(hidden(p.request("MESSAGE", "sip:602@pbx.example.com", to602, fmt.Sprint("m", i), 1, "", more...)))
			s.fromPBX(reply(s.atPBX("MESSAGE"), 200, "x", ""))
			p.next("200")
		}
		s.first(s.quiet)
		p.send(strings.ReplaceAll(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "other", 1, "", contact, "Expires: 600"), "1001@", "1002@"))
		var reg, inv *message
		s.first(func() {
			reg = s.atPBX("REGISTER")
			s.fromPBX(reply(reg, 200, "r", "", "Contact: "+reg.h.Get("Contact")+";expires=600"))
			p.next("200")
			p.send(hidden(p.request("INVITE", "sip:602@pbx.example.com", to602, "c9", 1, secureSDP, contact)))
			inv = s.atPBX("INVITE")
			s.fromPBX(reply(inv, 486, "x", ""))
		})
		p.next("486")
		if !strings.HasPrefix(tokenIn(inv), "call-") {
			t.Errorf("the PBX got Contact %s", inv.h.Get("Contact"))
		}
	}
}

// A user of the edge's own is asked for his password when he hides, and is in, and known
// to rules, by nobody else's.
func TestHiddenAccount(t *testing.T) {
	const name, uri = "a4b1c2d3e4f5", "sip:602@pbx.example.com"
	for _, required := range []bool{false, true} {
		b := newLoginBenchUnder(t, func(c *Config) {
			c.AccountsRequired, c.AccountsFor = required, regexp.MustCompile(`^[0-9]{3}$`)
		}, func(c *policy.Config) {
			deny(t, "deny guest 0900")(c)
			c.Calls.Groups = []policy.Group{{Name: "guest", Users: []string{name}}}
		})
		p := b.phone()
		token := b.logIn(p)
		asks := func(id, uri, login, password string) {
			p.send(hidden(p.request("INVITE", uri, to602, id, 1, secureSDP, contact)))
			p.send(hidden(p.request("INVITE", uri, to602, id, 2, secureSDP, contact, credentialsFor(t, p.next("407"), "INVITE", uri, login, password))))
		}
		asks("right", uri, name, "outside")
		inv := b.atPBX("INVITE") // the first, as nothing came before
		if !strings.Contains(inv.h.Get("From"), "anonymous@") || inv.h.Get("Proxy-Authorization") != "" || tokenIn(inv) != token {
			t.Errorf("the PBX got %v", inv.h)
		}
		b.fromPBX(reply(inv, 401, "x", "", pbxChallenge))
		inv = b.atPBX("INVITE")
		loggedIn(t, inv)
		b.fromPBX(reply(inv, 486, "x", "", "P-Asserted-Identity: <sip:100@127.0.0.1>"))
		hides(t, p.next("486"))

		for i, wrong := range [][2]string{{name, "guess"}, {"100", "inside"}, {"101", "inside"}, {"nobody", "outside"}} {
			if !required && wrong[0] == "nobody" {
				continue // whom the PBX may know
			}
			asks(fmt.Sprint("wrong", i), uri, wrong[0], wrong[1])
			p.next("403")
		}
		asks("dear", "sip:09001@pbx.example.com", name, "outside")
		p.refused(t, "may not be called")
		p.send(strings.Replace(hidden(p.request("INVITE", uri, to602, "escaped", 1, secureSDP, contact)), "anonymous@", "%41nonymous@", 1))
		p.next("407")
		stranger := b.phone()
		stranger.send(hidden(stranger.request("INVITE", uri, to602, "stranger", 1, secureSDP, contact, digestLine(`username="101", `+otherParams))))
		stranger.next("407")
	}
}

// A certificate says who hides, and that nobody else does.
func TestHiddenByCertificate(t *testing.T) {
	const name, uri = "a4b1c2d3e4f5", "sip:602@pbx.example.com"
	b := newLoginBenchUnder(t, func(c *Config) { c.AccountsRequired = true }, deny(t, "deny * 0900"))
	p := b.phoneOf(name)
	p.send(hidden(p.request("INVITE", uri, to602, "c1", 1, secureSDP, contact)))
	b.fromPBX(reply(b.atPBX("INVITE"), 401, "x", "", pbxChallenge))
	inv := b.atPBX("INVITE")
	loggedIn(t, inv)
	b.fromPBX(reply(inv, 486, "x", ""))
	p.next("486")
	p.send(hidden(p.request("INVITE", uri, to602, "c2", 1, secureSDP, contact, digestLine(`username="1002", `+otherParams))))
	p.next("403")
	p.send(hidden(p.request("REGISTER", "sip:pbx.example.com", "<sip:"+name+"@pbx.example.com>", "r", 1, "", contact)))
	p.next("403")
	both := b.phoneOf(name + " 1002")
	both.send(hidden(both.request("INVITE", uri, to602, "c3", 1, secureSDP, contact)))
	both.next("407")
}
