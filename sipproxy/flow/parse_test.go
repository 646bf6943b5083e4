package flow

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
)

// options is a good request, to be spoilt.
const options = "OPTIONS sip:602@pbx.example.com SIP/2.0\r\n" +
	"Via: SIP/2.0/TLS 192.168.1.9:5061;branch=z9hG4bKa;rport\r\n" +
	"Max-Forwards: 70\r\n" +
	"From: \"Anna\" <sip:1001@pbx.example.com>;tag=a\r\n" +
	"To: <sip:602@pbx.example.com>\r\n" +
	"Call-ID: c1@192.168.1.9\r\n" +
	"CSeq: 1 OPTIONS\r\n" +
	"Contact: <sip:1001@192.168.1.9:5061;transport=tls>\r\n" +
	"Content-Length: 0\r\n\r\n"

func swap(old, new string) string {
	if !strings.Contains(options, old) {
		panic("nothing to replace: " + old)
	}
	return strings.Replace(options, old, new, 1)
}

// manyParams are parameters with names of their own.
func manyParams(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ";p%d", i)
	}
	return b.String()
}

// What a head costs in memory is a small multiple of its length, however it is made:
// what was joined piece by piece once cost a thousand times as much.
func TestCostOfAHead(t *testing.T) {
	for name, text := range map[string]string{
		"continuation lines":      swap("Contact", "X-A: "+strings.Repeat("x", 8000)+strings.Repeat("\r\n ", maxFolds)+"\r\nContact"),
		"more continuation lines": swap("Contact", "X-A: "+strings.Repeat("x", 8000)+strings.Repeat("\r\n ", 2500)+"\r\nContact"),
		"parameters of a Via":     swap(";rport", ";rport"+manyParams(maxList-2)),
		"parameters of a party":   swap("To: <sip:602@pbx.example.com>", "To: <sip:602@pbx.example.com>"+strings.Repeat(";a", 4000)),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, fault := parseDatagram([]byte(text))
		runtime.ReadMemStats(&after)
		if cost := after.TotalAlloc - before.TotalAlloc; cost > 3<<20 {
			t.Errorf("%s: %d bytes for a message of %d", name, cost, len(text))
		}
		if (fault != nil) != (name == "more continuation lines") {
			t.Errorf("%s: %v", name, fault)
		}
	}
}

// refused is a message that is.
type refused struct {
	name, text string
	code       int
	header     string
}

