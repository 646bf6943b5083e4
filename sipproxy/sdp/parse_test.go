package sdp

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"

// audio is a description with one m-line and these lines below it.
func audio(lines ...string) []byte {
	return []byte(head + "m=audio 4000 RTP/AVP 0 8 101\r\n" + strings.Join(append(lines, ""), "\r\n"))
}

var malformed = []struct {
	name, in string
	want     error
	line     int
}{
	{"empty", "", ErrSyntax, 0},
	{"only line ends", "\r\n\r\n", ErrSyntax, 0},
	{"only a version", "v=0\r\n", ErrSyntax, 1},
	{"version 1", "v=1\r\n", ErrSyntax, 1},
	{"version after origin", "o=- 1 1 IN IP4 192.0.2.1\r\nv=0\r\n", ErrSyntax, 1},
	{"no name", "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nt=0 0\r\n", ErrSyntax, 3},
	{"second version", head + "v=0\r\n", ErrSyntax, 6},
	{"second origin", head + "o=- 1 1 IN IP4 192.0.2.1\r\n", ErrSyntax, 6},
	{"empty line inside", head + "\r\nm=audio 1 RTP/AVP 0\r\n", ErrSyntax, 6},
	{"no equals sign", head + "a\r\n", ErrSyntax, 6},
	{"space before equals sign", head + "a =sendrecv\r\n", ErrSyntax, 6},
	{"folded line", head + "a=sendrecv\r\n b\r\n", ErrSyntax, 7},
	{"unknown type", head + "q=1\r\n", ErrSyntax, 6},
	{"type beyond ASCII", head + "\xc3=1\r\n", ErrSyntax, 6},
	{"time below m=", string(audio("t=0 0")), ErrSyntax, 7},
	{"NUL", head + "a=x:\x00\r\n", ErrSyntax, 6},
	{"tab", head + "i=a\tb\r\n", ErrSyntax, 6},
	{"vertical tab", "v=0\r\no=-\v1 1 IN IP4 192.0.2.1\r\n", ErrSyntax, 2},
	{"DEL", head + "i=\x7f\r\n", ErrSyntax, 6},
	{"bare CR", head + "i=a\rm=audio 1 RTP/AVP 0\r\n", ErrSyntax, 6},
	{"CR twice", head + "i=a\r\r\n", ErrSyntax, 6},
	{"C1 control", head + "i=\u0085\r\n", ErrSyntax, 6},
	{"not UTF-8", head + "i=\xff\xfe\r\n", ErrSyntax, 6},

	{"origin of four", "v=0\r\no=1 1 IN IP4\r\n", ErrSyntax, 2},
	{"origin of seven", "v=0\r\no=a b 1 1 IN IP4 192.0.2.1\r\n", ErrSyntax, 2},
	{"origin with a word for a number", "v=0\r\no=- x 1 IN IP4 192.0.2.1\r\n", ErrSyntax, 2},
	{"origin with a plus sign", "v=0\r\no=- +1 1 IN IP4 192.0.2.1\r\n", ErrSyntax, 2},
	{"origin with a no-break space", "v=0\r\no=a\u00a0b 1 1 IN IP4 192.0.2.1\r\n", ErrSyntax, 2},
	{"origin of another network", "v=0\r\no=- 1 1 ATM IP4 192.0.2.1\r\n", ErrSyntax, 2},

	{"connection of two", head + "m=audio 1 RTP/AVP 0\r\nc=IN IP4\r\n", ErrSyntax, 7},
	{"connection twice", head + "c=IN IP4 192.0.2.2\r\n", ErrSyntax, 6},
	{"connection twice in a medium", string(audio("c=IN IP4 192.0.2.2", "c=IN IP4 192.0.2.3")), ErrSyntax, 8},
	{"multicast", string(audio("c=IN IP4 239.1.1.1")), ErrSyntax, 7},
	{"mapped multicast", string(audio("c=IN IP6 ::ffff:239.1.1.1")), ErrSyntax, 7},
	{"multicast with TTL", string(audio("c=IN IP4 239.1.1.1/127")), ErrSyntax, 7},
	{"IP6 address as IP4", string(audio("c=IN IP4 2001:db8::1")), ErrSyntax, 7},
	{"IP4 address as IP6", string(audio("c=IN IP6 192.0.2.1")), ErrSyntax, 7},
	{"zone", string(audio("c=IN IP6 fe80::1%eth0")), ErrSyntax, 7},
	{"octal address", string(audio("c=IN IP4 010.0.0.1")), ErrSyntax, 7},
	{"short address", string(audio("c=IN IP4 127.1")), ErrSyntax, 7},
	{"short address as IP6", string(audio("c=IN IP6 127.1")), ErrSyntax, 7},
	{"address of another kind", string(audio("c=IN IP5 192.0.2.1")), ErrSyntax, 7},

	{"m-line of three", head + "m=audio 1 RTP/AVP\r\n", ErrSyntax, 6},
	{"port above 65535", head + "m=audio 65536 RTP/AVP 0\r\n", ErrSyntax, 6},
	{"port below 0", head + "m=audio -1 RTP/AVP 0\r\n", ErrSyntax, 6},
	{"port beyond 64 bits", head + "m=audio 18446744073709555616 RTP/AVP 0\r\n", ErrSyntax, 6},
	{"port with a word", head + "m=audio 1x RTP/AVP 0\r\n", ErrSyntax, 6},
	{"port with a bad count", head + "m=audio 1/x RTP/AVP 0\r\n", ErrSyntax, 6},
	{"proto with an empty part", head + "m=audio 1 RTP//AVP 0\r\n", ErrSyntax, 6},
	{"payload type 128", head + "m=audio 1 RTP/AVP 128\r\n", ErrSyntax, 6},
	{"payload type with a zero before", head + "m=audio 1 RTP/AVP 00\r\n", ErrSyntax, 6},
	{"payload type with a word", head + "m=audio 1 RTP/AVP PCMU\r\n", ErrSyntax, 6},
	{"format beyond ASCII", head + "m=x 1 y \u00e9\r\n", ErrSyntax, 6},

	{"bandwidth without a colon", string(audio("b=AS64")), ErrSyntax, 7},
	{"bandwidth below 0", string(audio("b=AS:-1")), ErrSyntax, 7},
	{"attribute without a name", string(audio("a=:x")), ErrSyntax, 7},
	{"attribute name with a space", string(audio("a=crypto :1")), ErrSyntax, 7},
	{"rtcp port above 65535", string(audio("a=rtcp:65536")), ErrSyntax, 7},
	{"rtcp of two", string(audio("a=rtcp:1 IN")), ErrSyntax, 7},
	{"rtcp to a multicast", string(audio("a=rtcp:1 IN IP4 224.0.0.1")), ErrSyntax, 7},
	{"fingerprint too short", string(audio("a=fingerprint:sha-256 AB:CD")), ErrSyntax, 7},
	{"fingerprint without a hash", string(audio("a=fingerprint:AB:CD")), ErrSyntax, 7},

	{"line too long", head + "i=" + strings.Repeat("x", maxLine) + "\r\n", ErrLimit, 6},
	{"too many lines", head + strings.Repeat("a=x\r\n", maxLines), ErrLimit, maxLines + 1},
	{"too many m-lines", head + strings.Repeat("m=audio 1 RTP/AVP 0\r\n", maxMedia+1), ErrLimit, 6 + maxMedia},
	{"too many formats", head + "m=audio 1 RTP/AVP" + strings.Repeat(" 0", maxFormats+1) + "\r\n", ErrLimit, 6},
	{"too many crypto lines", string(audio()) + strings.Repeat("a=crypto:x\r\n", maxRepeat+1), ErrLimit, 7 + maxRepeat},
	{"too many bandwidths", string(audio()) + strings.Repeat("b=AS:1\r\n", maxRepeat+1), ErrLimit, 7 + maxRepeat},
	{"too many fingerprints", string(audio()) + strings.Repeat("a=fingerprint:x AB\r\n", maxRepeat+1), ErrLimit, 7 + maxRepeat},
}

