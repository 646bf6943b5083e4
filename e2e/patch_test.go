package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/e2e/peers"
)

// published is a message that is known to have broken some SIP software.
type published struct {
	source string
	method string              // of the good request that it is made of
	spoil  func(string) string // that one
	clean  string              // the PBX gets the request without what matches this; empty: nothing at all
}

// good is a request that reaches the PBX, with a body if it is an INVITE.
func good(host *peers.Host, method, id string) string {
	body, more := "", "Contact: <sip:1001@"+host.Addr.String()+":5061;transport=tls>\r\n"
	switch method {
	case "INVITE":
		body = strings.ReplaceAll("v=0\r\no=- 1 1 IN IP4 203.0.113.99\r\ns=-\r\nc=IN IP4 203.0.113.99\r\nt=0 0\r\nm=audio 17000 RTP/SAVP 0 101\r\n"+
			"a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"+goodKey+"a=sendrecv\r\n", "203.0.113.99", host.Addr.String())
		more += "Content-Type: application/sdp\r\n"
	case "SUBSCRIBE":
		more += "Event: message-summary\r\nAccept: application/simple-message-summary\r\nExpires: 600\r\n"
	case "PUBLISH", "NOTIFY":
		more += "Event: presence\r\nSubscription-State: active\r\n"
	case "REGISTER":
		more += "Expires: 600\r\n"
	}
	uri, to := "sip:600@pbx.example.com", "<sip:600@pbx.example.com>"
	if method == "REGISTER" {
		uri, to = "sip:pbx.example.com", "<sip:1001@pbx.example.com>"
	}
	return fmt.Sprintf("%[1]s %[2]s SIP/2.0\r\nVia: SIP/2.0/TLS %[3]s:5061;branch=z9hG4bK%[4]s;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:1001@pbx.example.com>;tag=f\r\nTo: %[5]s\r\nCall-ID: %[4]s\r\nCSeq: 1 %[1]s\r\n%[6]sContent-Length: %[7]d\r\n\r\n%[8]s",
		method, uri, host.Addr, id, to, more, len(body), body)
}

const goodKey = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n"

// with puts something in the place of a part of the head.
func with(old, replacement string) func(string) string {
	return func(s string) string { return strings.Replace(s, old, replacement, 1) }
}

// above adds header lines.
func above(lines string) func(string) string { return with("Max-Forwards", lines+"\r\nMax-Forwards") }

// described changes the description, and the length with it.
func described(old, replacement string) func(string) string {
	return func(s string) string {
		head, body, _ := strings.Cut(s, "\r\n\r\n")
		length := len(body)
		body = strings.ReplaceAll(body, old, replacement)
		return strings.Replace(head, fmt.Sprint("Content-Length: ", length), fmt.Sprint("Content-Length: ", len(body)), 1) + "\r\n\r\n" + body
	}
}