func refusedMessages() []refused {
	long := strings.Repeat("x", 600)
	return []refused{
		{"bare LF", swap("Max-Forwards: 70\r\n", "Max-Forwards: 70\n"), 400, ""},
		{"bare CR", swap("\"Anna\"", "\"An\rna\""), 400, ""},
		{"NUL in a value", swap("Anna", "An\x00na"), 400, ""},
		{"control character", swap("Anna", "An\x0bna"), 400, ""},
		{"control character as white space before a header's value", swap("CSeq: 1", "CSeq:\x0c1"), 400, ""},
		{"control character in a header name", swap("Max-Forwards", "Max\x01Forwards"), 400, ""},
		{"DEL", swap("Anna", "An\x7fna"), 400, ""},
		{"not UTF-8", swap("Anna", "An\xff\xfena"), 400, ""},
		{"space in a header name", swap("Max-Forwards", "Max Forwards"), 400, ""},
		{"header without a colon", swap("Max-Forwards: 70", "Max-Forwards 70"), 400, ""},
		{"continuation of nothing", swap(" SIP/2.0\r\nVia", " SIP/2.0\r\n x\r\nVia"), 400, ""},
		{"many continuation lines", swap("Contact", "X-A: y\r\n"+strings.Repeat(" z\r\n", maxFolds+1)+"Contact"), 400, ""},
		{"many parameters of a Via", swap(";rport", ";rport"+manyParams(maxList-1)), 400, "Via"},
		{"two From", swap("To:", "From: <sip:x@y>;tag=b\r\nTo:"), 400, "From"},
		{"two From, one compact", swap("To:", "f: <sip:x@y>;tag=b\r\nTo:"), 400, "From"},
		{"two To", swap("Call-ID", "t: <sip:x@y>\r\nCall-ID"), 400, "To"},
		{"two Call-ID", swap("CSeq", "i: other\r\nCSeq"), 400, "Call-ID"},
		{"two CSeq", swap("Contact", "cseq: 2 OPTIONS\r\nContact"), 400, "CSeq"},
		{"two Content-Length", swap("Content-Length: 0", "Content-Length: 0\r\nl: 0"), 400, "Content-Length"},
		{"two Content-Length, with white space before the colon", swap("Content-Length: 0", "Content-Length: 0\r\nContent-Length : 5"), 400, "Content-Length"},
		{"two Content-Length, one folded away", swap("Content-Length: 0", "Content-Length: 0\r\nCONTENT-LENGTH:\r\n 5"), 400, "Content-Length"},
		{"Content-Length of 2^32+32", swap("Length: 0", "Length: 4294967328"), 413, "Content-Length"},
		{"Content-Length of 2^64", swap("Length: 0", "Length: 18446744073709551616"), 400, "Content-Length"},
		{"Content-Length of 2^32-1", swap("Length: 0", "Length: 4294967295"), 413, "Content-Length"},
		{"negative Content-Length", swap("Length: 0", "Length: -1"), 400, "Content-Length"},
		{"signed Content-Length", swap("Length: 0", "Length: +0"), 400, "Content-Length"},
		{"hexadecimal Content-Length", swap("Length: 0", "Length: 0x10"), 400, "Content-Length"},
		{"Content-Length with text", swap("Length: 0", "Length: 0 0"), 400, "Content-Length"},
		{"Content-Length beyond the datagram", swap("Length: 0", "Length: 10"), 400, "Content-Length"},
		{"body without a type", swap("Length: 0\r\n\r\n", "Length: 2\r\n\r\nhi"), 400, "Content-Type"},
		{"type that is none", swap("Content-Length", "Content-Type: sdp\r\nContent-Length"), 400, "Content-Type"},
		{"no Via", swap("Via: SIP/2.0/TLS 192.168.1.9:5061;branch=z9hG4bKa;rport\r\n", ""), 400, "Via"},
		{"no From", swap("From: \"Anna\" <sip:1001@pbx.example.com>;tag=a\r\n", ""), 400, "From"},
		{"no tag", swap(";tag=a", ""), 400, "From"},
		{"two tags", swap(";tag=a", ";tag=a;tag=b"), 400, "From"},
		{"tag that is no token", swap(";tag=a", ";tag=a/b"), 400, "From"},
		{"long tag", swap(";tag=a", ";tag="+long), 400, "From"},
		{"long branch", swap("z9hG4bKa", "z9hG4bK"+long), 400, "Via"},
		{"tag longer than chan_sip keeps", swap(";tag=a", ";tag="+long[:128]), 400, "From"},
		{"tag in a display name, where chan_sip finds it", swap("\"Anna\"", "\"Anna;tag=b\""), 400, "From"},
		{"tag in a display name, in other case", swap("\"Anna\"", "\"Anna;Tag=b\""), 400, "From"},
		{"tag in a display name of a To without one", swap("To: <", "To: \"x;tag=b\" <"), 400, "To"},
		{"tag in a URI", swap("To: <sip:602@pbx.example.com>", "To: <sip:602@pbx.example.com;tag=b>"), 400, "To"},
		{"tag in a quoted parameter", swap(";tag=a", ";x=\"y;tag=b\";tag=a"), 400, "From"},
		{"From of http", swap("<sip:1001@pbx.example.com>;tag", "<http://pbx.example.com/>;tag"), 400, "From"},
		{"two branches", swap(";rport", ";branch=z9hG4bKb"), 400, "Via"},
		{"two branches, in other case", swap(";rport", ";Branch=z9hG4bKb"), 400, "Via"},
		{"Via of another protocol", swap("SIP/2.0/TLS", "SIP/3.0/TLS"), 400, "Via"},
		{"Via without a host", swap("192.168.1.9:5061;branch", ";branch"), 400, "Via"},
		{"Via with port 0", swap("192.168.1.9:5061;b", "192.168.1.9:0;b"), 400, "Via"},
		{"Via with port 99999", swap("192.168.1.9:5061;b", "192.168.1.9:99999;b"), 400, "Via"},
		{"empty value in a Via list", swap(";rport", ";rport,"), 400, "Via"},
		{"CSeq of another method", swap("1 OPTIONS", "1 INVITE"), 400, "CSeq"},
		{"CSeq beyond 2^31", swap("1 OPTIONS", "2147483648 OPTIONS"), 400, "CSeq"},
		{"CSeq of many digits", swap("1 OPTIONS", "11111111111111111111 OPTIONS"), 400, "CSeq"},
		{"negative CSeq", swap("1 OPTIONS", "-1 OPTIONS"), 400, "CSeq"},
		{"Call-ID with a space", swap("c1@", "c 1@"), 400, "Call-ID"},
		{"Call-ID with two @", swap("c1@", "c@1@"), 400, "Call-ID"},
		{"Max-Forwards that is none", swap("Forwards: 70", "Forwards: many"), 400, "Max-Forwards"},
		{"Expires that is none", swap("Contact", "Expires: 0x1\r\nContact"), 400, "Expires"},
		{"Expires with a parameter", swap("Contact", "Expires: 60;x\r\nContact"), 400, "Expires"},
		{"Session-Expires with a parameter of no name", swap("Contact", "Session-Expires: 1800;=x\r\nContact"), 400, "Session-Expires"},
		{"Session-Expires with a mark in its parameter", swap("Contact", "Session-Expires: 1800;refresher=?ac\r\nContact"), 400, "Session-Expires"},
		{"event with an address in its parameter", swap("Contact", "Event: dialog;id=a@b\r\nContact"), 400, "Event"},
		{"Min-SE with no parameter", swap("Contact", "Min-SE: 90;\r\nContact"), 400, "Min-SE"},
		{"many methods in Allow", swap("Contact", "Allow: A"+strings.Repeat(", A", 64)+"\r\nContact"), 400, "Allow"},
		{"many options in Supported", swap("Contact", "k: a"+strings.Repeat(", a", 64)+"\r\nContact"), 400, "Supported"},
		{"no event", swap("Contact", "Event: \r\nContact"), 400, "Event"},
		{"event that is no token", swap("Contact", "Event: ? presence\r\nContact"), 400, "Event"},
		{"event with a parameter of no name", swap("Contact", "Event: dialog;=x\r\nContact"), 400, "Event"},
		{"parameter of no name in a URI", swap("602@pbx.example.com>", "602@pbx.example.com;=x>"), 400, "To"},
		{"no parameter in a URI", swap("602@pbx.example.com>", "602@pbx.example.com;;a>"), 400, "To"},
		{"no parameter in the Request-URI", swap("602@pbx.example.com SIP", "602@pbx.example.com; SIP"), 400, ""},
		{"address in a parameter", swap("To: <sip:602@pbx.example.com>", "To: <sip:602>;isub=1@pbx.example.com"), 400, "To"},
		{"unbalanced quotes", swap("\"Anna\"", "\"Anna"), 400, "From"},
		{"display name outside of the grammar", swap("\"Anna\"", "An@na"), 400, "From"},
		{"text after the brackets", swap(">;tag=a", "> x;tag=a"), 400, "From"},
		{"white space inside the brackets", swap("<sip:1001@", "< sip:1001@"), 400, "From"},
		{"bracket in a URI", swap("<sip:602@pbx.example.com>\r\nCall", "<sip:602@pbx<x.example.com>\r\nCall"), 400, "To"},
		{"Contact with a bad port", swap("9:5061;transport", "9:70000;transport"), 400, "Contact"},
		{"Contact without brackets and with headers", swap("<sip:1001@192.168.1.9:5061;transport=tls>", "sip:a@b?c=d"), 400, "Contact"},
		{"lower-case version", swap(" SIP/2.0\r\n", " sip/2.0\r\n"), 400, ""},
		{"version 3", swap(" SIP/2.0\r\n", " SIP/3.0\r\n"), 505, ""},
		{"two spaces in the request line", swap("OPTIONS sip", "OPTIONS  sip"), 400, ""},
		{"space at the end of the request line", swap(" SIP/2.0\r\n", " SIP/2.0 \r\n"), 400, ""},
		{"known method in lower case, which chan_sip takes for it", strings.ReplaceAll(options, "OPTIONS", "options"), 400, ""},
		{"known method in mixed case", strings.ReplaceAll(options, "OPTIONS", "Register"), 400, ""},
		{"method that is no token", swap("OPTIONS sip", "OPT@ONS sip"), 400, ""},
		{"Request-URI in brackets", swap("sip:602@pbx.example.com SIP", "<sip:602@pbx.example.com> SIP"), 400, ""},
		{"Request-URI with headers", swap("sip:602@pbx.example.com SIP", "sip:602@pbx.example.com?Route=x SIP"), 400, ""},
		{"Request-URI longer than chan_sip has room for", swap("sip:602@pbx.example.com SIP", "sip:"+long[:236]+"@pbx.example.com SIP"), 414, ""},
		{"Request-URI with port 0", swap("sip:602@pbx.example.com SIP", "sip:602@pbx.example.com:0 SIP"), 400, ""},
		{"Request-URI with a long port", swap("sip:602@pbx.example.com SIP", "sip:602@pbx.example.com:506000000000 SIP"), 400, ""},
		{"Request-URI with two @", swap("sip:602@pbx.example.com SIP", "sip:602@a@pbx.example.com SIP"), 400, ""},
		{"Request-URI with two colons in its user part", swap("sip:602@pbx.example.com SIP", "sip:602:a:b@pbx.example.com SIP"), 400, ""},
		{"Request-URI with a password and no user", swap("sip:602@pbx.example.com SIP", "sip::x@pbx.example.com SIP"), 400, ""},
		{"Request-URI with slashes as in http", swap("sip:602@pbx.example.com SIP", "sip://602@pbx.example.com SIP"), 400, ""},
		{"Request-URI with an escaped NUL", swap("sip:602@pbx.example.com SIP", "sip:602%00@pbx.example.com SIP"), 400, ""},
		{"Request-URI with an escaped line end", swap("sip:602@pbx.example.com SIP", "sip:602%0d%0a@pbx.example.com SIP"), 400, ""},
		{"Request-URI of http", swap("sip:602@pbx.example.com SIP", "http://pbx.example.com SIP"), 416, ""},
		{"IPv6 without brackets", swap("sip:602@pbx.example.com SIP", "sip:602@2001:db8::1 SIP"), 400, ""},
		{"status 0", "SIP/2.0 000 No\r\n" + options[strings.Index(options, "Via"):], 400, ""},
		{"status 1000", "SIP/2.0 1000 No\r\n" + options[strings.Index(options, "Via"):], 400, ""},
		{"many headers", swap("Contact", strings.Repeat("X-Y: z\r\n", 200)+"Contact"), 400, ""},
		{"long value", swap("Contact", "X-Y: "+strings.Repeat("z", 9000)+"\r\nContact"), 400, "X-Y"},
		{"value folded to great length", swap("Contact", "X-Y: z\r\n"+strings.Repeat(" "+strings.Repeat("z", 1000)+"\r\n", 10)+"Contact"), 400, "X-Y"},
		{"many media types in Accept (CVE-2018-7284)", swap("Contact", "Accept: a/b"+strings.Repeat(", a/b", 32)+"\r\nContact"), 400, "Accept"},
		{"many Accept", swap("Contact", strings.Repeat("Accept: a/b\r\n", 33)+"Contact"), 400, "Accept"},
		{"a long media type in Accept", swap("Contact", "Accept: a/"+long[:62]+"\r\nContact"), 400, "Accept"},
		{"many contacts", swap("Contact", strings.Repeat("Contact: <sip:a@b>\r\n", 70)+"Contact"), 400, "Contact"},
	}
}

