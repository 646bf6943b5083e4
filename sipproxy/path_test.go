package sipproxy

import (
	"fmt"
	"strings"
	"testing"
)

// pathed is an edge whose PBX keeps Paths.
func pathed(t *testing.T) *bench {
	b := newBench(t)
	b.proxy.cfg.Path = true
	return b
}

// kept answers a REGISTER as such a PBX does, with the contact that it got, and
// returns the token in its Path.
func (b *bench) kept(p *phone, reg *message) (token string) {
	b.t.Helper()
	contact, _, _ := strings.Cut(reg.h.Get("Contact"), ", ") // those after it are removed
	b.fromPBX(reply(reg, 200, "r", "", "Contact: "+contact+";expires=600", "Path: "+reg.h.Get("Path")))
	p.next("200")
	token, rest, _ := strings.Cut(strings.TrimPrefix(reg.h.Get("Path"), "<sip:"), "@")
	if len(token) != tokenLen || rest != b.plain.String()+";lr>" {
		b.t.Fatalf("the PBX got Path %s", reg.h.Get("Path"))
	}
	return token
}

// routed is an INVITE of such a PBX: for the contact, by the Path.
func (b *bench) routed(contact, token, callID string) string {
	invite := strings.Replace(b.inviteTo(token, callID, plainSDP), fmt.Sprintf("sip:%s@%s SIP/2.0", token, b.plain), contact+" SIP/2.0", 1)
	return strings.Replace(invite, "Max-Forwards", fmt.Sprintf("Route: <sip:%s@%s;lr>\r\nMax-Forwards", token, b.plain), 1)
}

// The PBX gets the phone's own contact, and reaches it by the Path alone: what the
// contact's address is does not matter.
func TestPath(t *testing.T) {
	b := pathed(t)
	p := b.phone()
	p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg", 1, "",
		`Contact: <sips:1001@192.168.1.9:5061;transport=tls;SALLYPORT=spoofed;x=y>;q=0.5;+sip.instance="<urn:uuid:desk>"`,
		"Path: <sip:evil@203.0.113.66;lr>", "Supported: replaces, path, outbound"))
	reg := b.atPBX("REGISTER")
	if want := fmt.Sprintf("<sip:1001@192.168.1.9:5061;sallyport=%s>;q=0.5", strings.Split(strings.TrimPrefix(reg.h.Get("Path"), "<sip:"), "@")[0]); reg.h.Get("Contact") != want {
		t.Errorf("the PBX got Contact %s, want %s", reg.h.Get("Contact"), want)
	}
	if len(reg.h.Values("Path")) != 1 || reg.h.Get("Supported") != "replaces, path" {
		t.Errorf("the PBX got Path %q, Supported %s", reg.h.Values("Path"), reg.h.Get("Supported"))
	}
	token := b.kept(p, reg)
	uri, _, _ := strings.Cut(strings.TrimPrefix(reg.h.Get("Contact"), "<"), ">")
	for i, at := range []struct{ uri, token string }{
		{uri, token},
		{"sip:1001@192.168.1.9:5061", token},             // a PBX that keeps no parameters
		{uri, "aaaaaaaaaaaaaaaa"},                        // what the contact says counts
		{"sip:" + token + "@" + b.plain.String(), token}, // and ours still does
	} {
		b.fromPBX(b.routed(at.uri, at.token, fmt.Sprint("c", i)))
		inv := p.next("INVITE")
		if inv.uri() != "sips:1001@192.168.1.9:5061;transport=tls;SALLYPORT=spoofed;x=y" || inv.h.Get("Route") != "" {
			t.Errorf("the phone got %s, Route %s", inv.start, inv.h.Get("Route"))
		}
		p.send(reply(inv, 486, "anna", ""))
		b.atPBX("486")
	}
	for i, at := range []struct{ uri, token string }{
		{"sip:1001@192.168.1.9:5061", "aaaaaaaaaaaaaaaa"}, // a Path that we did not write
		{"sip:1001@192.168.1.9:5061;sallyport=aaaaaaaaaaaaaaaa", token},
	} {
		b.fromPBX(b.routed(at.uri, at.token, fmt.Sprint("d", i)))
		b.atPBX("480")
	}
	b.fromPBX(strings.Replace(b.optionsFor(strings.TrimPrefix(uri, "sip:"), "q"), "Max-Forwards", fmt.Sprintf("Route: <sip:%s@%s;lr>\r\nMax-Forwards", token, b.plain), 1))
	p.next("OPTIONS")
}

