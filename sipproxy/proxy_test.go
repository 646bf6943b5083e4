package sipproxy

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

const to602 = "<sip:602@pbx.example.com>"

// callOut sets up a call of the phone; it returns the INVITE at the PBX.
func (b *bench) callOut(p *phone, callID string) *message {
	b.t.Helper()
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, callID, 1, secureSDP, contact))
	inv := b.atPBX("INVITE")
	b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	p.next("200")
	p.send(p.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", callID, 1, ""))
	b.atPBX("ACK")
	return inv
}

// What reaches the PBX is ours: one Via, our Contact, our SDP.
func TestInviteIsWrittenAnew(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	p.send(p.request("INVITE", "sips:602@pbx.example.com;transport=tls", to602, "c1", 1, secureSDP, contact,
		"Route: <sip:pbx.example.com;lr>", "P-Asserted-Identity: <sip:ceo@pbx.example.com>", "Remote-Party-ID: <sip:ceo@x>",
		"User-Agent: test", "Organization: crosses"))
	inv := b.atPBX("INVITE")
	if inv.uri() != "sip:602@pbx.example.com" {
		t.Errorf("Request-URI is %s", inv.uri())
	}
	if vias := inv.h.Values("Via"); len(vias) != 1 || !strings.HasPrefix(vias[0], "SIP/2.0/UDP "+b.plain.String()) {
		t.Errorf("Via is %q", vias)
	}
	if want := fmt.Sprintf("<sip:%s@%s>", token, b.plain); inv.h.Get("Contact") != want {
		t.Errorf("Contact is %s, want %s", inv.h.Get("Contact"), want)
	}
	for _, name := range []string{"Route", "P-Asserted-Identity", "Remote-Party-Id"} {
		if v := inv.h.Get(name); v != "" {
			t.Errorf("%s: %s reached the PBX", name, v)
		}
	}
	if inv.h.Get("Organization") != "crosses" || inv.h.Get("Max-Forwards") != "69" || inv.h.Get("Call-Id") != "c1" {
		t.Errorf("headers are %v", inv.h)
	}
	for _, secret := range []string{"crypto", "192.168.1.9", "SAVP", "x-unknown"} {
		if strings.Contains(inv.body, secret) {
			t.Errorf("the PBX's SDP has %q:\n%s", secret, inv.body)
		}
	}
	if !regexp.MustCompile(`c=IN IP4 127\.0\.0\.1\r\n(.*\r\n)*m=audio 31\d\d\d RTP/AVP 0 101\r\n`).MatchString(inv.body) {
		t.Errorf("the PBX's SDP is\n%s", inv.body)
	}
	b.fromPBX(reply(inv, 183, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>", "Record-Route: <sip:127.0.0.1;lr>"))
	early := p.next("183")
	b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	ok := p.next("200")
	if early.body != ok.body {
		t.Errorf("183 and 200 differ:\n%s\n%s", early.body, ok.body)
	}
	if !regexp.MustCompile(`m=audio \d+ RTP/SAVP 0 101\r\n(.*\r\n)*a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:\S{40}\r\n`).MatchString(ok.body) {
		t.Errorf("the phone's SDP is\n%s", ok.body)
	}
	if strings.Contains(ok.body, "m=audio 30000") || strings.Contains(ok.body, "WVNfX19zZW1jdGw") {
		t.Errorf("the phone's SDP shows the PBX's port:\n%s", ok.body)
	}
	if c := ok.h.Get("Contact"); c != "<sips:602@pbx.example.com:5061;transport=tls>" || ok.h.Get("Record-Route") != "" {
		t.Errorf("Contact is %s, Record-Route %q", c, ok.h.Get("Record-Route"))
	}
}

func TestRefusals(t *testing.T) {
	plain := strings.NewReplacer("RTP/SAVP", "RTP/AVP", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n", "")
	for _, c := range []struct {
		name, request string
		status        int
		warning       string
	}{
		{"no encryption", text(plain.Replace(secureSDP), lines("INVITE", "m1", contact)...), 488, "without encryption"},
		{"UNENCRYPTED_SRTP", text(strings.Replace(secureSDP, "JSoj\r\n", "JSoj UNENCRYPTED_SRTP\r\n", 1), lines("INVITE", "m3", contact)...), 488, "UNENCRYPTED_SRTP"},
		{"unknown suite", text(strings.Replace(secureSDP, "SHA1_80", "SHA1_99", 1), lines("INVITE", "m4", contact)...), 488, "not known"},
		{"short key", text(strings.Replace(secureSDP, "inline:d0Rm", "inline:", 1), lines("INVITE", "m5", contact)...), 488, "key of 27 bytes"},
		{"fax", text(strings.Replace(secureSDP, "m=audio 40000 RTP/SAVP 0 101", "m=image 40000 udptl t38", 1), lines("INVITE", "m6", contact)...), 488, "T.38"},
		{"broken SDP", text("v=0\r\nthis is none\r\n", lines("INVITE", "m7", contact)...), 400, "line 2"},
		{"no Contact", text(secureSDP, lines("INVITE", "m8")...), 400, "Contact"},
		{"multipart", strings.Replace(text(secureSDP, lines("INVITE", "m9", contact)...), "application/sdp", "multipart/mixed;boundary=x", 1), 415, "multipart"},
		{"compressed SDP", text(secureSDP, lines("INVITE", "m16", contact, "Content-Encoding: gzip")...), 415, "application/sdp"},
		{"SDP in MESSAGE", text(secureSDP, lines("MESSAGE", "m10")...), 415, "application/sdp"},
		{"unknown dialog", strings.Replace(text("", lines("BYE", "m11")...), to602, to602+";tag=x", 1), 481, "no such call"},
		{"nothing to cancel", text("", lines("CANCEL", "m12")...), 481, "no INVITE"},
		{"too many hops", strings.Replace(text("", lines("OPTIONS", "m13")...), "Max-Forwards: 70", "Max-Forwards: 0", 1), 483, "Max-Forwards"},
		{"Proxy-Require", text("", lines("OPTIONS", "m14", "Proxy-Require: foo")...), 420, "foo"},
		{"star with others", text("", lines("REGISTER", "m15", "Contact: *", contact, "Expires: 0")...), 400, "alone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			p := b.phone()
			p.send(c.request)
			m := p.next(fmt.Sprint(c.status))
			for status, name := range map[int]string{415: "Accept", 420: "Unsupported"} {
				if c.status == status && c.name != "SDP in MESSAGE" && m.h.Get(name) == "" {
					t.Errorf("the %d has no %s", status, name)
				}
			}
			if w := m.h.Get("Warning"); !strings.Contains(w, c.warning) {
				t.Fatalf("Warning is %q, want %q in it", w, c.warning)
			}
			if strings.Contains(fmt.Sprint(m.h), "d0RmdmcmV") {
				t.Fatal("the answer shows a key")
			}
			b.noCallLeft()
		})
	}
}

// lines is a phone's request as lines, without a body.
func lines(method, callID string, more ...string) []string {
	uri := "sip:602@pbx.example.com"
	return append([]string{method + " " + uri + " SIP/2.0", "Via: SIP/2.0/TLS 192.168.1.9:5061;branch=z9hG4bK" + callID, "Max-Forwards: 70",
		"From: <sip:1001@pbx.example.com>;tag=anna", "To: " + to602, "Call-ID: " + callID, "CSeq: 1 " + method}, more...)
}

// Nobody but the call's own connection can speak inside of it.
func TestStrangerInDialog(t *testing.T) {
	b := newBench(t)
	p, stranger := b.phone(), b.phone()
	b.callOut(p, "c1")
	for _, method := range []string{"BYE", "INFO", "UPDATE", "NOTIFY"} {
		stranger.send(stranger.request(method, "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 9, ""))
		stranger.next("481")
	}
	// A transfer's NOTIFY belongs to the call that the REFER was sent in.
	p.send(p.request("NOTIFY", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2, "", "Event: refer", "Subscription-State: active"))
	notify := b.atPBX("NOTIFY")
	if notify.uri() != "sip:602@127.0.0.1:5060" {
		t.Errorf("NOTIFY went to %s, want the PBX's Contact", notify.uri())
	}
	b.fromPBX(reply(notify, 200, "", ""))
	p.next("200")
	p.send(p.request("BYE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 3, ""))
	bye := b.atPBX("BYE")
	if bye.uri() != "sip:602@127.0.0.1:5060" {
		t.Errorf("BYE went to %s, want the PBX's Contact", bye.uri())
	}
	b.fromPBX(reply(bye, 200, "", ""))
	p.next("200")
	b.noCallLeft()
}

// A phone that reconnected and registered again speaks in its calls, and is
// spoken to.
func TestCallMovesWithItsPhone(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	b.register(p)
	inv := b.callOut(p, "c1")
	b.leaves(p)
	again := b.phone()
	again.send(again.request("BYE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 2, ""))
	again.next("481") // not registered yet
	b.register(again)
	b.fromPBX(text("", "OPTIONS "+strings.Trim(inv.h.Get("Contact"), "<>")+" SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKo1",
		"Max-Forwards: 70", "From: "+inv.h.Get("To")+";tag=pbx", "To: "+inv.h.Get("From"), "Call-ID: c1", "CSeq: 5 OPTIONS"))
	opt := again.next("OPTIONS")
	if opt.h.Get("From") != to602+";tag=pbx" || !strings.Contains(opt.h.Get("To"), "tag=anna") {
		t.Errorf("From is %s, To %s", opt.h.Get("From"), opt.h.Get("To"))
	}
	again.send(reply(opt, 200, "", ""))
	b.atPBX("200")
	again.send(again.request("BYE", "sip:602@pbx.example.com", to602+";tag=pbx", "c1", 3, ""))
	b.fromPBX(reply(b.atPBX("BYE"), 200, "", ""))
	again.next("200")
}

// inviteTo is an INVITE of the PBX for a token.
func (b *bench) inviteTo(token, callID, body string) string {
	return text(body, fmt.Sprintf("INVITE sip:%s@%s SIP/2.0", token, b.plain), "Via: SIP/2.0/UDP "+b.pbx.LocalAddr().String()+";branch=z9hG4bK"+callID,
		"Max-Forwards: 70", `From: "Ben" <sip:1002@127.0.0.1>;tag=pbx`, fmt.Sprintf("To: <sip:%s@%s>", token, b.plain), "Call-ID: "+callID, "CSeq: 102 INVITE",
		"Contact: <sip:1002@127.0.0.1:5060>")
}

// A phone that speaks of itself with sips: is spoken to with sips:.
func TestSipsPhone(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	const secured = "Contact: <sips:1001@192.168.1.9:5061>"
	p.send(p.request("REGISTER", "sips:pbx.example.com", "<sips:1001@pbx.example.com>", "reg", 1, "", secured, "Expires: 600"))
	reg := b.atPBX("REGISTER")
	if reg.uri() != "sip:pbx.example.com" || !strings.HasPrefix(reg.h.Get("Contact"), "<sip:") {
		t.Errorf("the PBX got %s with Contact %s", reg.start, reg.h.Get("Contact"))
	}
	b.fromPBX(reply(reg, 200, "r", "", "Contact: "+reg.h.Get("Contact")+";expires=600"))
	p.next("200")
	token, _, _ := strings.Cut(strings.TrimPrefix(reg.h.Get("Contact"), "<sip:"), "@")
	b.fromPBX(b.inviteTo(token, "in1", plainSDP))
	if inv := p.next("INVITE"); inv.uri() != "sips:1001@192.168.1.9:5061" || !strings.HasPrefix(inv.h.Get("Contact"), "<sips:1002@pbx.example.com") {
		t.Errorf("the phone got %s with Contact %s", inv.start, inv.h.Get("Contact"))
	}
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP, secured))
	b.fromPBX(reply(b.atPBX("INVITE"), 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	if c := p.next("200").h.Get("Contact"); !strings.HasPrefix(c, "<sips:602@") {
		t.Errorf("the phone got Contact %s", c)
	}
}

// A PBX that routes by its own table names the user, not the contact that it
// was given.
func TestCallInByUser(t *testing.T) {
	b := newBench(t)
	old := b.phone()
	b.register(old)
	b.fromPBX(b.inviteTo("1001", "in1", plainSDP))
	if inv := old.next("INVITE"); inv.h.Get("Call-Id") != "in1" {
		t.Fatalf("the phone got call %s", inv.h.Get("Call-Id"))
	}
	b.fromPBX(b.inviteTo("1002", "in2", plainSDP))
	if m := b.atPBX("480"); !strings.Contains(m.h.Get("Warning"), "not registered") {
		t.Errorf("Warning is %q", m.h.Get("Warning"))
	}
}

func TestCallIn(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	b.fromPBX(b.inviteTo(token, "in1", plainSDP))
	inv := p.next("INVITE")
	if inv.uri() != "sip:1001@192.168.1.9:5061;transport=tls" {
		t.Errorf("Request-URI is %s, want the phone's own contact", inv.uri())
	}
	if inv.h.Get("From") != `"Ben" <sip:1002@pbx.example.com>;tag=pbx` || inv.h.Get("To") != "<sip:1001@pbx.example.com>" {
		t.Errorf("From is %s, To %s: want our domain in both", inv.h.Get("From"), inv.h.Get("To"))
	}
	if !strings.Contains(inv.body, "RTP/SAVP") || !strings.Contains(inv.body, "a=crypto:1 AEAD_AES_128_GCM") ||
		!strings.Contains(inv.body, "a=crypto:2 AES_CM_128_HMAC_SHA1_80") || strings.Count(inv.body, "a=crypto") != 2 {
		t.Errorf("the phone's SDP is\n%s", inv.body)
	}
	p.send(reply(inv, 180, "anna", "", contact))
	b.atPBX("180")
	p.send(reply(inv, 200, "anna", strings.Replace(secureSDP, "a=crypto:1", "a=crypto:2", 1), contact))
	ok := b.atPBX("200")
	if ok.h.Get("To") != fmt.Sprintf("<sip:%s@%s>;tag=anna", token, b.plain) || strings.Contains(ok.body, "crypto") {
		t.Errorf("To is %s, SDP\n%s", ok.h.Get("To"), ok.body)
	}
	if s := b.proxy.Stats(); s.Calls != 1 {
		t.Fatalf("%d calls", s.Calls)
	}
}

// A phone that answers without encryption, or with a key that was not asked
// for, is hung up on, and the caller learns why.
func TestPhoneAnswersInClear(t *testing.T) {
	for name, answer := range map[string]string{
		"no crypto":         strings.Replace(secureSDP, "a=crypto:1 ", "a=x:", 1),
		"a tag not offered": strings.Replace(secureSDP, "a=crypto:1", "a=crypto:7", 1),
		"another suite":     secureSDP, // tag 1 was offered as AEAD_AES_128_GCM
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p := b.phone()
			b.fromPBX(b.inviteTo(b.register(p), "in1", plainSDP))
			inv := p.next("INVITE")
			p.send(reply(inv, 200, "anna", answer, contact))
			p.next("ACK")
			p.send(reply(p.next("BYE"), 200, "", ""))
			if m := b.atPBX("488"); !strings.Contains(m.h.Get("Warning"), "phone") {
				t.Errorf("Warning is %q", m.h.Get("Warning"))
			}
		})
	}
}

// The PBX's 200 races a phone that is gone: the PBX must not be left with the
// call.
func TestAnswerWithoutCaller(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP, contact))
	inv := b.atPBX("INVITE")
	b.fromPBX(reply(inv, 180, "pbx", "", "Contact: <sip:602@127.0.0.1:5060>"))
	p.next("180")
	p.conn.Close()
	cancel := b.atPBX("CANCEL")
	b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	b.atPBX("ACK")
	bye := b.atPBX("BYE")
	if bye.uri() != "sip:602@127.0.0.1:5060" || bye.h.Get("Cseq") != "2 BYE" {
		t.Errorf("BYE to %s with CSeq %s", bye.uri(), bye.h.Get("Cseq"))
	}
	b.fromPBX(reply(cancel, 200, "", ""))
	b.fromPBX(reply(bye, 200, "", ""))
	b.noCallLeft()
}

// What a phone says of itself in an answer is no more to be trusted than in a
// request; where it forwards its calls to, the PBX must be told.
func TestPhoneForwards(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	b.fromPBX(b.inviteTo(token, "in1", plainSDP))
	p.send(reply(p.next("INVITE"), 302, "anna", "", "Contact: <sips:1003@pbx.example.com:5061;transport=tls>, <sip:+4930@example.net>",
		"Diversion: <sip:1001@pbx.example.com>;reason=unconditional", "P-Asserted-Identity: <sip:ceo@pbx.example.com>"))
	moved := b.atPBX("302")
	if want := fmt.Sprintf("[<sip:1003@%s> <sip:+4930@example.net>]", b.pbx.LocalAddr()); fmt.Sprint(moved.h.Values("Contact")) != want {
		t.Errorf("the PBX got Contact %s, want %s", moved.h.Values("Contact"), want)
	}
	if moved.h.Get("Diversion") != "" || moved.h.Get("P-Asserted-Identity") != "" {
		t.Errorf("the PBX got %v", moved.h)
	}
	b.noCallLeft()
}

// A phone learns no address of the inside, nor who wants to be unknown.
func TestPartiesOutward(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	for i, c := range []struct{ header, want string }{
		{`P-Asserted-Identity: "Ben" <sip:1002@127.0.0.1>, <tel:+49301>`, `"Ben" <sip:1002@pbx.example.com>, <tel:+49301>`},
		{`Remote-Party-Id: "Ben" <sip:1002@127.0.0.1:5060>;party=calling;privacy=off`, `"Ben" <sip:1002@pbx.example.com>;party=calling;privacy=off`},
		{"Refer-To: <sip:1003@127.0.0.1?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2>", "<sip:1003@pbx.example.com?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2>"},
		{"Diversion: sip:1003@127.0.0.1;reason=no-answer", "<sip:1003@pbx.example.com>;reason=no-answer"},
		{"Referred-By: sip:1003@example.net", "sip:1003@example.net"},
		{"P-Asserted-Identity: <sip:1002@127.0.0.1>\r\nPrivacy: user;id", ""},
		{"Remote-Party-Id: <sip:1002@127.0.0.1>\r\nPrivacy: ID", ""},
	} {
		b.fromPBX(strings.Replace(b.inviteTo(token, fmt.Sprint("in", i), plainSDP), "Max-Forwards", c.header+"\r\nMax-Forwards", 1))
		name, _, _ := strings.Cut(c.header, ":")
		if got := p.next("INVITE").h.Get(name); got != c.want {
			t.Errorf("%s reached the phone as %s, want %s", c.header, got, c.want)
		}
	}
}

// A 100 means one hop alone.
func TestTryingStays(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	p.send(p.request("OPTIONS", "sip:602@pbx.example.com", to602, "o1", 1, ""))
	opt := b.atPBX("OPTIONS")
	b.fromPBX(reply(opt, 100, "", ""))
	b.fromPBX(reply(opt, 183, "", ""))
	b.fromPBX(reply(opt, 200, "", ""))
	_ = p.conn.SetReadDeadline(soon())
	if m, err := readText(p.r); err != nil || m.status() != 200 {
		t.Fatalf("the phone got %v, %v", m, err)
	}
}

func TestDeadFlowAnswersAtOnce(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	p.conn.Close()
	b.fromPBX(b.inviteTo(token, "in", plainSDP))
	if m := b.atPBX("480"); !strings.Contains(m.h.Get("Warning"), "connection is gone") {
		t.Errorf("Warning is %q", m.h.Get("Warning"))
	}
	b.fromPBX(b.inviteTo("aaaaaaaaaaaaaaaa", "other", plainSDP))
	if m := b.atPBX("480"); !strings.Contains(m.h.Get("Warning"), "not registered") {
		t.Errorf("Warning is %q", m.h.Get("Warning"))
	}
}

// Hold and resume by re-INVITE keep the key, and a refused re-INVITE changes
// nothing.
func TestReInvite(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	first := b.callOut(p, "c1")
	target := "sip:602@pbx.example.com:5061;transport=tls"
	reinvite := func(cseq int, body string) *message {
		p.send(p.request("INVITE", target, to602+";tag=pbx", "c1", cseq, body, contact))
		return b.atPBX("INVITE")
	}
	hold := reinvite(2, strings.Replace(secureSDP, "a=sendrecv", "a=sendonly", 1))
	if hold.uri() != "sip:602@127.0.0.1:5060" || !strings.Contains(hold.body, "a=sendonly") || port(hold.body) != port(first.body) {
		t.Errorf("hold went to %s:\n%s", hold.uri(), hold.body)
	}
	b.fromPBX(reply(hold, 200, "", strings.Replace(plainSDP, "a=sendrecv", "a=recvonly", 1), "Contact: <sip:602@127.0.0.1:5060>"))
	held := p.next("200")
	p.send(p.request("ACK", target, to602+";tag=pbx", "c1", 2, ""))
	b.atPBX("ACK")
	refused := reinvite(3, secureSDP)
	b.fromPBX(reply(refused, 491, "", ""))
	b.atPBX("ACK")
	p.next("491")
	p.send(p.request("ACK", target, to602+";tag=pbx", "c1", 3, ""))
	old := strings.Replace(secureSDP, "c=IN IP4 192.168.1.9", "c=IN IP4 0.0.0.0", 1)
	if m := reinvite(4, old); !strings.Contains(m.body, "a=sendonly") || strings.Contains(m.body, "0.0.0.0") {
		t.Errorf("the old way to hold is\n%s", m.body)
	} else {
		b.fromPBX(reply(m, 200, "", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	}
	resumed := p.next("200")
	if key(held.body) == "" || key(held.body) != key(resumed.body) {
		t.Errorf("our key changed:\n%s\n%s", held.body, resumed.body)
	}
}

// A call without an offer: the 200 carries it, the ACK the answer.
func TestDelayedOffer(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	b.fromPBX(b.inviteTo(token, "in1", ""))
	inv := p.next("INVITE")
	if inv.body != "" {
		t.Fatalf("the INVITE has\n%s", inv.body)
	}
	p.send(reply(inv, 200, "anna", secureSDP, contact))
	ok := b.atPBX("200")
	if !strings.Contains(ok.body, "RTP/AVP") || strings.Contains(ok.body, "crypto") {
		t.Fatalf("the PBX's offer is\n%s", ok.body)
	}
	b.fromPBX(text(plainSDP, "ACK "+strings.Trim(ok.h.Get("Contact"), "<>")+" SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKack",
		"Max-Forwards: 70", "From: "+ok.h.Get("From"), "To: "+ok.h.Get("To"), "Call-ID: in1", "CSeq: 102 ACK"))
	ack := p.next("ACK")
	if !strings.Contains(ack.body, "RTP/SAVP") || !strings.Contains(ack.body, "a=crypto:1 AES_CM_128_HMAC_SHA1_80") {
		t.Fatalf("the phone's answer is\n%s", ack.body)
	}
}

func port(sdp string) string {
	return strings.Fields(sdp[strings.Index(sdp, "m=audio"):])[1]
}

func key(sdp string) string {
	_, after, _ := strings.Cut(sdp, "inline:")
	k, _, _ := strings.Cut(after, "\r\n")
	return k
}

// A challenge is not a call, and offers nothing that cannot work through us.
func TestChallenge(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	for i, c := range []struct{ offered, want string }{
		{`Digest realm="a", nonce="n", qop="auth,auth-int"`, `Digest realm="a", nonce="n", qop="auth"`},
		{`Digest realm="a", QOP="auth-int, auth", nonce="n"`, `Digest realm="a", QOP="auth", nonce="n"`},
		{`Digest realm="a", nonce="n", qop="auth-int"`, `Digest realm="a", nonce="n", qop="auth-int"`},
		{`Digest realm="auth-int", nonce="n"`, `Digest realm="auth-int", nonce="n"`},
	} {
		p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, fmt.Sprint("c", i), 1, secureSDP, contact))
		b.fromPBX(reply(b.atPBX("INVITE"), 401, "pbx", "", "WWW-Authenticate: "+c.offered))
		if got := p.next("401").h.Get("Www-Authenticate"); got != c.want {
			t.Errorf("%s became %s", c.offered, got)
		}
	}
	if s := b.proxy.Stats(); s.CallsFromPhones != 0 || len(s.Ended) != 0 {
		t.Errorf("%d calls counted, ended %v", s.CallsFromPhones, s.Ended)
	}
	b.callOut(p, "real")
	if s := b.proxy.Stats(); s.CallsFromPhones != 1 {
		t.Errorf("%d calls counted, want the one that was answered", s.CallsFromPhones)
	}
}
