package phone

import (
	"fmt"
	"strings"
	"testing"
)

const edge = "Contact: <sip:600@edge:8443;transport=ws>"

// dial calls 600, and returns the INVITE.
func (b *bench) dial() *message {
	b.t.Helper()
	b.js(`keep("call", agent.dial("600"))`)
	return b.next("INVITE sip:600@pbx.example.com SIP/2.0")
}

// inCall is an agent that called and was answered.
func inCall(t *testing.T) (*bench, *message) {
	t.Helper()
	b := registered(t)
	inv := b.dial()
	b.receive(reply(inv, "200 OK", "far", "their answer a=sendrecv\r\n", edge))
	b.next("ACK")
	b.is("agent.call.state + bench.results.call", "activedone")
	return b, inv
}

// inside is a request of the far end in a call that we made.
func inside(inv *message, method string, sequence int, body string, more ...string) string {
	return finish(append([]string{
		method + " sip:101@x.invalid SIP/2.0", fmt.Sprintf("Via: SIP/2.0/WSS edge;branch=z9hG4bK%s%d", method, sequence), "From: " + inv.get("To") + ";tag=far",
		"To: " + inv.get("From"), "Call-ID: " + inv.get("Call-ID"), fmt.Sprintf("CSeq: %d %s", sequence, method),
	}, more...), body)
}

func TestCallOut(t *testing.T) {
	b := registered(t)
	inv := b.dial()
	if inv.body != "our offer 1 sendrecv\r\n" || inv.get("Contact") != b.js("agent.contact").String() || !strings.Contains(inv.get("Supported"), "100rel") {
		t.Errorf("the INVITE is %q %q", inv.fields, inv.body)
	}
	b.receive(challenged(inv, "n1", ""))
	ack := b.next("ACK sip:600@pbx.example.com SIP/2.0") // in the INVITE's transaction (RFC 3261 section 17.1.1.3)
	if ack.get("Via") != inv.get("Via") || ack.get("CSeq") != "1 ACK" || ack.tag("To") != "r" {
		t.Errorf("the refusal is acknowledged by %q", ack.fields)
	}
	inv = b.next("INVITE")
	authorizes(t, inv, "n1", 1)
	if inv.get("CSeq") != "2 INVITE" || inv.body != "our offer 1 sendrecv\r\n" {
		t.Errorf("it comes again with %q", inv.fields)
	}
	b.receive(reply(inv, "100 Trying", "", ""))
	b.is("agent.call.state", "calling")
	b.receive(reply(inv, "183 Progress", "far", "early\r\n", edge))
	b.is("agent.call.state", "ringing")
	ok := reply(inv, "200 OK", "far", "", edge, "Record-Route: <sip:p2;lr>, <sip:p1;lr>") // its description came before
	b.receive(ok)
	ack = b.next("ACK sip:600@edge:8443;transport=ws SIP/2.0")
	if ack.get("Via") == inv.get("Via") || ack.get("CSeq") != "2 ACK" || strings.Join(ack.all("Route"), " ") != "<sip:p1;lr> <sip:p2;lr>" || ack.get("Authorization") != inv.get("Authorization") {
		t.Errorf("the answer is acknowledged by %q", ack.fields)
	}
	b.is("bench.results.call", "done")
	b.is("media().log.join()", "mute false,offer,accept early,accept early")
	b.receive(ok) // again: our ACK was lost
	b.next("ACK")
	b.is(`(() => { try { agent.call.dtmf("12#"); } catch (e) { return e.message; } return media().log.pop(); })()`, "dtmf 12#")
	b.receive(inside(inv, "BYE", 1, "", `Reason: Q.850;cause=16;text="Normal"`))
	b.next("SIP/2.0 200")
	b.is("bench.ended.join()", "the other side hung up: Normal")
	b.is("media().closed", "true")
	b.receive(inside(inv, "BYE", 2, ""))
	b.next("SIP/2.0 481")
	b.wait(60e3)
	b.is("agent.layer.clients.size + agent.layer.servers.size", "0")
}

func TestCallRefused(t *testing.T) {
	b := registered(t)
	inv := b.dial()
	b.receive(reply(inv, "486 Busy Here", "far", "", `Warning: 399 edge "the phone is \"busy\""`))
	b.next("ACK")
	b.is("bench.results.call", `486 Busy Here: the phone is "busy"`)
	b.js(`keep("second", agent.dial("600"))`)
	inv = b.next("INVITE")
	b.wait(32e3) // nobody is there
	b.is("bench.results.second", "408 Request Timeout")
	b.receive(reply(inv, "200 OK", "far", "late\r\n", edge))
	b.js("bench.noMicrophone = 'no microphone'")
	b.js(`keep("third", agent.dial("600"))`)
	b.is("bench.results.third", "no microphone")
	b.js(`keep("fourth", agent.dial("<>"))`)
	b.is("bench.results.fourth", "that is no number and no address")
	b.is("String(agent.call)", "null")
}