func TestMalformed(t *testing.T) {
	for _, tt := range malformed {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Parse([]byte(tt.in))
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, %v", s, err)
			}
			if line := fmt.Sprintf(": line %d: ", tt.line); !strings.Contains(err.Error(), line) {
				t.Errorf("error %q does not name line %d", err, tt.line)
			}
			if len(err.Error()) > 120 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
		})
	}
	if _, err := Parse(make([]byte, maxSize+1)); !errors.Is(err, ErrLimit) {
		t.Errorf("too large: %v", err)
	}
}

// TestLenient are descriptions off the grammar that phones send.
func TestLenient(t *testing.T) {
	for name, in := range map[string]string{
		"no time":               "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0\n",
		"empty name":            "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0\n",
		"no user":               "v=0\no= 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0\n",
		"two spaces":            "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nm=audio  4000 RTP/AVP 0 \n",
		"number beyond 64 bits": "v=0\no=- 99999999999999999999999 -7 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0\n",
		"connection last":       "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nt=0 0\nm=audio 4000 RTP/AVP 0\na=x\nc=IN IP4 192.0.2.1\n",
		"port with a count":     "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nm=audio 4000/2 RTP/AVP 0\n",
		"space at the end":      "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0\na=rtcp-mux \na=sendrecv \n",
		"proto in small":        "v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nm=audio 4000 rtp/avp 0\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := mustParse(t, []byte(in))
			m := &s.Media[0]
			if m.RTPAddr() != netip.MustParseAddrPort("192.0.2.1:4000") || m.Proto != AVP {
				t.Errorf("got %s %s", m.RTPAddr(), m.Proto)
			}
			checkRoundTrip(t, s)
		})
	}
}

