package sipproxy

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// A Call-ID of the PBX's is shown to phones without its address, and what they
// say of it is understood inside: in the call, and where they name it elsewhere.
func TestCallIDHidesThePBX(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	id := "5f1c8@" + b.pbx.LocalAddr().String()
	b.fromPBX(strings.Replace(b.inviteTo(token, "in1", plainSDP), "Call-ID: in1", "Call-ID: "+id, 1))
	inv := p.next("INVITE")
	shown := inv.h.Get("Call-Id")
	if !strings.HasPrefix(shown, "5f1c8@") || strings.Contains(shown, "127.0.0.1") || shown == "5f1c8@" {
		t.Fatalf("the phone is shown Call-ID %s", shown)
	}
	p.send(reply(inv, 200, "anna", strings.Replace(secureSDP, "a=crypto:1", "a=crypto:2", 1), contact))
	ok := b.atPBX("200")
	if ok.h.Get("Call-Id") != id {
		t.Fatalf("the PBX's answer has Call-ID %s, want %s", ok.h.Get("Call-Id"), id)
	}
	b.fromPBX(text("", "ACK "+strings.Trim(ok.h.Get("Contact"), "<>")+" SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKack",
		"Max-Forwards: 70", "From: "+ok.h.Get("From"), "To: "+ok.h.Get("To"), "Call-ID: "+id, "CSeq: 102 ACK"))
	if m := p.next("ACK"); m.h.Get("Call-Id") != shown {
		t.Errorf("the ACK has Call-ID %s, want %s", m.h.Get("Call-Id"), shown)
	}

	// A second call of the phone takes the first one's place; so may its transfer.
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "c2", 1, secureSDP, contact, "Replaces: "+shown+";to-tag=anna;from-tag=pbx"))
	if m := b.atPBX("INVITE"); m.h.Get("Replaces") != id+";to-tag=anna;from-tag=pbx" {
		t.Errorf("the PBX got Replaces: %s", m.h.Get("Replaces"))
	}
	refer := func(id string) string {
		return "<sip:1003@pbx.example.com?Replaces=" + url.QueryEscape(id+";to-tag=anna;from-tag=pbx") + "&Require=replaces>"
	}
	p.send(text("", "REFER "+strings.Trim(inv.h.Get("Contact"), "<>")+" SIP/2.0", p.via(), "Max-Forwards: 70", "From: "+inv.h.Get("To")+";tag=anna",
		"To: "+inv.h.Get("From"), "Call-ID: "+shown, "CSeq: 1 REFER", contact, "Refer-To: "+refer(shown)))
	if m := b.atPBX("REFER"); m.h.Get("Refer-To") != refer(id) || m.h.Get("Call-Id") != id {
		t.Errorf("the PBX got Refer-To: %s in call %s", m.h.Get("Refer-To"), m.h.Get("Call-Id"))
	}
	b.fromPBX(text("", "REFER "+strings.Trim(ok.h.Get("Contact"), "<>")+" SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKrefer",
		"Max-Forwards: 70", "From: "+ok.h.Get("From"), "To: "+ok.h.Get("To"), "Call-ID: "+id, "CSeq: 103 REFER", "Contact: <sip:1002@127.0.0.1:5060>",
		"Refer-To: "+strings.Replace(refer(id), "pbx.example.com", "127.0.0.1", 1)))
	if m := p.next("REFER"); m.h.Get("Refer-To") != refer(shown) {
		t.Errorf("the phone got Refer-To: %s, want %s", m.h.Get("Refer-To"), refer(shown))
	}
	p.send(text("", "BYE "+strings.Trim(inv.h.Get("Contact"), "<>")+" SIP/2.0", p.via(), "Max-Forwards: 70", "From: "+inv.h.Get("To")+";tag=anna",
		"To: "+inv.h.Get("From"), "Call-ID: "+shown, "CSeq: 2 BYE"))
	if m := b.atPBX("BYE"); m.h.Get("Call-Id") != id {
		t.Errorf("the PBX got BYE with Call-ID %s", m.h.Get("Call-Id"))
	}
}

