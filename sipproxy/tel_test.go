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
