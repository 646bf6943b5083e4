package flow

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"
)

// readStream reads a stream as a connection does, to the first message that
// ends it: what was accepted, and why it ended, if it did.
func readStream(stream string) (accepted []sip.Message, fault *Malformed, most int) {
	fr := &framer{r: &pieces{data: []byte(stream)}, limits: DefaultLimits(), deadline: func(bool) {}}
	for {
		f, err := fr.next()
		most = max(most, cap(fr.buf))
		switch {
		case err != nil:
			return accepted, nil, most
		case f.kind != frameMessage:
			continue
		case f.fault != nil:
			return accepted, f.fault, most
		}
		m, fault := f.m.build(f.body)
		if fault != nil {
			return accepted, fault, most
		}
		accepted = append(accepted, m)
	}
}

// hidden is the request that an attacker would bring past the edge.
var hidden = strings.ReplaceAll(options, "sip:602@", "sip:hidden@")

// smuggling is a way to bring a request past a proxy, or to make it read
// something else than the PBX behind it.
type smuggling struct {
	source, stream string
	header         string // that it is refused for
}

// published are those with a name.
func published() []smuggling {
	head := strings.TrimSuffix(options, "Content-Length: 0\r\n\r\n")
	return []smuggling{
		{"CVE-2026-45103 (OpenSIPS): length of 2^32+32", head + "Content-Length: 4294967328\r\n\r\n" + hidden, "Content-Length"},
		{"CVE-2026-45103: length of 2^64", head + "Content-Length: 18446744073709551616\r\n\r\n" + hidden, "Content-Length"},
		{"CVE-2026-45103: negative length", head + "Content-Length: -1\r\n\r\n" + hidden, "Content-Length"},
		{"CVE-2026-45103: signed length", head + "Content-Length: +0\r\n\r\n" + hidden, "Content-Length"},
		{"CVE-2026-45103: two lengths", head + "Content-Length: 0\r\nContent-Length: 400\r\n\r\n" + hidden, "Content-Length"},
		{"CVE-2026-45103: two lengths, one compact", head + "l: 0\r\nContent-Length: 400\r\n\r\n" + hidden, "Content-Length"},
		{"CVE-2026-45103: two lengths in one header", head + "Content-Length: 0, 400\r\n\r\n" + hidden, "Content-Length"},
		{"CVE-2026-58268 (sipgo): length of 2^32-1", head + "Content-Length: 4294967295\r\n\r\n" + hidden, "Content-Length"},
		{"CVE-2020-28361 (Kamailio): white space before the colon of a second length", head + "Content-Length : 400\r\nContent-Length: 0\r\n\r\n" + hidden, "Content-Length"},
		{"CVE-2020-28361: a tab before the colon of a second From", strings.Replace(options, "From", "From\t: <sip:evil@x>;tag=e\r\nFrom", 1), "From"},
		{"CVE-2020-28361: a second To, compact", strings.Replace(options, "To:", "t : <sip:evil@x>\r\nTo:", 1), "To"},
		{"CVE-2020-28361: a second Call-ID, folded", strings.Replace(options, "Call-ID", "I:\r\n evil\r\nCall-ID", 1), "Call-ID"},
		{"PROTOS c07-sip: a folded line in place of the empty one", strings.Replace(options, "0\r\n\r\n", "0\r\n \r\n", 1) + hidden, ""},
		{"PROTOS c07-sip: line ends of LF alone", strings.ReplaceAll(options, "\r\n", "\n") + hidden, ""},
		{"PROTOS c07-sip: an empty line of LF alone", strings.Replace(options, "0\r\n\r\n", "0\r\n\n", 1) + hidden, ""},
		{"PROTOS c07-sip: CR alone", strings.Replace(options, "70\r\n", "70\r", 1), ""},
		{"CVE-2017-9372 (PJSIP): CSeq with a long method", strings.Replace(options, "1 OPTIONS", "1 "+strings.Repeat("A", 5000), 1), "CSeq"},
		{"CVE-2017-9372: CSeq with many digits", strings.Replace(options, "1 OPTIONS", strings.Repeat("1", 5000)+" OPTIONS", 1), "CSeq"},
		{"CVE-2018-7284 (Asterisk): many Accept", strings.Replace(options, "Contact", "Accept: "+strings.Repeat("a/b,", 99)+"a/b\r\nContact", 1), "Accept"},
		{"CVE-2018-8828 (Kamailio): a To tag too long", strings.Replace(options, "To: <sip:602@pbx.example.com>", "To: <sip:602@pbx.example.com>;tag="+strings.Repeat("x", 128), 1), "To"},
		{"CVE-2018-8828: a branch too long", strings.Replace(options, "z9hG4bKa", "z9hG4bK"+strings.Repeat("x", 250), 1), "Via"},
		{"GHSA-wxfg-3gwh-rhvx (OpenSIPS): malformed Via", strings.Replace(options, "SIP/2.0/TLS 192", "SIP/2.0/TLS; 192", 1), "Via"},
		{"GHSA-358f-935m-7p9c (OpenSIPS): port of the Request-URI", strings.Replace(options, "pbx.example.com SIP", "pbx.example.com:99999999999 SIP", 1), ""},
	}
}