// The bytes are those that were published, where they were; otherwise what the
// advisory or the fix says of them. Those that break by a connection's end are
// AbruptClose's, by their number MessageFlood's, by Content-Length HugeLengths'.
func publishedMessages() []published {
	list := []published{
		{source: "CVE-2017-9372, AST-2017-002 (PJSIP): CSeq with a method of 4 KB", method: "OPTIONS", spoil: with("1 OPTIONS", "1 "+strings.Repeat("A", 4000))},
		{source: "CVE-2017-9372: a method of 4 KB in both places", method: "OPTIONS", spoil: func(s string) string { return strings.ReplaceAll(s, "OPTIONS", strings.Repeat("A", 4000)) }},
		{source: "CVE-2017-9372: CSeq of 4000 digits", method: "INVITE", spoil: with("1 INVITE", strings.Repeat("1", 4000)+" INVITE")},
		{source: "CVE-2017-9359, AST-2017-003 (PJSIP): a multipart body without its boundary", method: "INVITE", spoil: with("application/sdp", "multipart/mixed;boundary=")},
		{source: "CVE-2018-7284, AST-2018-004 (ES2018-01): fifty Accept", method: "SUBSCRIBE", spoil: above(strings.TrimSuffix(strings.Repeat("Accept: "+strings.Repeat("A", 104)+"\r\n", 50), "\r\n"))},
		{source: "CVE-2018-1000098, AST-2018-002 (ES2018-03): a payload type of 2^32", method: "INVITE", spoil: described("RTP/SAVP 0 101", "RTP/SAVP 4294967296")},
		{source: "AST-2018-002: a payload type of 2^32 among others", method: "INVITE", spoil: described("SAVP 0 101", "SAVP 0 101 4294967296")},
		{source: "CVE-2018-1000099, AST-2018-003 (ES2018-02): fmtp with a NUL", method: "INVITE", spoil: described("a=fmtp:", "a=fmtp\x00:")},
		{source: "AST-2018-003: fmtp of nothing, of no number, and of none that is there", method: "INVITE", spoil: described("a=fmtp:101", "a=fmtp:\r\na=fmtp:x evil\r\na=fmtp:999999 evil\r\na=fmtp:101"), clean: "evil"},
		{source: "CVE-2018-8828 (Kamailio, ES2018-05): a From tag of 280 bytes", method: "REGISTER", spoil: with("tag=f", "tag=bk1RdY"+strings.Repeat("a", 274))},
		{source: "CVE-2018-8828: a To tag of 280 bytes", method: "OPTIONS", spoil: with("To: <sip:600@pbx.example.com>", "To: <sip:600@pbx.example.com>;tag="+strings.Repeat("a", 280))},
		{source: "CVE-2018-8828: a branch of 300 bytes", method: "REGISTER", spoil: with("z9hG4bK", "z9hG4bK"+strings.Repeat("a", 300))},
		{source: "CVE-2020-28361 (Kamailio, ES2020-01): a space in a header's name", method: "INVITE", spoil: above("X-Evil : evil"), clean: "(?i)evil"},
		{source: "CVE-2020-28361: the same of an identity, with a tab", method: "INVITE", spoil: above("P-Asserted-Identity\t : <sip:evil@pbx.example.com>"), clean: "(?i)evil|asserted"},
		{source: "CVE-2020-28361: the same, folded", method: "OPTIONS", spoil: above("Remote-Party-ID\r\n : <sip:evil@pbx.example.com>")},
		{source: "CVE-2026-57162 (PJSIP), CVE-2012-0885: a key of 4 KB", method: "INVITE", spoil: described("inline:", "inline:"+strings.Repeat("A", 4096))},
		{source: "CVE-2026-57162: a crypto tag of 4 KB", method: "INVITE", spoil: described("crypto:1", "crypto:"+strings.Repeat("1", 4096))},
		{source: "CVE-2026-57162: a second crypto of 4 KB", method: "INVITE", spoil: described(goodKey, goodKey+"a=crypto:2 "+strings.Repeat("X", 4096)+" inline:"+strings.Repeat("A", 4096)+"\r\n")},
		{source: "CVE-2012-0885, AST-2012-001: a crypto for a stream that is refused", method: "INVITE", spoil: described("a=sendrecv\r\n", "a=sendrecv\r\nm=video 0 RTP/SAVP 96\r\n"+goodKey), clean: "crypto"},
		{source: "GHSA-wxfg-3gwh-rhvx (OpenSIPS): a Via without its host", method: "OPTIONS", spoil: with("SIP/2.0/TLS ", "SIP/2.0/TLS;branch=")},
		{source: "GHSA-wxfg-3gwh-rhvx: a Via that ends in its transport", method: "OPTIONS", spoil: above("Via: SIP/2.0/")},
		{source: "GHSA-358f-935m-7p9c (OpenSIPS): a Request-URI's port of eleven digits", method: "INVITE", spoil: with("pbx.example.com SIP", "pbx.example.com:99999999999 SIP")},
		{source: "GHSA-358f-935m-7p9c: a Request-URI's port of nothing", method: "OPTIONS", spoil: with("pbx.example.com SIP", "pbx.example.com: SIP")},
		{source: "GHSA-xj5x-g52f-548h (OpenSIPS): a description without a line end", method: "INVITE", spoil: described("\r\n", " ")},
		{source: "GHSA-xj5x-g52f-548h: a description of one line, cut short", method: "INVITE", spoil: func(s string) string {
			head, body, _ := strings.Cut(s, "\r\n\r\n")
			return strings.Replace(head, fmt.Sprint("Content-Length: ", len(body)), "Content-Length: 2", 1) + "\r\n\r\nv="
		}},
		{source: "CVE-2026-46334 (OpenSIPS): b= without a colon", method: "INVITE", spoil: described("t=0 0", "b=AS\r\nt=0 0")},
	}
	for _, c := range []string{"\x00", "\x01", "\x0b", "\x0c", "\x1f"} { // AST-2016-009 told of it first
		const source = "GHSA-4h4c-qgxg-p3qv, CVE-2016-9938 (chan_sip): %q behind the name of a second %s"
		list = append(list,
			published{source: fmt.Sprintf(source, c, "To"), method: "INVITE", spoil: with("To: <sip:600@pbx.example.com>", "To: <sip:600@pbx.example.com>;tag=theirs\r\nTo"+c+": <sip:610@pbx.example.com>")},
			published{source: fmt.Sprintf(source, c, "Contact"), method: "REGISTER", spoil: above("Contact" + c + ": <sip:evil@203.0.113.66>")},
		)
	}
	return list
}

