package sipproxy

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A phone that does nothing but DTLS and looks for it in the m-line is called again,
// with that alone; the PBX hears nothing of it.
func TestOfferedAnew(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	b.fromPBX(b.inviteTo(token, "c1", plainSDP))
	first := p.next("INVITE")
	p.send(reply(first, 488, "anna", ""))
	p.next("ACK")
	second := p.next("INVITE")
	if got := mlines(second.body); got != "m=audio PORT UDP/TLS/RTP/SAVP 0 101" || strings.Contains(second.body, "crypto") || !strings.Contains(second.body, "a=setup:actpass\r\n") {
		t.Errorf("the phone is offered\n%s", second.body)
	}
	if second.h.Get("Cseq") != "103 INVITE" || second.h.Get("Via") == first.h.Get("Via") || second.h.Get("From") != first.h.Get("From") || strings.Contains(second.h.Get("To"), "tag") {
		t.Errorf("the INVITE is %v", second.h)
	}
	p.send(reply(second, 180, "anna", "", contact, "Require: 100rel", "RSeq: 7"))
	b.atPBX("180")
	later := func(method, cseq string, more ...string) string {
		return strings.NewReplacer("102 INVITE", cseq+" "+method, "INVITE", method, ">\r\nCall-ID", ">;tag=anna\r\nCall-ID", "z9hG4bKc1", "z9hG4bK"+method,
			"Max-Forwards", strings.Join(append(more, "Max-Forwards"), "\r\n")).Replace(b.inviteTo(token, "c1", ""))
	}
	b.fromPBX(later("PRACK", "103", "RAck: 7 102 INVITE"))
	prack := p.next("PRACK")
	if prack.h.Get("Rack") != "7 103 INVITE" || prack.h.Get("Cseq") != "104 PRACK" {
		t.Errorf("the phone's PRACK is %v", prack.h)
	}
	p.send(reply(prack, 200, "", ""))
	b.atPBX("200")
	answer := strings.Replace(plainSDP, "RTP/AVP 0 101\r\n", "UDP/TLS/RTP/SAVP 0 101\r\n"+fingerprintLine+"a=setup:active\r\n", 1)
	p.send(reply(second, 200, "anna", answer, contact))
	ok := b.atPBX("200")
	if ok.h.Get("Cseq") != "102 INVITE" || !strings.Contains(ok.body, "RTP/AVP 0 101") {
		t.Errorf("the PBX is answered %v\n%s", ok.h, ok.body)
	}
	b.fromPBX(later("ACK", "102"))
	if got := p.next("ACK").h.Get("Cseq"); got != "103 ACK" {
		t.Errorf("the phone's ACK has CSeq %s", got)
	}
	b.fromPBX(later("BYE", "104"))
	bye := p.next("BYE")
	if bye.h.Get("Cseq") != "105 BYE" {
		t.Errorf("the phone's BYE has CSeq %s", bye.h.Get("Cseq"))
	}
	p.send(reply(bye, 200, "", ""))
	b.atPBX("200")
	b.noCallLeft()
}

// What a phone takes is offered first the next time, until it takes something else.
func TestKeyingRemembered(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	const both, alone = "m=audio PORT RTP/SAVP 0 101 +AEAD_AES_128_GCM +AES_CM_128_HMAC_SHA1_80", "m=audio PORT UDP/TLS/RTP/SAVP 0 101"
	bySDES := strings.Replace(secureSDP, "crypto:1", "crypto:2", 1)
	byDTLS := strings.Replace(plainSDP, "RTP/AVP 0 101\r\n", "UDP/TLS/RTP/SAVP 0 101\r\n"+fingerprintLine+"a=setup:active\r\n", 1)
	for i, c := range []struct {
		refused, offered string // the offers, the first only if the phone refuses it
		answer           string
	}{{both, alone, byDTLS}, {"", alone, byDTLS}, {alone, both, bySDES}, {"", both, bySDES}} {
		b.fromPBX(b.inviteTo(token, fmt.Sprint("c", i), plainSDP))
		inv := p.next("INVITE")
		if c.refused != "" {
			if got := mlines(inv.body); got != c.refused {
				t.Errorf("%d: the phone is offered %s, want %s", i, got, c.refused)
			}
			p.send(reply(inv, 488, "anna", ""))
			inv = p.next("INVITE")
		}
		if got := mlines(inv.body); got != c.offered {
			t.Errorf("%d: the phone is offered %s, want %s", i, got, c.offered)
		}
		p.send(reply(inv, 200, "anna", c.answer, contact))
		b.atPBX("200")
		b.register(p)
	}
	b.proxy.bindings.setDTLS(token, true)
	p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg", 9, "", contact, "Expires: 0"))
	b.fromPBX(reply(b.atPBX("REGISTER"), 200, "r", ""))
	p.next("200")
	if n := len(b.proxy.bindings.dtls); n != 0 {
		t.Errorf("%d phones are remembered", n)
	}
}

// What a phone takes when it is called is nothing to a call that it made with other keys.
func TestKeyingOfItsOwnCall(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	b.proxy.bindings.setDTLS(b.register(p), true)
	inv := b.callOut(p, "c1")
	b.fromPBX(b.inDialog("INVITE", inv, 7, plainSDP))
	if got := mlines(p.next("INVITE").body); got != "m=audio PORT RTP/SAVP 0 101 +AES_CM_128_HMAC_SHA1_80" {
		t.Errorf("the phone is offered %s", got)
	}
}

func TestOfferedAnewOnce(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	b.fromPBX(b.inviteTo(token, "c1", plainSDP))
	for range 2 {
		p.send(reply(p.next("INVITE"), 488, "anna", "", `Warning: 304 phone "no codec"`))
		p.next("ACK")
	}
	b.atPBX("488")
	b.noCallLeft()
}

// Who was given up is not called again.
func TestNotOfferedAnew(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	invite := b.inviteTo(token, "c1", plainSDP)
	for why, status := range map[string]int{"cancelled": 488, "rang": 488, "busy": 486} {
		b.fromPBX(strings.ReplaceAll(invite, "c1", why))
		inv := p.next("INVITE")
		switch why {
		case "cancelled":
			p.send(reply(inv, 100, "", ""))
			b.fromPBX(strings.NewReplacer("c1", why, "INVITE", "CANCEL").Replace(b.inviteTo(token, "c1", "")))
			p.send(reply(p.next("CANCEL"), 200, "anna", ""))
		case "rang":
			p.send(reply(inv, 180, "anna", "", contact))
		}
		p.send(reply(inv, status, "anna", ""))
		b.atPBX(fmt.Sprint(status))
		p.next("ACK")
	}
	_ = p.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if m, err := readText(p.r); err == nil {
		t.Errorf("the phone got %s", m.start)
	}
	b.noCallLeft()
}