// A CANCEL waits for a provisional answer (RFC 3261 section 9.1), and a 200 may
// cross it.
func TestCancel(t *testing.T) {
	b := registered(t)
	inv := b.dial()
	b.js("agent.call.hangup()")
	b.silent()
	b.is("bench.results.call", "you hung up")
	b.receive(reply(inv, "100 Trying", "", ""))
	cancel := b.next("CANCEL sip:600@pbx.example.com SIP/2.0")
	if cancel.get("Via") != inv.get("Via") || cancel.get("To") != inv.get("To") || cancel.get("CSeq") != "1 CANCEL" {
		t.Errorf("CANCEL has %q, the INVITE %q", cancel.fields, inv.fields)
	}
	b.receive(reply(cancel, "200 OK", "far", ""))
	b.receive(reply(inv, "487 Request Terminated", "far", ""))
	b.next("ACK")
	b.silent()

	inv = b.dial()
	b.receive(reply(inv, "180 Ringing", "far", "", edge))
	b.js("agent.call.hangup()")
	b.next("CANCEL")
	b.receive(reply(inv, "200 OK", "far", "their answer\r\n", edge))
	b.next("ACK")
	bye := b.next("BYE sip:600@edge:8443;transport=ws SIP/2.0")
	b.receive(reply(bye, "200 OK", "far", ""))
	b.silent()
	b.is("media().closed", "true")

	inv = b.dial() // one whose CANCEL nobody answers
	b.receive(reply(inv, "180 Ringing", "far", "", edge))
	b.js("agent.call.hangup()")
	b.next("CANCEL")
	b.wait(33e3)
	b.is("agent.layer.clients.size + bench.sent.pop()", "0\r\n\r\n") // and a ping
	b.receive("\r\n")

	inv = b.dial() // given up while the challenge was under way
	b.js("agent.call.hangup()")
	b.receive(challenged(inv, "n", ""))
	b.next("ACK")
	b.silent()
}

// Only the first of two forks that answer has the call.
func TestForks(t *testing.T) {
	b := registered(t)
	inv := b.dial()
	b.receive(reply(inv, "180 Ringing", "one", "", "Contact: <sip:one@edge>"))
	b.receive(reply(inv, "200 OK", "two", "their answer\r\n", "Contact: <sip:two@edge>"))
	b.next("ACK sip:two@edge")
	b.receive(reply(inv, "200 OK", "one", "their answer\r\n", "Contact: <sip:one@edge>"))
	b.next("ACK sip:one@edge")
	if bye := b.next("BYE sip:one@edge"); bye.tag("To") != "one" {
		t.Errorf("BYE has To %s", bye.get("To"))
	}
	b.is("agent.call.state", "active")
}

func TestPRACK(t *testing.T) {
	b := registered(t)
	inv := b.dial()
	b.receive(reply(inv, "183 Progress", "far", "early\r\n", edge, "Require: 100rel", "RSeq: 41"))
	prack := b.next("PRACK sip:600@edge:8443;transport=ws SIP/2.0")
	if prack.get("RAck") != "41 1 INVITE" || prack.get("CSeq") != "2 PRACK" || prack.tag("To") != "far" {
		t.Errorf("PRACK has %q", prack.fields)
	}
	b.receive(reply(prack, "200 OK", "far", ""))
	b.receive(reply(inv, "180 Ringing", "far", "", edge, "Require: 100rel", "RSeq: 43")) // one is missing
	b.receive(reply(inv, "180 Ringing", "far", "", edge, "Require: 100rel", "RSeq: 41")) // again
	b.silent()
	b.receive(reply(inv, "180 Ringing", "far", "", edge, "Require: 100rel", "RSeq: 42"))
	if got := b.next("PRACK").get("RAck"); got != "42 1 INVITE" {
		t.Errorf("RAck is %s", got)
	}
	b.receive(inside(inv, "UPDATE", 1, "", "Contact: <sip:new@edge>")) // in the early dialog
	b.next("SIP/2.0 200")
	b.receive(reply(inv, "200 OK", "far", "answer\r\n", edge))
	b.next("ACK")
	b.js("agent.call.hangup()")
	if got := b.next("BYE").get("CSeq"); got != "4 BYE" {
		t.Errorf("after two PRACKs, BYE has CSeq %s", got)
	}
}

func TestBadAnswer(t *testing.T) {
	for _, body := range []string{"", "not taken\r\n"} {
		b := registered(t)
		inv := b.dial()
		b.js("bench.refuses = 'accept'")
		b.receive(reply(inv, "200 OK", "far", body, edge))
		b.next("ACK")
		b.next("BYE")
		if got := b.js("bench.results.call").String(); !strings.HasPrefix(got, "the answer does not fit") {
			t.Errorf("the call ends as %q", got)
		}
	}
}

