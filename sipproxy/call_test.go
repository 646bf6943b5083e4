package sipproxy

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/media"
)

// A call that rings when the edge shuts down is given up on both sides.
func TestDrainWhileRinging(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "out", 1, secureSDP, contact))
	out := b.atPBX("INVITE")
	b.fromPBX(reply(out, 180, "pbx", "", "Contact: <sip:602@127.0.0.1:5060>"))
	p.next("180")
	b.fromPBX(b.inviteTo(token, "in", plainSDP))
	in := p.next("INVITE")
	p.send(reply(in, 180, "anna", "", contact))
	b.atPBX("180")
	over, stop := context.WithCancel(t.Context())
	stop()
	b.proxy.Drain(over)
	// The two calls end in any order.
	got := map[string]bool{}
	for range 2 {
		_ = p.conn.SetReadDeadline(soon())
		m, err := readText(p.r)
		if err != nil {
			t.Fatal(err)
		}
		got[fmt.Sprint(m.method(), " ", m.status(), " ", m.h.Get("Call-Id"))] = true
	}
	if !got["INVITE 503 out"] || !got["CANCEL 0 in"] {
		t.Errorf("the phone got %v", got)
	}
	for len(got) < 4 {
		m, err := b.heard(soon())
		if err != nil {
			t.Fatalf("the PBX and the phone got %v, then %v", got, err)
		}
		if m.status() == 503 || m.method() == "CANCEL" {
			got[fmt.Sprint(m.method(), " ", m.status(), " ", m.h.Get("Call-Id"))] = true
		}
	}
	if !got["INVITE 503 in"] || !got["CANCEL 0 out"] {
		t.Errorf("the PBX and the phone got %v", got)
	}
	b.noCallLeft()
}

