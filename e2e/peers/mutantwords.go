package peers

import (
	"math/rand/v2"
	"strings"
)

// odd are bytes that readers disagree about.
var odd = []string{
	"\x00", "\x01", "\x08", "\t", "\n", "\x0b", "\x0c", "\r", "\x1a", "\x1b", "\x1f", " ", "\"", "%", "%00", "%0d%0a", ",", ";", ":", "<", ">", "?",
	"@", "\\", "\x7f", "\x80", "\x85", "\u00a0", "\u200b", "\ufeff", "\xc0\x80", "\xff", "'", "(", ")", "//", "[", "]", "=", "&", "#",
}

var compactForm = map[string]string{
	"From": "f", "To": "t", "Call-ID": "i", "Contact": "m", "Content-Length": "l", "Via": "v", "Content-Type": "c",
}

var startLines = []func(string) string{
	func(s string) string { return strings.ReplaceAll(s, " ", "  ") },
	func(s string) string { return strings.ReplaceAll(s, " ", "\t") },
	func(s string) string { return s + " " },
	func(s string) string { return " " + s },
	func(s string) string { return strings.Replace(s, "SIP/2.0", "sip/2.0", 1) },
	func(s string) string { return strings.Replace(s, "SIP/2.0", "SIP/2.1", 1) },
	func(s string) string { return strings.Replace(s, "SIP/2.0", "SIP/02.0", 1) },
	func(s string) string { return strings.Replace(s, " SIP/2.0", "", 1) },
	func(s string) string { return strings.Replace(s, " SIP/2.0", "\r\n SIP/2.0", 1) },
	func(s string) string { return strings.Replace(s, " sip:", " <sip:", 1) + ">" },
	func(s string) string { return s + " SIP/2.0" },
	func(s string) string { return "SIP/2.0 200 OK" },
	func(s string) string { return "\r\n" + s },
}

// uris are ways to write an address, and to hide one in it.
var uris = []string{
	"sip:600@pbx.example.com", "sips:600@pbx.example.com", "tel:600", "tel:+4930600;phone-context=x", "SIP:600@PBX.example.com", "sip:pbx.example.com",
	"sip://600@pbx.example.com", "sip:600:secret@pbx.example.com", "sip:600:a:b@pbx.example.com", "sip:600;isub=1@pbx.example.com", "sip:600?x@pbx.example.com",
	"sip:%36%30%30@pbx.example.com", "sip:6%300@pbx.example.com", "sip:6%00@pbx.example.com", "sip:6%40evil@pbx.example.com", "sip:6%3b@pbx.example.com", "sip:6%3a0@pbx.example.com",
	"sip:600@pbx.example.com;user=phone", "sip:600@pbx.example.com;transport=udp;lr", "sip:600@pbx.example.com;maddr=192.0.2.66", "sip:600@pbx.example.com?Route=%3Csip:192.0.2.66%3E",
	"sip:600@pbx.example.com:5060", "sip:600@pbx.example.com:05060", "sip:600@pbx.example.com:0", "sip:600@pbx.example.com:65536", "sip:600@pbx.example.com:", "sip:600@[2001:db8::1]",
	"sip:600@[2001:db8::1]:5060", "sip:600@2001:db8::1", "sip:600@[::ffff:192.0.2.1]", "sip:600@192.0.2.1", "sip:600@10.0.0.5", "sip:600@a@pbx.example.com", "sip:@pbx.example.com",
	"sip:600@", "sip:", "600@pbx.example.com", "http://pbx.example.com/", "sip:6&0=0+$,;?/@pbx.example.com", "sip:6,0@pbx.example.com", "sip:*600@pbx.example.com", "sip:#600@pbx.example.com",
	"sip:6-0-0@pbx.example.com", "sip:(6)00@pbx.example.com", "sip:'600'@pbx.example.com", "sip:600!@pbx.example.com", "sip:6~0@pbx.example.com", "sip:h@pbx.example.com", "sip:s@pbx.example.com",
	"sip:600@pbx.example.com;x=\"a\"", "sip:600@pbx.example.com;a=b;a=c", "sip:600@pbx.example.com;=x", "sip:600@pbx.example.com;;", "sip:600@pbx_example.com", "sip:600@pbx.example.com.", "sip:600@-", "sip:1001@pbx.example.com",
	"sip:600@pbx.example.com;method=INVITE", "sip:%2f%2f600@pbx.example.com", "sip:600%20@pbx.example.com", "sip:%20600@pbx.example.com", "sip:600%22@pbx.example.com", "sip:600%3Cx@pbx.example.com", "sip:%C3%BC@pbx.example.com", "sip:%ff@pbx.example.com",
	"sip:" + strings.Repeat("6", 300) + "@pbx.example.com", "sip:600@" + strings.Repeat("x", 250) + ".com",
}

