package sipproxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/sipproxy/flow"
)

// registers sends a REGISTER and lets the PBX answer with the contacts given;
// "ours" stands for what the PBX got.
func (b *bench) registers(p *phone, contacts string, status int, answer ...string) (atPBX, atPhone *message) {
	b.t.Helper()
	p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg", p.n+1, "", "Contact: "+contacts, "Expires: 600"))
	reg := b.atPBX("REGISTER")
	for i, a := range answer {
		answer[i] = strings.ReplaceAll(a, "ours", reg.h.Get("Contact"))
	}
	b.fromPBX(reply(reg, status, "r", "", answer...))
	return reg, p.next(fmt.Sprint(status))
}

func (b *bench) bindings() int { return b.proxy.Stats().Bindings }

func TestOnlyA200Binds(t *testing.T) {
	b := newBench(t)
	b.proxy.mask.off = true
	p := b.phone()
	for _, status := range []int{401, 403, 404, 423, 500} {
		b.registers(p, "<sip:1001@192.168.1.9>", status, "Contact: ours;expires=600")
		if b.bindings() != 0 {
			t.Fatalf("a %d made a binding", status)
		}
	}
	b.registers(p, "<sip:1001@192.168.1.9>", 200) // a 200 that does not list it
	if b.bindings() != 0 {
		t.Fatal("a 200 without the contact made a binding")
	}
	b.registers(p, "<sip:1001@192.168.1.9>", 200, "Contact: ours;expires=600")
	if b.bindings() != 1 {
		t.Fatal("a 200 made no binding")
	}
}

func TestRegisterShowsThePhoneItsOwn(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	reg, ok := b.registers(p, `"Anna" <sip:1001@192.168.1.9:5061;transport=tls>;q=0.5;+sip.instance="<urn:uuid:1>";reg-id=1;expires=300`, 200,
		"Contact: ours", "Contact: <sip:1001@10.9.9.9>;expires=99")
	if c := reg.h.Get("Contact"); !strings.HasSuffix(c, ">;q=0.5;expires=300") || strings.Contains(c, "192.168") || strings.Contains(c, "instance") {
		t.Errorf("the PBX got %s", c)
	}
	if c := ok.h.Values("Contact"); len(c) != 1 || c[0] != `<sip:1001@192.168.1.9:5061;transport=tls>;expires=300;+sip.instance="<urn:uuid:1>";reg-id=1` {
		t.Errorf("the phone got %q: want its own contact, and none of the plain side", c)
	}
}

// Cisco's phones put a multipart body into their REGISTER. It does not cross,
// and they register.
func TestRegisterWithBody(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	p.send(strings.Replace(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg", 1, "--x\r\n\r\nhi\r\n--x--\r\n", contact),
		"application/sdp", "multipart/mixed; boundary=x", 1))
	reg := b.atPBX("REGISTER")
	if reg.body != "" || reg.h.Get("Content-Type") != "" {
		t.Errorf("the PBX got a body of type %s", reg.h.Get("Content-Type"))
	}
	b.fromPBX(reply(reg, 200, "r", "", "Contact: "+reg.h.Get("Contact")+";expires=600"))
	p.next("200")
}

// A phone behind a NAT that learned its address moves its contact in one
// REGISTER: the new one first, the old one with expires 0.
func TestContactMoves(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	const device = `;+sip.instance="<urn:uuid:1>";reg-id=1`
	first, _ := b.registers(p, "<sip:1001@192.168.1.9:40000;transport=TLS;ob>"+device, 200, "Contact: ours;expires=600")
	for _, contacts := range []string{
		"<sip:1001@203.0.113.9:40000;transport=TLS;ob>" + device + ", <sip:1001@192.168.1.9:40000;transport=TLS;ob>;expires=0" + device,
		"<sip:1001@203.0.113.9:40000;transport=TLS;ob>;expires=0" + device + ", <sip:1001@203.0.113.9:50000;transport=TLS;ob>" + device,
	} {
		reg, _ := b.registers(p, contacts, 200, "Contact: "+first.h.Get("Contact")+";expires=600")
		if c := reg.h.Get("Contact"); c != first.h.Get("Contact") {
			t.Errorf("the PBX got Contact %s, want the device once, and not removed", c)
		}
		if b.bindings() != 1 {
			t.Fatalf("%d bindings", b.bindings())
		}
	}
}

// A phone that does not say which device it is, and writes the port of its
// connection into its contact, keeps its one contact by its Call-ID.
func TestReconnectWithoutInstance(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	first, _ := b.registers(p, "<sip:1001@192.168.1.9:40000>", 200, "Contact: ours;expires=600")
	p.conn.Close()
	again := b.phone()
	for _, expires := range []string{"", "", ";expires=0"} { // it comes back, refreshes and leaves
		reg, _ := b.registers(again, "<sip:1001@192.168.1.9:40001>"+expires, 200, "Contact: "+first.h.Get("Contact")+";expires=600")
		if got, _, _ := strings.Cut(reg.h.Get("Contact"), ";"); got != first.h.Get("Contact") {
			t.Fatalf("the PBX got Contact %s, want %s", got, first.h.Get("Contact"))
		}
	}
	again.send(again.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "another", 1, "", "Contact: <sip:1001@192.168.1.9:40002>"))
	if other := b.atPBX("REGISTER").h.Get("Contact"); other == first.h.Get("Contact") {
		t.Fatal("another phone has the same contact")
	}
}

