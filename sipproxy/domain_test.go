package sipproxy

import (
	"fmt"
	"strings"
	"testing"
)

// newBenchAt is an edge whose PBX has its own name for the domain.
func newBenchAt(t *testing.T, domain string) *bench {
	b := newBench(t)
	b.proxy.cfg.PBXDomain = domain
	b.proxy.inside.Store(newInsideHosts(b.proxy.cfg, b.proxy.cfg.PBXs, nil))
	return b
}

// A PBX that has its own name for our domain reads that, and phones read theirs.
func TestPBXDomain(t *testing.T) {
	b := newBenchAt(t, "asterisk.lan")
	p := b.phone()
	const auth = `Digest username="1001", realm="asterisk", nonce="n", uri="sip:pbx.example.com", response="0"`
	p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg", 1, "", contact, "Authorization: "+auth))
	reg := b.atPBX("REGISTER")
	if reg.uri() != "sip:asterisk.lan" || reg.h.Get("From") != `"Anna" <sip:1001@asterisk.lan>;tag=anna` || reg.h.Get("To") != "<sip:1001@asterisk.lan>" || reg.h.Get("Authorization") != auth {
		t.Errorf("the PBX got %s, From %s, To %s, Authorization %s", reg.start, reg.h.Get("From"), reg.h.Get("To"), reg.h.Get("Authorization"))
	}
	b.fromPBX(reply(reg, 200, "r", "", "Contact: "+reg.h.Get("Contact")+";expires=600"))
	if ok := p.next("200"); ok.h.Get("To") != "<sip:1001@pbx.example.com>;tag=r" {
		t.Errorf("the phone got To %s", ok.h.Get("To"))
	}
	for i, c := range []struct{ called, want, contact string }{
		{"sip:602@pbx.example.com", "sip:602@asterisk.lan", "<sip:602@pbx.example.com:5061;transport=tls>"},
		{"sips:602@pbx.example.com:5061;transport=tls", "sip:602@asterisk.lan", "<sips:602@pbx.example.com:5061;transport=tls>"},
		{"sip:602@127.0.0.1:5061", "sip:602@asterisk.lan", "<sip:602@127.0.0.1:5061;transport=tls>"},
		{"tel:+49-30-602", "sip:+4930602@asterisk.lan;user=phone", "<sip:+4930602@pbx.example.com:5061;transport=tls>"},
		{"sip:602@elsewhere.example", "sip:602@elsewhere.example", "<sip:602@127.0.0.1:5061;transport=tls>"},
	} {
		p.send(p.request("INVITE", c.called, "<"+c.called+">", fmt.Sprint("c", i), 1, secureSDP, contact))
		inv := b.atPBX("INVITE")
		if inv.uri() != c.want || inv.h.Get("To") != "<"+c.want+">" || inv.h.Get("From") != `"Anna" <sip:1001@asterisk.lan>;tag=anna` || tokenIn(inv) != tokenIn(reg) {
			t.Errorf("%s: the PBX got %s, To %s, From %s, Contact %s", c.called, inv.start, inv.h.Get("To"), inv.h.Get("From"), inv.h.Get("Contact"))
		}
		b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>", "P-Asserted-Identity: <sip:602@asterisk.lan>"))
		ok := p.next("200")
		if ok.h.Get("Contact") != c.contact || ok.h.Get("To") != "<"+c.called+">;tag=pbx" || ok.h.Get("P-Asserted-Identity") != "<sip:602@pbx.example.com>" {
			t.Errorf("%s: the phone got Contact %s, To %s, P-Asserted-Identity %s", c.called, ok.h.Get("Contact"), ok.h.Get("To"), ok.h.Get("P-Asserted-Identity"))
		}
		p.send(p.request("REFER", strings.Trim(ok.h.Get("Contact"), "<>"), "<"+c.called+">;tag=pbx", fmt.Sprint("c", i), 2, "", contact,
			"Refer-To: <sip:603@pbx.example.com?Replaces=a%3Bto-tag%3Db>", "Referred-By: <sip:1001@pbx.example.com>"))
		refer := b.atPBX("REFER")
		if refer.h.Get("Refer-To") != "<sip:603@asterisk.lan?Replaces=a%3Bto-tag%3Db>" || refer.h.Get("Referred-By") != "<sip:1001@asterisk.lan>" || refer.h.Get("To") != "<"+c.want+">;tag=pbx" {
			t.Errorf("%s: the PBX got Refer-To %s, Referred-By %s, To %s", c.called, refer.h.Get("Refer-To"), refer.h.Get("Referred-By"), refer.h.Get("To"))
		}
	}
	b.fromPBX(strings.Replace(b.inviteTo(tokenIn(reg), "in", plainSDP), "1002@127.0.0.1>;tag", "1002@asterisk.lan>;tag", 1))
	inv := p.next("INVITE")
	if inv.h.Get("From") != `"Ben" <sip:1002@pbx.example.com>;tag=pbx` {
		t.Errorf("the phone is called by %s", inv.h.Get("From"))
	}
	// A phone that forwards means the PBX, whatever its name.
	p.send(reply(inv, 302, "anna", "", "Contact: <sip:1003@pbx.example.com>"))
	if moved := b.atPBX("302"); moved.h.Get("Contact") != "<sip:1003@"+b.pbx.LocalAddr().String()+">" {
		t.Errorf("the PBX is sent to %s", moved.h.Get("Contact"))
	}
}