// Before the answer a phone may only listen, to a long announcement perhaps.
func TestSilenceWhileRinging(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP, contact))
	inv := b.atPBX("INVITE")
	b.fromPBX(reply(inv, 183, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	p.next("183")
	c := b.proxy.calls.list()[0]
	b.proxy.mediaEvent(c, media.Event{Kind: media.Silence})
	b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	p.next("200")
	b.proxy.mediaEvent(c, media.Event{Kind: media.Silence})
	p.next("BYE")
	b.atPBX("BYE")
	b.noCallLeft()
}

// What comes after the end of a call opens no media, and every request gets
// its answer.
func TestAfterTheEnd(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, "", contact))
	inv := b.atPBX("INVITE")
	b.fromPBX(reply(inv, 180, "pbx", "", "Contact: <sip:602@127.0.0.1:5060>"))
	p.next("180")
	p.send(p.request("BYE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2, ""))
	b.fromPBX(reply(b.atPBX("BYE"), 200, "", ""))
	p.next("200")
	b.fromPBX(reply(inv, 183, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	b.fromPBX(reply(b.atPBX("BYE"), 200, "", ""))
	if m := p.next("487"); !strings.Contains(m.h.Get("Cseq"), "INVITE") {
		t.Errorf("487 to %s", m.h.Get("Cseq"))
	}
	if n := b.proxy.engine.Stats().Sessions; n != 0 {
		t.Fatalf("%d media sessions are left", n)
	}
}

// inDialog composes a request of the PBX in the call whose INVITE it got.
func (b *bench) inDialog(method string, inv *message, cseq int, body string, more ...string) string {
	lines := append([]string{method + " " + strings.Trim(inv.h.Get("Contact"), "<>") + " SIP/2.0",
		"Via: SIP/2.0/UDP " + b.pbx.LocalAddr().String() + ";branch=z9hG4bK" + randomToken(4), "Max-Forwards: 70",
		"From: " + inv.h.Get("To") + ";tag=pbx", "To: " + inv.h.Get("From"), "Call-ID: " + inv.h.Get("Call-Id"),
		fmt.Sprintf("CSeq: %d %s", cseq, method), "Contact: <sip:602@127.0.0.1:5060>"}, more...)
	return text(body, lines...)
}

// Two re-INVITEs at a time: one side's offer is not taken for the answer to
// the other's.
func TestGlare(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	first := b.callOut(p, "c1")
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2, secureSDP, contact))
	ours := b.atPBX("INVITE")
	for _, method := range []string{"INVITE", "UPDATE"} {
		b.fromPBX(b.inDialog(method, first, 7, plainSDP))
		b.atPBX("491")
	}
	b.fromPBX(reply(ours, 491, "", ""))
	p.next("491")
	b.fromPBX(b.inDialog("INVITE", first, 8, plainSDP))
	if again := p.next("INVITE"); !strings.Contains(again.body, "RTP/SAVP") {
		t.Errorf("after the glare the phone got\n%s", again.body)
	}
}

// A re-INVITE that asks the phone for an offer is the phone's to refuse, and
// does not take with it what the phone has offered itself.
func TestGlareWithoutOffer(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	first := b.callOut(p, "c1")
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2, secureSDP, contact))
	ours := b.atPBX("INVITE")
	b.fromPBX(b.inDialog("INVITE", first, 7, ""))
	p.send(reply(p.next("INVITE"), 491, "", ""))
	b.atPBX("491")
	b.fromPBX(reply(ours, 200, "", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	if ok := p.next("200"); !strings.Contains(ok.body, "RTP/SAVP") {
		t.Errorf("the phone is answered\n%s", ok.body)
	}
}

// A 200 may repeat the description of an earlier provisional response. If the
// media were changed meanwhile, it says nothing any more.
func TestAnswerRepeatedAfterUpdate(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP, contact))
	first := b.atPBX("INVITE")
	b.fromPBX(reply(first, 183, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>", "Require: 100rel", "RSeq: 1"))
	p.next("183")
	b.fromPBX(b.inDialog("UPDATE", first, 7, strings.Replace(plainSDP, "30000", "30010", 1)))
	p.send(reply(p.next("UPDATE"), 200, "", secureSDP, contact))
	b.atPBX("200")
	b.fromPBX(reply(first, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	if ok := p.next("200"); ok.body != "" {
		t.Errorf("the phone is answered\n%s", ok.body)
	}
}

// An offer that was never answered does not stand in the way of the next.
func TestOfferWithoutAnswer(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	first := b.callOut(p, "c1")
	// An UPDATE and an INVITE answered without a description.
	for cseq, method := range []string{"UPDATE", "INVITE"} {
		p.send(p.request(method, "sip:602@pbx.example.com", to602+";tag=pbx", "c1", cseq+2, secureSDP, contact))
		b.fromPBX(reply(b.atPBX(method), 200, "", ""))
		p.next("200")
	}
	p.send(p.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 3, ""))
	b.atPBX("ACK")
	// A re-INVITE without an offer, whose ACK brings no answer.
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 4, "", contact))
	b.fromPBX(reply(b.atPBX("INVITE"), 200, "", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	p.next("200")
	p.send(p.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 4, ""))
	b.atPBX("ACK")
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 5, secureSDP, contact))
	b.fromPBX(reply(b.atPBX("INVITE"), 200, "", "", "Contact: <sip:602@127.0.0.1:5060>"))
	p.next("200")
	b.fromPBX(b.inDialog("INVITE", first, 8, plainSDP))
	if inv := p.next("INVITE"); strings.Count(inv.body, "a=crypto") == 0 {
		t.Errorf("the phone got\n%s", inv.body)
	}
}

