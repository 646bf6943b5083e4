package sipproxy

import (
	"fmt"
	"strings"
	"testing"
)

// A PBX that sends a phone elsewhere names nothing of the inside: itself is our
// domain, and a token of ours is the user whose phone that is.
func TestPBXRedirects(t *testing.T) {
	b := newBench(t)
	b.proxy.cfg.Inside = []string{"asterisk.lan"}
	b.proxy.inside.Store(newInsideHosts(b.proxy.cfg, b.proxy.cfg.PBXs, nil))
	p, ben := b.phone(), b.phone()
	ben.send(strings.ReplaceAll(ben.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "ben", 1, "", contact), "1001@", "1002@"))
	reg := b.atPBX("REGISTER")
	b.fromPBX(reply(reg, 200, "r", "", "Contact: "+reg.h.Get("Contact")+";expires=600"))
	ben.next("200")
	contacts := []string{
		"Contact: <sip:1003@127.0.0.1:5060;transport=udp>;q=0.9", `Contact: "Cara" <sip:1003@asterisk.lan>;expires=60, <sip:` + tokenIn(reg) + "@" + b.plain.String() + ">",
		"Contact: <sip:+4930@sip.example.net;user=phone>", "Contact: <tel:+49-30-1>",
	}
	want := []string{
		"<sip:1003@pbx.example.com>;q=0.9", `"Cara" <sip:1003@pbx.example.com>;expires=60`, "<sip:1002@pbx.example.com>",
		"<sip:+4930@sip.example.net;user=phone>", "<tel:+49-30-1>",
	}
	for i, method := range []string{"INVITE", "MESSAGE", "SUBSCRIBE"} {
		for _, status := range []int{300, 301, 302, 305, 380} {
			sdp := ""
			if method == "INVITE" {
				sdp = secureSDP
			}
			p.send(p.request(method, "sip:602@pbx.example.com", to602, fmt.Sprintf("c%d-%d", i, status), 1, sdp, contact))
			b.fromPBX(reply(b.atPBX(method), status, "pbx", "", contacts...))
			m := p.next(fmt.Sprint(status))
			if got := m.h.Values("Contact"); strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("%s: %d sends the phone to\n%s\nwant\n%s", method, status, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
	// No other refusal has any.
	p.send(p.request("INVITE", "sip:602@pbx.example.com", to602, "busy", 1, secureSDP, contact))
	b.fromPBX(reply(b.atPBX("INVITE"), 485, "pbx", "", contacts...))
	if m := p.next("485"); m.h.Get("Contact") != "" {
		t.Errorf("a 485 has Contact %s", m.h.Get("Contact"))
	}
	b.noCallLeft()
}

// Nor does a phone that is asked by other means than a call send the PBX to an
// address that only the outside knows.
func TestPhoneRedirectsMessage(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	token := b.register(p)
	b.fromPBX(strings.Replace(strings.ReplaceAll(b.optionsFor(token+"@"+b.plain.String(), "m"), "OPTIONS", "MESSAGE"), "Contact: <sip:asterisk@127.0.0.1>\r\n", "", 1))
	p.send(reply(p.next("MESSAGE"), 302, "anna", "", "Contact: <sips:1003@pbx.example.com:5061;transport=tls>;q=0.5, <tel:+49-30-1>"))
	want := fmt.Sprintf("<sip:1003@%s>;q=0.5 and <sip:+49301@%s;user=phone>", b.pbx.LocalAddr(), b.pbx.LocalAddr())
	if got := strings.Join(b.atPBX("302").h.Values("Contact"), " and "); got != want {
		t.Errorf("the PBX is sent to %s, want %s", got, want)
	}
}
