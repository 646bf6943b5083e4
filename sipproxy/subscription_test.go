package sipproxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

const to1002 = "<sip:1002@pbx.example.com>"

// watch subscribes the phone to 1002; it returns the SUBSCRIBE at the PBX and
// the answer at the phone.
func (b *bench) watch(p *phone, callID string, expires int) (atPBX, atPhone *message) {
	b.t.Helper()
	p.send(p.request("SUBSCRIBE", "sip:1002@pbx.example.com", to1002, callID, 1, "", "Contact: <sip:panel@192.168.1.9:5061;transport=tls>",
		"Event: dialog", fmt.Sprint("Expires: ", expires)))
	sub := b.atPBX("SUBSCRIBE")
	b.fromPBX(reply(sub, 200, "pbx", "", "Contact: <sip:watch-7@127.0.0.1:5060>", fmt.Sprint("Expires: ", expires), "Record-Route: <sip:127.0.0.1:5080;lr>"))
	return sub, p.next("200")
}

// inside composes a request of the PBX inside the dialog that a request of the
// phone made.
func (b *bench) inside(made *message, method, tag string, cseq int, body string, more ...string) string {
	lines := append([]string{method + " " + strings.Trim(made.h.Get("Contact"), "<>") + " SIP/2.0",
		"Via: SIP/2.0/UDP " + b.pbx.LocalAddr().String() + ";branch=z9hG4bK" + randomToken(6), "Max-Forwards: 70",
		"From: " + made.h.Get("To") + ";tag=" + tag, "To: " + made.h.Get("From"), "Call-ID: " + made.h.Get("Call-Id"),
		fmt.Sprintf("CSeq: %d %s", cseq, method), "Contact: <sip:watch-8@127.0.0.1:5060>"}, more...)
	return text(body, lines...)
}

func typed(s, kind string) string { return strings.Replace(s, "application/sdp", kind, 1) }

const dialogInfo = `<?xml version="1.0"?>
<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="1" state="full" entity="sip:1002@127.0.0.1">
<dialog id="1002" direction="recipient">
<remote><identity display="sip: no address">sip:1003@127.0.0.1:5060;transport=udp</identity><target uri="sip:1003@127.0.0.1:5060"/></remote>
<local><target uri="sip:TOKEN@PLAIN"/><param pname="x" pval="sip:far@example.net:5060;x=1?a=b"/></local>
<state>early</state>
</dialog></dialog-info>
`

// A subscription is a dialog: each end speaks to the other's Contact, by our
// own, and what its NOTIFYs tell names nothing of the inside.
func TestSubscription(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	sub, ok := b.watch(p, "s1", 600)
	if want := fmt.Sprintf("<sip:%s@%s>", token, b.plain); sub.h.Get("Contact") != want {
		t.Errorf("the PBX got Contact %s, want %s", sub.h.Get("Contact"), want)
	}
	if c := ok.h.Get("Contact"); c != "<sip:1002@pbx.example.com:5061;transport=tls>" || ok.h.Get("Record-Route") != "" {
		t.Errorf("the phone got Contact %s, Record-Route %q", c, ok.h.Get("Record-Route"))
	}
	told := strings.NewReplacer("TOKEN", token, "PLAIN", b.plain.String()).Replace(dialogInfo)
	b.fromPBX(typed(b.inside(sub, "NOTIFY", "pbx", 102, told, "Event: dialog", "Subscription-State: active;expires=590"), "application/dialog-info+xml"))
	notify := p.next("NOTIFY")
	if notify.uri() != "sip:panel@192.168.1.9:5061;transport=tls" {
		t.Errorf("NOTIFY went to %s, want the Contact of the SUBSCRIBE", notify.uri())
	}
	if notify.h.Get("From") != to1002+";tag=pbx" || !strings.HasSuffix(notify.h.Get("To"), ";tag=anna") || notify.h.Get("Subscription-State") != "active;expires=590" {
		t.Errorf("NOTIFY is %v", notify.h)
	}
	want := strings.NewReplacer("sip:1002@127.0.0.1", "sip:1002@pbx.example.com", "sip:1003@127.0.0.1:5060;transport=udp", "sip:1003@pbx.example.com",
		"sip:1003@127.0.0.1:5060", "sip:1003@pbx.example.com", "TOKEN@PLAIN", "1001@pbx.example.com").Replace(dialogInfo)
	if notify.body != want {
		t.Errorf("the phone is told\n%s\nwant\n%s", notify.body, want)
	}
	p.send(reply(notify, 200, "", ""))
	b.atPBX("200")

	p.send(p.request("SUBSCRIBE", "sip:1002@pbx.example.com:5061;transport=tls", to1002+";tag=pbx", "s1", 2, "", contact, "Event: dialog", "Expires: 0"))
	again := b.atPBX("SUBSCRIBE")
	if again.uri() != "sip:watch-8@127.0.0.1:5060" || again.h.Get("Route") != "<sip:127.0.0.1:5080;lr>" || again.h.Get("Contact") != sub.h.Get("Contact") {
		t.Errorf("the refresh went to %s by %q with Contact %s", again.uri(), again.h.Get("Route"), again.h.Get("Contact"))
	}
	b.fromPBX(reply(again, 200, "", "", "Contact: <sip:watch-8@127.0.0.1:5060>", "Expires: 0"))
	p.next("200")
	b.fromPBX(b.inside(sub, "NOTIFY", "pbx", 103, "", "Event: dialog", "Subscription-State: terminated;reason=timeout"))
	last := p.next("NOTIFY")
	if last.uri() != "sip:1001@192.168.1.9:5061;transport=tls" {
		t.Errorf("the last NOTIFY went to %s, want the Contact of the refresh", last.uri())
	}
	p.send(reply(last, 200, "", ""))
	b.atPBX("200")
	b.watched(1) // the one that waits for further notifiers
	p.send(p.request("SUBSCRIBE", "sip:1002@pbx.example.com:5061;transport=tls", to1002+";tag=pbx", "s1", 3, "", contact, "Event: dialog"))
	p.next("481")
}