// Each stops at the edge, whoever sends it, or goes on without what is wrong with it;
// the PBX, and a call, do not notice. What each was made of does get through.
func TestVirtualPatch(t *testing.T) {
	const patient = "[policy]\nauth_failures = 0\nmax_connections_per_address = 0\nnew_connections_per_second = 0.0\n" // what else it refuses, it does
	o := newOfficeWith(t, peers.AsteriskConfig{Tapped: true}, peers.EdgeConfig{PBX: peers.Unchecked, Extra: patient})
	call := o.talks("1002")
	host := o.Phone("sender")
	connect := func(registered bool) *peers.Phone {
		phone := peers.NewPhone(host, o.edge, "1001")
		if registered {
			if m := phone.Register("secret-1001", 600, ""); m.Status() != 200 {
				t.Fatalf("registration answered %s", m.Start)
			}
		}
		return phone
	}
	for who, registered := range map[string]bool{"a stranger": false, "a phone": true} {
		for _, method := range []string{"OPTIONS", "INVITE", "SUBSCRIBE", "REGISTER"} {
			phone := connect(registered)
			if got, _ := o.torture(phone, good(phone.Host, method, "good-"+peers.Random(4))); got.closed || !strings.HasPrefix(got.pbx, method+" ") {
				t.Fatalf("a good %s of %s became %+v: nothing would get through", method, who, got)
			}
			phone.Close()
		}
		tries, reached := 0, 0
		for _, c := range publishedMessages() {
			phone := connect(registered)
			text := good(phone.Host, c.method, "bad-"+peers.Random(4))
			bad := c.spoil(text)
			if bad == text {
				t.Fatalf("%s: nothing is wrong with the message", c.source)
			}
			got, wires := o.torture(phone, bad)
			phone.Close()
			tries++
			if len(wires) > 0 {
				reached++
			}
			if !o.edge.Running() || !o.pbx.Running() {
				t.Fatalf("%s, of %s: the edge or Asterisk ended", c.source, who)
			}
			c.judge(t, who, got, wires)
		}
		t.Logf("%s: %d messages, %d reached the PBX, without what was wrong with them", who, tries, reached)
	}
	call.keepsSound(t, "malformed messages")
	call.ends()
}

func (c published) judge(t *testing.T, who string, got tortured, wires []string) {
	t.Helper()
	switch {
	case c.clean == "":
		if len(wires) > 0 {
			t.Errorf("%s, of %s: the PBX got\n%q", c.source, who, wires)
		}
		if got.status < 400 && !got.closed {
			t.Errorf("%s, of %s: became %+v, want a refusal or the connection's end", c.source, who, got)
		}
	case len(wires) == 0:
		t.Errorf("%s, of %s: became %+v, want the rest of it at the PBX", c.source, who, got)
	}
	for _, wire := range wires {
		if found := regexp.MustCompile(c.clean).FindString(wire); found != "" {
			t.Errorf("%s, of %s: the PBX got %q in\n%s", c.source, who, found, wire)
		}
	}
}
