package sipproxy

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
	client "github.com/icholy/digest"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/users"
)

// newLoginBench is a bench whose edge has a user of its own: a4b1c2d3e4f5, who is
// extension 100 at the PBX.
func newLoginBench(t *testing.T, change func(*Config)) *bench {
	t.Helper()
	return newLoginBenchUnder(t, change, func(*policy.Config) {})
}

func newLoginBenchUnder(t *testing.T, change func(*Config), rules func(*policy.Config)) *bench {
	t.Helper()
	a := users.Account{Name: "a4b1c2d3e4f5", Extension: "100", PBXRealm: "asterisk"}
	a.SHA256, a.MD5 = users.A1(a.Name, "pbx.example.com", "outside")
	_, a.PBXMD5 = users.A1("100", "asterisk", "inside")
	book, err := (&users.Book{Realm: "pbx.example.com"}).With(a)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "users.toml")
	if err := book.Write(file); err != nil {
		t.Fatal(err)
	}
	store, err := users.Open(file, "pbx.example.com", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	under := policy.Defaults()
	rules(&under)
	return newBenchFor(t, media.Defaults().Silence, func(c *Config) {
		c.Accounts = store
		if change != nil {
			change(c)
		}
	}, under)
}

// logIn registers the bench's user; it returns the token that the PBX got.
func (b *bench) logIn(p *phone) string {
	b.t.Helper()
	const name, uri = "a4b1c2d3e4f5", "sip:pbx.example.com"
	send := func(cseq int, more ...string) {
		p.send(p.as(name, "REGISTER", uri, "<sip:"+name+"@pbx.example.com>", "reg", cseq, "", append(more, contact, "Expires: 600")...))
	}
	send(1)
	send(2, credentialsFor(b.t, p.next("401"), "REGISTER", uri, name, "outside"))
	reg := b.atPBX("REGISTER")
	b.fromPBX(reply(reg, 200, "r", "", "Contact: "+reg.h.Get("Contact")+";expires=600"))
	p.next("200")
	return tokenIn(reg)
}

// as composes a request of another user than the bench's usual one.
func (p *phone) as(user, method, uri, to, callID string, cseq int, body string, more ...string) string {
	return strings.Replace(p.request(method, uri, to, callID, cseq, body, more...), `"Anna" <sip:1001@`, `<sip:`+user+`@`, 1)
}

// credentials answers the challenges of a message as a phone does.
func credentialsFor(t testing.TB, m *message, method, uri, user, password string) string {
	t.Helper()
	for from, into := range map[string]string{"WWW-Authenticate": "Authorization", "Proxy-Authenticate": "Proxy-Authorization"} {
		if text := m.h.Get(from); text != "" {
			c, err := client.ParseChallenge(text)
			if err != nil {
				t.Fatal(err)
			}
			cred, err := client.Digest(c, client.Options{Method: method, URI: uri, Username: user, Password: password})
			if err != nil {
				t.Fatal(err)
			}
			return into + ": " + cred.String()
		}
	}
	t.Fatalf("no challenge in %v", m.h)
	return ""
}

const pbxChallenge = `WWW-Authenticate: Digest algorithm=MD5, realm="asterisk", nonce="7f3a"`

// loggedIn checks what the PBX is told in the phone's place.
func loggedIn(t testing.TB, m *message) {
	t.Helper()
	c, err := client.ParseCredentials(m.h.Get("Authorization"))
	if err != nil {
		t.Fatalf("%s has %v", m.start, err)
	}
	want, _ := client.Digest(&client.Challenge{Realm: "asterisk", Nonce: "7f3a", Algorithm: "MD5"},
		client.Options{Method: m.method(), URI: c.URI, Username: "100", Password: "inside"})
	if c.Username != "100" || c.Response != want.Response {
		t.Errorf("%s is of %s, with a wrong response", m.start, c.Username)
	}
}

// hides fails if a message to a phone tells the extension, or the PBX's way to ask.
func hides(t testing.TB, m *message) *message {
	t.Helper()
	for name, values := range m.h {
		for _, v := range values {
			if regexp.MustCompile(`\b100@|"100"|asterisk|7f3a`).MatchString(v) {
				t.Errorf("the phone is told %s: %s", name, v)
			}
		}
	}
	return m
}

