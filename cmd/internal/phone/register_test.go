package phone

import (
	"fmt"
	"strings"
	"testing"

	"github.com/icholy/digest"
)

const realm = `Digest realm="asterisk", nonce="%s", algorithm=MD5, qop="auth"`

// challenged is a 401 with a challenge.
func challenged(m *message, nonce, more string) string {
	return reply(m, "401 Unauthorized", "r", "", "WWW-Authenticate: "+fmt.Sprintf(realm, nonce)+more)
}

// authorizes holds the answer to a challenge to what another implementation says.
func authorizes(t *testing.T, m *message, nonce string, count int) {
	t.Helper()
	if n := len(m.all("Authorization")); n != 1 {
		t.Fatalf("%s has %d answers to the challenge", m.start, n)
	}
	got, err := digest.ParseCredentials(m.get("Authorization"))
	if err != nil {
		t.Fatal(err)
	}
	ch, err := digest.ParseChallenge(fmt.Sprintf(realm, nonce))
	if err != nil {
		t.Fatal(err)
	}
	want, err := digest.Digest(ch, digest.Options{
		Method: strings.Fields(m.start)[0], URI: m.uri(), Count: count, Cnonce: got.Cnonce, Username: "101", Password: "secret",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Response != want.Response || got.Nc != count || got.Nonce != nonce {
		t.Errorf("%s is authorized by %s, want response %s of nc %d", m.start, m.get("Authorization"), want.Response, count)
	}
}

func TestRegister(t *testing.T) {
	b := newBench(t)
	b.register()
	m := b.next("REGISTER sip:pbx.example.com SIP/2.0")
	contact := m.get("Contact")
	if !strings.HasPrefix(m.get("Via"), "SIP/2.0/WSS ") || !strings.Contains(m.get("Via"), ".invalid;branch=z9hG4bK") ||
		!strings.Contains(contact, `.invalid;transport=ws;ob>;+sip.ice;reg-id=1;+sip.instance="<urn:uuid:1>"`) ||
		!strings.Contains(m.get("Supported"), "outbound") || m.get("To") != "<sip:101@pbx.example.com>" || len(m.all("Authorization")) != 0 {
		t.Errorf("it registers with %s %q", m.start, m.fields)
	}
	b.receive(challenged(m, "n1", ""))
	again := b.next("REGISTER")
	authorizes(t, again, "n1", 1)
	if again.get("CSeq") != "2 REGISTER" || again.get("Call-ID") != m.get("Call-ID") || again.get("Contact") != contact || again.get("Via") == m.get("Via") {
		t.Errorf("it comes again with %q", again.fields)
	}
	b.receive(reply(again, "200 OK", "r", "", "Contact: <sip:old@x>;expires=20", "Contact: "+b.js("agent.contact").String()+";expires=300"))
	b.is("agent.registration + bench.results.register", "registereddone")

	for range 239 { // a refresh at four fifths of our own contact's 300 s, with pings until then
		b.wait(1000)
		if b.js("bench.sent.length").ToInteger() > 0 {
			b.is("bench.sent.shift() === '\\r\\n\\r\\n'", "true")
			b.receive("\r\n")
		}
	}
	b.silent()
	b.wait(1000)
	b.next("REGISTER")
}

func TestRefresh(t *testing.T) {
	b := newBench(t)
	b.register()
	m := b.next("REGISTER")
	b.receive(challenged(m, "n1", ""))
	m = b.next("REGISTER")
	b.receive(reply(m, "200 OK", "r", "", "Expires: 30"))
	b.wait(23e3)
	b.silent()
	b.wait(1e3)
	m = b.next("REGISTER")
	authorizes(t, m, "n1", 2) // it goes on with the nonce
	b.receive(challenged(m, "n2", ", stale=true"))
	m = b.next("REGISTER")
	authorizes(t, m, "n2", 1)
	b.receive(reply(m, "423 Interval Too Brief", "r", "", "Min-Expires: 900"))
	m = b.next("REGISTER")
	if m.get("Expires") != "900" {
		t.Errorf("it asks for %s s", m.get("Expires"))
	}
	b.receive(reply(m, "500 Busy", "r", "", "Retry-After: 7"))
	b.is("agent.registration", "registering")
	b.wait(6999)
	b.silent()
	b.wait(1)
	b.receive(reply(b.next("REGISTER"), "200 OK", "r", ""))
	b.is("agent.registration", "registered")
	b.js("agent.unregister()")
	m = b.next("REGISTER")
	if m.get("Expires") != "0" {
		t.Errorf("it leaves with Expires %s", m.get("Expires"))
	}
	b.receive(reply(m, "200 OK", "r", ""))
	b.is("agent.registration + socket().closed", "nonetrue")
}

func TestRegisterRefused(t *testing.T) {
	for name, answer := range map[string]func(b *bench, m *message) string{
		"wrong password": func(b *bench, m *message) string {
			b.receive(challenged(m, "n1", ""))
			return challenged(b.next("REGISTER"), "n2", "")
		},
		"always stale": func(b *bench, m *message) string {
			for i := range 3 {
				b.receive(challenged(m, fmt.Sprint("n", i), ", stale=TRUE"))
				m = b.next("REGISTER")
			}
			return challenged(m, "n9", ", stale=TRUE")
		},
		"unknown algorithm": func(b *bench, m *message) string {
			return reply(m, "401 Unauthorized", "r", "", `WWW-Authenticate: Digest realm="x", nonce="n", algorithm=SHA-512-256`)
		},
		"forbidden": func(_ *bench, m *message) string { return reply(m, "403 Forbidden", "r", "") },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.register()
			b.receive(answer(b, b.next("REGISTER")))
			b.silent()
			b.is("agent.registration + socket().closed", "failedtrue")
			if got := b.js("bench.results.register").String(); !strings.Contains(got, "refused (40") {
				t.Errorf("who asked is told %q", got)
			}
			b.wait(3600e3)
			b.silent()
		})
	}
}