// A phone at home may have the address that the PBX has at the office.
func TestPhoneWithThePBXsAddress(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	b.register(p)
	const id = "home-1@127.0.0.1:5061"
	inv := b.callOut(p, id)
	b.fromPBX(text("", "BYE "+strings.Trim(inv.h.Get("Contact"), "<>")+" SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKbye",
		"Max-Forwards: 70", "From: "+inv.h.Get("To")+";tag=pbx", "To: "+inv.h.Get("From"), "Call-ID: "+inv.h.Get("Call-Id"), "CSeq: 5 BYE"))
	if bye := p.next("BYE"); bye.h.Get("Call-Id") != id {
		t.Errorf("the phone is told of call %s, and knows %s", bye.h.Get("Call-Id"), id)
	}
}

// A seal is always the same, opens only under our key, and is made for nothing
// but the plain side's own hosts.
func TestCallIDSeals(t *testing.T) {
	b := newBench(t)
	b.proxy.cfg.Inside = []string{"asterisk.lan", strings.Repeat("a.", 50) + "lan"}
	b.proxy.inside.Store(newInsideHosts(b.proxy.cfg, b.proxy.cfg.PBXs, nil))
	stranger := &Proxy{cfg: b.proxy.cfg}
	stranger.inside.Store(b.proxy.inside.Load())
	stranger.cfg.Secret = append([]byte{1}, b.proxy.cfg.Secret[1:]...)
	for _, host := range []string{"127.0.0.1", "127.0.0.1:5060", "Asterisk.LAN", "asterisk.lan:5080", "[::ffff:10.0.0.1]", "example.net", "pbx.example.com", "192.168.1.9:5061", ""} {
		id := "a-b.c@" + host
		shown, hidden := b.proxy.crossCallID(id), b.proxy.isInside(hostWithoutPort(host))
		if (shown != id) != hidden || hidden && strings.Contains(strings.ToLower(shown), strings.ToLower(hostWithoutPort(host))) {
			t.Errorf("%s is shown as %s", id, shown)
		}
		if b.proxy.crossCallID(id) != shown || b.proxy.crossCallID(shown) != id {
			t.Errorf("%s is shown as %s and read as %s", id, shown, b.proxy.crossCallID(shown))
		}
		if hidden && stranger.crossCallID(shown) != shown {
			t.Errorf("another key opens %s", shown)
		}
		if changed := shown[:len(shown)-1]; b.proxy.crossCallID(changed) != changed {
			t.Errorf("%s, cut short, is read as %s", shown, b.proxy.crossCallID(changed))
		}
	}
	if id := b.proxy.crossCallID("a@" + b.proxy.cfg.Inside[1]); id != "a@pbx.example.com" {
		t.Errorf("a name that no seal holds is shown as %s", id)
	}
	for _, id := range []string{"no-host", "a@b@127.0.0.1"} {
		if got := b.proxy.crossCallID(b.proxy.crossCallID(id)); got != id {
			t.Errorf("%s became %s", id, got)
		}
	}
}