// headerValues are what stands in the place of a header's value; $ is the
// value that it had.
var headerValues = map[string][]string{
	"From": parties(), "To": parties(),
	"Contact": append(parties(), "*", "$, <sip:evil@192.0.2.66>", "$;expires=0", "$;q=9999999999", "<sip:>", "<sip:1001@203.0.113.11:5061>;expires=\"1\"", "$;+sip.instance=\"<urn:uuid:0>\""),
	"Call-ID": {"$ x", "$@x", "", "$\"x\"", "$<x>", "$,x", "$;x", "$\\", "$(x)", "$%00", "$/../x", "$'x'", strings.Repeat("x", 600), "@", "x@", "$\tx", "$\r\n x"},
	"CSeq": {"0$", "00000000000$", "$ x", "+$", "-$", "1 ", " 1", "0x1 INVITE", "4294967296 OPTIONS", "4294967297 OPTIONS", "2147483648 OPTIONS", "2147483647 OPTIONS", "99999999999999999999 OPTIONS",
		"1\tOPTIONS", "1  OPTIONS", "1 options", "1 INVITE", "1 BYE", "1 CANCEL", "1 REGISTER", "1OPTIONS", "1,OPTIONS", "1 OPTIONS;x", "\r\n 1\r\n OPTIONS", "1.0 OPTIONS", "1e3 OPTIONS"},
	"Content-Length": {"$ ", "+$", "-1", "0$", "00000$", "$,$", "$ 0", "0x0", "4294967296", "4294967328", "18446744073709551616", "", " ", "1", "$1", "0", "$;x", "\"$\"", "\r\n $", "0.0", "2147483648", "\t$"},
	"Max-Forwards":   {"0", "1", "-1", "255", "256", "4294967366", "070", "70 70", "70;x", "", "0x46", "+70", "99999999999999"},
	"Via": {"$, SIP/2.0/UDP 192.0.2.66;branch=z9hG4bKx", "SIP / 2.0 / TLS 203.0.113.11:5061 ;branch=z9hG4bKx", "SIP/2.0/UDP 192.0.2.66;branch=z9hG4bKx;rport", "$;branch=z9hG4bKy", "$;received=10.0.0.5", "$;maddr=10.0.0.5",
		"SIP/3.0/TLS h;branch=x", "SIP/2.0/TLS", "sip/2.0/tls h;branch=z9hG4bKx", "SIP/2.0/TLS h:x;branch=z9hG4bKx", "SIP/2.0/TLS [2001:db8::1];branch=z9hG4bKx", "$;x=\"a;branch=z\"", "$;x=\"a,b\"", "$;rport=1", "SIP/2.0/TLS h ; branch = z9hG4bKx", "", ",$", "$,", "SIP/2.0/TLS h;branch=z9hG4bK" + strings.Repeat("x", 300)},
	"Content-Type": {"multipart/mixed;boundary=x", "application/sdp;x=\"a\"", "application/sdp ; x", "APPLICATION/SDP", "text/plain", "sdp", "/", "a/b/c", "application/sdp, text/plain", "\"application/sdp\"", ""},
	"Authorization": {"Digest", "Digest ", "digest $", "$,", "$,,", ",$", "Digest username=1001", "Digest username=\"1001", "$, x", "$, x=", "$, =y", "$, x=\"a\\\"b\"", "$, qop=auth, nc=00000001, cnonce=\"c\"",
		"$, qop=\"auth\", nc=1, cnonce=c", "$, username=\"1002\"", "$;x=y", "Digest username=\"\"", "Digest\tusername=\"1001\"", "Digest username = \"1001\" , realm = \"asterisk\"", "$, opaque=\"\"", "$, stale=false",
		"$, Digest username=\"1002\"", "$, uri=sip:x@y", "Basic MTAwMTp4", "Bearer x", "Digest username=\"ü\"", "Digest username='1001'", "Digest x", "$, response=x", "DIGEST username=\"1001\", realm=\"asterisk\", nonce=\"n\", uri=\"sip:x\", response=\"0\""},
	"Supported":       {"", ",", "timer,", ",timer", "timer,,100rel", "a b", "\"timer\"", "timer;x=y", "*", "ü", "$, $", strings.Repeat("a, ", 70) + "a"},
	"Allow":           {"", ",", "INVITE,", "INVITE,,ACK", "a b", "\"INVITE\"", "invite", "*", "ü", strings.Repeat("A, ", 70) + "A"},
	"Session-Expires": {"", "0", "1800", "1800;", "1800;;x", "1800;refresher", "1800;refresher=", "1800;refresher=uas", "1800;refresher=\"uac\"", "1800 ;refresher = uac", "4294967296", "99999999999", "1800;=x", "1800,90", "90 90", "1800;refresher=ua c"},
	"Min-SE":          {"", "0", "90;x", "90;", "90;x=y", "4294967296", "-1", "90 90", "090", "90,90"},
	"Expires":         {"0", "-1", "4294967296", "60;x", "060", "60 60", "Wed, 01 Jan 2031 00:00:00 GMT", "", "6e1"},
	"Accept":          {strings.Repeat("a/b,", 2000) + "a/b", "", "*/*;q=x", "\"a/b\""},
	"User-Agent":      {"a (b)", "a\r\n b", "\"", "\\", "<script>", "a\r\n\r\nb", "${SHELL(x)}", strings.Repeat("x", 9000), "a\r\nFrom : <sip:evil@x>;tag=1", "a\rFrom: <sip:evil@x>;tag=1", "a\nFrom: <sip:evil@x>;tag=1", "a\x00\r\nX: y"},
}

