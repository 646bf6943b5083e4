package sipproxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// optionsFor is what a PBX asks by whether a contact is there.
func (b *bench) optionsFor(contact, branch string) string {
	return text("", "OPTIONS sip:"+contact+" SIP/2.0", "Via: SIP/2.0/UDP "+b.pbx.LocalAddr().String()+";branch=z9hG4bK"+branch, "Max-Forwards: 70",
		`From: "asterisk" <sip:asterisk@127.0.0.1>;tag=as1`, "To: <sip:"+contact+">", "Contact: <sip:asterisk@127.0.0.1>", "Call-ID: "+branch, "CSeq: 102 OPTIONS")
}

// dropped waits until so many OPTIONS were left without an answer.
func (b *bench) dropped(n uint64) {
	b.t.Helper()
	until(b.t, fmt.Sprintf("%d OPTIONS to be dropped", n), func() bool { return b.proxy.Stats().OptionsDropped >= n })
}

// To a PBX any answer says that the phone is there: so only a phone that is, is
// answered for.
func TestQualify(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	contact := fmt.Sprintf("%s@%s", b.register(p), b.plain)
	b.fromPBX(b.optionsFor(contact, "alive"))
	p.send(reply(p.next("OPTIONS"), 200, "anna", ""))
	b.atPBX("200")

	b.fromPBX(b.optionsFor(contact, "dies")) // and while it is asked
	p.next("OPTIONS")
	p.conn.Close()
	b.dropped(1)
	b.fromPBX(b.optionsFor(contact, "dead"))
	b.fromPBX(b.optionsFor(contact, "dead"))
	b.dropped(3)
	b.fromPBX(b.optionsFor("nobody@"+b.plain.String(), "nobody"))
	b.dropped(4)
	b.fromPBX(b.inviteTo(strings.Split(contact, "@")[0], "call", plainSDP))
	b.fromPBX(b.optionsFor(b.plain.String(), "us"))
	first := b.atPBX("480") // the control: calls are refused at once, and nothing was answered before
	if first.method() != "INVITE" {
		t.Errorf("the PBX got 480 to %s", first.method())
	}
	if us := b.atPBX("200"); us.h.Get("Call-Id") != "us" || !strings.Contains(us.h.Get("Allow"), "INVITE, ACK") {
		t.Errorf("for ourselves we said %v", us.h)
	}
	if back := b.phone(); b.register(back) != strings.Split(contact, "@")[0] {
		t.Error("the phone came back by another contact")
	} else {
		b.fromPBX(b.optionsFor(contact, "back"))
		back.next("OPTIONS")
	}
}

// A PBX asks for a phone as soon as it has accepted it, which is before it says so.
func TestQualifyBeforeTheAnswer(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	for cseq, status := range []int{200, 403} {
		p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", fmt.Sprint("reg", cseq), 1, "", strings.Replace(contact, "1001", fmt.Sprint("device", cseq), 1)))
		reg := b.atPBX("REGISTER")
		own := strings.Split(reg.h.Get("Contact"), ";")[0]
		b.fromPBX(b.optionsFor(tokenIn(reg)+"@"+b.plain.String(), fmt.Sprint("early", status)))
		b.fromPBX(reply(reg, status, "r", "", "Contact: "+own+";expires=600"))
		p.next(fmt.Sprint(status))
		if status == 200 {
			p.next("OPTIONS")
		}
	}
	b.dropped(1)
	if n := b.proxy.Stats().OptionsDropped; n != 1 {
		t.Errorf("%d OPTIONS were dropped", n)
	}
}

// With Config.AnswerQualify the phone is not asked, as long as it is there.
func TestQualifyAnswered(t *testing.T) {
	b := newBench(t)
	b.proxy.cfg.AnswerQualify = true
	p := b.phone()
	p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg", 1, "", contact, "Allow: INVITE, ACK, BYE", "Allow: CANCEL"))
	reg := b.atPBX("REGISTER")
	b.fromPBX(reply(reg, 200, "r", "", "Contact: "+reg.h.Get("Contact")+";expires=600"))
	p.next("200")
	at := tokenIn(reg) + "@" + b.plain.String()
	b.fromPBX(b.optionsFor(at, "one"))
	if m := b.atPBX("200"); m.h.Get("Allow") != "INVITE, ACK, BYE, CANCEL" || m.h.Get("Accept") != "application/sdp" {
		t.Errorf("the answer has Allow %q and Accept %q", m.h.Get("Allow"), m.h.Get("Accept"))
	}
	b.fromPBX(b.inviteTo(tokenIn(reg), "call", plainSDP))
	if m := p.next("INVITE"); m.method() != "INVITE" {
		t.Fatalf("the phone got %s", m.start)
	}
	p.conn.Close()
	b.atPBX("480") // the call's
	b.fromPBX(b.optionsFor(at, "two"))
	b.dropped(1)
}

// No 408 to what is no INVITE (RFC 4320 section 4.2): the PBX has given up.
func TestNoLateTimeout(t *testing.T) {
	b := newBench(t)
	quick := transaction.DefaultTimers()
	quick.T1, quick.T4 = 20*time.Millisecond, time.Millisecond // timer F is 64 times T1
	b.proxy.tx = transaction.NewLayer(quick, transaction.DefaultLimits())
	p := b.phone()
	token := b.register(p)
	b.fromPBX(strings.Replace(strings.ReplaceAll(b.optionsFor(token+"@"+b.plain.String(), "late"), "OPTIONS", "MESSAGE"), "Contact: <sip:asterisk@127.0.0.1>\r\n", "", 1))
	p.next("MESSAGE")
	until(t, "the end of the MESSAGE", func() bool { return b.proxy.Stats().Transactions == 0 })
	b.fromPBX(b.inviteTo(token, "call", plainSDP))
	if m := b.atPBX("408"); m.method() != "INVITE" { // the control, and nothing before it
		t.Errorf("the PBX got 408 to %s", m.method())
	}
}
