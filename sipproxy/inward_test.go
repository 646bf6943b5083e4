package sipproxy

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// A PBX that knows only UDP reads nothing of TLS, of WebSocket, or of hosts that
// are none, wherever a phone writes it; but in a digest, which is about that.
func TestNothingOfTLSInside(t *testing.T) {
	for _, c := range []struct{ name, header, want string }{
		{"Refer-To", "<sips:1003@pbx.example.com:5061;transport=tls?Replaces=a%40b%3Bto-tag%3Dt%3Bfrom-tag%3Df>", "<sip:1003@pbx.example.com?Replaces=a%40b%3Bto-tag%3Dt%3Bfrom-tag%3Df>"},
		{"Refer-To", `"Cara" <sip:1003@pbx.example.com;transport=TLS>;x=y`, `"Cara" <sip:1003@pbx.example.com>;x=y`},
		{"Refer-To", "<tel:+49-30-1003>", "<sip:+49301003@pbx.example.com;user=phone>"},
		{"Referred-By", `"Anna" <sips:1001@pbx.example.com>;cid="2@x"`, `"Anna" <sip:1001@pbx.example.com>;cid="2@x"`},
		{"Replaces", "a@b;to-tag=t;from-tag=f", "a@b;to-tag=t;from-tag=f"},
		{"Route", "<sips:pbx.example.com:5061;transport=tls;lr>", ""},
		{"Record-Route", "<sips:proxy.example.com;transport=tls;lr>", ""},
		{"Path", "<sips:proxy.example.com;transport=tls;lr;ob>", ""},
		{"Service-Route", "<sips:proxy.example.com;transport=tls;lr>", ""},
		{"P-Asserted-Identity", "<sips:1001@pbx.example.com>", "<sip:1001@pbx.example.com>"},
		{"P-Preferred-Identity", "<sips:1001@pbx.example.com;transport=tls>", "<sip:1001@pbx.example.com>"},
		{"Remote-Party-Id", "<sips:1001@pbx.example.com>", "<sip:1001@pbx.example.com>"},
		{"Diversion", "<sips:1004@pbx.example.com;transport=tls>;reason=no-answer", "<sip:1004@pbx.example.com>;reason=no-answer"},
		{"History-Info", "<sips:1004@pbx.example.com>;index=1, <sip:1001@pbx.example.com;transport=ws>;index=1.1", "<sip:1004@pbx.example.com>;index=1, <sip:1001@pbx.example.com>;index=1.1"},
		{"Reply-To", "<sips:1009@pbx.example.com;transport=tls>", "<sip:1009@pbx.example.com>"},
		{"Alert-Info", "<sips:ring@pbx.example.com;transport=tls>;info=x", "<sip:ring@pbx.example.com>;info=x"},
		{"Alert-Info", "<http://www.example.com/ring.wav>;info=alert-internal", "<http://www.example.com/ring.wav>;info=alert-internal"},
		{"Call-Info", "<sips:1001@pbx.example.com>;purpose=icon", "<sip:1001@pbx.example.com>;purpose=icon"},
		{"Authorization", `Digest username="1001", realm="a", nonce="n", uri="sips:602@pbx.example.com;transport=tls", response="0"`, `Digest username="1001", realm="a", nonce="n", uri="sips:602@pbx.example.com;transport=tls", response="0"`},
		{"Proxy-Authorization", `Digest username="1001", realm="a", nonce="n", uri="tel:+49-30-1", response="0"`, `Digest username="1001", realm="a", nonce="n", uri="tel:+49-30-1", response="0"`},
	} {
		t.Run(c.name+" "+c.header[:min(12, len(c.header))], func(t *testing.T) {
			b := newBenchUnder(t, func(c *policy.Config) { c.TrustedUsers = []string{"1001"} }) // to say all that there is
			p := b.browser()
			_, _ = b.registerBrowser(p, "df7jal23ls0d.invalid")
			req := p.request("INVITE", "sips:602@pbx.example.com:5061;transport=ws", "<sips:602@pbx.example.com:5061;transport=tls>", "c1", 1, secureSDP, contact, c.name+": "+c.header)
			p.send(asBrowser(strings.Replace(req, `<sip:1001@pbx.example.com>;tag`, `<sips:1001@pbx.example.com;transport=tls>;tag`, 1), "df7jal23ls0d.invalid"))
			inv := b.atPBX("INVITE")
			if got := strings.Join(inv.h.Values(c.name), " and "); got != c.want {
				t.Errorf("%s: %s became %q, want %q", c.name, c.header, got, c.want)
			}
			if inv.uri() != "sip:602@pbx.example.com" || inv.h.Get("To") != "<sip:602@pbx.example.com>" || inv.h.Get("From") != `"Anna" <sip:1001@pbx.example.com>;tag=anna` {
				t.Errorf("the PBX got %s, To %s, From %s", inv.start, inv.h.Get("To"), inv.h.Get("From"))
			}
			delete(inv.h, "Authorization")
			delete(inv.h, "Proxy-Authorization")
			// A branch, a token and our port may have any of these letters and digits.
			chosen := regexp.MustCompile(`branch=z9hG4bK[0-9a-f]+|(<sip:[a-z2-7]{16}@)?` + regexp.QuoteMeta(b.plain.String()))
			text := chosen.ReplaceAllString(fmt.Sprint(inv.start, inv.h), "")
			for _, word := range []string{"sips:", "transport=", ".invalid", "5061", "WSS"} {
				if strings.Contains(strings.ToLower(text), strings.ToLower(word)) {
					t.Errorf("the PBX read %s in %s", word, text)
				}
			}
		})
	}
}

// What a phone says of dialogs and of who is there is written so too.
func TestStateInward(t *testing.T) {
	b := newBench(t)
	p := b.phone()
	const pidf = `<presence entity="pres:1001@pbx.example.com"><tuple id="a"><contact priority="0.8">sips:1001@pbx.example.com:5061;transport=tls;gr=x</contact></tuple></presence>`
	const dialogs = `<dialog-info entity="sips:1001@pbx.example.com"><dialog id="1" call-id="%s"><remote><target uri="sip:1002@203.0.113.9:5061;transport=TLS;ob?Subject=a&amp;b=c"/></remote></dialog></dialog-info>`
	sealed := b.proxy.crossCallID("a@" + b.pbx.LocalAddr().String())
	for i, c := range []struct{ kind, body, want string }{
		{"application/pidf+xml", pidf, `<presence entity="pres:1001@pbx.example.com"><tuple id="a"><contact priority="0.8">sip:1001@pbx.example.com;gr=x</contact></tuple></presence>`},
		{"application/dialog-info+xml", fmt.Sprintf(dialogs, sealed),
			fmt.Sprintf(`<dialog-info entity="sip:1001@pbx.example.com"><dialog id="1" call-id="%s"><remote><target uri="sip:1002@203.0.113.9:5061?Subject=a&amp;b=c"/></remote></dialog></dialog-info>`, "a@"+b.pbx.LocalAddr().String())},
		{"text/plain", "write to sips:1001@pbx.example.com;transport=tls", "write to sips:1001@pbx.example.com;transport=tls"}, // somebody's words
	} {
		p.send(strings.Replace(p.request("PUBLISH", "sip:1001@pbx.example.com", "<sip:1001@pbx.example.com>", fmt.Sprint("c", i), 1, c.body, "Event: x"), "application/sdp", c.kind, 1))
		if m := b.atPBX("PUBLISH"); m.body != c.want {
			t.Errorf("the PBX got\n%s\nwant\n%s", m.body, c.want)
		}
	}
}