// The PBX repeats its 200 until it has an ACK. The phone, on TLS, got both the
// first time: what was lost is the ACK between us and the PBX.
func TestAckLost(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP, contact))
	inv := b.atPBX("INVITE")
	ok := reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>")
	b.fromPBX(ok)
	p.next("200")
	b.fromPBX(ok)
	p.send(p.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 1, ""))
	first := b.atPBX("ACK")
	b.fromPBX(ok)
	if again := b.atPBX("ACK"); again.start != first.start || again.h.Get("To") != first.h.Get("To") || again.h.Get("Cseq") != "1 ACK" {
		t.Errorf("the ACKs are %v and %v", first, again)
	}
	p.send(p.request("BYE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2, ""))
	b.fromPBX(reply(b.atPBX("BYE"), 200, "", ""))
	if m := p.next("200"); m.h.Get("Cseq") != "2 BYE" {
		t.Errorf("the phone got the 200 to %s again", m.h.Get("Cseq"))
	}
}

// A phone on TLS says its 200 once. If that is lost on its way to the PBX, it
// is ours to repeat, until the ACK.
func TestAnswerLost(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	b.fromPBX(b.inviteTo(b.register(p), "in1", plainSDP))
	inv := p.next("INVITE")
	p.send(reply(inv, 200, "anna", strings.Replace(secureSDP, "a=crypto:1", "a=crypto:2", 1), contact))
	first := b.atPBX("200")
	clear(b.said) // as if the PBX had not heard it
	again := b.atPBX("200")
	if first.body == "" || again.body != first.body {
		t.Errorf("the 200s differ:\n%s\n%s", first.body, again.body)
	}
	b.fromPBX(text("", "ACK "+strings.Trim(again.h.Get("Contact"), "<>")+" SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKack",
		"Max-Forwards: 70", "From: "+again.h.Get("From"), "To: "+again.h.Get("To"), "Call-ID: in1", "CSeq: 102 ACK"))
	p.next("ACK")
	b.fromPBX(b.optionsFor(b.plain.String(), "mark"))
	b.atPBX("200") // behind what was under way before the ACK
	clear(b.said)
	if m, err := b.heard(time.Now().Add(1500 * time.Millisecond)); err == nil {
		t.Errorf("after the ACK another %s came", m.start)
	}
}

// A phone that lost its connection may come back to its call for a while; then
// the call is hung up, though it is on hold and no media is missed.
func TestAbandonedCall(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	b.register(p)
	b.callOut(p, "c1")
	now := time.Now()
	b.proxy.sweep(now.Add(time.Hour)) // its phone is there
	p.conn.Close()
	c := b.proxy.calls.list()[0]
	until(t, "the phone to be missed", func() bool {
		b.proxy.sweep(now)
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.gone.IsZero()
	})
	b.proxy.sweep(now.Add(goneAfter - time.Second))
	again := b.phone()
	b.register(again)
	b.proxy.sweep(now.Add(time.Hour)) // it came back
	if n := b.proxy.Stats().Calls; n != 1 {
		t.Fatalf("%d calls", n)
	}
	again.conn.Close()
	late := now.Add(time.Hour)
	until(t, "the call to be hung up", func() bool {
		b.proxy.sweep(late)
		late = late.Add(goneAfter)
		return b.proxy.Stats().Calls == 0
	})
	if bye := b.atPBX("BYE"); !strings.Contains(bye.h.Get("Reason"), "connection is gone") {
		t.Errorf("Reason is %s", bye.h.Get("Reason"))
	}
}

// What is kept to repeat an answer goes when nobody asks for it any longer.
func TestAnswersAreForgotten(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	b.callOut(p, "c1")
	kept := func() (n int) {
		for _, c := range b.proxy.calls.list() {
			c.mu.Lock()
			for _, d := range c.dialogs {
				if d.accepted != nil {
					n++
				}
			}
			c.mu.Unlock()
		}
		return n
	}
	b.proxy.sweep(time.Now().Add(repeatsFor / 2))
	if kept() != 1 {
		t.Fatal("the answer is forgotten while it may be repeated")
	}
	b.proxy.sweep(time.Now().Add(repeatsFor + time.Second))
	if kept() != 0 {
		t.Fatal("the answer is kept for ever")
	}
}

// A proxy behind us lets two answer. The caller has the first; the second is
// hung up, as often as it says so, and the call goes on.
func TestTwoAnswers(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	b.register(p)
	p.send(p.request("INVITE", "sip:620@pbx.example.com", "<sip:620@pbx.example.com>", "fork", 1, secureSDP, contact))
	inv := b.atPBX("INVITE")
	const target = "Contact: <sip:620@127.0.0.1:5060>"
	b.fromPBX(reply(inv, 183, "late", plainSDP, target))
	p.next("183")
	b.fromPBX(reply(inv, 200, "first", plainSDP, target))
	ok := p.next("200")
	p.send(p.request("ACK", "sip:620@pbx.example.com", ok.h.Get("To"), "fork", 1, ""))
	b.atPBX("ACK")
	for range 2 {
		b.fromPBX(reply(inv, 200, "late", plainSDP, target))
		for _, method := range []string{"ACK", "BYE"} {
			m := b.atPBX(method)
			if !strings.HasSuffix(m.h.Get("To"), ";tag=late") {
				t.Errorf("%s is for %s", method, m.h.Get("To"))
			}
			if method == "BYE" {
				b.fromPBX(reply(m, 200, "", ""))
			}
		}
	}
	if n := b.proxy.Stats().Calls; n != 1 {
		t.Errorf("%d calls are left", n)
	}
	p.send(p.request("BYE", "sip:620@pbx.example.com", ok.h.Get("To"), "fork", 2, ""))
	bye := b.atPBX("BYE")
	if !strings.HasSuffix(bye.h.Get("To"), ";tag=first") {
		t.Errorf("BYE is for %s", bye.h.Get("To"))
	}
	b.fromPBX(reply(bye, 200, "", ""))
	if m := p.next("200"); m.method() != "BYE" {
		t.Errorf("the phone is told %s of %s", m.start, m.method())
	}
	b.noCallLeft()
}

// A PBX that did not get the ACK of a call that is over still repeats its answer. It is
// not left with the call.
func TestAnswerRepeatedAfterTheEnd(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	inv := b.callOut(p, "c1")
	p.send(p.request("BYE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2, ""))
	b.fromPBX(reply(b.atPBX("BYE"), 200, "", ""))
	p.next("200")
	b.noCallLeft()
	b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	for _, method := range []string{"ACK", "BYE"} {
		m := b.atPBX(method)
		if tag := m.h.Get("To"); !strings.Contains(tag, "tag=pbx") || m.h.Get("Call-Id") != inv.h.Get("Call-Id") || m.h.Get("From") != inv.h.Get("From") {
			t.Errorf("%s is %v", method, m.h)
		}
	}
}

// The same, of a call whose phone is gone without an ACK, and without a goodbye.
func TestAnswerRepeatedToNobody(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP, contact))
	inv := b.atPBX("INVITE")
	b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	p.next("200")
	c := b.proxy.calls.list()[0]
	p.conn.Close()
	<-c.callerAt.flow.Done()
	for range 2 {
		b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
		b.atPBX("ACK")
		b.fromPBX(reply(b.atPBX("BYE"), 200, "", ""))
	}
	b.noCallLeft()
}

// A call that is over is held for some seconds, in case that the PBX repeats its answer.
// There may be thousands of such, and the collector of garbage looks at them all: so
// little of each is held, and nothing of its messages.
func TestEndedCallsAreSmall(t *testing.T) {
	const objects, size = 40, 4 << 10 // a call's
	b := newBench(t)
	go echo(b.pbx) // ends when the socket is closed
	p := &load{phone: b.phone(), user: "1001"}
	held := func() (objects, size int64) { // signed: what tests before this one held may end meanwhile
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what pools have kept
		runtime.ReadMemStats(&m)
		return int64(m.HeapObjects), int64(m.HeapAlloc)
	}
	p.call() // all that is made once
	calls := int64(300)
	o1, s1 := held()
	for ; ; calls /= 2 { // on a busy machine the first may be let go of before the last is over
		for range calls {
			p.call()
		}
		n := int64(b.proxy.tx.Len())
		if n >= calls {
			break
		}
		if calls < 50 { // there is nothing to be measured
			t.Fatalf("%d transactions are held, want %d at least", n, calls)
		}
	}
	o2, s2 := held()
	if o, s := (o2-o1)/calls, (s2-s1)/calls; o > objects || s > size {
		t.Errorf("%d objects and %d bytes are held of a call, want %d and %d at most", o, s, objects, size)
	} else {
		t.Logf("%d objects and %d bytes are held of a call", o, s)
	}
}

// What a CANCEL says that it requires is ignored (RFC 3261 section 8.2.2.3).
func TestCancelRequiresNothing(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	invite := p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP, contact)
	p.send(invite)
	inv := b.atPBX("INVITE")
	b.fromPBX(reply(inv, 180, "pbx", "", pbxContact))
	p.next("180")
	head, _, _ := strings.Cut(invite, "Content-Length")
	head = strings.NewReplacer("INVITE sip", "CANCEL sip", "1 INVITE", "1 CANCEL").Replace(head)
	p.send(head + "Require: foo\r\nProxy-Require: foo\r\nContent-Length: 0\r\n\r\n")
	p.next("200")
	b.fromPBX(reply(b.atPBX("CANCEL"), 200, "", ""))
	b.fromPBX(reply(inv, 487, "pbx", ""))
	p.next("487")
	b.noCallLeft()
}