// TestDropped are lines that do not cross, and do not fail the call.
func TestDropped(t *testing.T) {
	clean := string(mustParse(t, audio()).Marshal())
	for _, line := range []string{
		"a=unknown:x", "a=T38FaxVersion:0", "a=ice-lite", "a=sendrecv:x", "k=clear:secret", "i=title", "b=X-YZ:128",
		"a=rtpmap:101 x", "a=rtpmap:101 x/0", "a=rtpmap:101 x y/8000", "a=rtpmap:101 x/8000/y", "a=rtpmap:101 x/8000/2/2",
		"a=rtpmap:102 x/8000", "a=rtpmap:0x65 x/8000", "a=rtpmap", "a=fmtp:102 0-15", "a=fmtp:101", "a=fmtp:101 \u00e9",
		"a=rtcp-fb:102 nack", "a=rtcp-fb:*", "a=ptime:x", "a=ptime:-20", "a=ptime:99999", "a=maxptime:",
		"a=rtcp:0", "a=setup:maybe", "a=ice-ufrag:abc", "a=ice-ufrag:ab c d", "a=ice-pwd:short", "a=ice-options:",
		"a=candidate:1 1 udp 1 192.0.2.1", "a=candidate:1 1 udp 1 192.0.2.1 99999 typ host",
		"a=candidate:1 1 udp -1 192.0.2.1 1 typ host", "a=candidate:1 1 udp 1 127.1 1 typ host",
		"a=mid:a b", "a=mid:", "a=msid:", "a=label:a,b", "a=content:a b", "a=ssrc:4294967296 cname:x", "a=ssrc:-1 cname:x",
		"a=ssrc-group:FID", "a=ssrc-group:FID 1 x", "a=extmap:1", "a=extmap:x urn:y", "a=extmap:1/up urn:y",
		"a=group:BUNDLE 0", "a=fmtp:101 " + strings.Repeat("x", 1025),
	} {
		if got := string(mustParse(t, audio(line)).Marshal()); got != clean {
			t.Errorf("%s left something:\n%s", line, got)
		}
	}
	for _, line := range []string{"a=candidate:1 1 udp 1 192.0.2.1 9 typ host", "a=crypto:1 X inline:AAAA", "a=rtcp-mux", "b=AS:1"} {
		in := strings.Replace(head, "t=0 0", "t=0 0\r\n"+line, 1) + "m=audio 4000 RTP/AVP 0 8 101\r\n"
		if got := string(mustParse(t, []byte(in)).Marshal()); got != clean {
			t.Errorf("%s of the session left something:\n%s", line, got)
		}
	}
}

// TestFeedbackBudget sends what one byte of input makes the most output of.
func TestFeedbackBudget(t *testing.T) {
	var b strings.Builder
	b.WriteString(head)
	for range maxMedia {
		b.WriteString("m=video 1 RTP/AVPF")
		for pt := range maxFormats {
			fmt.Fprintf(&b, " %d", pt)
		}
		b.WriteString("\r\n" + strings.Repeat("a=rtcp-fb:* "+strings.Repeat("x", maxToken)+"\r\n", 20))
	}
	s := mustParse(t, []byte(b.String()))
	n := 0
	for _, m := range s.Media {
		for _, f := range m.Formats {
			n += len(f.Feedback)
		}
	}
	if out := len(s.Marshal()); n != maxFeedback || out > 4*maxSize {
		t.Errorf("%d values, %d bytes", n, out)
	}
}

// busy is how long the processor works for f, whatever else it has to do meanwhile.
func busy(f func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var began, ended unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &began)
	f()
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ended)
	return time.Duration(ended.Nano() - began.Nano())
}

// Empty lines at the end are looked at once, and not again for each line before them: a
// description took as long as the square of its length so.
func TestEmptyLinesTakeNoTime(t *testing.T) {
	const parts = 16
	took := func(times, size int) time.Duration {
		in := []byte("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n" + strings.Repeat("i=\n", size/80))
		in = append(in, bytes.Repeat([]byte("\n"), size-len(in))...)
		return busy(func() {
			for range times {
				if _, err := Parse(in); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	whole, part := time.Hour, time.Hour
	for range 5 { // the machine may be busy
		whole, part = min(whole, took(10, maxSize)), min(part, took(10*parts, maxSize/parts))
	}
	if whole > parts/2*part {
		t.Errorf("a description takes %s, and %d of a part each %s", whole, parts, part)
	}
	for _, end := range []string{"", "\r", "\r\n", "\n\r\r\n"} {
		if _, err := Parse([]byte("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-" + end)); err != nil {
			t.Errorf("with %q behind it: %v", end, err)
		}
	}
	if _, err := Parse([]byte("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\r\n")); err == nil {
		t.Error("a line that ends with two CRs is taken")
	}
}
