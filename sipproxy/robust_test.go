package sipproxy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// A phone that floods gets its refusals, with a time to come again; others, and
// the PBX, notice nothing.
func TestFloodOfRequests(t *testing.T) {
	const limit = 40
	b := newBenchWith(t, media.Defaults().Silence, func(c *Config) { c.Requests.PerFlow = limit })
	p, other := b.phone(), b.phone()
	b.register(p) // a stranger is sent away much sooner
	for i := range limit + 50 {
		method := []string{"OPTIONS", "INVITE", "MESSAGE", "SUBSCRIBE"}[i%4]
		sdp, more := "", []string{contact}
		if method == "INVITE" {
			sdp = secureSDP
		}
		p.send(p.request(method, "sip:602@pbx.example.com", to602, fmt.Sprintf("flood%d", i), 1, sdp, more...))
	}
	for range 50 {
		if m := p.next("503"); m.h.Get("Retry-After") == "" {
			t.Fatalf("the 503 has no Retry-After: %v", m.h)
		}
	}
	other.send(other.request("OPTIONS", "sip:602@pbx.example.com", to602, "honest", 1, ""))
	for {
		if m := b.atPBX("OPTIONS"); m.h.Get("Call-Id") == "honest" {
			b.fromPBX(reply(m, 200, "pbx", ""))
			break
		}
	}
	other.next("200")
}

// One request by two ways, or in a circle.
func TestMergedRequest(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	invite := p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP, contact)
	p.send(invite)
	first := b.atPBX("INVITE")
	p.send(strings.Replace(invite, "branch=z9hG4bK", "branch=z9hG4bKother", 1))
	p.next("482")
	b.fromPBX(reply(first, 486, "pbx", ""))
	p.next("486")

	// A PBX that forks to two phones of ours is no circle; to one phone twice it is.
	desk, mobile := b.phone(), b.phone()
	reg, _ := b.registers(desk, `<sip:1001@192.168.1.9>;+sip.instance="<urn:uuid:desk>"`, 200, "Contact: ours;expires=600")
	one := tokenIn(reg)
	reg, _ = b.registers(mobile, `<sip:1001@192.168.1.9>;+sip.instance="<urn:uuid:mobile>"`, 200, "Contact: ours;expires=600")
	two := tokenIn(reg)
	b.fromPBX(b.inviteTo(one, "fork", plainSDP))
	desk.next("INVITE")
	b.fromPBX(strings.Replace(b.inviteTo(two, "fork", plainSDP), "branch=z9hG4bK", "branch=z9hG4bKtwo", 1))
	mobile.next("INVITE")
	b.fromPBX(strings.Replace(b.inviteTo(two, "fork", plainSDP), "branch=z9hG4bK", "branch=z9hG4bKagain", 1))
	b.atPBX("482")
}

// tokenIn is the token in the Contact of a REGISTER that the PBX got.
func tokenIn(reg *message) string {
	token, _, _ := strings.Cut(strings.TrimPrefix(reg.h.Get("Contact"), "<sip:"), "@")
	return token
}

// Each hop is one less; a number that is none of the grammar's counts as the most.
func TestMaxForwards(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"Max-Forwards: 70\r\n", "69"}, {"", "69"}, {"Max-Forwards: 1\r\n", "0"}, {"Max-Forwards: 4294967295\r\n", "254"},
	} {
		b := newBench(t)
		p := b.phone()
		p.send(strings.Replace(p.request("OPTIONS", "sip:602@pbx.example.com", to602, "c1", 1, ""), "Max-Forwards: 70\r\n", c.line, 1))
		if got := b.atPBX("OPTIONS").h.Get("Max-Forwards"); got != c.want {
			t.Errorf("%q became %s, want %s", c.line, got, c.want)
		}
	}
}

