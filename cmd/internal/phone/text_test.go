package phone

import (
	"crypto/md5" //nolint:gosec // digest authentication is made of it
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The script's hashes are those of the standard library, whatever the length
// and the letters.
func TestHashes(t *testing.T) {
	b := newBench(t)
	texts := []string{"", "abc", "message digest", "ä€😀", strings.Repeat("€", 300)}
	for _, n := range []int{1, 54, 55, 56, 57, 63, 64, 65, 118, 119, 120, 121, 127, 128, 129} { // around the ends of blocks
		texts = append(texts, strings.Repeat("x", n))
	}
	for _, text := range texts {
		m, s := md5.Sum([]byte(text)), sha256.Sum256([]byte(text))
		if got := b.call("sallyport.md5", text).String(); got != hex.EncodeToString(m[:]) {
			t.Errorf("MD5 of %.20q, %d bytes, is %s", text, len(text), got)
		}
		if got := b.call("sallyport.sha256", text).String(); got != hex.EncodeToString(s[:]) {
			t.Errorf("SHA-256 of %.20q, %d bytes, is %s", text, len(text), got)
		}
	}
}

func TestParse(t *testing.T) {
	b := newBench(t)
	const full = "INVITE sip:101@a.invalid;transport=ws SIP/2.0\r\nVia: SIP/2.0/WSS edge:8443;branch=z9hG4bK1 , SIP/2.0/UDP b;branch=z9hG4bK2\r\n" +
		"v: SIP/2.0/UDP c;branch=z9hG4bK3\r\nf: \"A, \\\"B\\\" <c>\" <sip:1@x;p=1>;tag=f\r\nt : <sip:101@x>\r\ni: call@x\r\nCSEQ: 7\r\n  INVITE\r\n" +
		"m: <sip:1,2@x>,\r\n\tsip:3@y;q=0.1\r\nk: 100rel, Outbound\r\nSubject:\r\nc: application/sdp;x=y\r\nl: 5\r\n\r\nv=€\r\n"
	const bare = "SIP/2.0 200\r\nVia: SIP/2.0/WSS x;branch=z\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: c\r\nCSeq: 1 BYE\r\n\r\n"
	got := func(text string) map[string]any {
		var out map[string]any
		said := b.call(`(text) => {
			const m = sallyport.parse(text);
			return JSON.stringify(m && { first: m.method + m.status, uri: m.uri, via: m.list("via").length, branch: m.branch, from: sallyport.address(m.get("from")).display,
				contact: m.list("contact"), supported: m.tokens("supported"), seq: m.sequence, of: m.sequenceMethod, sdp: m.hasSDP, empty: m.all("subject") })
		}`, text).String()
		if err := json.Unmarshal([]byte(said), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	withLength := strings.Replace(full, "l: 5", "l: 7", 1)
	want := map[string]any{
		"first": "INVITE0", "uri": "sip:101@a.invalid;transport=ws", "via": 3.0, "branch": "z9hG4bK1", "from": `A, "B" <c>`,
		"contact": []any{"<sip:1,2@x>", "sip:3@y;q=0.1"}, "supported": []any{"100rel", "outbound"}, "seq": 7.0, "of": "INVITE", "sdp": true, "empty": []any{""},
	}
	if diff := cmp.Diff(want, got(withLength)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if m := got(bare); m == nil || m["first"] != "200" {
		t.Errorf("a response without a reason is %v", m)
	}
	for name, text := range map[string]string{
		"length in characters": full,
		"no end of the head":   strings.TrimSuffix(bare, "\r\n"),
		"no SIP":               "GET / HTTP/1.1\r\n\r\n",
		"another version":      strings.Replace(bare, "SIP/2.0 200", "SIP/3.0 200", 1),
		"a line without a :":   strings.Replace(bare, "To: ", "To ", 1),
		"no Call-ID":           strings.Replace(bare, "Call-ID", "X", 1),
		"two From":             strings.Replace(bare, "To:", "f: <sip:a@b>;tag=2\r\nTo:", 1),
		"no branch":            strings.Replace(bare, ";branch=z", "", 1),
		"no number":            strings.Replace(bare, "1 BYE", "BYE", 1),
		"another method":       strings.Replace(withLength, "7\r\n  INVITE", "7 BYE", 1),
	} {
		if m := got(text); m != nil {
			t.Errorf("%s: it is read as %v", name, m)
		}
	}
}

// What is written can be read again.
func TestWrite(t *testing.T) {
	b := newBench(t)
	b.is(`(() => {
		const m = new sallyport.Message({ method: "INFO", uri: "sip:x" }).add("v", "SIP/2.0/WSS x;branch=1").add("FROM", "<sip:a>;tag=1").add("to", "<sip:b>")
			.add("call-id", "i").add("cseq", "1 INFO").add("www-authenticate", "x").sdp("ü");
		return [m.toString() === sallyport.parse(m.toString()).toString(), m.toString()].join(" ").replace(/\r\n/g, "|");
	})()`, "true INFO sip:x SIP/2.0|Via: SIP/2.0/WSS x;branch=1|From: <sip:a>;tag=1|To: <sip:b>|Call-ID: i|CSeq: 1 INFO|WWW-Authenticate: x|Content-Type: application/sdp|Content-Length: 2||ü")
}

func TestTargets(t *testing.T) {
	b := newBench(t)
	for typed, want := range map[string]string{
		"600": "sip:600@pbx.example.com", " +49 (30) 1234-56.7 ": "sip:+493012345 67@pbx.example.com", "*97": "sip:*97@pbx.example.com",
		"#31": "sip:%2331@pbx.example.com", "anna": "sip:anna@pbx.example.com", "anna@example.net": "sip:anna@example.net", "a@b@example.net": "sip:a%40b@example.net",
		"sip:bob@[2001:db8::1]:5060": "sip:bob@[2001:db8::1]:5060", "SIPS:bob@x": "SIPS:bob@x", "ü": "sip:%C3%BC@pbx.example.com",
		"": "", "   ": "", "a b": "", "<sip:x>": "", "sip:": "", "x\r\nVia: y": "", "sip:a@b\r\nX: y": "",
	} {
		want = strings.ReplaceAll(want, " ", "")
		if got := b.call("sallyport.targetURI", typed, "pbx.example.com").String(); got != want {
			t.Errorf("%q is called as %q, want %q", typed, got, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	b := newBench(t)
	for value, want := range map[string]string{
		`<sip:a@b;p=1>;tag=x;+sip.instance="<urn:u>"`: `["","sip:a@b;p=1",{"tag":"x","+sip.instance":"<urn:u>"}]`,
		`sip:a@b;tag=x`:                   `["","sip:a@b",{"tag":"x"}]`,
		`Anna B <sip:a@b>;lr`:             `["Anna B","sip:a@b",{"lr":""}]`,
		`"a \"<;>\" b"<sip:a@b>;TAG="q;"`: `["a \"<;>\" b","sip:a@b",{"tag":"q;"}]`,
		`<sip:a@b>;__proto__=x;tag=1`:     `["","sip:a@b",{"__proto__":"x","tag":"1"}]`,
		`<sip:a@b`:                        `["","<sip:a@b",{}]`,
	} {
		if got := b.call(`(v) => { const a = sallyport.address(v); return JSON.stringify([a.display, a.uri, a.params]); }`, value).String(); got != want {
			t.Errorf("%s is %s, want %s", value, got, want)
		}
	}
}

// Route sets (RFC 3261 sections 12.1, 12.2.1.1 and 16.12.1.2).
func TestDialogRoutes(t *testing.T) {
	b := newBench(t)
	const invite = "INVITE sip:bob@b SIP/2.0\r\nVia: SIP/2.0/WSS x;branch=z\r\nFrom: <sip:a@a>;tag=a\r\nTo: <sip:bob@b>\r\nCall-ID: c\r\nCSeq: 3 INVITE\r\n" +
		"Contact: <sip:caller@c1>\r\nRecord-Route: <sip:p2;lr>, <sip:p1;lr>\r\n\r\n"
	const ok = "SIP/2.0 200 OK\r\nVia: SIP/2.0/WSS x;branch=z\r\nFrom: <sip:a@a>;tag=a\r\nTo: <sip:bob@b>;tag=b\r\nCall-ID: c\r\nCSeq: 3 INVITE\r\n" +
		"Contact: <sip:callee@c2;ob>\r\nRecord-Route: <sip:p2;lr>, <sip:p1;lr>\r\n\r\n"
	ask := func(make, a string, more ...any) string {
		return b.call("(a, b) => { const m = ("+make+").request('BYE'); return [m.uri, ...m.list('route'), m.get('from'), m.get('to'), m.get('cseq')].join(' '); }", append([]any{a}, more...)...).String()
	}
	strict := strings.Replace(ok, "<sip:p1;lr>", "<sip:p1>", 1)
	const caller, callee = "sallyport.Dialog.caller(sallyport.parse(a), sallyport.parse(b))", "sallyport.Dialog.callee(sallyport.parse(a), 'b')"
	for name, c := range map[string][2]string{
		"caller": {ask(caller, invite, ok), "sip:callee@c2;ob <sip:p1;lr> <sip:p2;lr> <sip:a@a>;tag=a <sip:bob@b>;tag=b 4 BYE"},
		"callee": {ask(callee, invite), "sip:caller@c1 <sip:p2;lr> <sip:p1;lr> <sip:bob@b>;tag=b <sip:a@a>;tag=a 1 BYE"},
		"strict": {ask(caller, invite, strict), "sip:p1 <sip:p2;lr> <sip:callee@c2;ob> <sip:a@a>;tag=a <sip:bob@b>;tag=b 4 BYE"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %s, want %s", name, c[0], c[1])
		}
	}
}

func TestHeld(t *testing.T) {
	b := newBench(t)
	for sdp, want := range map[string]bool{"m=audio\r\na=sendrecv\r\n": false, "a=sendonly\r\n": true, "a=inactive": true, "a=recvonly\r\n": false, "": false, "a=sendrecv\r\nm=audio\r\na=sendonly\r\n": true} {
		if got := b.call("sallyport.heldBy", sdp).ToBoolean(); got != want {
			t.Errorf("%q: held is %v", sdp, got)
		}
	}
}
