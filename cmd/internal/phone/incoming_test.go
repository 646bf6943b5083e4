package phone

import (
	"fmt"
	"strings"
	"testing"
)

// incoming is an INVITE for us.
func incoming(id, body string, more ...string) string {
	return finish(append([]string{
		"INVITE sip:101@x.invalid SIP/2.0", "Via: SIP/2.0/WSS edge;branch=z9hG4bK" + id, `From: "Anna" <sip:200@pbx.example.com>;tag=far`, "To: <sip:101@pbx.example.com>",
		"Call-ID: " + id, "CSeq: 5 INVITE", "Contact: <sip:200@edge>", "Record-Route: <sip:p1;lr>, <sip:p2;lr>",
	}, more...), body)
}

// from is a later request of that caller.
func from(id, method string, sequence int, tag, body string, more ...string) string {
	if tag != "" {
		tag = ";tag=" + tag
	}
	branch := fmt.Sprint(id, method, sequence)
	if method == "CANCEL" || (method == "ACK" && len(more) > 0 && more[0] == "refused") {
		branch, more = id, nil
	}
	return finish(append([]string{
		method + " sip:101@x.invalid SIP/2.0", "Via: SIP/2.0/WSS edge;branch=z9hG4bK" + branch, `From: "Anna" <sip:200@pbx.example.com>;tag=far`,
		"To: <sip:101@pbx.example.com>" + tag, "Call-ID: " + id, fmt.Sprintf("CSeq: %d %s", sequence, method),
	}, more...), body)
}

func TestAnswer(t *testing.T) {
	b := registered(t)
	b.receive(incoming("c1", "their offer\r\na=sendrecv\r\n"))
	ringing := b.next("SIP/2.0 180")
	b.is("agent.call.state + agent.call.peer", "incomingAnna")
	b.receive(incoming("c1", "their offer\r\n")) // the same again
	if again := b.next("SIP/2.0 180"); again.get("To") != ringing.get("To") {
		t.Errorf("its To is %s and was %s", again.get("To"), ringing.get("To"))
	}
	b.receive(incoming("c2", "their offer\r\n"))
	b.next("SIP/2.0 486")
	b.js(`keep("answer", agent.call.take())`)
	ok := b.next("SIP/2.0 200")
	if ok.body != "our answer\r\n" || ok.get("To") != ringing.get("To") || ok.get("Contact") != b.js("agent.contact").String() || strings.Join(ok.all("Record-Route"), "") != "<sip:p1;lr>, <sip:p2;lr>" {
		t.Errorf("it answers %q %q", ok.fields, ok.body)
	}
	for range 2 { // until the ACK (RFC 3261 section 13.3.1.4)
		b.wait(1000)
		b.next("SIP/2.0 200")
	}
	b.receive(from("c1", "ACK", 5, ok.tag("To"), ""))
	b.wait(20e3)
	b.silent()
	b.is("bench.results.answer + agent.call.state", "doneactive")
	b.js("agent.call.hangup()")
	bye := b.next("BYE sip:200@edge SIP/2.0")
	if strings.Join(bye.all("Route"), " ") != "<sip:p1;lr> <sip:p2;lr>" || bye.tag("To") != "far" || bye.get("From") != ok.get("To") || bye.get("CSeq") != "1 BYE" {
		t.Errorf("BYE has %q", bye.fields)
	}
}

// An answer that nobody acknowledges is no call.
func TestNoACK(t *testing.T) {
	b := registered(t)
	b.receive(incoming("c1", "their offer\r\n"))
	b.js(`keep("answer", agent.call.take())`)
	b.wait(32e3)
	if got := b.js("bench.sent[bench.sent.length - 1]").String(); !strings.HasPrefix(got, "BYE") {
		t.Errorf("its last word is %.80q", got)
	}
	b.is("bench.ended.join()", "our answer was not acknowledged")
}