// A phone is a4b1c2d3e4f5 outside, and 100 inside: it registers, calls, is challenged
// by the PBX at every turn, and knows nothing of it.
func TestEdgeIdentity(t *testing.T) {
	b := newLoginBench(t, nil)
	p := b.phone()
	const name, own, to = "a4b1c2d3e4f5", "<sip:a4b1c2d3e4f5@pbx.example.com>", "<sip:602@pbx.example.com>"
	contact := "Contact: <sip:a4b1c2d3e4f5@192.168.1.9:5061;transport=tls>"
	register := func(cseq int, more ...string) {
		p.send(p.as(name, "REGISTER", "sip:pbx.example.com", own, "reg", cseq, "", append(more, contact, "Expires: 600")...))
	}
	register(1)
	asked := p.next("401")
	if list := asked.h.Values("WWW-Authenticate"); len(list) != 2 || !strings.Contains(list[0], "SHA-256") {
		t.Fatalf("the edge asks by %q", list)
	}
	register(2, credentialsFor(t, asked, "REGISTER", "sip:pbx.example.com", name, "guess"))
	p.next("403")
	register(3, credentialsFor(t, asked, "REGISTER", "sip:pbx.example.com", name, "outside"))
	first := b.atPBX("REGISTER")
	if !strings.Contains(first.h.Get("From"), "<sip:100@pbx.example.com>") || !strings.Contains(first.h.Get("To"), "<sip:100@") || first.h.Get("Authorization") != "" {
		t.Errorf("the PBX is asked by %s to %s with %q", first.h.Get("From"), first.h.Get("To"), first.h.Get("Authorization"))
	}
	b.fromPBX(reply(first, 401, "r", "", pbxChallenge))
	second := b.atPBX("REGISTER")
	loggedIn(t, second)
	if second.h.Get("Call-Id") != first.h.Get("Call-Id") || second.h.Get("Cseq") != "4 REGISTER" || second.h.Get("Via") == first.h.Get("Via") {
		t.Errorf("the second REGISTER is %s in %s", second.h.Get("Cseq"), second.h.Get("Call-Id"))
	}
	b.fromPBX(reply(second, 200, "r", "", "Contact: "+second.h.Get("Contact")+";expires=600", "P-Associated-URI: <sip:100@127.0.0.1>"))
	ok := hides(t, p.next("200"))
	if !strings.Contains(ok.h.Get("To"), name) || ok.h.Get("Cseq") != "3 REGISTER" {
		t.Errorf("the phone is answered %v", ok.h)
	}

	b.callsAs(p, name, contact, to)
	b.isCalledAs(p, tokenIn(second), own)
}

