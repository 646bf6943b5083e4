package sipproxy

import (
	"fmt"
	"strings"
	"testing"
)

// requested reads the next request at the PBX, byte for byte.
func (b *bench) requested() string {
	b.t.Helper()
	s, err := b.raw(soon())
	if err != nil {
		b.t.Fatalf("the PBX awaits a request: %v", err)
	}
	return s
}

// CVE-2020-28361: a header that a proxy strips went past Kamailio with white
// space in its name. No spelling brings one of ours past, and none takes
// another header along.
func TestStrippedHeadersHaveNoDisguise(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	b.register(p) // of nobody so many are taken
	spellings := map[string]func(name string) string{
		"as it is": func(n string) string { return n + ": " }, "lower case": func(n string) string { return strings.ToLower(n) + ":" },
		"upper case": func(n string) string { return strings.ToUpper(n) + ": " }, "space before the colon": func(n string) string { return n + " : " },
		"tab before the colon": func(n string) string { return n + "\t:" }, "folded": func(n string) string { return n + ":\r\n " },
		"folded twice": func(n string) string { return n + " :\r\n\t\r\n " },
	}
	values := map[string]string{"Via": "SIP/2.0/UDP evil.example.com;branch=z9hG4bKevil"}
	for _, name := range []string{
		"P-Asserted-Identity", "P-Asserted-Service", "Remote-Party-ID", "P-Charging-Vector", "P-Charging-Function-Addresses", "P-Access-Network-Info",
		"Diversion", "History-Info", "X-Anything", "Route", "Record-Route", "Path", "Service-Route", "Contact", "Via",
	} {
		value := values[name]
		if value == "" {
			value = "<sip:evil@evil.example.com>"
		}
		for spelling, write := range spellings {
			p.send(p.request("OPTIONS", "sip:602@pbx.example.com", "<sip:602@pbx.example.com>", fmt.Sprint("o", p.n), 1, "", write(name)+value, "Organization: kept"))
			got := b.requested()
			if strings.Contains(got, "evil") {
				t.Errorf("%s, %s: the PBX got\n%s", name, spelling, got)
			}
			if !strings.Contains(got, "\r\nOrganization: kept\r\n") { // the control: what is not stripped arrives
				t.Errorf("%s, %s: took another header along:\n%s", name, spelling, got)
			}
			readAndAnswer(b, p, got)
		}
	}
}

