package sipproxy

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// newProviderBench is a bench with an account at a provider, which hears the first
// REGISTER.
func newProviderBench(t *testing.T) (b *bench, at netip.AddrPort, provider *phone, first *message) {
	t.Helper()
	b, at = newTrunkBench(t, func(bar *Trunk) {
		bar.Rekey.After = time.Minute
		bar.Account = Account{User: "4711", Password: "secret", Register: true, Interval: 10 * time.Minute}
	})
	provider = b.trunk()
	return b, at, provider, provider.next("REGISTER")
}

const digestOfBar = `Digest realm="bar", nonce="n1", algorithm=MD5, qop="auth"`

// account is what the bench's provider knows of us.
func (b *bench) account() *trunk { return b.proxy.trunks["bar"] }

// settled waits until a registration's answer was taken.
func (b *bench) settled() {
	b.t.Helper()
	e := &b.account().with
	until(b.t, "the answer to REGISTER to be taken", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return !e.under
	})
}

// inTime is how long it is until the next registration.
func (b *bench) inTime() time.Duration {
	b.settled()
	b.account().with.mu.Lock()
	defer b.account().with.mu.Unlock()
	return time.Until(b.account().with.next)
}

func near(got, want time.Duration) bool { return got > want-20*time.Second && got <= want }

// We register as a user of the provider's, and answer its challenges, of which the PBX
// hears nothing: of REGISTER, of its calls, and of what we ask on our own account.
func TestProvider(t *testing.T) {
	b, at, provider, reg := newProviderBench(t)
	ours := reg.h.Get("Contact")
	if reg.uri() != "sip:bar.example.com" || reg.h.Get("To") != "<sip:4711@bar.example.com>" || !strings.HasPrefix(ours, "<sip:4711@pbx.example.com:") || reg.h.Get("Expires") != "600" {
		t.Errorf("REGISTER is %s %v", reg.uri(), reg.h)
	}
	provider.send(reply(reg, 401, "p", "", `WWW-Authenticate: Digest realm="bar", nonce="n0", algorithm=SHA-3, qop="auth"`, "WWW-Authenticate: "+digestOfBar,
		`WWW-Authenticate: Digest realm="bar", nonce="n2", algorithm=MD5, qop="auth"`, `Proxy-Authenticate: Digest realm="proxy", nonce="n3", qop="auth"`))
	again := provider.next("REGISTER")
	if again.h.Get("Call-Id") != reg.h.Get("Call-Id") || again.h.Get("Cseq") == reg.h.Get("Cseq") {
		t.Errorf("after a challenge comes %v, and was %v", again.h, reg.h)
	}
	if list := again.h.Values("Authorization"); len(list) != 1 || !strings.Contains(list[0], `nonce="n1"`) || !strings.Contains(list[0], `username="4711"`) {
		t.Errorf("Authorization is %q", list)
	}
	if list := again.h.Values("Proxy-Authorization"); len(list) != 1 || !strings.Contains(list[0], `realm="proxy"`) {
		t.Errorf("Proxy-Authorization is %q", list)
	}
	// Another device of the user is registered, too, and we for less than we asked for.
	provider.send(reply(again, 200, "p", "", "Contact: <sip:4711@192.0.2.99>;expires=3600, "+ours+";expires=120", "Expires: 3600", "Service-Route: <sip:edge.bar.example.com;lr>, <sip:home.bar.example.com;lr>"))
	if next := b.inTime(); !near(next, 108*time.Second) {
		t.Errorf("of 120 s the next registration is after %s", next)
	}

	b.fromPBXTo(at, text("", "OPTIONS sip:"+at.String()+" SIP/2.0", "Via: SIP/2.0/UDP "+b.pbx.LocalAddr().String()+";branch=z9hG4bKp0",
		"Max-Forwards: 70", `From: "asterisk" <sip:asterisk@127.0.0.1>;tag=o`, "To: <sip:"+at.String()+">", "Call-ID: p0", "CSeq: 102 OPTIONS"))
	check := provider.next("OPTIONS")
	if from := check.h.Get("From"); from != "<sip:4711@bar.example.com>;tag=o" {
		t.Errorf("the PBX's check is from %s, whom the provider does not know", from)
	}
	provider.send(reply(check, 200, "p", ""))
	if m := b.atPBX("200"); !strings.Contains(m.h.Get("From"), "asterisk@127.0.0.1") {
		t.Errorf("the PBX is answered %v", m.h)
	}

	b.fromPBXTo(at, b.fromBranch(at, "INVITE", "2001", "p1", 102, "", plainSDP))
	inv := provider.next("INVITE")
	if routes := strings.Join(inv.h.Values("Route"), ", "); routes != "<sip:edge.bar.example.com;lr>, <sip:home.bar.example.com;lr>" {
		t.Errorf("Route is %s (RFC 3608 section 6)", routes)
	}
	if from := inv.h.Get("From"); from != `"Ben" <sip:1002@bar.example.com>;tag=pbx` {
		t.Errorf("From is %s", from)
	}
	provider.send(reply(inv, 407, "p", "", "Proxy-Authenticate: "+digestOfBar))
	provider.next("ACK")
	inv = provider.next("INVITE")
	if inv.h.Get("Proxy-Authorization") == "" || inv.h.Get("Cseq") != "103 INVITE" {
		t.Errorf("the call comes again with CSeq %s and %q", inv.h.Get("Cseq"), inv.h.Get("Proxy-Authorization"))
	}
	provider.send(reply(inv, 200, "bar", trunkSDP, "Contact: <sip:2001@192.0.2.8:5061;transport=tls>"))
	if m := b.atPBX("200"); m.h.Get("Cseq") != "102 INVITE" {
		t.Errorf("the PBX is answered %s, CSeq %s", m.start, m.h.Get("Cseq"))
	}
	b.fromPBXTo(at, b.fromBranch(at, "ACK", "2001", "p1", 102, "bar", ""))
	provider.next("ACK")

	c := b.proxy.calls.list()[0]
	b.proxy.rekey(c, time.Now().Add(2*time.Minute))
	inv = provider.next("INVITE")
	provider.send(reply(inv, 401, "", "", "WWW-Authenticate: "+digestOfBar))
	provider.next("ACK")
	inv = provider.next("INVITE")
	if len(inv.h.Values("Route")) > 0 || inv.h.Get("Authorization") == "" {
		t.Errorf("the re-INVITE is %v", inv.h)
	}
	ok := reply(inv, 200, "", strings.Replace(trunkSDP, "inline:d0", "inline:e0", 1))
	for range 2 { // it did not hear the ACK
		provider.send(ok)
		if ack := provider.next("ACK"); strings.Fields(ack.h.Get("Cseq"))[0] != strings.Fields(inv.h.Get("Cseq"))[0] {
			t.Errorf("to %s comes ACK %s", inv.h.Get("Cseq"), ack.h.Get("Cseq"))
		}
	}
	b.fromPBXTo(at, b.fromBranch(at, "BYE", "2001", "p1", 103, "bar", ""))
	bye := provider.next("BYE")
	provider.send(reply(bye, 200, "", ""))
	b.atPBX("200")
	b.noCallLeft()
}