// callsAs calls out, with a PBX that challenges the INVITE, the re-INVITE and the BYE.
func (b *bench) callsAs(p *phone, name, contact, to string) {
	t := b.t
	invite := func(cseq int, uri, to string, more ...string) {
		p.send(p.as(name, "INVITE", uri, to, "call", cseq, secureSDP, append(more, contact, "Supported: 100rel")...))
	}
	ack := func(cseq int, uri, to string) { p.send(p.as(name, "ACK", uri, to, "call", cseq, "")) }
	at := func(kind string, cseq int) *message {
		m := b.atPBX(kind)
		if want := fmt.Sprintf("%d %s", cseq, kind); m.h.Get("Cseq") != want {
			t.Errorf("the PBX got %s, want %s", m.h.Get("Cseq"), want)
		}
		return m
	}
	invite(1, "sip:602@pbx.example.com", to)
	asked := p.next("407")
	ack(1, "sip:602@pbx.example.com", asked.h.Get("To"))
	invite(2, "sip:602@pbx.example.com", to, credentialsFor(t, asked, "INVITE", "sip:602@pbx.example.com", name, "outside"))
	b.fromPBX(reply(at("INVITE", 2), 401, "x", "", pbxChallenge))
	at("ACK", 2)
	inv := at("INVITE", 3)
	loggedIn(t, inv)
	b.fromPBX(reply(inv, 183, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5099>", "Require: 100rel", "RSeq: 7"))
	early := hides(t, p.next("183"))
	target := strings.Trim(early.h.Get("Contact"), "<>")
	p.send(p.as(name, "PRACK", target, early.h.Get("To"), "call", 3, "", "RAck: 7 2 INVITE"))
	prack := at("PRACK", 4)
	if prack.h.Get("Rack") != "7 3 INVITE" {
		t.Errorf("the PBX's INVITE is acknowledged as %s", prack.h.Get("Rack"))
	}
	b.fromPBX(reply(prack, 200, "", ""))
	p.next("200")
	b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5099>"))
	ok := hides(t, p.next("200"))
	ack(2, target, ok.h.Get("To"))
	at("ACK", 3)

	invite(4, target, ok.h.Get("To")) // in the call nobody is asked at the edge, but perhaps by the PBX
	b.fromPBX(reply(at("INVITE", 5), 401, "", "", pbxChallenge))
	at("ACK", 5)
	inv = at("INVITE", 6)
	loggedIn(t, inv)
	b.fromPBX(reply(inv, 200, "", plainSDP, "Contact: <sip:602@127.0.0.1:5099>"))
	hides(t, p.next("200"))
	ack(4, target, ok.h.Get("To"))
	at("ACK", 6)

	p.send(p.as(name, "BYE", target, ok.h.Get("To"), "call", 5, ""))
	b.fromPBX(reply(at("BYE", 7), 401, "", "", pbxChallenge))
	bye := at("BYE", 8)
	loggedIn(t, bye)
	b.fromPBX(reply(bye, 200, "", ""))
	p.next("200")
	b.noCallLeft()
}

// isCalledAs is called by the PBX, and hangs up.
func (b *bench) isCalledAs(p *phone, token, own string) {
	t := b.t
	b.fromPBX(strings.Replace(b.inviteTo(token, "in", plainSDP), "Max-Forwards", "P-Called-Party-ID: <sip:100@127.0.0.1>\r\nMax-Forwards", 1))
	inv := hides(t, p.next("INVITE"))
	if !strings.Contains(inv.h.Get("To"), own) {
		t.Errorf("the phone is called as %s", inv.h.Get("To"))
	}
	if called := inv.h.Get("P-Called-Party-Id"); !strings.Contains(called, own[1:len(own)-1]) {
		t.Errorf("the phone is called as %s", called)
	}
	p.send(reply(inv, 486, "busy", ""))
	b.atPBX("486")
	b.noCallLeft()
}

// A user there is not, an extension that is an account's, and a name that needs one
// look like a user with a wrong password; others are the PBX's business.
func TestEdgeIdentityGivesNothingAway(t *testing.T) {
	b := newLoginBench(t, func(c *Config) { c.AccountsFor = regexp.MustCompile(`^[0-9]{3}$`) })
	for _, user := range []string{"a4b1c2d3e4f5", "100", "101"} {
		p := b.phone()
		send := func(cseq int, more ...string) {
			p.send(p.as(user, "REGISTER", "sip:pbx.example.com", "<sip:"+user+"@pbx.example.com>", "reg"+user, cseq, "",
				append(more, "Contact: <sip:"+user+"@192.168.1.9:5061;transport=tls>")...))
		}
		send(1)
		asked := p.next("401")
		for _, password := range []string{"guess", "inside"} {
			send(2, credentialsFor(t, asked, "REGISTER", "sip:pbx.example.com", user, password))
			if m := p.next("403"); m.h.Get("Warning") != `399 pbx.example.com "user name or password is wrong"` {
				t.Errorf("%s with %s: Warning %s", user, password, m.h.Get("Warning"))
			}
		}
	}
	p := b.phone()
	p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg", 1, "", contact))
	if reg := b.atPBX("REGISTER"); !strings.Contains(reg.h.Get("From"), "1001") { // and nothing before it
		t.Errorf("the PBX got a REGISTER of %s", reg.h.Get("From"))
	}
	// One account's password is good for nobody else's name.
	p = b.phone()
	p.send(p.as("a4b1c2d3e4f5", "INVITE", "sip:602@pbx.example.com", to602, "i", 1, secureSDP, contact))
	asked := p.next("407")
	p.send(p.as("101", "INVITE", "sip:602@pbx.example.com", to602, "i", 2, secureSDP, contact,
		credentialsFor(t, asked, "INVITE", "sip:602@pbx.example.com", "a4b1c2d3e4f5", "outside")))
	p.next("403")
}

// Phones and PBXs write digests in ways of their own: a right password is right in each,
// and a wrong one wrong.
func TestDigestSpellings(t *testing.T) {
	const name, uri = "a4b1c2d3e4f5", "sip:pbx.example.com"
	replaced := func(old, by string) func(string) string {
		return func(s string) string {
			if !strings.Contains(s, old) {
				t.Errorf("no %s in %s", old, s)
			}
			return strings.ReplaceAll(s, old, by)
		}
	}
	for _, c := range []struct {
		name  string
		spelt func(string) string
	}{
		{"a trailing comma", func(s string) string { return s + "," }},
		{"a comma too many", replaced(", ", ",,")},
		{"tabs", replaced(", ", ",\t")},
		{"a tab behind the scheme", replaced("Digest ", "Digest\t")},
		{"uri without quotes", replaced(`uri="`+uri+`"`, "uri="+uri)},
		{"all in quotes", replaced("nc=00000001", `nc="00000001"`)},
		{"capitals", replaced("username=", "Username=")},
		{"a parameter of its own", replaced("Digest ", `Digest x.maker*="a, \"b\"", `)},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newLoginBench(t, nil)
			p := b.phone()
			send := func(cseq int, more ...string) {
				p.send(p.as(name, "REGISTER", uri, "<sip:"+name+"@pbx.example.com>", "reg", cseq, "", append(more, contact, "Expires: 600")...))
			}
			send(1)
			asked := p.next("401")
			send(2, c.spelt(credentialsFor(t, asked, "REGISTER", uri, name, "guess")))
			p.next("403") // the control
			send(3, c.spelt(credentialsFor(t, asked, "REGISTER", uri, name, "outside")))
			got := b.atPBX("REGISTER")
			b.fromPBX(reply(got, 200, "r", "", "Contact: "+got.h.Get("Contact")+";expires=600"))
			p.next("200")
		})
	}
	for _, challenge := range []string{
		pbxChallenge + ",", strings.ReplaceAll(pbxChallenge, ", ", ",\t"), strings.Replace(pbxChallenge, "realm=", "Realm=", 1),
		strings.Replace(pbxChallenge, `"7f3a"`, "7f3a", 1), strings.Replace(pbxChallenge, "algorithm=MD5", `x.y="z", algorithm="MD5"`, 1),
	} {
		t.Run(challenge, func(t *testing.T) {
			b := newLoginBench(t, nil)
			p := b.phone()
			b.logIn(p)
			p.send(p.as(name, "INVITE", "sip:602@pbx.example.com", to602, "c", 1, secureSDP, contact))
			p.send(p.as(name, "INVITE", "sip:602@pbx.example.com", to602, "c", 2, secureSDP, contact,
				credentialsFor(t, p.next("407"), "INVITE", "sip:602@pbx.example.com", name, "outside")))
			b.fromPBX(reply(b.atPBX("INVITE"), 401, "x", "", challenge))
			loggedIn(t, b.atPBX("INVITE"))
		})
	}
}

