package sipproxy

import (
	"fmt"
	"strings"
	"testing"
)

const desk = `;+sip.instance="<urn:uuid:desk>"`

// path registers a device's connection of that reg-id; it returns what the PBX
// got, and what the phone was told.
func (b *bench) path(p *phone, id, expires int, more ...string) (reg, ok *message) {
	b.t.Helper()
	p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", fmt.Sprint("reg", id), p.n+1, "",
		append([]string{fmt.Sprintf("Contact: <sip:1001@192.168.1.9:5061;transport=tls>%s;reg-id=%d", desk, id), fmt.Sprint("Expires: ", expires)}, more...)...))
	reg = b.atPBX("REGISTER")
	b.fromPBX(reply(reg, 200, "r", "", "Contact: "+reg.h.Get("Contact")))
	return reg, p.next("200")
}

// A device with two connections is one contact to the PBX. Calls go down the one
// that was refreshed last and lives.
func TestTwoConnectionsOfADevice(t *testing.T) {
	b := newBench(t)
	first, second := b.phone(), b.phone()
	reg, ok := b.path(first, 1, 600, "Supported: path, outbound, gruu", "Require: outbound")
	if ok.h.Get("Require") != "outbound" || ok.h.Get("Flow-Timer") != "120" {
		t.Errorf("the phone is told Require %q, Flow-Timer %q", ok.h.Get("Require"), ok.h.Get("Flow-Timer"))
	}
	if reg.h.Get("Supported") != "path" || reg.h.Get("Require") != "" {
		t.Errorf("the PBX is told Supported %q, Require %q: outbound and gruu end here", reg.h.Get("Supported"), reg.h.Get("Require"))
	}
	token := tokenIn(reg)
	reg, ok = b.path(second, 2, 300, "Supported: outbound")
	if tokenIn(reg) != token || b.bindings() != 2 {
		t.Fatalf("two connections have %d bindings, and the contacts %s and %s", b.bindings(), token, tokenIn(reg))
	}
	if seconds := asked(t, reg); seconds < 590 || seconds > 600 {
		t.Errorf("the PBX is asked for %d s, want as long as the other connection has", seconds)
	}
	if shown := strings.Join(ok.h.Values("Contact"), "\n"); !strings.Contains(shown, "expires=300"+desk+";reg-id=2") || !strings.Contains(shown, desk+";reg-id=1") {
		t.Errorf("the phone is shown\n%s", shown)
	}
	calls := func(id string, to *phone) *message {
		t.Helper()
		b.fromPBX(b.inviteTo(token, id, plainSDP))
		inv := to.next("INVITE")
		to.send(reply(inv, 486, "anna", ""))
		b.atPBX("486")
		return inv
	}
	calls("one", second)
	b.path(first, 1, 600, "Supported: outbound")
	calls("two", first)
	first.conn.Close()
	b.bindings() // are kept: it may come back
	until(t, "the end of a connection to be noticed", func() bool { return closed(b.proxy.bindings.find(token, "1").flow) })
	calls("three", second)
	second.conn.Close()
	b.fromPBX(b.inviteTo(token, "four", plainSDP))
	b.atPBX("480")
}

// asked is how many seconds a REGISTER asks for, which its Expires says too.
func asked(t *testing.T, reg *message) (seconds int) {
	t.Helper()
	_, expires, _ := strings.Cut(reg.h.Get("Contact"), ";expires=")
	if _, err := fmt.Sscan(expires, &seconds); err != nil || expires != reg.h.Get("Expires") {
		t.Fatalf("the PBX got Contact %s, Expires %s", reg.h.Get("Contact"), reg.h.Get("Expires"))
	}
	return seconds
}