func TestMalformed(t *testing.T) {
	for _, c := range refusedMessages() {
		t.Run(c.name, func(t *testing.T) {
			_, m, fault := parseDatagram([]byte(c.text))
			if fault == nil {
				t.Fatalf("accepted as\n%s", m)
			}
			if fault.Code != c.code || fault.Header != c.header {
				t.Fatalf("refused with %d about %q (%v), want %d about %q", fault.Code, fault.Header, fault, c.code, c.header)
			}
		})
	}
	if _, _, fault := parseDatagram([]byte(options)); fault != nil { // the control
		t.Fatalf("the good request is refused: %v", fault)
	}
}

// What may be written in several ways leaves in one.
func TestCanonicalForm(t *testing.T) {
	odd := "OPTIONS sip:602@pbx.example.com SIP/2.0\r\n" +
		"v:  SIP / 2.0 / tls\t192.168.1.9 : 5061 ; Branch = z9hG4bKa;RPORT , SIP/2.0/UDP [2001:db8::9];branch=z9hG4bKb\r\n" +
		"MAX-FORWARDS : 70\r\n" +
		"f:\r\n \"Anna \\\"A\\\" B, C\"\r\n\t<sip:1001@pbx.example.com>\r\n ;tag=a\r\n" +
		"T: <sip:602@pbx.example.com>\r\n" +
		"i: c1\r\n" +
		"cseq:\t1 \t OPTIONS\r\n" +
		"m: <sip:1001@192.168.1.9>,<sip:1001@192.168.1.10>\r\n" +
		"x-own: Ünï cödé\r\n" +
		"l: 0\r\n\r\n"
	want := "OPTIONS sip:602@pbx.example.com SIP/2.0\r\n" +
		"Via: SIP/2.0/TLS 192.168.1.9:5061;branch=z9hG4bKa;rport\r\n" +
		"Via: SIP/2.0/UDP [2001:db8::9];branch=z9hG4bKb\r\n" +
		"Max-Forwards: 70\r\n" +
		"From: \"Anna \\\"A\\\" B, C\" <sip:1001@pbx.example.com>;tag=a\r\n" +
		"To: <sip:602@pbx.example.com>\r\n" +
		"Call-ID: c1\r\n" +
		"CSeq: 1 OPTIONS\r\n" +
		"Contact: <sip:1001@192.168.1.9>,<sip:1001@192.168.1.10>\r\n" +
		"x-own: Ünï cödé\r\n" +
		"Content-Length: 0\r\n\r\n"
	_, m, fault := parseDatagram([]byte(odd))
	if fault != nil {
		t.Fatal(fault)
	}
	if got := m.String(); got != want {
		t.Fatalf("written as\n%s\nwant\n%s", got, want)
	}
}