// parties are ways to write a From or To, and to hide another in it.
func parties() []string {
	list := []string{
		"sip:1001@pbx.example.com;tag=x", "<sip:1001@pbx.example.com>;tag=x", "\"<sip:1002@evil>;tag=y\" <sip:1001@pbx.example.com>;tag=x", "\"a\\\"<sip:1002@evil>;tag=y\" <sip:1001@pbx.example.com>;tag=x",
		"\"a\\\\\" <sip:1001@pbx.example.com>;tag=x", "\"a <sip:1001@pbx.example.com>;tag=x", "a\" <sip:1001@pbx.example.com>;tag=x", "a b c <sip:1001@pbx.example.com>;tag=x", "a, b <sip:1001@pbx.example.com>;tag=x",
		"<sip:1001@pbx.example.com>;TAG=x", "<sip:1001@pbx.example.com>;tag=x;tag=y", "<sip:1001@pbx.example.com>;tag=\"x\"", "<sip:1001@pbx.example.com> ; tag = x", "<sip:1001@pbx.example.com>;x=\"a;tag=z\";tag=x", "<sip:1001@pbx.example.com>;tagx=z;tag=x",
		"<sip:1001@pbx.example.com>;xtag=z;tag=x", "<sip:1001@pbx.example.com;tag=z>;tag=x", "<sip:1001@pbx.example.com>;tag=", "<sip:1001@pbx.example.com>;tag", "<sip:1001@pbx.example.com>tag=x", "<sip:1001@pbx.example.com>", "<<sip:1001@pbx.example.com>>;tag=x",
		"<sip:1001@pbx.example.com>,<sip:1002@evil>;tag=x", "< sip:1001@pbx.example.com >;tag=x", "<sip:1001@pbx.example.com;tag=x", "sip:1001@pbx.example.com>;tag=x", "\"\" <sip:1001@pbx.example.com>;tag=x", "\"\u00fc\" <sip:1001@pbx.example.com>;tag=x",
		"\u00fc <sip:1001@pbx.example.com>;tag=x", "'a' <sip:1001@pbx.example.com>;tag=x", "\"a\" sip:1001@pbx.example.com;tag=x", "\"a\"<sip:1001@pbx.example.com>;tag=x", "<sip:1001@pbx.example.com>\t;tag=x", "<sip:1001@pbx.example.com>;tag=x;", "<sip:1001@pbx.example.com>;;tag=x",
		"<sip:1001@pbx.example.com>;tag=x=y", "<sip:1001@pbx.example.com>;tag=x y", "<sip:1001@pbx.example.com>;tag=%78", "<sip:1001@pbx.example.com>;tag=" + strings.Repeat("x", 250), "<sip:1001@pbx.example.com>;tag=" + strings.Repeat("x", 300), "", "$", "*", "$,$", "\"" + strings.Repeat("x", 500) + "\" <sip:1001@pbx.example.com>;tag=x",
		"\"a\" \"b\" <sip:1001@pbx.example.com>;tag=x", "(comment) <sip:1001@pbx.example.com>;tag=x", "a<b <sip:1001@pbx.example.com>;tag=x", "\"a\r\n b\" <sip:1001@pbx.example.com>;tag=x", "<sip:1001@pbx.example.com>\r\n ;tag=x", "<sip:1001@pbx.example.com>;tag\r\n =\r\n x",
	}
	for _, uri := range uris {
		list = append(list, "<"+uri+">;tag=x", uri+";tag=x", "\"b\" <"+strings.ReplaceAll(uri, "600", "1001")+">;tag=x")
	}
	return list
}