// None of them yields the hidden request, and nothing of the malformed one is
// accepted.
func TestSmuggling(t *testing.T) {
	for _, c := range published() {
		t.Run(c.source, func(t *testing.T) {
			accepted, fault, most := readStream(c.stream)
			if fault == nil || len(accepted) > 0 {
				t.Fatalf("accepted %v", accepted)
			}
			if fault.Header != c.header {
				t.Errorf("refused for %q (%v), want %q", fault.Header, fault, c.header)
			}
			if most > 64<<10 {
				t.Errorf("it cost %d bytes", most)
			}
		})
	}
	if accepted, fault, _ := readStream(options + hidden); len(accepted) != 2 || fault != nil { // the control: behind a good request it is one
		t.Fatalf("of two good requests %d are accepted (%v)", len(accepted), fault)
	}
}

// GHSA-4h4c-qgxg-p3qv: chan_sip took any control character behind a header's
// name for white space. None of them is accepted anywhere in a head.
func TestControlCharacters(t *testing.T) {
	places := map[string]string{
		"in front of a header name": "\r\nMax-Forwards", "in a header name": "\r\nMax-F", "behind a header name": "\r\nMax-Forwards", "behind the colon": "\r\nMax-Forwards:",
		"in a value": "\"An", "in the request line": "OPTIONS", "at the end of the request line": "SIP/2.0",
	}
	for c := range 0x21 {
		if c == ' ' {
			c = 0x7f
		}
		if c == '\t' { // white space to everybody; in a value it is one
			continue
		}
		for place, after := range places {
			end := strings.Index(options, after) + len(after)
			if place == "in front of a header name" {
				end = strings.Index(options, after) + 2
			}
			text := options[:end] + string(rune(c)) + options[end:]
			if accepted, fault, _ := readStream(text + hidden); fault == nil || len(accepted) > 0 {
				t.Errorf("%#02x %s is accepted", c, place)
			}
		}
	}
}

// chanSIPTag is how chan_sip finds a tag (gettag in chan_sip.c): behind the
// first ;tag= of the header, wherever that is, up to the next semicolon, and no
// longer than its buffer.
func chanSIPTag(header string) string {
	const begin = ";tag="
	for i := range len(header) - len(begin) + 1 {
		if behind := header[i+len(begin):]; strings.EqualFold(header[i:i+len(begin)], begin) {
			tag, _, _ := strings.Cut(behind, ";")
			return tag[:min(len(tag), 127)]
		}
	}
	return ""
}

// FuzzStream: what is accepted of a stream is, written anew, read as the same
// messages: none is hidden in another. And chan_sip finds the same tags.
func FuzzStream(f *testing.F) {
	f.Add(options + hidden)
	f.Add(withBody(hidden) + options)
	for _, c := range published() {
		f.Add(c.stream)
	}
	files, _ := filepath.Glob("testdata/torture/*.dat")
	for _, name := range files {
		if b, err := os.ReadFile(name); err == nil {
			f.Add(string(b) + hidden)
		}
	}
	for _, text := range accepted() {
		f.Add(text + hidden)
	}
	for _, party := range []string{
		"\"x;tag=b\" <sip:602@pbx.example.com>", "<sip:602@pbx.example.com;tag=b>", "<sip:602@pbx.example.com> ; tag = b", "<sip:602@pbx.example.com>;x=\";tag=b\"",
		"sip:602@pbx.example.com ;TAG=b", "\"\\\";tag=b\" <sip:602@pbx.example.com>",
		"\"\u212a\" <sip:602@pbx.example.com>;tag=b", "\"\u023a\" <sip:602@pbx.example.com>;tag=b", // in lower case they are shorter, and longer
	} {
		f.Add(strings.Replace(options, "To: <sip:602@pbx.example.com>", "To: "+party, 1))
	}
	f.Fuzz(func(t *testing.T, stream string) {
		accepted, _, _ := readStream(stream)
		var anew strings.Builder
		for _, m := range accepted {
			if !isBounded(m.String(), DefaultLimits().MaxHead) {
				return
			}
			anew.WriteString(m.String())
			for _, name := range []string{"From", "To"} {
				if ours, theirs := Tag(m, name), chanSIPTag(m.GetHeaders(name)[0].Value()); ours != theirs {
					t.Fatalf("the tag of %s is %q to us, %q to chan_sip, in\n%s", name, ours, theirs, m)
				}
			}
		}
		again, fault, _ := readStream(anew.String())
		if fault != nil || len(again) != len(accepted) {
			t.Fatalf("%d messages, written anew, are read as %d (%v)\n%q", len(accepted), len(again), fault, anew.String())
		}
		for i := range again {
			if got, want := fmt.Sprint(again[i]), fmt.Sprint(accepted[i]); got != want {
				t.Fatalf("read again as\n%s\nfirst\n%s", got, want)
			}
		}
	})
}
