package sdp

import (
	"net/netip"
	"testing"
)

// TestRFC8866 reads the example of RFC 8866 section 5.
func TestRFC8866(t *testing.T) {
	s := mustParse(t, []byte(`v=0
o=jdoe 3724394400 3724394405 IN IP4 198.51.100.1
s=Call to John Smith
i=SDP Offer #1
u=http://www.jdoe.example.com/home.html
e=Jane Doe <jane@jdoe.example.com>
p=+1 617 555-6011
c=IN IP4 198.51.100.1
t=0 0
m=audio 49170 RTP/AVP 0
m=audio 49180 RTP/AVP 0
m=video 51372 RTP/AVP 99
c=IN IP6 2001:db8::2
a=rtpmap:99 h263-1998/90000
`))
	if want := (Origin{"jdoe", 3724394400, 3724394405, netip.MustParseAddr("198.51.100.1")}); s.Origin != want || s.Name != "Call to John Smith" {
		t.Errorf("origin %+v, name %q", s.Origin, s.Name)
	}
	for i, want := range []string{"198.51.100.1:49170", "198.51.100.1:49180", "[2001:db8::2]:51372"} {
		if got := s.Media[i].RTPAddr().String(); got != want {
			t.Errorf("m-line %d at %s, want %s", i, got, want)
		}
	}
	if f := s.Media[2].Formats[0]; f.Codec != "h263-1998" || f.ClockRate != 90000 {
		t.Errorf("format %+v", f)
	}
	checkRoundTrip(t, s)
}

// TestRFC3605 reads the examples of RFC 3605 section 2.1.
func TestRFC3605(t *testing.T) {
	for line, want := range map[string]string{
		"a=rtcp:53020":                    "192.0.2.1:53020",
		"a=rtcp:53020 IN IP4 126.16.64.4": "126.16.64.4:53020",
		"a=rtcp:53020 IN IP6 2001:2345:6789:ABCD:EF01:2345:6789:ABCD": "[2001:2345:6789:abcd:ef01:2345:6789:abcd]:53020",
	} {
		if got := mustParse(t, audio(line)).Media[0].RTCPAddr().String(); got != want {
			t.Errorf("%s is %s", line, got)
		}
	}
}

// TestRFC3264Hold reads the two ways to hold of RFC 3264 section 8.4.
func TestRFC3264Hold(t *testing.T) {
	for line, held := range map[string]bool{"a=sendonly": false, "c=IN IP4 0.0.0.0": true} {
		m := mustParse(t, audio(line)).Media[0]
		if m.Held() != held || (m.Direction == SendOnly) == held {
			t.Errorf("%s: held %v, %s", line, m.Held(), m.Direction)
		}
	}
}

// TestRFC3551 names static payload types of RFC 3551 tables 4 and 5.
func TestRFC3551(t *testing.T) {
	for name, f := range static {
		s := mustParse(t, []byte(head+"m=audio 4000 RTP/AVP "+name+"\r\n"))
		got := s.Media[0].Formats[0]
		if got.Codec != f.Codec || got.ClockRate != f.ClockRate || got.Channels != f.Channels || f.ClockRate == 0 {
			t.Errorf("%s is %+v", name, got)
		}
	}
	for _, reserved := range []string{"1", "2", "19", "35", "72", "76", "95"} {
		if f := newFormat(AVP, reserved); f.Codec != "" {
			t.Errorf("%s is %+v", reserved, f)
		}
	}
}