// The messages of RFC 4475. Where the verdict is stricter than the RFC's, the
// reason stands beside it.
func TestTortureRFC4475(t *testing.T) {
	verdicts := map[string]int{ // 0: passes
		// Section 3.1, valid.
		"wsinv": 0, "esc01": 0, "esc02": 0, "dblreq": 0, "semiuri": 0, "transports": 0,
		"mpart01": 0, "unreason": 0, "noreason": 0, "lwsdisp": 0,
		"longreq": 400, // its tag is longer than chan_sip keeps one
		"intmeth": 400, // raw control characters in quotes: chan_sip takes them for white space
		"escnull": 400, // %00 in a user part: the end of the string to a reader in C
		// Section 3.1.2, invalid.
		"badinv01": 400, "clerr": 400, "ncl": 400, "scalar02": 400, "scalarlg": 400, "quotbal": 400, "ltgtruri": 400,
		"lwsruri": 400, "lwsstart": 400, "trws": 400, "escruri": 400, "baddn": 400, "badvers": 505, "mismatch01": 400,
		"mismatch02": 400, "bigcode": 400, "badaspec": 400,
		"baddate": 0, "regbadct": 400, // a Date is for its reader
		// Sections 3.2 and 3.3: well formed, or meant for the far end.
		"badbranch": 0, "insuf": 400, "unkscm": 416, "novelsc": 416, "bext01": 0, "invut": 0, "regaut01": 0,
		"multi01": 400, "mcl01": 400, "bcast": 0, "zeromf": 0, "cparam01": 0, "cparam02": 0, "regescrt": 0, "sdp01": 0,
		"unksm2":  400, // a From of another scheme: chan_sip makes a user of its name
		"inv2543": 400, // section 3.4: a From without a tag makes no dialog
	}
	files, err := filepath.Glob("testdata/torture/*.dat")
	if err != nil || len(files) != len(verdicts) {
		t.Fatalf("%d files for %d verdicts (%v)", len(files), len(verdicts), err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".dat")
		t.Run(name, func(t *testing.T) {
			want, known := verdicts[name]
			b, err := os.ReadFile(f)
			if err != nil || !known {
				t.Fatalf("no verdict, or %v", err)
			}
			_, m, fault := parseDatagram(b)
			switch {
			case fault == nil && want != 0:
				t.Fatalf("passes as\n%s", m)
			case fault != nil && fault.Code != want:
				t.Fatalf("refused: %d %v", fault.Code, fault)
			}
		})
	}
}

