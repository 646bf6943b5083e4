package flow

import (
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
)

// request6 is the REGISTER that most messages of RFC 5118 are made of. The
// messages here are ours with the RFC's addresses and defects, not its bytes.
func request6(method, uri, via, rest string) string {
	to := "To: sip:user@example.com"
	if method == "BYE" {
		to += ";tag=bd76ya"
	}
	return method + " " + uri + " SIP/2.0\r\n" + to + "\r\nFrom: sip:user@example.com;tag=81x2\r\nVia: " + via + "\r\n" +
		"Call-ID: SSG9559905523997077@hlau_4100\r\nMax-Forwards: 70\r\nContact: \"Caller\" <sip:caller@[2001:db8::1]>\r\nCSeq: 98176 " + method + "\r\n" +
		strings.ReplaceAll(rest, "\n", "\r\n") + "Content-Length: 0\r\n\r\n"
}

// IPv6 in its places (RFC 5118 section 4): what is read of each.
func TestTortureRFC5118(t *testing.T) {
	const via = "SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKas3-111"
	for _, c := range []struct {
		name, text string
		code       int // 0: accepted
		host       string
		port       int
		via        string // the first, as it is written anew
	}{
		{"4.1 reference", request6("REGISTER", "sip:[2001:db8::10]", via, ""), 0, "[2001:db8::10]", 0, via},
		{"4.2 reference without brackets", request6("REGISTER", "sip:2001:db8::10", via, ""), 400, "", 0, ""},
		{"4.3 port inside of the brackets", request6("REGISTER", "sip:[2001:db8::10:5070]", via, ""), 0, "[2001:db8::10:5070]", 0, via},
		{"4.4 port outside of the brackets", request6("REGISTER", "sip:[2001:db8::10]:5070", via, ""), 0, "[2001:db8::10]", 5070, via},
		{"4.5 received with brackets", request6("BYE", "sip:[2001:db8::10]", "SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKas3-111", ""), 0,
			"[2001:db8::10]", 0, "SIP/2.0/UDP [2001:db8::9:1];received=[2001:db8::9:255];branch=z9hG4bKas3-111"},
		{"4.5 received without brackets", request6("OPTIONS", "sip:[2001:db8::10]", "SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bKas3", ""), 0,
			"[2001:db8::10]", 0, "SIP/2.0/UDP [2001:db8::9:1];received=2001:db8::9:255;branch=z9hG4bKas3"},
		{"4.7 both families in Via", request6("BYE", "sip:user@host.example.net", "SIP/2.0/UDP [2001:db8::9:1]:6050;branch=z9hG4bKas3-111",
			"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKjhja8781hjuaij65144\nVia: SIP/2.0/TCP [2001:db8::9:255];branch=z9hG4bK451jj;received=192.0.2.200\n"), 0,
			"host.example.net", 0, "SIP/2.0/UDP [2001:db8::9:1]:6050;branch=z9hG4bKas3-111"},
		{"4.9 mapped address", request6("OPTIONS", "sip:user@[::ffff:192.0.2.10]:19823", "SIP/2.0/UDP [::ffff:192.0.2.2]:5060;branch=z9hG4bKbh19", ""), 0,
			"[::ffff:192.0.2.10]", 19823, "SIP/2.0/UDP [::ffff:192.0.2.2]:5060;branch=z9hG4bKbh19"},
		{"4.10 three colons, which the grammar of RFC 3261 allowed", request6("OPTIONS", "sip:user@[2001:db8:::192.0.2.1]", via, ""), 400, "", 0, ""},
		{"4.10 three colons in a Via", request6("OPTIONS", "sip:user@example.com", "SIP/2.0/UDP [2001:db8:::192.0.2.1];branch=z9hG4bKx", ""), 400, "", 0, ""},
		{"a zone", request6("OPTIONS", "sip:user@[fe80::1%25eth0]", via, ""), 400, "", 0, ""},
		{"brackets around IPv4", request6("OPTIONS", "sip:user@[192.0.2.1]", via, ""), 400, "", 0, ""},
		{"an open bracket", request6("OPTIONS", "sip:user@[2001:db8::1", via, ""), 400, "", 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, m, fault := parseDatagram([]byte(c.text))
			switch {
			case fault == nil && c.code != 0:
				t.Fatalf("passes as\n%s", m)
			case fault != nil && fault.Code != c.code:
				t.Fatalf("refused: %v", fault)
			case fault != nil:
				return
			}
			req := m.(*sip.Request)
			if req.Recipient.Host != c.host || req.Recipient.Port != c.port {
				t.Errorf("goes to %q port %d, want %q port %d", req.Recipient.Host, req.Recipient.Port, c.host, c.port)
			}
			if got := req.Via().Value(); got != c.via {
				t.Errorf("the first Via is %s, want %s", got, c.via)
			}
			if want := strings.Count(c.text, "\r\nVia:"); len(req.GetHeaders("Via")) != want {
				t.Errorf("%d Via, want %d", len(req.GetHeaders("Via")), want)
			}
		})
	}
}
