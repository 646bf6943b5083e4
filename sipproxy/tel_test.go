package sipproxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// A phone that dials telephone numbers reaches a PBX that knows none, and is
// spoken to in its own words.
func TestTelephoneNumbers(t *testing.T) {
	b := newBenchUnder(t, func(c *policy.Config) { c.TrustedUsers = []string{"1001"} }) // to say who diverted
	p := b.phone()
	token := b.register(p)
	p.send(strings.Replace(p.request("INVITE", "tel:+49-(30)-12.34;phone-context=example.com", "<tel:+49-30-1234>", "c1", 1, secureSDP, contact,
		"P-Preferred-Identity: \"Anna\" <tel:+4930555>", "Diversion: <tel:1234>;reason=unknown, <sip:x@example.net>"),
		`"Anna" <sip:1001@pbx.example.com>`, "<sips:1001@pbx.example.com>", 1))
	inv := b.atPBX("INVITE")
	if inv.uri() != "sip:+49301234@pbx.example.com;user=phone" || inv.h.Get("To") != "<sip:+49301234@pbx.example.com;user=phone>" ||
		inv.h.Get("From") != "<sip:1001@pbx.example.com>;tag=anna" {
		t.Errorf("the PBX got %s, From %s, To %s", inv.uri(), inv.h.Get("From"), inv.h.Get("To"))
	}
	if c := inv.h.Get("Contact"); c != fmt.Sprintf("<sip:%s@%s>", token, b.plain) {
		t.Errorf("the PBX got Contact %s: the phone is not known by its registration", c)
	}
	if id, d := inv.h.Get("P-Preferred-Identity"), inv.h.Get("Diversion"); id != `"Anna" <sip:+4930555@pbx.example.com;user=phone>` ||
		d != "<sip:1234@pbx.example.com;user=phone>;reason=unknown, <sip:x@example.net>" {
		t.Errorf("the PBX got P-Preferred-Identity %s, Diversion %s", id, d)
	}
	b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:+49301234@127.0.0.1:5060>"))
	ok := p.next("200")
	if ok.h.Get("To") != "<tel:+49-30-1234>;tag=pbx" || ok.h.Get("From") != "<sips:1001@pbx.example.com>;tag=anna" ||
		ok.h.Get("Contact") != "<sip:+49301234@pbx.example.com:5061;transport=tls>" {
		t.Errorf("the phone got To %s, From %s, Contact %s", ok.h.Get("To"), ok.h.Get("From"), ok.h.Get("Contact"))
	}
	inDialog := func(method, contact string, more ...string) string {
		return text("", append([]string{method + " " + strings.Trim(contact, "<>") + " SIP/2.0", "Max-Forwards: 70", "Call-ID: c1"}, more...)...)
	}
	p.send(inDialog("ACK", ok.h.Get("Contact"), p.via(), "From: "+ok.h.Get("From"), "To: "+ok.h.Get("To"), "CSeq: 1 ACK"))
	b.atPBX("ACK")
	p.send(inDialog("REFER", ok.h.Get("Contact"), p.via(), "From: "+ok.h.Get("From"), "To: "+ok.h.Get("To"), "CSeq: 2 REFER", contact,
		"Refer-To: <tel:+4930.99>", "Referred-By: <sips:1001@pbx.example.com;transport=tls>"))
	refer := b.atPBX("REFER")
	if to, by := refer.h.Get("Refer-To"), refer.h.Get("Referred-By"); to != "<sip:+493099@pbx.example.com;user=phone>" || by != "<sip:1001@pbx.example.com>" {
		t.Errorf("the PBX got Refer-To %s, Referred-By %s", to, by)
	}
	b.fromPBX(inDialog("BYE", inv.h.Get("Contact"), "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKbye", "From: "+inv.h.Get("To")+";tag=pbx",
		"To: "+inv.h.Get("From"), "CSeq: 102 BYE"))
	if bye := p.next("BYE"); bye.h.Get("From") != "<tel:+49-30-1234>;tag=pbx" || bye.h.Get("To") != "<sips:1001@pbx.example.com>;tag=anna" {
		t.Errorf("the phone got From %s, To %s", bye.h.Get("From"), bye.h.Get("To"))
	}
}

