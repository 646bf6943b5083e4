package sipproxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// browser is a phone over secure WebSocket: each of its writes is one message.
func (b *bench) browser() *phone { return b.web(nil) }

// page is one in a browser, which names the page's origin.
func (b *bench) page() *phone { return b.web(http.Header{"Origin": {"https://pbx.example.com"}}) }

func (b *bench) web(header http.Header) *phone {
	b.t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	b.t.Cleanup(transport.CloseIdleConnections)
	ws, _, err := websocket.Dial(context.Background(), "wss://"+b.wss.String()+"/ws", &websocket.DialOptions{ //nolint:bodyclose // it is the WebSocket: closed with it
		HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{"sip"}, HTTPHeader: header,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = ws.CloseNow() })
	conn := websocket.NetConn(context.Background(), ws, websocket.MessageText)
	return &phone{t: b.t, conn: conn, r: bufio.NewReader(conn)}
}

// asBrowser writes a message as JsSIP would: with a host that nobody can look
// up (RFC 7118 appendix B.1).
func asBrowser(s, host string) string {
	s = strings.Replace(s, "SIP/2.0/TLS 192.168.1.9:5061", "SIP/2.0/WSS "+host, 1)
	return strings.Replace(s, contact, "Contact: <sip:k2l9@"+host+";transport=ws;ob>", 1)
}

const webInstance = ";+sip.ice;reg-id=1;+sip.instance=\"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>\""

// registerBrowser registers, and returns the token at the PBX and the answer.
func (b *bench) registerBrowser(p *phone, host string) (token string, answer *message) {
	b.t.Helper()
	p.send(asBrowser(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg-"+host, 1, "",
		contact+webInstance, "Expires: 600", "Supported: path, gruu, outbound"), host))
	reg := b.atPBX("REGISTER")
	got := reg.h.Get("Contact")
	found := regexp.MustCompile(`^<sip:([a-z2-7]{16})@127\.0\.0\.1:\d+>$`).FindStringSubmatch(got)
	if found == nil || strings.Contains(strings.Join(reg.h.Values("Via"), " "), "invalid") {
		b.t.Fatalf("the PBX got Contact %s, Via %s", got, reg.h.Get("Via"))
	}
	b.fromPBX(reply(reg, 200, "r", "", "Contact: "+got+";expires=600"))
	return found[1], p.next("200")
}

// A browser that reloads its page has another contact, and remains one device.
func TestBrowserKeepsItsContact(t *testing.T) {
	b := newBench(t)
	first, answer := b.registerBrowser(b.browser(), "abc.invalid")
	if got := answer.h.Get("Contact"); !strings.HasPrefix(got, "<sip:k2l9@abc.invalid;transport=ws;ob>;expires=") {
		t.Errorf("the browser is shown Contact %s", got)
	}
	p := b.browser()
	again, _ := b.registerBrowser(p, "def.invalid")
	if again != first || b.proxy.Stats().Bindings != 1 {
		t.Fatalf("contacts %s and %s, %d bindings", first, again, b.proxy.Stats().Bindings)
	}
	b.fromPBX(text("", "OPTIONS sip:"+again+"@"+b.plain.String()+" SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKq;rport",
		"Max-Forwards: 70", "From: <sip:pbx@127.0.0.1>;tag=q", "To: <sip:"+again+"@127.0.0.1>", "Call-ID: q", "CSeq: 1 OPTIONS",
		"Contact: <sip:pbx@127.0.0.1:5060>"))
	m := p.next("OPTIONS") // the newer connection has it
	if m.uri() != "sip:k2l9@def.invalid;transport=ws;ob" || !strings.HasPrefix(m.h.Get("Via"), "SIP/2.0/WSS 127.0.0.1:8443;") ||
		m.h.Get("Contact") != "<sip:pbx@pbx.example.com:8443;transport=ws>" {
		t.Errorf("the browser got %s, Via %s, Contact %s", m.uri(), m.h.Get("Via"), m.h.Get("Contact"))
	}
}

func TestBrowserCalls(t *testing.T) {
	b := newBench(t)
	p := b.browser()
	b.registerBrowser(p, "abc.invalid")
	p.send(asBrowser(p.request("INVITE", "sip:602@pbx.example.com", to602, "c1", 1, secureSDP, contact), "abc.invalid"))
	inv := b.atPBX("INVITE")
	for name, values := range inv.h {
		if all := strings.Join(values, " "); strings.Contains(all, "invalid") || strings.Contains(all, "WSS") {
			t.Errorf("%s: %s reached the PBX", name, all)
		}
	}
	b.fromPBX(reply(inv, 200, "pbx", plainSDP, "Contact: <sip:602@127.0.0.1:5060>"))
	ok := p.next("200")
	if ok.h.Get("Contact") != "<sip:602@pbx.example.com:8443;transport=ws>" || !strings.HasPrefix(ok.h.Get("Via"), "SIP/2.0/WSS abc.invalid;") {
		t.Errorf("answered with Contact %s, Via %s", ok.h.Get("Contact"), ok.h.Get("Via"))
	}
	p.send(asBrowser(p.request("ACK", "sip:602@pbx.example.com:8443;transport=ws", to602+";tag=pbx", "c1", 1, ""), "abc.invalid"))
	if ack := b.atPBX("ACK"); ack.uri() != "sip:602@127.0.0.1:5060" {
		t.Errorf("the ACK goes to %s", ack.uri())
	}
	b.fromPBX(text("", "BYE "+strings.Trim(inv.h.Get("Contact"), "<>")+" SIP/2.0", "Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKb;rport",
		"Max-Forwards: 70", "From: "+to602+";tag=pbx", "To: "+inv.h.Get("From"), "Call-ID: c1", "CSeq: 9 BYE"))
	bye := p.next("BYE")
	if bye.uri() != "sip:k2l9@abc.invalid;transport=ws;ob" {
		t.Errorf("the BYE goes to %s", bye.uri())
	}
	p.send(reply(bye, 200, "", ""))
	b.atPBX("200")
	b.noCallLeft()
}