func torture(t *testing.T, name string) sip.Message {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "torture", name+".dat"))
	if err != nil {
		t.Fatal(err)
	}
	_, m, fault := parseDatagram(b)
	if fault != nil {
		t.Fatal(fault)
	}
	return m
}

// They are.
func TestAccepted(t *testing.T) {
	for _, text := range accepted() {
		if _, _, fault := parseDatagram([]byte(text)); fault != nil {
			t.Errorf("%v:\n%.300s", fault, text)
		}
	}
}

// Those that pass are understood as the RFC means them.
func TestTortureMeaning(t *testing.T) {
	m := torture(t, "wsinv")
	if m.CSeq().SeqNo != 9 || m.CSeq().MethodName != sip.INVITE || len(m.GetHeaders("Via")) != 3 || Tag(m, "To") != "1918181833n" ||
		m.CallID().Value() != "wsinv.ndaksdj@192.0.2.1" || len(m.Body()) != 150 {
		t.Errorf("wsinv is read as\n%s", m)
	}
	req := torture(t, "esc01").(*sip.Request)
	if req.Recipient.User != "sips%3Auser%40example.com" || req.Recipient.Host != "example.net" {
		t.Errorf("esc01 goes to %s", req.Recipient.String())
	}
	if m := torture(t, "dblreq"); m.CSeq().MethodName != sip.REGISTER || len(m.Body()) != 0 {
		t.Errorf("dblreq is read as\n%s", m)
	}
	if req := torture(t, "semiuri").(*sip.Request); req.Recipient.User != "user;par=u%40example.net" {
		t.Errorf("semiuri goes to user %q", req.Recipient.User)
	}
	if res := torture(t, "noreason").(*sip.Response); res.StatusCode != 100 || res.Reason != "" {
		t.Errorf("noreason is %d %q", res.StatusCode, res.Reason)
	}
}

