package sdp

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestHeld(t *testing.T) {
	tests := []struct {
		sample    string
		held      bool
		direction Direction
	}{
		{"baresip-sdes", false, SendRecv},
		{"hold-sendonly", false, SendOnly},
		{"hold-inactive-session", false, Inactive},
		{"hold-zero-address", true, SendRecv},
		{"firefox", false, SendRecv}, // 0.0.0.0 and port 9 of an ICE agent
		{"host-names", false, SendRecv},
	}
	all := samples(t)
	for _, tt := range tests {
		m := &mustParse(t, all[tt.sample]).Media[0]
		if m.Held() != tt.held || m.Direction != tt.direction {
			t.Errorf("%s: held %v, %s", tt.sample, m.Held(), m.Direction)
		}
	}
	if m := mustParse(t, all["ipv6"]).Media[2]; !m.Held() {
		t.Error("c=:: is not held")
	}
	if m := mustParse(t, all["hold-inactive-session"]).Media[1]; m.Direction != RecvOnly {
		t.Errorf("own direction is %s", m.Direction)
	}
	if (&Media{Addr: netip.IPv4Unspecified()}).Held() {
		t.Error("a rejected line is held")
	}
}

func TestRTCPAddr(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		want  string
	}{
		{"one above", nil, "192.0.2.1:4001"},
		{"one above if mux is not agreed", []string{"a=rtcp-mux"}, "192.0.2.1:4001"},
		{"port alone", []string{"a=rtcp:5000"}, "192.0.2.1:5000"},
		{"port and address", []string{"a=rtcp:5000 IN IP4 192.0.2.9"}, "192.0.2.9:5000"},
		{"of the other family", []string{"a=rtcp:5000 IN IP6 2001:db8::1"}, "[2001:db8::1]:5000"},
		{"if mux is not agreed", []string{"a=rtcp-mux", "a=rtcp:5000"}, "192.0.2.1:5000"},
		{"nowhere", []string{"a=rtcp:9 IN IP4 0.0.0.0"}, "invalid AddrPort"},
		{"a host name", []string{"a=rtcp:5000 IN IP4 media.example.com"}, "192.0.2.1:5000"},
		{"on hold", []string{"c=IN IP4 0.0.0.0"}, "invalid AddrPort"},
		{"first counts", []string{"a=rtcp:5000", "a=rtcp:6000"}, "192.0.2.1:5000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := mustParse(t, audio(tt.lines...))
			if got := s.Media[0].RTCPAddr().String(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			checkRoundTrip(t, s)
		})
	}
	last := Media{Addr: netip.MustParseAddr("192.0.2.1"), Port: 65535}
	if got := last.RTCPAddr(); got.IsValid() {
		t.Errorf("above 65535 is %s", got)
	}
}

func TestResolved(t *testing.T) {
	all := samples(t)
	s := mustParse(t, all["baresip-dtls"])
	m := s.Media[0]
	if m.Setup != "actpass" || len(m.Fingerprints) != 1 || m.Fingerprints[0].Hash != "sha-256" {
		t.Errorf("of the session: %q %v", m.Setup, m.Fingerprints)
	}
	m.Fingerprints[0].Value = "changed"
	if s.Fingerprints[0].Value == "changed" {
		t.Error("medium and session share a slice")
	}

	own := mustParse(t, []byte("v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\na=ice-ufrag:sess\na=ice-pwd:ssssssssssssssssssssss\na=fingerprint:x AA\na=setup:active\n"+
		"m=audio 1 RTP/AVP 0\na=ice-ufrag:medi\na=fingerprint:x BB\na=setup:passive\nm=audio 1 RTP/AVP 0\n"))
	a, b := own.Media[0], own.Media[1]
	if a.ICE.Ufrag != "medi" || a.ICE.Pwd != "" || a.Fingerprints[0].Value != "BB" || a.Setup != "passive" {
		t.Errorf("own: %+v", a)
	}
	if b.ICE.Ufrag != "sess" || b.ICE.Pwd == "" || b.Fingerprints[0].Value != "AA" || b.Setup != "active" {
		t.Errorf("the session's: %+v", b)
	}

	names := mustParse(t, all["host-names"])
	if names.Media[0].Addr.IsValid() || names.Media[1].Addr != netip.MustParseAddr("192.0.2.9") || names.Origin.Addr.IsValid() {
		t.Errorf("host names: %+v", names)
	}
	if v6 := mustParse(t, all["ipv6"]); v6.Media[1].Addr != netip.MustParseAddr("192.0.2.8") {
		t.Errorf("mapped address: %s", v6.Media[1].Addr)
	}
}

