package sipproxy

import (
	"strings"
	"testing"
)

// A re-INVITE of the PBX offers the phone first what the call has: a phone that
// chose anew could go on with the old key.
func TestReofferKeepsTheSuite(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	b.callOut(p, "c1")
	b.fromPBX(text(plainSDP, "INVITE sip:"+token+"@"+b.plain.String()+" SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKre",
		"Max-Forwards: 70", "From: <sip:602@pbx.example.com>;tag=pbx", "To: <sip:1001@pbx.example.com>;tag=anna", "Call-ID: c1",
		"CSeq: 102 INVITE", "Contact: <sip:602@127.0.0.1:5060>"))
	inv := p.next("INVITE")
	var lines []string
	for _, line := range strings.Split(inv.body, "\r\n") {
		if strings.HasPrefix(line, "a=crypto:") {
			lines = append(lines, strings.Fields(line)[1])
		}
	}
	if len(lines) != 1 || lines[0] != "AES_CM_128_HMAC_SHA1_80" { // the first call's: it is also the one that all phones know
		t.Errorf("the call has AES_CM_128_HMAC_SHA1_80, and a re-INVITE offers %v", lines)
	}
}