// An ACK that has gone round too often ends here, and is not answered.
func TestAckWithoutHops(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP, contact))
	b.fromPBX(reply(b.atPBX("INVITE"), 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	p.next("200")
	ack := p.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 1, "")
	p.send(strings.Replace(ack, "Max-Forwards: 70", "Max-Forwards: 0", 1))
	p.send(strings.Replace(ack, "Max-Forwards: 70", "Max-Forwards: 5", 1))
	if got := b.atPBX("ACK").h.Get("Max-Forwards"); got != "4" {
		t.Errorf("the PBX got an ACK with Max-Forwards %s, want 4", got)
	}
}

// What is about calls from before a restart.
func TestAfterARestart(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	b.register(p)
	pbx := func(method string, more ...string) {
		b.fromPBX(text("", append([]string{method + " sip:token@" + b.plain.String() + " SIP/2.0",
			"Via: SIP/2.0/UDP " + b.pbx.LocalAddr().String() + ";branch=z9hG4bKold" + method + ";rport", "Max-Forwards: 70",
			"From: <sip:602@127.0.0.1>;tag=pbx", "To: <sip:1001@127.0.0.1>;tag=gone", "Call-ID: old", "CSeq: 102 " + method,
			"Contact: <sip:602@127.0.0.1>"}, more...)...))
	}
	pbx("ACK")
	for _, method := range []string{"INVITE", "BYE", "UPDATE", "INFO"} {
		pbx(method)
		b.atPBX("481")
	}
	for _, method := range []string{"INVITE", "UPDATE", "INFO", "PRACK"} {
		p.send(p.request(method, "sip:602@pbx.example.com:5061", to602+";tag=pbx", "old", 7, "", contact))
		p.next("481")
	}
	// But a phone that the PBX has accepted may hang up: else the PBX is left with
	// the call. Whether it is the phone's, it knows.
	stranger := b.phone()
	bye := func(p *phone) string {
		return p.request("BYE", "sip:602@pbx.example.com:5061;transport=tls", to602+";tag=pbx", b.proxy.crossCallID("old@127.0.0.1"), 8, "")
	}
	stranger.send(bye(stranger))
	stranger.next("481")
	p.send(strings.Replace(bye(p), "sip:1001@", "sip:1002@", 1))
	p.next("481")
	p.send(bye(p))
	m := b.atPBX("BYE")
	if m.uri() != "sip:602@pbx.example.com" || m.h.Get("Call-Id") != "old@127.0.0.1" || m.h.Get("To") != to602+";tag=pbx" || !strings.HasSuffix(m.h.Get("From"), ";tag=anna") {
		t.Errorf("the PBX got %s, %v", m.start, m.h)
	}
	b.fromPBX(reply(m, 200, "", ""))
	p.next("200")
	before := b.proxy.Stats().StrayResponses
	b.fromPBX(text(plainSDP, "SIP/2.0 200 OK", "Via: SIP/2.0/UDP "+b.plain.String()+";branch=z9hG4bKgone", "From: <sip:1001@127.0.0.1>;tag=a",
		"To: <sip:602@127.0.0.1>;tag=b", "Call-ID: old", "CSeq: 1 INVITE", "Contact: <sip:602@127.0.0.1>"))
	until(t, "the stray answer to be counted", func() bool { return b.proxy.Stats().StrayResponses != before })
	b.noCallLeft()
}

// Who has proved nothing may have a few requests on their way to the PBX, whatever
// else a phone may have.
func TestFloodOfStrangers(t *testing.T) {
	b := newBenchUnder(t, func(c *policy.Config) { c.AuthFailures = 0 }) // or it is closed
	p := b.phone()
	limit := transaction.DefaultLimits().Unproven
	for i := range limit + 10 {
		p.send(p.request("OPTIONS", "sip:602@pbx.example.com", to602, fmt.Sprintf("flood%d", i), 1, ""))
	}
	for range 10 {
		p.next("503")
	}
	first := b.atPBX("OPTIONS")
	b.fromPBX(reply(first, 200, "pbx", ""))
	p.next("200")
}