// watched waits until so many subscriptions are known.
func (b *bench) watched(want int) {
	b.t.Helper()
	until(b.t, fmt.Sprintf("%d subscriptions to be known", want), func() bool { return b.proxy.watches.len() == want })
}

// Nobody but the subscription's own connection can speak inside of it, until
// the phone has registered by another.
func TestStrangerInSubscription(t *testing.T) {
	b := newBench(t)
	p, stranger := b.phone(), b.phone()
	b.register(p)
	sub, _ := b.watch(p, "s1", 600)
	for i, method := range []string{"SUBSCRIBE", "NOTIFY", "MESSAGE"} {
		stranger.send(stranger.request(method, "sip:1002@pbx.example.com", to1002+";tag=pbx", "s1", 9+i, "", contact, "Expires: 0", "Event: dialog"))
		if m := stranger.next("481"); !strings.Contains(m.h.Get("Warning"), "no such subscription") {
			t.Errorf("%s was refused with Warning %q", method, m.h.Get("Warning"))
		}
	}
	b.leaves(p)
	again := b.phone()
	b.register(again)
	b.fromPBX(b.inside(sub, "NOTIFY", "pbx", 102, "", "Event: dialog", "Subscription-State: active"))
	again.send(reply(again.next("NOTIFY"), 200, "", ""))
	b.atPBX("200")
	again.send(again.request("SUBSCRIBE", "sip:1002@pbx.example.com", to1002+";tag=pbx", "s1", 2, "", contact, "Expires: 600", "Event: dialog"))
	if m := b.atPBX("SUBSCRIBE"); m.uri() != "sip:watch-8@127.0.0.1:5060" {
		t.Errorf("the refresh went to %s", m.uri())
	}
}

// The first NOTIFY may overtake the answer, and several may answer.
func TestNotifyBeforeAnswer(t *testing.T) {
	b := newBench(t)
	p := b.phone() // not registered
	p.send(p.request("SUBSCRIBE", "sip:1002@pbx.example.com", to1002, "s1", 1, "", contact, "Event: presence", "Expires: 600"))
	sub := b.atPBX("SUBSCRIBE")
	for i, tag := range []string{"one", "two"} {
		b.fromPBX(b.inside(sub, "NOTIFY", tag, 102+i, "", "Event: presence", "Subscription-State: active", "Record-Route: <sip:127.0.0.1:5080;lr>", "Record-Route: <sip:127.0.0.1:5090;lr>"))
		p.send(reply(p.next("NOTIFY"), 200, "", ""))
		b.atPBX("200")
	}
	b.fromPBX(reply(sub, 200, "one", "", "Contact: <sip:1002@127.0.0.1:5060>", "Expires: 600"))
	p.next("200")
	b.watched(3)
	for _, tag := range []string{"one", "two"} {
		p.send(p.request("SUBSCRIBE", "sip:1002@pbx.example.com", to1002+";tag="+tag, "s1", 2, "", contact, "Event: presence", "Expires: 600"))
		m := b.atPBX("SUBSCRIBE")
		if r := fmt.Sprint(m.h.Values("Route")); m.uri() != "sip:watch-8@127.0.0.1:5060" || r != "[<sip:127.0.0.1:5080;lr> <sip:127.0.0.1:5090;lr>]" {
			t.Errorf("the refresh went to %s by %s", m.uri(), r)
		}
	}
}

// What is refused leaves nothing behind.
func TestSubscriptionRefused(t *testing.T) {
	b := newBench(t)
	b.proxy.mask.off = true
	p := b.phone()
	for _, status := range []int{401, 403, 489} {
		p.send(p.request("SUBSCRIBE", "sip:1002@pbx.example.com", to1002, fmt.Sprint("s", status), 1, "", contact, "Event: dialog"))
		b.fromPBX(reply(b.atPBX("SUBSCRIBE"), status, "pbx", ""))
		p.next(fmt.Sprint(status))
		b.watched(0)
	}
	p.send(p.request("SUBSCRIBE", "sip:1002@pbx.example.com", to1002, "s0", 1, "", "Event: dialog"))
	p.next("400") // no Contact
	b.watched(0)
}