func TestHold(t *testing.T) {
	b, inv := inCall(t)
	b.js(`keep("hold", agent.call.hold(true))`)
	hold := b.next("INVITE sip:600@edge:8443;transport=ws SIP/2.0")
	if hold.body != "our offer 2 sendonly\r\n" || hold.get("CSeq") != "2 INVITE" || hold.tag("To") != "far" || hold.get("Call-ID") != inv.get("Call-ID") {
		t.Errorf("it holds with %q %q", hold.fields, hold.body)
	}
	b.receive(inside(inv, "INVITE", 1, "theirs\r\n", edge)) // both at once (RFC 3261 section 14.2)
	b.next("SIP/2.0 491")
	b.receive(inside(inv, "ACK", 1, ""))
	b.receive(reply(hold, "491 Request Pending", "far", ""))
	b.next("ACK")
	b.is("media().log[media().log.length - 1]", "rollback")
	b.wait(2099)
	b.silent()
	b.wait(2000)
	hold = b.next("INVITE")
	b.receive(reply(hold, "200 OK", "far", "theirs\r\na=recvonly\r\n", "Contact: <sip:moved@edge>"))
	if ack := b.next("ACK sip:moved@edge"); ack.get("CSeq") != "3 ACK" {
		t.Errorf("ACK has CSeq %s", ack.get("CSeq"))
	}
	b.is("bench.results.hold + agent.call.held + agent.call.remoteHeld", "donetruefalse")

	b.js(`keep("unhold", agent.call.hold(false))`)
	b.receive(reply(b.next("INVITE sip:moved@edge"), "488 Not Acceptable", "far", ""))
	b.next("ACK")
	b.is("bench.results.unhold + agent.call.held + media().direction", "488 Not Acceptabletruesendonly") // as it was

	b.js(`keep("unhold", agent.call.hold(false))`)
	b.receive(reply(b.next("INVITE"), "481 No Such Call", "far", ""))
	b.next("ACK")
	b.next("BYE")
	b.is("bench.ended.join()", "481 No Such Call")
}

// A call outlives its connection: it goes on over the next, by another path.
func TestReconnect(t *testing.T) {
	b, _ := inCall(t)
	b.js("socket().onclose()")
	b.is("agent.call.state", "active")
	b.js(`keep("hold", agent.call.hold(true))`) // meanwhile
	b.silent()
	b.wait(2e3)
	b.open()
	m := b.next("REGISTER")
	b.silent() // nothing of the call before we are known again
	b.receive(reply(m, "200 OK", "r", ""))
	for range 2 { // the hold, then the restart
		inv := b.next("INVITE")
		b.receive(reply(inv, "200 OK", "far", "theirs\r\n", edge))
		b.next("ACK")
	}
	b.is("bench.results.hold + media().log.filter((l) => l.startsWith('offer')).join()", "doneoffer,offer,offer anew")

	b.js("socket().onclose()")
	b.js("agent.call.hangup()") // a BYE that can't be sent now is owed
	b.wait(2e3)
	b.open()
	b.receive(reply(b.next("REGISTER"), "200 OK", "r", ""))
	b.next("BYE")
}

// The path of the media is made anew when it breaks, and not when it comes back
// by itself.
func TestMediaBroken(t *testing.T) {
	b, _ := inCall(t)
	b.js("media().broken = true; media().on.broken('disconnected')")
	b.wait(1e3)
	b.js("media().broken = false")
	b.wait(60e3 - 40e3)
	b.silent()
	b.js("media().broken = true; media().on.broken('failed'); media().on.broken('failed')")
	b.wait(0)
	inv := b.next("INVITE")
	b.silent()
	b.receive(reply(inv, "200 OK", "far", "theirs\r\n", edge))
	b.next("ACK")
	b.is("media().log.filter((l) => l === 'offer anew').length", "1")
}

// Who registers anew, or is refused later, has no call any more.
func TestRegistrationEndsCalls(t *testing.T) {
	b, _ := inCall(t)
	b.js("agent.call.hold(true).catch(() => {})")
	b.next("INVITE")
	b.register()
	b.next("BYE")
	b.next("REGISTER")
	b.is("String(agent.call) + bench.sockets.length + bench.sockets[0].closed + media().closed", "null2truetrue")

	b, _ = inCall(t)
	b.js("socket().onclose()")
	b.wait(2e3)
	b.open()
	b.receive(reply(b.next("REGISTER"), "403 Forbidden", "r", ""))
	b.is("String(agent.call) + agent.registration + bench.ended", "nullfailedthe registration ended")
	b.wait(60e3)
	b.silent()
	b.is("agent.layer.clients.size + agent.waiting.length", "0")
}