// readAndAnswer answers what the PBX got, so that it is not sent again.
func readAndAnswer(b *bench, p *phone, got string) {
	b.t.Helper()
	head, _, _ := strings.Cut(got, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	answer := []string{"SIP/2.0 200 OK"}
	for _, line := range lines[1:] {
		for _, name := range []string{"Via: ", "From: ", "To: ", "Call-ID: ", "CSeq: "} {
			if strings.HasPrefix(line, name) {
				answer = append(answer, line)
			}
		}
	}
	b.fromPBX(text("", answer...))
	p.next("200")
}

// Descriptions that broke others end here: the PBX gets the request behind
// them, and nothing of theirs.
func TestMalformedDescriptionsEndHere(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	const key = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n"
	for source, spoil := range map[string]func(string) string{
		"CVE-2026-46334 (OpenSIPS): b= without a colon":      func(s string) string { return strings.Replace(s, "t=0 0", "b=AS\r\nt=0 0", 1) },
		"GHSA-xj5x-g52f-548h (OpenSIPS): no line end at all": func(s string) string { return strings.ReplaceAll(s, "\r\n", " ") },
		"a line of CR alone":                                 func(s string) string { return strings.Replace(s, "s=-\r\n", "s=-\r", 1) },
		"a NUL":                                              func(s string) string { return strings.Replace(s, "s=-", "s=\x00", 1) },
		"CVE-2026-57162 (PJSIP), CVE-2012-0885: a crypto of 4 KB": func(s string) string {
			return strings.Replace(s, key, "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"+strings.Repeat("A", 4096)+"\r\n", 1)
		},
		"the same with a tag of 4 KB": func(s string) string {
			return strings.Replace(s, "a=crypto:1 ", "a=crypto:"+strings.Repeat("1", 4096)+" ", 1)
		},
	} {
		id := fmt.Sprint("sdp", p.n)
		p.send(p.request("INVITE", "sip:602@pbx.example.com", "<sip:602@pbx.example.com>", id, 1, spoil(secureSDP), contact))
		final := p.finalOf(id)
		if final != 400 && final != 488 {
			t.Errorf("%s: answered %d", source, final)
		}
		p.send(p.request("OPTIONS", "sip:602@pbx.example.com", "<sip:602@pbx.example.com>", "behind-"+id, 1, ""))
		got := b.requested()
		if !strings.HasPrefix(got, "OPTIONS ") {
			t.Errorf("%s: the PBX got\n%s", source, got)
		}
		readAndAnswer(b, p, got)
	}
	// AST-2018-002 and -003: a fmtp for a payload type that is not there, or of
	// no number, crashed Asterisk. The call goes on without it.
	p.send(p.request("INVITE", "sip:602@pbx.example.com", "<sip:602@pbx.example.com>", "fmtp", 1,
		strings.Replace(secureSDP, "a=fmtp:101", "a=fmtp:1000000 0-15\r\na=fmtp:x y\r\na=fmtp:\r\na=fmtp:101", 1), contact))
	inv := b.atPBX("INVITE")
	if strings.Count(inv.body, "a=fmtp:") != 1 || !strings.Contains(inv.body, "a=fmtp:101 0-15\r\n") {
		t.Errorf("the PBX got\n%s", inv.body)
	}
	b.fromPBX(reply(inv, 486, "b", ""))
	p.next("486")
}

// finalOf reads the status of the final answer to a call.
func (p *phone) finalOf(id string) int {
	p.t.Helper()
	for {
		_ = p.conn.SetReadDeadline(soon())
		m, err := readText(p.r)
		if err != nil {
			p.t.Fatalf("the phone awaits the answer to %s: %v", id, err)
		}
		if m.status() >= 200 && m.h.Get("Call-Id") == id {
			return m.status()
		}
	}
}

// Requests that would be none of a call to us, and of one to chan_sip: it takes
// a tag wherever it finds one, and a method in any case. They end their
// connection, and the PBX gets what a good phone sends behind them.
func TestWhatChanSIPReadsOtherwiseEndsHere(t *testing.T) {
	b := newBench(t)
	good := b.phone()
	spoil := func(p *phone, method, to string) string {
		return p.request(method, "sip:602@pbx.example.com", to, "victim@192.168.1.8", 2, "", contact)
	}
	for name, write := range map[string]func(*phone) string{
		"a tag in the display name": func(p *phone) string { return spoil(p, "BYE", "\"x;tag=as1\" <sip:602@pbx.example.com>") },
		"a tag in the URI":          func(p *phone) string { return spoil(p, "BYE", "<sip:602@pbx.example.com;tag=as1>") },
		"a call in lower case":      func(p *phone) string { return spoil(p, "invite", "<sip:602@pbx.example.com>") },
		"a registration in lower case": func(p *phone) string {
			return spoil(p, "Register", "<sip:602@pbx.example.com>")
		},
	} {
		p := b.phone()
		p.send(write(p))
		p.next("400")
		good.send(good.request("OPTIONS", "sip:602@pbx.example.com", "<sip:602@pbx.example.com>", "good-"+randomToken(4), 1, ""))
		got := b.requested()
		if !strings.HasPrefix(got, "OPTIONS ") {
			t.Errorf("%s: the PBX got\n%s", name, got)
		}
		readAndAnswer(b, good, got)
	}
	// The control: the same request with its tag where it belongs is no call's
	// here either, and is told so on a connection that stays.
	p := b.phone()
	p.send(spoil(p, "BYE", "<sip:602@pbx.example.com>;tag=as1"))
	p.next("481")
	p.send(spoil(p, "BYE", "<sip:602@pbx.example.com>;tag=as2"))
	p.next("481")
}

// A phone that asks the PBX for a password would have a digest of it to guess from.
func TestNoPhoneChallengesThePBX(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	refused := func(in *message) {
		t.Helper()
		p.send(reply(in, 401, "p", "", pbxChallenge))
		if m := b.atPBX("403"); m.h.Get("WWW-Authenticate") != "" || strings.Contains(m.body, "nonce") {
			t.Errorf("the PBX is asked: %v", m.h)
		}
	}
	b.fromPBX(b.inviteTo(token, "h1", plainSDP))
	refused(p.next("INVITE"))
	b.callOut(p, "h2")
	b.fromPBX(text("", "BYE sip:"+token+"@"+b.plain.String()+" SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKh3",
		"Max-Forwards: 70", "From: "+to602+";tag=pbx", "To: <sip:1001@pbx.example.com>;tag=anna", "Call-ID: h2", "CSeq: 5 BYE"))
	refused(p.next("BYE"))
	b.noCallLeft()
}