// A password that is not taken, and a refusal, are not tried over and over, also when
// the provider hangs up; a new connection after a good registration is registered at once.
func TestProviderRefuses(t *testing.T) {
	b, _, provider, reg := newProviderBench(t)
	provider.send(reply(reg, 401, "p", "", "WWW-Authenticate: "+digestOfBar))
	provider.send(reply(provider.next("REGISTER"), 401, "p", "", "WWW-Authenticate: "+digestOfBar))
	for _, want := range []time.Duration{enrolRetry, 2 * enrolRetry, 4 * enrolRetry} {
		next := b.inTime()
		if !near(next, want) {
			t.Errorf("after a refusal the next registration is after %s, want %s", next, want)
		}
		b.proxy.enrol(time.Now().Add(next - time.Second))
		b.account().with.mu.Lock()
		if b.account().with.under {
			t.Error("it is made again before its time")
		}
		b.account().with.mu.Unlock()
		b.proxy.enrol(time.Now().Add(next + time.Second))
		reg = provider.next("REGISTER")
		provider.send(reply(reg, 403, "p", ""))
	}
	b.settled()
	b.proxy.enrol(time.Now().Add(time.Hour))
	reg = provider.next("REGISTER")
	provider.send(reply(reg, 423, "p", "", "Min-Expires: 1800"))
	reg = provider.next("REGISTER")
	if got := reg.h.Get("Expires"); got != "1800" {
		t.Errorf("after 423 Expires is %s", got)
	}
	provider.send(reply(reg, 200, "p", "", "Contact: "+reg.h.Get("Contact"), "Expires: 1800"))
	if next := b.inTime(); !near(next, 29*time.Minute) {
		t.Errorf("of 30 min the next registration is after %s", next)
	}

	b.far.listen(t)
	provider.conn.Close()
	provider = b.trunk()
	reg = provider.next("REGISTER") // at once
	provider.send(reply(reg, 503, "p", "", "Retry-After: 90 (at lunch);duration=60"))
	provider = b.trunk() // another of its servers
	reg = provider.next("REGISTER")
	provider.send(reply(reg, 403, "p", "", "Retry-After: 300"))
	if next := b.inTime(); !near(next, 5*time.Minute) {
		t.Errorf("after Retry-After: 300 the next registration is after %s", next)
	}
	provider.conn.Close()
	provider = b.trunk()
	for range 20 {
		b.proxy.enrol(time.Now())
	}
	provider.send(provider.request("OPTIONS", "sip:pbx.example.com", "<sip:pbx.example.com>", "o", 1, ""))
	if m, err := readText(provider.r); err != nil || m.status() != 200 {
		t.Errorf("who refused us hears %v at once again, %v", m, err)
	}
}