// A reason may hold tabs (RFC 3261 section 25.1), which are written as spaces.
func TestReasonWithTab(t *testing.T) {
	text := strings.Replace(options, strings.SplitN(options, "\r\n", 2)[0], "SIP/2.0 486 Busy\tHere", 1)
	_, m, fault := parseDatagram([]byte(text))
	if fault != nil {
		t.Fatal(fault)
	}
	if got, _, _ := strings.Cut(m.String(), "\r\n"); got != "SIP/2.0 486 Busy Here" {
		t.Errorf("it is written as %q", got)
	}
}

// An answer to a malformed request repeats only what passed the lexer, and
// there is none to an ACK or a response.
func TestRejection(t *testing.T) {
	m, _, fault := parseDatagram([]byte(swap("CSeq: 1 OPTIONS", "CSeq: 1 INVITE")))
	got := string(m.rejection(fault))
	want := "SIP/2.0 400 Bad Request\r\nVia: SIP/2.0/TLS 192.168.1.9:5061;branch=z9hG4bKa;rport\r\n" +
		"From: \"Anna\" <sip:1001@pbx.example.com>;tag=a\r\nTo: <sip:602@pbx.example.com>\r\nCall-ID: c1@192.168.1.9\r\nCSeq: 1 INVITE\r\n" +
		"Warning: 399 sallyport \"CSeq: method is not the request's\"\r\nContent-Length: 0\r\n\r\n"
	if got != want {
		t.Errorf("answered\n%s\nwant\n%s", got, want)
	}
	for name, text := range map[string]string{
		"an ACK":     strings.ReplaceAll(swap("Call-ID: c1", "Call-ID: c 1"), "OPTIONS", "ACK"),
		"a response": "SIP/2.0 099 x\r\n" + options[strings.Index(options, "Via"):],
		"no Via":     swap("Via: SIP/2.0/TLS 192.168.1.9:5061;branch=z9hG4bKa;rport\r\n", ""),
	} {
		m, _, fault := parseDatagram([]byte(text))
		if fault == nil {
			t.Fatalf("%s passes", name)
		}
		if got := m.rejection(fault); got != nil {
			t.Errorf("%s is answered\n%s", name, got)
		}
	}
}