// Whatever header names the plain side, phones are shown our domain.
func TestHeadersHideThePBX(t *testing.T) {
	b := newBench(t)
	b.proxy.cfg.Inside = []string{"asterisk.lan", "ast"}
	b.proxy.inside.Store(newInsideHosts(b.proxy.cfg, b.proxy.cfg.PBXs, nil))
	p := b.phone()
	token := b.register(p)
	for i, c := range []struct{ header, want string }{
		{"Server: Asterisk", ""},
		{"User-Agent: Asterisk PBX 16", ""},
		{`Warning: 399 127.0.0.1 "of the inside"`, ""},
		{"Call-Info: <http://127.0.0.1:8088/1002.png>;purpose=icon", "<http://pbx.example.com/1002.png>;purpose=icon"},
		{"Alert-Info: <http://Asterisk.LAN/ring.wav>;info=internal", "<http://pbx.example.com/ring.wav>;info=internal"},
		{"Error-Info: <sip:sorry@ast:5060;transport=udp>, <sip:x@127.0.0.1>", "<sip:sorry@pbx.example.com>, <sip:x@pbx.example.com>"},
		{"Call-Info: sip:127.0.0.1:5060;answer-after=0", "<sip:pbx.example.com>;answer-after=0"}, // without brackets they are the header's
		{"Call-Info: <sip:asterisk.lan;transport=udp>;answer-after=0", "<sip:pbx.example.com>;answer-after=0"},
		{"Alert-Info: sip:asterisk.lan;info=alert-autoanswer", "<sip:pbx.example.com>;info=alert-autoanswer"},
		{"Alert-Info: http://127.0.0.1;info=alert-autoanswer", "http://pbx.example.com;info=alert-autoanswer"},
		{"Call-Info: ;answer-after=0", ";answer-after=0"},
		{"Alert-Info: Bellcore-dr3", "Bellcore-dr3"},
		{"X-Alone: <sip:sorry@ast>", "<sip:sorry@pbx.example.com>"},
		{"X-Node: asterisk.lan, 127.0.0.1:5060 and 127.0.0.1.", "pbx.example.com, pbx.example.com and pbx.example.com."},
		{"X-Other: ast 227.0.0.1 127.0.0.15 127.0.0.1.5 asterisk.lander", "ast 227.0.0.1 127.0.0.15 127.0.0.1.5 asterisk.lander"},
		{`P-Asserted-Identity: "ast" <sip:1002@asterisk.lan>`, `"ast" <sip:1002@pbx.example.com>`},
		{"Refer-To: <sip:" + token + "@" + b.plain.String() + ">", "<sip:1001@pbx.example.com>"},
		{`WWW-Authenticate: Digest realm="127.0.0.1", nonce="n"`, `Digest realm="127.0.0.1", nonce="n"`}, // digests are made with it
	} {
		b.fromPBX(strings.Replace(b.inviteTo(token, fmt.Sprint("in", i), plainSDP), "Max-Forwards", c.header+"\r\nMax-Forwards", 1))
		name, _, _ := strings.Cut(c.header, ":")
		if got := p.next("INVITE").h.Get(name); got != c.want {
			t.Errorf("%s reached the phone as %s, want %s", c.header, got, c.want)
		}
	}
	xml := `<dialog id="1" call-id="pickup-5f1c8@127.0.0.1:5060"><x call-id='y@example.net'/></dialog> 127.0.0.1 127.0.0.1`
	got := string(b.proxy.carried(body{kind: "application/dialog-info+xml", bytes: []byte(xml)}, flow.Secure).bytes)
	want := strings.NewReplacer("5f1c8@127.0.0.1:5060", b.proxy.crossCallID("5f1c8@127.0.0.1:5060"), "127.0.0.1", "pbx.example.com").Replace(xml)
	if got != want {
		t.Errorf("the phone is told\n%s\nwant\n%s", got, want)
	}
}

func TestInsideNamesAreNotOurs(t *testing.T) {
	for name, fault := range map[string]string{"asterisk.lan": "", "10.0.0.6": "", "": "no name", "a b": "no name", "PBX.example.com": "edge.domain", "203.0.113.7": "edge.public_ip"} {
		c := Defaults()
		c.Domain, c.Inside = "pbx.example.com", []string{name}
		c.PublicIPs = append(c.PublicIPs, netip.MustParseAddr("203.0.113.7"))
		if err := c.Validate(); strings.Contains(err.Error(), "pbx.names") != (fault != "") || !strings.Contains(err.Error(), fault) {
			t.Errorf("%q: %v", name, err)
		}
	}
}