// A device that moved takes its former contact away with the REGISTER that tells
// of the new one, and several at one private address stay apart.
func TestPathMoves(t *testing.T) {
	b := pathed(t)
	register := func(p *phone, host, device string) *message {
		t.Helper()
		p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg-"+device, p.n+1, "",
			"Contact: <sip:1001@"+host+`>;+sip.instance="<urn:uuid:`+device+`>"`))
		return b.atPBX("REGISTER")
	}
	p, other := b.phone(), b.phone()
	first := register(p, "192.168.1.9", "desk")
	token := b.kept(p, first)
	second := register(other, "192.168.1.9", "mobile")
	if b.kept(other, second) == token || second.h.Get("Contact") == first.h.Get("Contact") || strings.Contains(second.h.Get("Contact"), ",") {
		t.Fatalf("two devices at one address are %s and %s", first.h.Get("Contact"), second.h.Get("Contact"))
	}
	third := register(p, "10.1.1.1", "desk")
	want := fmt.Sprintf("<sip:1001@10.1.1.1;sallyport=%s>, %s;expires=0", token, first.h.Get("Contact"))
	if third.h.Get("Contact") != want {
		t.Errorf("the PBX got Contact %s, want %s", third.h.Get("Contact"), want)
	}
	b.kept(p, third)
	if again := register(p, "10.1.1.1", "desk"); again.h.Get("Contact") != fmt.Sprintf("<sip:1001@10.1.1.1;sallyport=%s>", token) {
		t.Errorf("the PBX got Contact %s", again.h.Get("Contact"))
	}
}

// Without pbx.path nothing of it is there, and a Route makes no difference.
func TestNoPath(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	reg, _ := b.registers(p, "<sip:1001@192.168.1.9;sallyport=x>", 200, "Contact: ours;expires=600")
	if reg.h.Get("Path") != "" || reg.h.Get("Supported") != "" || len(tokenIn(reg)) != tokenLen {
		t.Errorf("the PBX got Path %s, Supported %s, Contact %s", reg.h.Get("Path"), reg.h.Get("Supported"), reg.h.Get("Contact"))
	}
	b.fromPBX(strings.Replace(b.inviteTo(tokenIn(reg), "c1", plainSDP), "Max-Forwards", "Route: <sip:"+b.plain.String()+";lr>\r\nMax-Forwards", 1))
	p.next("INVITE")
}

// What a PBX wants a phone's requests to go by, they go by, inside.
func TestServiceRoute(t *testing.T) {
	b := newBench(t)
	p, other := b.phone(), b.phone()
	routes := []string{"<sip:orig@127.0.0.1:5060;lr>", "<sip:asterisk.lan;lr>;x=y"}
	_, ok := b.registers(p, "<sip:1001@192.168.1.9>", 200, "Contact: ours;expires=600", "Service-Route: "+routes[0]+", "+routes[1])
	if strings.Contains(fmt.Sprint(ok.h), "127.0.0.1:5060") || ok.h.Get("Service-Route") != "" {
		t.Errorf("the phone is told %v", ok.h)
	}
	for i, method := range []string{"MESSAGE", "SUBSCRIBE", "INVITE"} {
		sdp := ""
		if method == "INVITE" {
			sdp = secureSDP
		}
		p.send(p.request(method, "sip:602@pbx.example.com", to602, fmt.Sprint("c", i), 1, sdp, contact, "Route: <sip:evil@203.0.113.66;lr>"))
		m := b.atPBX(method)
		if got := m.h.Values("Route"); strings.Join(got, " and ") != strings.Join(routes, " and ") {
			t.Errorf("%s goes by %q", method, got)
		}
		if method == "INVITE" { // in the dialog its Record-Route counts
			b.fromPBX(reply(m, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>", "Record-Route: <sip:127.0.0.1:5060;lr>"))
			p.next("200")
			p.send(p.request("ACK", "sip:602@pbx.example.com", to602+";tag=pbx", fmt.Sprint("c", i), 1, ""))
			if got := b.atPBX("ACK").h.Values("Route"); strings.Join(got, " and ") != "<sip:127.0.0.1:5060;lr>" {
				t.Errorf("the ACK goes by %q", got)
			}
		}
	}
	other.send(other.request("MESSAGE", "sip:602@pbx.example.com", to602, "else", 1, ""))
	if m := b.atPBX("MESSAGE"); m.h.Get("Route") != "" {
		t.Errorf("another connection's request goes by %s", m.h.Get("Route"))
	}
	b.registers(p, "<sip:1001@192.168.1.9>", 200, "Contact: ours;expires=600")
	p.send(p.request("MESSAGE", "sip:602@pbx.example.com", to602, "later", 1, ""))
	if m := b.atPBX("MESSAGE"); m.h.Get("Route") != "" {
		t.Errorf("a route that was taken back is still gone by: %s", m.h.Get("Route"))
	}
}