func TestSeveralDevices(t *testing.T) {
	b := newBench(t)
	desk, mobile := b.phone(), b.phone()
	first, _ := b.registers(desk, `<sip:1001@192.168.1.9>;+sip.instance="<urn:uuid:desk>"`, 200, "Contact: ours;expires=600")
	second, ok := b.registers(mobile, `<sip:1001@192.168.1.9>;+sip.instance="<urn:uuid:mobile>"`, 200, "Contact: ours;expires=600", "Contact: "+first.h.Get("Contact")+";expires=500")
	if first.h.Get("Contact") == second.h.Get("Contact") || b.bindings() != 2 {
		t.Fatalf("two devices have %d bindings: %s, %s", b.bindings(), first.h.Get("Contact"), second.h.Get("Contact"))
	}
	if len(ok.h.Values("Contact")) != 2 {
		t.Errorf("the second phone is shown %q, want both devices", ok.h.Values("Contact"))
	}
	b.registers(mobile, `<sip:1001@192.168.1.9>;+sip.instance="<urn:uuid:mobile>";expires=0`, 200, "Contact: "+first.h.Get("Contact")+";expires=500")
	if b.bindings() != 1 {
		t.Fatalf("after one left, %d bindings", b.bindings())
	}
	b.registers(desk, `<sip:1001@192.168.1.9>;+sip.instance="<urn:uuid:desk>"`, 200, "Contact: ours;expires=600")
	desk.send(desk.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg", 99, "", "Contact: *", "Expires: 0"))
	star := b.atPBX("REGISTER")
	if star.h.Get("Contact") != "*" {
		t.Errorf("the PBX got Contact %s", star.h.Get("Contact"))
	}
	b.fromPBX(reply(star, 200, "r", ""))
	desk.next("200")
	if b.bindings() != 0 {
		t.Fatalf("after *, %d bindings", b.bindings())
	}
}

func TestBindingsExpire(t *testing.T) {
	table := newBindings()
	now := time.Now()
	for i, life := range []time.Duration{time.Second, time.Minute} {
		table.put(&binding{token: fmt.Sprint(i), aor: "a", expires: now.Add(life)})
	}
	if gone := table.expire(now.Add(30 * time.Second)); len(gone) != 1 || gone[0].token != "0" || table.len() != 1 {
		t.Fatalf("expired %v, %d are left", gone, table.len())
	}
	table.remove("1")
	if table.len() != 0 || len(table.byAOR) != 0 {
		t.Fatal("something is left")
	}
}

func TestTokens(t *testing.T) {
	secret := make([]byte, 32)
	parse := func(s string) string {
		n, err := flow.ParseNameAddr(s)
		if err != nil {
			t.Fatal(err)
		}
		return mintToken(secret, "1001@pbx.example.com", deviceOf(n))
	}
	same := parse(`<sip:1001@192.168.1.9:4000>;+sip.instance="<urn:uuid:A>";reg-id=1`)
	for _, device := range []string{`<sip:1001@10.0.0.9:5000>;reg-id=1;+sip.instance="<urn:uuid:a>"`, `<sip:1001@192.168.1.9:4000>;+sip.instance="<urn:uuid:A>";reg-id=2`} {
		if same != parse(device) {
			t.Errorf("a device that moved, or has another connection, has another token: %s", device)
		}
	}
	for _, other := range []string{
		`<sip:1001@192.168.1.9:4000>;+sip.instance="<urn:uuid:B>";reg-id=1`,
		`<sip:1001@192.168.1.9:4000>`,
	} {
		if parse(other) == same {
			t.Errorf("%s has the same token", other)
		}
	}
	if mintToken(secret, "1002@pbx.example.com", "d") == mintToken(secret, "1001@pbx.example.com", "d") ||
		mintToken(append([]byte{1}, secret...), "1001@pbx.example.com", "d") == mintToken(secret, "1001@pbx.example.com", "d") {
		t.Error("users or secrets share a token")
	}
}

// A weight goes on to the PBX if it is one.
func TestWeights(t *testing.T) {
	for _, s := range []string{"0", "1", "0.", "0.5", "0.123", "1.0", "1.000"} {
		if !isWeight(s) {
			t.Errorf("%s is none", s)
		}
	}
	for _, s := range []string{"", "2", "9999999999", "0.1234", "1.1", "1.0000", ".5", "00", "-1"} {
		if isWeight(s) {
			t.Errorf("%s is one", s)
		}
	}
}
