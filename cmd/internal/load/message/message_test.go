package message

import (
	"bufio"
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/cmd/internal/nameaddr"
)

const invite = "INVITE sip:b@example.com SIP/2.0\r\nv: SIP/2.0/TLS 192.0.2.1:5061;branch=z9hG4bK1;rport , SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK2\r\n" +
	"f: \"A, <x>;tag=no\" <sip:a@example.com>;tag=1\r\nt: sip:b@example.com;tag=2\r\ni: 1@x\r\nCSeq: 7 INVITE\r\n" +
	"Record-Route: <sip:p1;lr;x=\"a,b\">,<sip:p2;lr>\r\nRecord-Route: <sip:p3;lr>\r\nl: 4\r\n\r\nbody"

func TestRead(t *testing.T) {
	r := bufio.NewReader(strings.NewReader("\r\n\r\n" + invite + "\r\n" + invite))
	for range 2 {
		b, err := Read(r)
		if err != nil || string(b) != invite {
			t.Fatalf("read %q, %v", b, err)
		}
	}
	for name, text := range map[string]string{
		"negative": "BYE sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\n",
		"too long": "BYE sip:a SIP/2.0\r\nContent-Length: 99999999\r\n\r\n",
		"longest":  "BYE sip:a SIP/2.0\r\nContent-Length: 9223372036854775807\r\n\r\n", // and the head: below 0
		"endless":  "BYE sip:a SIP/2.0\r\nX: " + strings.Repeat("x", MaxSize),
		"cut":      "BYE sip:a SIP/2.0\r\nContent-Length: 5\r\n\r\nabc",
	} {
		if b, err := Read(bufio.NewReader(strings.NewReader(text))); err == nil {
			t.Errorf("%s: read %d bytes", name, len(b))
		}
	}
}

// A line as long as the reader's buffer does not end the head by its end, and has no
// length in its middle.
func TestReadLongLine(t *testing.T) {
	const size = 4096 // of bufio.NewReader
	for _, line := range []string{"X: " + strings.Repeat("x", size-3), "X: " + strings.Repeat("x", size-3) + "l:9"} {
		text := line + "\r\nContent-Length: 4\r\n\r\nbody" // one in front would take a part of the buffer, or not
		r := bufio.NewReaderSize(strings.NewReader(text), size)
		if b, err := Read(r); err != nil || string(b) != text {
			t.Errorf("read %d bytes of %d, %v", len(b), len(text), err)
		}
	}
}

func TestParse(t *testing.T) {
	m, err := Parse([]byte(invite))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"tag": "1"} {
		if got := nameaddr.Param(Get(m, "From"), name); got != want {
			t.Errorf("From has %s %q, want %q", name, got, want)
		}
	}
	if uri, tag := nameaddr.URI(Get(m, "To")), nameaddr.Tag(Get(m, "To")); uri != "sip:b@example.com" || tag != "2" {
		t.Errorf("To is %q with tag %q", uri, tag)
	}
	if got := nameaddr.Param(Get(m, "Via"), "branch"); got != "z9hG4bK1" {
		t.Errorf("the branch is %q", got)
	}
	if got, want := All(m, "Record-Route"), []string{`<sip:p1;lr;x="a,b">`, "<sip:p2;lr>", "<sip:p3;lr>"}; !slices.Equal(got, want) {
		t.Errorf("the routes are %q, want %q", got, want)
	}
	answer := Answer(m.(*sip.Request), 200, "OK", "9").SDP("x").Bytes()
	back, err := Parse(answer)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(All(back, "Via"), All(m, "Via")) || !slices.Equal(All(back, "Record-Route"), All(m, "Record-Route")) || nameaddr.Tag(Get(back, "To")) != "2" || string(back.Body()) != "x" {
		t.Errorf("the answer is %q", answer)
	}
	if _, err := Parse([]byte("BYE sip:a SIP/2.0\r\nCSeq: 1 BYE\r\n\r\n")); err == nil {
		t.Error("a message without Via was taken")
	}
}

// FuzzRead: what is read is bounded, and what parses can be answered so that it
// parses again.
func FuzzRead(f *testing.F) {
	f.Add([]byte(invite))
	f.Add([]byte("SIP/2.0 200 OK\r\nVia: x\r\nFrom: \"\\\" <sip:a>;tag=1\r\nTo: <b>\r\nCall-ID: 1\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n"))
	f.Add([]byte("BYE sip:a SIP/2.0\r\nl: 9223372036854775807\r\n\r\n"))           // its sum with the head is negative
	f.Add([]byte("\r\n\r\nX: " + strings.Repeat("x", 4093) + "\r\nl: 1\r\n\r\nx")) // a line of the reader's buffer
	f.Fuzz(func(t *testing.T, b []byte) {
		one, err := Read(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		if len(one) > MaxSize || len(one) > len(b) {
			t.Fatalf("%d bytes were read of %d", len(one), len(b))
		}
		m, err := Parse(one)
		if err != nil {
			return
		}
		for _, name := range []string{"From", "To", "Contact", "Via"} {
			for _, v := range All(m, name) {
				if len(nameaddr.URI(v)) > len(v) || len(nameaddr.Tag(v)) > len(v) {
					t.Fatalf("%s %q has more in it than it is", name, v)
				}
			}
		}
	})
}