// Outside of calls, and where a phone forwards to a number.
func TestTelephoneNumbersElsewhere(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	p.send(p.request("MESSAGE", "tel:%2372*1", "<tel:%2372*1>", "m1", 1, ""))
	if m := b.atPBX("MESSAGE"); m.uri() != "sip:%2372*1@pbx.example.com;user=phone" || m.h.Get("To") != "<sip:%2372*1@pbx.example.com;user=phone>" {
		t.Errorf("the PBX got %s, To %s", m.uri(), m.h.Get("To"))
	}
	b.fromPBX(b.inviteTo(token, "in1", plainSDP))
	p.send(reply(p.next("INVITE"), 302, "anna", "", "Contact: <tel:+49-30-1>"))
	if got, want := b.atPBX("302").h.Get("Contact"), fmt.Sprintf("<sip:+49301@%s;user=phone>", b.pbx.LocalAddr()); got != want {
		t.Errorf("the PBX got Contact %s, want %s", got, want)
	}
	for i, bad := range []string{"tel:", "tel:+", "tel:12@127.0.0.1", "tel:12a34g", "tel:+1*2", "tel:1;x@127.0.0.1", "tel:1;", "tel:--"} {
		p := b.phone() // what is malformed ends its connection
		p.send(p.request("OPTIONS", bad, to602, fmt.Sprint("o", i), 1, ""))
		_ = p.next("400")
	}
}

// Grandstream's phones send a dialled # as it is.
func TestDialledHash(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	p.send(p.request("INVITE", "sip:#72#1@pbx.example.com", `"a#b@c" <sip:#72#1@pbx.example.com>`, "c1", 1, secureSDP, contact))
	inv := b.atPBX("INVITE")
	if inv.uri() != "sip:%2372%231@pbx.example.com" || inv.h.Get("To") != `"a#b@c" <sip:%2372%231@pbx.example.com>` {
		t.Errorf("the PBX got %s, To %s", inv.uri(), inv.h.Get("To"))
	}
	b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	if c := p.next("200").h.Get("Contact"); c != "<sip:%2372%231@pbx.example.com:5061;transport=tls>" {
		t.Errorf("the phone got Contact %s", c)
	}
}

// Whom a transfer or a forwarding is to is dialled too; neither costs the phone its
// connection.
func TestDialledHashToGoOnTo(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	b.callOut(p, "c1")
	for i, to := range []struct{ sent, got string }{
		{`"a#b@c" <sip:*72#@pbx.example.com>`, `"a#b@c" <sip:*72%23@pbx.example.com>`},
		{"sip:*72#@pbx.example.com;method=INVITE", "sip:*72%23@pbx.example.com;method=INVITE"},
		{"<sips:#1@pbx.example.com?Replaces=a%40b>", "<sip:%231@pbx.example.com?Replaces=a%40b>"},
	} {
		p.send(p.request("REFER", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2+i, "", contact, "Refer-To: "+to.sent, "Referred-By: <sip:#5@pbx.example.com>"))
		m := b.atPBX("REFER")
		if m.h.Get("Refer-To") != to.got || m.h.Get("Referred-By") != "<sip:%235@pbx.example.com>" {
			t.Errorf("the PBX got Refer-To %s, Referred-By %s", m.h.Get("Refer-To"), m.h.Get("Referred-By"))
		}
		b.fromPBX(reply(m, 202, "", ""))
		p.next("202")
	}
	b.fromPBX(b.inviteTo(token, "in", plainSDP))
	p.send(reply(p.next("INVITE"), 302, "phone", "", `Contact: "x, #" <sip:*21#@pbx.example.com>;q=0.5, <sip:603@pbx.example.com>`))
	moved := b.atPBX("302")
	at := b.pbx.LocalAddr().String()
	if c := strings.Join(moved.h.Values("Contact"), ", "); c != `"x, #" <sip:*21%23@`+at+`>;q=0.5, <sip:603@`+at+`>` {
		t.Errorf("the PBX got Contact %s", c)
	}
	p.send(p.request("BYE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 9, ""))
	b.fromPBX(reply(b.atPBX("BYE"), 200, "", ""))
	p.next("200")
}
