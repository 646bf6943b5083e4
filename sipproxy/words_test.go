package sipproxy

import (
	"fmt"
	"strings"
	"testing"
)

// cancelOf cancels an inviteTo because somebody else took the call.
func cancelOf(invite string) string {
	return strings.NewReplacer("INVITE sip", "CANCEL sip", "102 INVITE", "102 CANCEL", "Content-Type: application/sdp\r\n", "",
		fmt.Sprintf("Content-Length: %d", len(plainSDP)), "Reason: SIP;cause=200;text=\"Call completed elsewhere, at 127.0.0.1\"\r\nContent-Length: 0", plainSDP, "").Replace(invite)
}

// A phone in a group learns that its call was taken elsewhere, and counts it
// as no missed one. By whom, the PBX may say, but not by its address.
func TestReasonOfCancel(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	invite := b.inviteTo(b.register(p), "in1", plainSDP)
	b.fromPBX(invite)
	inv := p.next("INVITE")
	b.fromPBX(cancelOf(invite))
	p.send(reply(inv, 180, "anna", "", contact))
	if m := p.next("CANCEL"); m.h.Get("Reason") != `SIP;cause=200;text="Call completed elsewhere, at pbx.example.com"` {
		t.Errorf("the CANCEL's Reason is %q", m.h.Get("Reason"))
	}
}

// Nor by the words of an answer. What a phone says goes on as it is.
func TestWordsOfAnswers(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP, contact))
	inv := b.atPBX("INVITE")
	b.fromPBX(strings.Replace(reply(inv, 180, "pbx", ""), "Because", "Rings at sip:602@127.0.0.1:5060", 1))
	if m := p.next("180"); m.start != "SIP/2.0 180 Rings at sip:602@pbx.example.com" {
		t.Errorf("the phone is told %s", m.start)
	}
	b.fromPBX(strings.Replace(reply(inv, 486, "pbx", ""), "Because", "127.0.0.1 is busy", 1))
	if m := p.next("486"); m.start != "SIP/2.0 486 pbx.example.com is busy" {
		t.Errorf("the phone is told %s", m.start)
	}
	p.send(p.request("MESSAGE", "sip:602@pbx.example.com", to602, "m1", 1, ""))
	b.fromPBX(strings.Replace(reply(b.atPBX("MESSAGE"), 404, "pbx", ""), "Because", "Not Found", 1))
	if m := p.next("404"); m.start != "SIP/2.0 404 Not Found" { // the control
		t.Errorf("the phone is told %s", m.start)
	}
	b.fromPBX(b.inviteTo(token, "in1", plainSDP))
	p.send(strings.Replace(reply(p.next("INVITE"), 486, "anna", ""), "Because", "Busy at 127.0.0.1", 1))
	if m := b.atPBX("486"); m.start != "SIP/2.0 486 Busy at 127.0.0.1" {
		t.Errorf("the PBX is told %s", m.start)
	}
}