// Of two challenges the stronger is answered; of two realms both.
func TestChallenges(t *testing.T) {
	b := newBench(t)
	b.register()
	b.receive(reply(b.next("REGISTER"), "401 Unauthorized", "r", "", `WWW-Authenticate: Digest realm="a", nonce="n", algorithm=MD5, qop="auth"`,
		`WWW-Authenticate: Digest realm="a", nonce="m", algorithm=SHA-256, qop="auth"`))
	m := b.next("REGISTER")
	if got := m.all("Authorization"); len(got) != 1 || !strings.Contains(got[0], "SHA-256") {
		t.Errorf("it answers %q", got)
	}
	b.receive(reply(m, "407 Proxy Authentication Required", "r", "", `Proxy-Authenticate: Digest realm="p", nonce="o", qop="auth"`))
	m = b.next("REGISTER")
	if len(m.all("Authorization")) != 1 || len(m.all("Proxy-Authorization")) != 1 {
		t.Errorf("it answers %q", m.fields)
	}
}

func TestKeepAlive(t *testing.T) {
	b := registered(t)
	b.receive("\r\n\r\n")
	b.is("bench.sent.shift() === '\\r\\n'", "true")
	b.wait(25e3)
	b.is("bench.sent.shift() === '\\r\\n\\r\\n'", "true")
	b.wait(9e3)
	b.receive("\r\n")
	b.wait(24e3)
	b.silent()
	b.is("bench.sockets.length", "1")
	b.wait(1e3 + 10e3)
	b.is("bench.sockets[0].closed", "true")
	b.wait(2e3)
	b.is("bench.sockets.length", "2")
	b.is("agent.registration", "registering")
}

// An edge that is away is asked again at growing intervals, and at once when
// the machine's network is back.
func TestBackoff(t *testing.T) {
	b := registered(t)
	b.js("socket().onclose()")
	count := func() int64 { return b.js("bench.sockets.length").ToInteger() }
	for seconds := 1; seconds <= 30; seconds = min(30, 2*seconds) {
		before := count()
		b.wait(seconds*750 - 1)
		if count() != before {
			t.Fatalf("it is back before %d s", seconds)
		}
		b.wait(seconds * 520)
		if count() != before+1 {
			t.Fatalf("it is not back after %d s", seconds)
		}
		b.js("socket().onclose()")
		if seconds == 30 {
			break
		}
	}
	b.wait(31e3)
	b.wait(8e3) // one that neither opens nor fails
	b.is("bench.sockets[bench.sockets.length - 1].closed", "true")
	before := count()
	b.js("agent.link.hasten()")
	if count() != before+1 {
		t.Error("it waits although the network is back")
	}
	b.open()
	b.receive(reply(b.next("REGISTER"), "200 OK", "r", ""))
	b.is("agent.registration", "registered")
	b.js("bench.sockets[0].onclose(); bench.sockets[0].onmessage({ data: 'x' })") // an old one's last words
	b.is("agent.link.state", "open")
}