// A provider with one server that has no time now is left in peace for as long as it says,
// by the connection that is there, which its calls go by, and by the next one.
func TestProviderIsBusy(t *testing.T) {
	b, _, provider, reg := newProviderBench(t)
	provider.send(reply(reg, 503, "p", "", "Retry-After: 300"))
	if next := b.inTime(); !near(next, 5*time.Minute) {
		t.Errorf("after Retry-After: 300 the next registration is after %s", next)
	}
	quiet := func(when string) {
		t.Helper()
		for range 20 {
			b.proxy.enrol(time.Now())
		}
		b.proxy.enrol(time.Now().Add(4 * time.Minute))
		provider.send(provider.request("OPTIONS", "sip:pbx.example.com", "<sip:pbx.example.com>", "o", 1, ""))
		if m, err := readText(provider.r); err != nil || m.status() != 200 {
			t.Fatalf("%s it hears %v, %v", when, m, err)
		}
	}
	quiet("by the same connection")
	provider.conn.Close()
	provider = b.trunk()
	quiet("by the next connection")
	b.proxy.enrol(time.Now().Add(5 * time.Minute))
	reg = provider.next("REGISTER")
	provider.send(reply(reg, 200, "p", "", "Contact: "+reg.h.Get("Contact"), "Expires: 600"))
	b.settled()
	provider.conn.Close() // nothing is left of what it said
	b.trunk().next("REGISTER")
}

// Of two servers that both have no time, neither is asked before its own.
func TestProviderIsBusyAltogether(t *testing.T) {
	b, _, provider, _ := newProviderBench(t)
	b.far.listen(t)
	provider.conn.Close()
	for range 2 {
		provider = b.trunk()
		provider.send(reply(provider.next("REGISTER"), 503, "p", "", "Retry-After: 300"))
	}
	b.settled()
	for range 20 {
		b.proxy.enrol(time.Now())
	}
	provider.send(provider.request("OPTIONS", "sip:pbx.example.com", "<sip:pbx.example.com>", "o", 1, ""))
	if m, err := readText(provider.r); err != nil || m.status() != 200 {
		t.Errorf("the second hears %v, %v", m, err)
	}
}

// Who calls us by a provider that passes all on gets no digest of our password.
func TestProviderCallerAsksInVain(t *testing.T) {
	b, at, provider, reg := newProviderBench(t)
	provider.send(reply(reg, 200, "p", "", "Contact: "+reg.h.Get("Contact"), "Expires: 600"))
	b.settled()
	inv := b.callFromTrunk(provider, "v1")
	b.fromPBXTo(at, text("", "BYE "+strings.Trim(inv.h.Get("Contact"), "<>")+" SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKv2",
		"Max-Forwards: 70", "From: "+to602+";tag=pbx", "To: "+inv.h.Get("From"), "Call-ID: v1", "CSeq: 5 BYE"))
	provider.send(reply(provider.next("BYE"), 407, "", "", "Proxy-Authenticate: "+digestOfBar))
	b.atPBX("403")
	provider.send(provider.request("OPTIONS", "sip:pbx.example.com", "<sip:pbx.example.com>", "o", 1, ""))
	if m, err := readText(provider.r); err != nil || m.status() != 200 {
		t.Errorf("the caller gets %v, %v", m, err)
	}
	b.noCallLeft()
}