// The PBX asks a phone to call, and is told how that goes.
func TestReferOutsideCalls(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	refer := strings.ReplaceAll(b.inviteTo(token, "r1", ""), "INVITE", "REFER")
	b.fromPBX(strings.Replace(refer, "Max-Forwards", "Refer-To: <sip:1003@127.0.0.1>\r\nMax-Forwards", 1))
	m := p.next("REFER")
	if m.h.Get("Refer-To") != "<sip:1003@pbx.example.com>" {
		t.Errorf("Refer-To is %s", m.h.Get("Refer-To"))
	}
	p.send(reply(m, 202, "anna", "", contact))
	if c := b.atPBX("202").h.Get("Contact"); c != fmt.Sprintf("<sip:%s@%s>", token, b.plain) {
		t.Errorf("the PBX got Contact %s", c)
	}
	frag := "SIP/2.0 200 OK\r\nContact: <sip:1003@192.168.1.9>\r\n"
	p.send(typed(text(frag, "NOTIFY "+strings.Trim(m.h.Get("Contact"), "<>")+" SIP/2.0", p.via(), "Max-Forwards: 70", "From: "+m.h.Get("To")+";tag=anna",
		"To: "+m.h.Get("From"), "Call-ID: r1", "CSeq: 1 NOTIFY", contact, "Event: refer", "Subscription-State: terminated;reason=noresource"), "message/sipfrag;version=2.0"))
	notify := b.atPBX("NOTIFY")
	if notify.uri() != "sip:1002@127.0.0.1:5060" || notify.body != "SIP/2.0 200 OK\r\n" {
		t.Errorf("%s:\n%s", notify.start, notify.body)
	}
}

// How many one connection can make us remember is bounded, and nothing stays
// of a phone that is gone.
func TestSubscriptionsBounded(t *testing.T) {
	table, one, another := newSubscriptions(), new(flow.Flow), new(flow.Flow)
	now := time.Now()
	for i := range maxSubscriptions {
		if !table.put(&subscription{id: dialogID{callID: fmt.Sprint(i)}, owner: one, expires: now.Add(time.Duration(i%2) * time.Hour)}) {
			t.Fatalf("subscription %d has no room", i)
		}
	}
	if table.put(&subscription{id: dialogID{callID: "more"}, owner: one}) {
		t.Fatal("there is no bound")
	}
	if !table.put(&subscription{id: dialogID{callID: "more"}, owner: another, expires: now.Add(time.Hour)}) {
		t.Fatal("one connection takes another's room")
	}
	table.expire(now.Add(time.Minute), func(s *subscription) bool { return s.owner == another })
	if table.len() != maxSubscriptions/2 {
		t.Fatalf("%d subscriptions are left", table.len())
	}
	table.expire(now.Add(2*time.Hour), func(*subscription) bool { return false })
	if len(table.byDialog)+len(table.byOwner) != 0 {
		t.Fatal("something is left")
	}
}

// Other bodies of events, and what is no event.
func TestBodies(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct{ name, kind, body, want string }{
		{"mwi", "application/simple-message-summary", "Messages-Waiting: yes\r\nMessage-Account: sip:asterisk@127.0.0.1:5060\r\nVoice-Message: 1/0 (0/0)\r\n",
			"Messages-Waiting: yes\r\nMessage-Account: sip:asterisk@pbx.example.com\r\nVoice-Message: 1/0 (0/0)\r\n"},
		{"pidf", "Application/PIDF+xml; charset=utf-8", `<presence entity="pres:x"><contact>SIPS:127.0.0.1</contact></presence>`,
			`<presence entity="pres:x"><contact>SIPS:pbx.example.com</contact></presence>`},
		{"sipfrag", "message/sipfrag", "SIP/2.0 486 Busy\nVia: SIP/2.0/UDP 127.0.0.1\n", "SIP/2.0 486 Busy\r\n"},
		{"sipfrag that says where", "message/sipfrag", "SIP/2.0 503 No route to 127.0.0.1:5060\r\n", "SIP/2.0 503 No route to pbx.example.com\r\n"},
		{"words", "text/plain", "my PBX is sip:127.0.0.1, isn't it?", "my PBX is sip:127.0.0.1, isn't it?"},
	} {
		if got := b.proxy.carried(body{kind: c.kind, bytes: []byte(c.body)}, flow.Secure); string(got.bytes) != c.want {
			t.Errorf("%s became %q, want %q", c.name, got.bytes, c.want)
		}
	}
	if r := bodyRefused(body{kind: "application/pidf+xml", bytes: []byte{1}, encoded: true}); r == nil || r.status != 415 {
		t.Errorf("compressed state: %v", r)
	}
}