// A PBX that refuses what it is told for a user is not the phone's fault, nor its to
// know of.
func TestEdgeIdentityWrongInside(t *testing.T) {
	b := newLoginBench(t, nil)
	p := b.phone()
	for i, challenge := range []string{pbxChallenge, strings.Replace(pbxChallenge, `"asterisk"`, `"elsewhere"`, 1), strings.Replace(pbxChallenge, "MD5", "SHA-256", 1)} {
		send := func(more ...string) {
			p.send(p.as("a4b1c2d3e4f5", "INVITE", "sip:602@pbx.example.com", to602, fmt.Sprint("w", i), 1+len(more), secureSDP, append(more, contact)...))
		}
		send()
		send(credentialsFor(t, p.next("407"), "INVITE", "sip:602@pbx.example.com", "a4b1c2d3e4f5", "outside"))
		b.fromPBX(reply(b.atPBX("INVITE"), 401, "x", "", challenge))
		if challenge == pbxChallenge {
			again := b.atPBX("INVITE")
			b.fromPBX(reply(again, 401, "x", "", challenge))
		}
		hides(t, p.next("500"))
	}
	b.noCallLeft()
}

// neverAsked is a request whose CANCEL would stop nothing: it has its answer.
type neverAsked struct{ t *testing.T }

func (n neverAsked) Cancel(...sip.Header)       { n.t.Error("the request that was challenged is cancelled") }
func (n neverAsked) Settle(func(*sip.Response)) {}

// A challenge may be here before its request's sender has returned. What a CANCEL stops
// is the request that answered it.
func TestCancelAfterAQuickChallenge(t *testing.T) {
	b := newLoginBench(t, nil)
	at := b.proxy.pool.all()[0].flow
	invite := sip.NewRequest(sip.INVITE, sip.Uri{Scheme: "sip", User: "602", Host: "pbx.example.com"})
	for _, h := range []string{"From: <sip:100@pbx.example.com>;tag=a", "To: <sip:602@pbx.example.com>", "Call-ID: quick"} {
		name, value, _ := strings.Cut(h, ": ")
		invite.AppendHeader(sip.NewHeader(name, value))
	}
	invite.AppendHeader(&sip.CSeqHeader{SeqNo: 1, MethodName: sip.INVITE})
	appendBody(invite, body{})
	challenge := sip.NewResponse(sip.StatusUnauthorized, "Unauthorized")
	name, value, _ := strings.Cut(pbxChallenge, ": ")
	challenge.AppendHeader(sip.NewHeader(name, value))
	as := proof{user: "100", realm: "asterisk", a1: strings.Repeat("0", 32), vain: func(*flow.Flow) { t.Error("in vain") }}
	asked, err := b.proxy.proving(as, func(_ *sip.Request, hear hearer) (sent, error) {
		hear.on(at, challenge, nil)
		return neverAsked{t}, nil
	})(invite, hearer{on: func(*flow.Flow, *sip.Response, error) {}})
	if err != nil {
		t.Fatal(err)
	}
	answering := b.atPBX("INVITE")
	b.fromPBX(reply(answering, 180, "r", ""))
	asked.Cancel()
	if c := b.atPBX("CANCEL"); c.h.Get("Cseq") != "2 CANCEL" {
		t.Errorf("the CANCEL is %v", c.h)
	}
}