// One connection that is unregistered leaves the other, and the PBX its contact;
// the last one takes it along.
func TestOneConnectionLeaves(t *testing.T) {
	b := newBench(t)
	first, second := b.phone(), b.phone()
	reg, _ := b.path(first, 1, 600)
	token := tokenIn(reg)
	b.path(second, 2, 600)
	reg, ok := b.path(second, 2, 0, "Supported: outbound")
	if seconds := asked(t, reg); seconds < 590 {
		t.Errorf("the PBX is asked for %d s, want as long as the other connection has", seconds)
	}
	if c := ok.h.Values("Contact"); len(c) != 1 || !strings.Contains(c[0], "reg-id=1") || b.bindings() != 1 || ok.h.Get("Require") != "" {
		t.Errorf("%d bindings are left; the phone is shown %q, Require %q", b.bindings(), c, ok.h.Get("Require"))
	}
	b.fromPBX(b.inviteTo(token, "c1", plainSDP))
	first.send(reply(first.next("INVITE"), 486, "anna", ""))
	b.atPBX("486")
	first.send(first.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg1", 99, "", "Contact: <sip:1001@192.168.1.9:5061;transport=tls>"+desk+";reg-id=1", "Expires: 0"))
	reg = b.atPBX("REGISTER")
	if reg.h.Get("Expires") != "0" {
		t.Errorf("the PBX got Expires %s from the last one", reg.h.Get("Expires"))
	}
	b.fromPBX(reply(reg, 200, "r", ""))
	first.next("200")
	if b.bindings() != 0 {
		t.Errorf("%d bindings are left", b.bindings())
	}
}

// A call that was on its way when its connection died goes down the other.
func TestCallFallsOver(t *testing.T) {
	b := newBench(t)
	first, second := b.phone(), b.phone()
	b.path(second, 2, 600)
	reg, _ := b.path(first, 1, 600)
	b.fromPBX(b.inviteTo(tokenIn(reg), "c1", plainSDP))
	first.next("INVITE")
	first.conn.Close()
	inv := second.next("INVITE")
	if !strings.Contains(inv.body, "RTP/SAVP") {
		t.Errorf("the description is\n%s", inv.body)
	}
	second.send(reply(inv, 180, "anna", "", contact))
	b.atPBX("180")
	second.send(reply(inv, 200, "anna", strings.Replace(secureSDP, "a=crypto:1", "a=crypto:2", 1), contact))
	ok := b.atPBX("200")
	b.fromPBX(text("", "ACK "+strings.Trim(ok.h.Get("Contact"), "<>")+" SIP/2.0", "Via: SIP/2.0/UDP "+b.pbx.LocalAddr().String()+";branch=z9hG4bKack",
		"Max-Forwards: 70", "From: "+ok.h.Get("From"), "To: "+ok.h.Get("To"), "Call-ID: c1", "CSeq: 102 ACK"))
	second.next("ACK")
	// Inside the call either connection of the device will do; a stranger's will not.
	third, stranger := b.phone(), b.phone()
	b.path(third, 3, 600)
	stranger.send(stranger.request("INFO", "sip:1002@pbx.example.com", ok.h.Get("From"), "c1", 7, ""))
	stranger.next("481")
	third.send(strings.Replace(third.request("BYE", "sip:1002@pbx.example.com", `<sip:1002@pbx.example.com>;tag=pbx`, "c1", 8, ""), "tag=anna", tagOf(ok.h.Get("To")), 1))
	b.atPBX("BYE")
}

func tagOf(party string) string {
	_, tag, _ := strings.Cut(party, ";")
	return tag
}

// A MESSAGE too is given to the next connection, once.
func TestMessageFallsOver(t *testing.T) {
	b := newBench(t)
	first, second := b.phone(), b.phone()
	b.path(second, 2, 600)
	reg, _ := b.path(first, 1, 600)
	b.fromPBX(strings.Replace(strings.ReplaceAll(b.optionsFor(tokenIn(reg)+"@"+b.plain.String(), "m1"), "OPTIONS", "MESSAGE"), "Contact: <sip:asterisk@127.0.0.1>\r\n", "", 1))
	first.next("MESSAGE")
	first.conn.Close()
	second.next("MESSAGE")
	second.conn.Close()
	b.atPBX("480")
}

// A device has so many connections at the most; the oldest makes room.
func TestConnectionsOfADeviceAreBounded(t *testing.T) {
	b := newBench(t)
	for id := 1; id <= maxConnections+3; id++ {
		b.path(b.phone(), id, 600)
	}
	if b.bindings() != maxConnections {
		t.Errorf("%d bindings, want %d", b.bindings(), maxConnections)
	}
	// Without a reg-id the device has one connection.
	b.registers(b.phone(), "<sip:1001@192.168.1.9:5061>"+desk, 200, "Contact: ours;expires=600")
	if b.bindings() != 1 {
		t.Errorf("%d bindings, want 1", b.bindings())
	}
}

// What is no outbound is not said to be, and a phone that cannot do without what
// we do not do is told so.
func TestOutboundAnswers(t *testing.T) {
	for _, c := range []struct {
		name, params string
		headers      []string
		status       int
		require      string
	}{
		{"asked for", desk + ";reg-id=1", []string{"Supported: outbound"}, 200, "outbound"},
		{"asked for in other words", desk + ";reg-id=1", []string{"Supported: replaces,OUTBOUND"}, 200, "outbound"},
		{"not asked for", desk + ";reg-id=1", []string{"Supported: path"}, 200, ""},
		{"without a reg-id", desk, []string{"Supported: outbound"}, 200, ""},
		{"without an instance", ";reg-id=1", []string{"Supported: outbound"}, 200, ""},
		{"a reg-id of 0", desk + ";reg-id=0", []string{"Supported: outbound"}, 200, ""},
		{"no number", desk + ";reg-id=x", []string{"Supported: outbound"}, 200, ""},
		{"gruu if possible", desk, []string{"Supported: gruu"}, 200, ""},
		{"gruu or nothing", desk, []string{"Require: gruu"}, 420, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			p := b.phone()
			p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg", 1, "", append(c.headers, "Contact: <sip:1001@192.168.1.9:5061>"+c.params)...))
			if c.status == 420 {
				if m := p.next("420"); m.h.Get("Unsupported") != "gruu" {
					t.Errorf("Unsupported is %q", m.h.Get("Unsupported"))
				}
				return
			}
			reg := b.atPBX("REGISTER")
			for _, tag := range []string{"outbound", "gruu"} {
				if strings.Contains(strings.ToLower(fmt.Sprint(reg.h)), tag) {
					t.Errorf("the PBX is told of %s: %v", tag, reg.h)
				}
			}
			// GRUUs of the PBX, in case it makes some unasked, do not leave.
			b.fromPBX(reply(reg, 200, "r", "", "Contact: "+reg.h.Get("Contact")+
				`;expires=600;pub-gruu="sip:1001@127.0.0.1;gr=urn:uuid:desk";temp-gruu="sip:tgruu.7hs==@127.0.0.1;gr"`))
			ok := p.next("200")
			if ok.h.Get("Require") != c.require || (ok.h.Get("Flow-Timer") != "") != (c.require != "") {
				t.Errorf("the phone is told Require %q, Flow-Timer %q", ok.h.Get("Require"), ok.h.Get("Flow-Timer"))
			}
			if strings.Contains(ok.h.Get("Contact"), "gruu") {
				t.Errorf("the phone is shown %s", ok.h.Get("Contact"))
			}
		})
	}
}