func TestGivenUp(t *testing.T) {
	b := registered(t)
	b.receive(incoming("c1", "their offer\r\n"))
	b.next("SIP/2.0 180")
	b.receive(from("c9", "CANCEL", 5, "", ""))
	b.next("SIP/2.0 481")
	b.receive(from("c1", "CANCEL", 5, "", ""))
	if ok := b.next("SIP/2.0 200"); ok.get("CSeq") != "5 CANCEL" {
		t.Errorf("CANCEL is answered with CSeq %s", ok.get("CSeq"))
	}
	if m := b.next("SIP/2.0 487"); m.get("CSeq") != "5 INVITE" {
		t.Errorf("the INVITE is answered with CSeq %s", m.get("CSeq"))
	}
	b.receive(from("c1", "ACK", 5, "x", "", "refused"))
	b.is("String(agent.call) + bench.ended", "nullthe caller gave up")
	b.receive(incoming("c2", "their offer\r\n"))
	b.next("SIP/2.0 180")
	b.js("agent.call.hangup()")
	b.next("SIP/2.0 486")
	b.receive(incoming("c3", "their offer\r\n"))
	b.next("SIP/2.0 180")
	b.js("socket().onclose()")
	b.is("String(agent.call) + bench.ended[2]", "nullthe connection was lost")
}

// An INVITE without a description gets our offer, and its ACK brings the answer.
func TestDelayedOffer(t *testing.T) {
	for _, body := range []string{"their answer\r\na=sendonly\r\n", ""} {
		b := registered(t)
		b.receive(incoming("c1", ""))
		b.next("SIP/2.0 180")
		b.js(`keep("answer", agent.call.take())`)
		ok := b.next("SIP/2.0 200")
		if ok.body != "our offer 1 sendrecv\r\n" {
			t.Fatalf("it answers with %q", ok.body)
		}
		b.receive(from("c1", "ACK", 5, ok.tag("To"), body))
		if body == "" {
			b.next("BYE")
			continue
		}
		b.silent()
		b.is("media().log.join() + agent.call.remoteHeld", "mute false,offer,accept their answer\r\na=sendonlytrue")
	}
}

func TestCannotAnswer(t *testing.T) {
	b := registered(t)
	b.receive(incoming("c1", "their offer\r\n"))
	b.next("SIP/2.0 180")
	b.js(`bench.refuses = "answer"; keep("answer", agent.call.take())`)
	b.next("SIP/2.0 488")
	b.is("bench.results.answer + media().closed", "not to my tastetrue")
	b.receive(incoming("c2", "their offer\r\n"))
	b.next("SIP/2.0 180")
	b.js(`bench.noMicrophone = "no microphone"; keep("answer", agent.call.take())`)
	b.next("SIP/2.0 480")
	b.receive(finish(strings.Split(strings.TrimSuffix(incoming("c3", "", "Content-Type: text/plain"), "\r\n\r\n"), "\r\n"), "") + "hello")
	b.next("SIP/2.0 415")
}

func TestReliableRinging(t *testing.T) {
	b := registered(t)
	b.receive(incoming("c1", "their offer\r\n", "Require: 100rel"))
	ringing := b.next("SIP/2.0 180")
	if ringing.get("Require") != "100rel" || ringing.get("RSeq") == "" {
		t.Fatalf("it rings with %q", ringing.fields)
	}
	b.wait(500)
	b.next("SIP/2.0 180")
	b.receive(from("c1", "PRACK", 6, ringing.tag("To"), "", "RAck: 1 5 INVITE"))
	b.next("SIP/2.0 481")
	b.receive(from("c1", "PRACK", 7, ringing.tag("To"), "", "RAck: "+ringing.get("RSeq")+" 5 INVITE"))
	b.next("SIP/2.0 200")
	b.wait(20e3)
	b.silent()
}