// duplicate puts a second header of a kind before or behind the first.
func duplicate(r *rand.Rand, s string) string {
	lines := []string{
		"From: <sip:1002@pbx.example.com>;tag=dup", "To: <sip:1002@pbx.example.com>", "Call-ID: dup", "CSeq: 99 OPTIONS", "Contact: <sip:dup@192.0.2.66>", "Content-Length: 0", "Content-Length: 5",
		"Via: SIP/2.0/UDP 192.0.2.66;branch=z9hG4bKdup", "Max-Forwards: 1", "Content-Type: text/plain", "Expires: 0", "Route: <sip:192.0.2.66;lr>", "Route: <sip:192.0.2.66;lr>, <sip:x>", "Record-Route: <sip:192.0.2.66>", "Require: x", "Proxy-Require: x",
		"Authorization: Digest username=\"1002\"", "P-Asserted-Identity: <sip:1002@x>", "Remote-Party-ID: <sip:1002@x>;party=calling", "Subject: " + strings.Repeat("x", 4000), "Replaces: x;to-tag=a;from-tag=b", "Refer-To: <sip:602@pbx.example.com>", "Content-Encoding: gzip", "X: " + strings.Repeat("y ", 100), "Via: SIP/2.0/UDP h", "Alert-Info: <http://x>", "Warning: 399 x \"y\"",
	}
	line := pick(r, lines...)
	name, value, _ := strings.Cut(line, ": ")
	if short := compactForm[name]; short != "" && r.IntN(3) == 0 {
		name = short
	}
	name = pick(r, name, name, strings.ToUpper(name), strings.ToLower(name)) + pick(r, "", "", " ", "\t", "\r\n ", "\x00", "\x01", "\x0b")
	return splice(s, headerAt(r, s), 0, name+":"+pick(r, " ", "", "\t", "\r\n ")+value+"\r\n")
}