func TestFormats(t *testing.T) {
	m := mustParse(t, audio("a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15", "a=rtcp-fb:* nack", "a=rtcp-fb:8 ccm fir")).Media[0]
	want := []Format{
		{Name: "0", Codec: "PCMU", ClockRate: 8000, Feedback: []string{"nack"}},
		{Name: "8", Codec: "PCMA", ClockRate: 8000, Feedback: []string{"nack", "ccm fir"}},
		{Name: "101", Codec: "telephone-event", ClockRate: 8000, Fmtp: "0-15", Feedback: []string{"nack"}},
	}
	if !reflect.DeepEqual(m.Formats, want) {
		t.Errorf("got %+v", m.Formats)
	}
	if f := mustParse(t, []byte(head+"m=audio 1 RTP/AVP 96\n")).Media[0].Formats[0]; f.Codec != "" {
		t.Errorf("a dynamic type without rtpmap is %s", f.Codec)
	}
	for _, line := range []string{"a=rtpmap:101 x/0", "a=rtpmap:101 x/8000/", "a=rtpmap:101 /8000", "a=rtpmap:101 x"} {
		if f := mustParse(t, audio(line)).Media[0].Formats[2]; !reflect.DeepEqual(f, Format{Name: "101"}) {
			t.Errorf("%s gives %+v", line, f)
		}
	}
	if m := mustParse(t, []byte(head+"m=x 1 y a *\na=rtcp-fb:* nack\na=rtpmap:a b/8000\n")).Media[0]; !reflect.DeepEqual(m.Formats, []Format{{Name: "a"}, {Name: "*"}}) {
		t.Errorf("formats that are not RTP: %+v", m.Formats)
	}
	if f := mustParse(t, samples(t)["t38-udptl"]).Media[0].Formats[0]; f.Name != "t38" || f.Codec != "" {
		t.Errorf("T.38 is %+v", f)
	}
}

func TestProto(t *testing.T) {
	type is struct{ rtp, secure, feedback, dtls bool }
	for p, want := range map[Proto]is{
		AVP:         {rtp: true},
		AVPF:        {rtp: true, feedback: true},
		SAVP:        {rtp: true, secure: true},
		SAVPF:       {rtp: true, secure: true, feedback: true},
		TLSSAVP:     {rtp: true, secure: true, dtls: true},
		TLSSAVPF:    {rtp: true, secure: true, feedback: true, dtls: true},
		"udptl":     {},
		"TCP/BFCPF": {},
	} {
		if got := (is{p.RTP(), p.Secure(), p.Feedback(), p.DTLS()}); got != want {
			t.Errorf("%s is %+v", p, got)
		}
	}
}

func TestDirection(t *testing.T) {
	for d, want := range map[Direction]Direction{SendRecv: SendRecv, SendOnly: RecvOnly, RecvOnly: SendOnly, Inactive: Inactive} {
		if got := d.Reverse(); got != want {
			t.Errorf("%s reversed is %s", d, got)
		}
		if got, ok := parseDirection(d.String()); !ok || got != d {
			t.Errorf("%s read is %s", d, got)
		}
	}
}

// TestMarshalBuilt writes what nobody parsed.
func TestMarshalBuilt(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	s := &Session{Origin: Origin{ID: 7, Version: 8, Addr: addr}, Addr: addr, Media: []Media{
		{Kind: "audio", Port: 4000, Proto: SAVP, Addr: addr, Direction: SendOnly,
			Formats: []Format{{Name: "0", Codec: "PCMU", ClockRate: 8000}},
			Crypto:  []Crypto{{Tag: 1, Suite: "AEAD_AES_128_GCM", Keys: []InlineKey{{KeySalt: make([]byte, 28)}}}}},
		{Kind: "video", Proto: SAVP, Addr: addr, Direction: Inactive},
	}}
	want := "v=0\r\no=- 7 8 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n" +
		"m=audio 4000 RTP/SAVP 0\r\na=rtpmap:0 PCMU/8000\r\n" +
		"a=crypto:1 AEAD_AES_128_GCM inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\r\na=sendonly\r\n" +
		"m=video 0 RTP/SAVP 0\r\na=inactive\r\n"
	if got := string(s.Marshal()); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// TestMarshalNoAddr writes a c= even where no address is known: the grammar
// wants one, and nobody resolves the name in it.
func TestMarshalNoAddr(t *testing.T) {
	s := mustParse(t, []byte("v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nm=audio 4000 RTP/AVP 0\n"))
	if out := string(s.Marshal()); strings.Count(out, "\r\nc=IN IP4 unknown.invalid\r\n") != 1 {
		t.Errorf("got:\n%s", out)
	}
	if s.Media[0].Held() || s.Media[0].RTPAddr().IsValid() || s.Media[0].RTCPAddr().IsValid() {
		t.Error("an unknown address is somewhere")
	}
	checkRoundTrip(t, s)
}