func TestReInvite(t *testing.T) {
	b, inv := inCall(t)
	b.receive(inside(inv, "INVITE", 3, "hold\r\na=sendonly\r\n", "Contact: <sip:moved@edge>"))
	ok := b.next("SIP/2.0 200")
	b.is("ok = agent.call.remoteHeld + agent.call.dialog.target", "truesip:moved@edge")
	b.receive(inside(inv, "INVITE", 4, "more\r\n")) // before the ACK
	if busy := b.next("SIP/2.0 500"); busy.get("Retry-After") == "" || ok.body != "our answer\r\n" {
		t.Errorf("it answers %q", busy.fields)
	}
	b.receive(inside(inv, "ACK", 4, "", "x: y"))
	b.receive(inside(inv, "ACK", 3, ""))
	b.js("bench.refuses = 'answer'")
	b.receive(inside(inv, "INVITE", 5, "bad\r\n"))
	if m := b.next("SIP/2.0 488"); !strings.Contains(m.get("Warning"), "not to my taste") {
		t.Errorf("it refuses with %q", m.fields)
	}
	b.is("media().log[media().log.length - 1] + agent.call.state", "rollbackactive")
	b.js("bench.refuses = ''")
	b.receive(inside(inv, "INVITE", 6, "")) // it asks for our offer
	if m := b.next("SIP/2.0 200"); !strings.HasPrefix(m.body, "our offer") {
		t.Errorf("it answers with %q", m.body)
	}
	b.receive(inside(inv, "ACK", 6, "theirs\r\na=sendrecv\r\n"))
	b.is("agent.call.remoteHeld", "false")
	b.receive(inside(inv, "UPDATE", 7, "hold\r\na=inactive\r\n", edge))
	if m := b.next("SIP/2.0 200"); m.body != "our answer\r\n" {
		t.Errorf("it answers with %q", m.body)
	}
	b.is("agent.call.remoteHeld", "true")
	b.wait(20e3)
	b.silent()
}

func TestRequests(t *testing.T) {
	b, inv := inCall(t)
	for _, c := range []struct{ name, text, answer, header string }{
		{"OPTIONS", inside(inv, "OPTIONS", 10, ""), "200", "Allow"},
		{"INFO", inside(inv, "INFO", 11, ""), "200", ""},
		{"UPDATE without a description", inside(inv, "UPDATE", 12, ""), "200", "Contact"},
		{"NOTIFY of nothing", inside(inv, "NOTIFY", 13, "", "Event: refer"), "481", ""},
		{"REFER", inside(inv, "REFER", 14, "", "Refer-To: <sip:x@y>"), "405", "Allow"},
		{"PRACK of nothing", inside(inv, "PRACK", 15, "", "RAck: 1 1 INVITE"), "481", ""},
		{"out of order", inside(inv, "INFO", 9, ""), "500", ""},
		{"another tag", strings.Replace(inside(inv, "INFO", 16, ""), "tag=far", "tag=near", 1), "481", ""},
		{"another call", strings.Replace(inside(inv, "BYE", 17, ""), "Call-ID: ", "Call-ID: x", 1), "481", ""},
		{"an extension", inside(inv, "INFO", 18, "", "Require: timer, 100rel, foo"), "420", "Unsupported"},
		{"BYE of no call", from("z", "BYE", 1, "", ""), "481", ""},
		{"waiting messages", from("z", "NOTIFY", 1, "", "", "Event: message-summary"), "200", ""},
		{"another event", from("z", "NOTIFY", 2, "", "", "Event: presence"), "481", ""},
		{"OPTIONS while busy", from("z", "OPTIONS", 3, "", ""), "486", "Allow"},
		{"MESSAGE", from("z", "MESSAGE", 4, "", ""), "405", "Allow"},
		{"a second call", incoming("c2", "theirs\r\n"), "486", ""},
	} {
		b.receive(c.text)
		m := b.next("SIP/2.0 " + c.answer)
		if c.header != "" && m.get(c.header) == "" || m.tag("To") == "" {
			t.Errorf("%s: answered %s %q", c.name, m.start, m.fields)
		}
		if c.header == "Unsupported" && m.get(c.header) != "timer, foo" {
			t.Errorf("%s: Unsupported is %s", c.name, m.get(c.header))
		}
	}
	for _, text := range []string{"hello", "SIP/2.0 200 OK\r\n\r\n", inside(inv, "ACK", 99, ""), reply(inv, "200 OK", "far", "")[:40]} {
		b.receive(text)
	}
	b.silent()
	b.is("agent.call.state", "active")
}