// isBounded tells whether a message that was written anew is within the bounds of those
// that are read: it has a header or two more than it came with, its Vias apart, brackets
// and what was a # escaped.
func isBounded(text string, maxHead int) bool {
	head, _, _ := strings.Cut(text, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	return len(head)+len(headEnd) <= maxHead && len(lines) <= 1+maxHeaders &&
		!slices.ContainsFunc(lines, func(line string) bool { return len(line) > maxValue })
}

// accepted are messages with what is written in another way than it came, up to the bounds
// of how much.
func accepted() []string {
	return []string{
		strings.Replace(swap("Contact", strings.Repeat("X-Y:\r\n", maxHeaders-7)+"Contact"), "Max-Forwards: 70\r\n", "", 1), // its own is one too many
		swap("Via: ", "Via: "+strings.Repeat("SIP/2.0/TLS [::ffff:192.0.2.1] : 5061;x,", maxList-1)),
		swap("To: <sip:602@pbx.example.com>", "To: sip:"+strings.Repeat("6", maxValue-len("sip:@h"))+"@h"),
		swap("To: <sip:602@", "To: \"#\\\"\" <sip:*72#@"),
		strings.Replace(swap("sip:602@pbx.example.com SIP", "tel:+49-30-1;x=y SIP"), "<sip:602@pbx.example.com>", "tel:(*72)%23 ; x", 1),
		swap("sip:602@pbx.example.com SIP", "sips:602%41:b@[2001:db8::1]:5061;a=%20;lr SIP"),
		swap("sip:602@pbx.example.com SIP", "sip:*72#@pbx_1.example.com SIP"),
		swap("Contact: ", "Refer-To: \"#\" <sip:*72#@h>\r\nReferred-By: sip:#@h\r\nContact: <sip:*21#@h>, sip:#@h, "),
		swap("Contact: ", "Event: dialog ; id=\"a@b\"\r\nSession-Expires: 90 ;refresher=uac\r\nMin-SE: 90\r\nRAck: 1 2 INVITE\r\nSupported: a, b\r\nContact: sip:a@b;q=[::1]/?&$ , "),
		strings.Replace(options, strings.SplitN(options, "\r\n", 2)[0], "SIP/2.0 486 Busy\tHere", 1),
	}
}

// A bare # is written as it should have come where users dial one, in requests and in
// responses, and nowhere else.
func TestBareHash(t *testing.T) {
	response := strings.Replace(options, strings.SplitN(options, "\r\n", 2)[0], "SIP/2.0 302 Moved", 1)
	for _, c := range []struct{ sent, read string }{ // read is empty: it is refused
		{"<sip:*21#@h>", "<sip:*21%23@h>"},
		{"sip:*21#@h", "sip:*21%23@h"},
		{`"a, <b#@c>" <SIPS:#1:p#@h;x=y>;q=1 , sip:2@h,sip:##@h`, `"a, <b#@c>" <SIPS:%231:p%23@h;x=y>;q=1 , sip:2@h,sip:%23%23@h`},
		{`"#" <sip:a@h>;x="#"`, `"#" <sip:a@h>;x="#"`},
		{"<sip:a#@h?x=1>", "<sip:a%23@h?x=1>"},
		{"sip:a#@h?x=1", ""},
		{"<sip:a#b@h@i>", ""},
		{"<sip:a@h;x=#>", ""},
		{"<sip:h;x=#>", ""},
		{"<http://h/a#b@c>", "<http://h/a#b@c>"},
		{"<tel:*21#>", "<tel:*21#>"},
	} {
		for _, text := range []string{options, response} {
			_, m, fault := parseDatagram([]byte(strings.Replace(text, "Contact: ", "Contact: "+c.sent+"\r\nSubject: #@\r\nX-Contact: ", 1)))
			switch {
			case c.read == "" && fault == nil:
				t.Errorf("%s is read as %s", c.sent, First(m, "Contact").Value())
			case c.read == "":
			case fault != nil:
				t.Errorf("%s: %v", c.sent, fault)
			case First(m, "Contact").Value() != c.read || First(m, "Subject").Value() != "#@":
				t.Errorf("%s is read as %s", c.sent, First(m, "Contact").Value())
			}
		}
	}
}

// FuzzMessage: what is accepted is written in one form, which is accepted
// again, reads the same, and means the same to sipgo's own parser.
func FuzzMessage(f *testing.F) {
	for _, c := range refusedMessages() { // one for each way to be refused
		if len(c.text) < 2048 { // long ones take their time in each pass
			f.Add([]byte(c.text))
		}
	}
	for _, text := range accepted() {
		f.Add([]byte(text))
	}
	files, _ := filepath.Glob("testdata/torture/*.dat")
	for _, name := range files {
		if b, err := os.ReadFile(name); err == nil {
			f.Add(b)
		}
	}
	f.Add([]byte(options))
	f.Fuzz(func(t *testing.T, b []byte) {
		head, m, fault := parseDatagram(b)
		if fault != nil {
			if answer := head.rejection(fault); strings.Count(string(answer), "\r\n\r\n") > 1 {
				t.Fatalf("the answer holds a second message:\n%q", answer)
			}
			return
		}
		text := m.String()
		headText, _, _ := strings.Cut(text, "\r\n\r\n")
		for _, line := range strings.Split(headText, "\r\n") {
			if strings.IndexFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0 {
				t.Fatalf("control character in %q", line)
			}
		}
		if !isBounded(text, maxDatagram) {
			return
		}
		_, again, fault := parseDatagram([]byte(text))
		if fault != nil {
			t.Fatalf("not accepted again: %v\n%s", fault, text)
		}
		if again.String() != text {
			t.Fatalf("read again as\n%s\nfirst\n%s", again, text)
		}
		theirs, err := sip.ParseMessage([]byte(text))
		if err != nil {
			return // sipgo is stricter in places, which is harmless
		}
		if theirs.CSeq().SeqNo != m.CSeq().SeqNo || theirs.CSeq().MethodName != m.CSeq().MethodName || theirs.CallID().Value() != m.CallID().Value() {
			t.Fatalf("sipgo reads another CSeq or Call-ID in\n%s", text)
		}
	})
}

func BenchmarkParseInvite(b *testing.B) {
	body := "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 0 8 101\r\n" + strings.Repeat("a=rtpmap:101 telephone-event/8000\r\n", 8)
	text := strings.ReplaceAll(swap("Content-Length: 0\r\n\r\n", "Content-Type: application/sdp\r\nUser-Agent: bench\r\n"+
		"Allow: INVITE, ACK, CANCEL, OPTIONS, BYE\r\nSupported: replaces, timer\r\nContent-Length: "+itoa(len(body))+"\r\n\r\n"), "OPTIONS", "INVITE") + body
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, fault := parseDatagram([]byte(text)); fault != nil {
			b.Fatal(fault)
		}
	}
}

func itoa(n int) string {
	return string([]byte{byte('0' + n/100%10), byte('0' + n/10%10), byte('0' + n%10)})
}
