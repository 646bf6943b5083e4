package flow

import (
	"strings"
	"testing"
)

func TestOriginsValidate(t *testing.T) {
	good := Origins{"pbx.example.com", "https://pbx.example.com:8443", "http://localhost:8000", "capacitor://localhost", "null", "192.0.2.1", "2001:db8::1", "https://[2001:db8::1]:8443"}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	if !good.allow("null") || !good.allow("capacitor://localhost") || !good.allow("https://[2001:db8::1]") || good.allow("") || good.allow("https://x@pbx.example.com") {
		t.Error("the list is read otherwise than written")
	}
	for _, bad := range []string{"*", "https://*.example.com", "https://pbx.example.com/phone", "pbx.example.com:8443", "", "https://", "https://a@b"} {
		if (Origins{bad}).Validate() == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Whatever a WebSocket message holds: it is one SIP message, a keep-alive or a
// fault; and what is accepted is the same when it is written and read again.
func FuzzWebMessage(f *testing.F) {
	for _, seed := range []string{options, withBody("hi"), "\r\n\r\n", "\r\n", "", options + options, strings.Replace(options, "Content-Length: 0\r\n", "", 1)} {
		f.Add([]byte(seed), true)
	}
	for _, seed := range []string{
		accepted()[0], options + "\xff", withBody("\xff"), "x", swap("Length: 0", "Length: 1"), swap("Length: 0", "Length: 5000"),
		swap("Contact", "X-Y: "+strings.Repeat("x", 2048)+"\r\nContact"), strings.Replace(withBody(strings.Repeat("x", 4097)), "Content-Length: 4097\r\n", "", 1),
	} {
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, isText bool) {
		l := small()
		got := webFrame(append([]byte(nil), b...), isText, l)
		if got.kind != frameMessage {
			if strings.Trim(string(b), "\r\n") != "" {
				t.Fatalf("%q is taken for a keep-alive", b)
			}
			return
		}
		if got.fault == nil && len(b) > l.MaxHead+l.MaxBody {
			t.Fatalf("%d bytes are taken", len(b))
		}
		if got.fault != nil {
			if answer := got.m.rejection(got.fault); strings.Count(string(answer), "\r\n\r\n") > 1 {
				t.Fatalf("the answer holds a second message:\n%q", answer)
			}
			return
		}
		m, fault := got.m.build(got.body)
		if fault != nil {
			return
		}
		l.MaxHead, l.MaxBody = 1<<20, 1<<20 // what is written anew may be longer
		if !isBounded(m.String(), l.MaxHead) {
			return
		}
		again := webFrame([]byte(m.String()), false, l)
		if again.fault != nil {
			t.Fatalf("not accepted again: %v\n%s", again.fault, m)
		}
		if m2, fault := again.m.build(again.body); fault != nil || m2.String() != m.String() {
			t.Fatalf("first\n%s\nthen (%v)\n%s", m, fault, m2)
		}
	})
}
