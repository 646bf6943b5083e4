package sdp

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	pion "github.com/pion/sdp/v3"
)

// checkPion compares what we read with what another implementation does.
// What we write it must read; what we only read it may refuse, as it refuses
// line orders that we take.
func checkPion(tb testing.TB, in []byte, s *Session) {
	tb.Helper()
	var theirs pion.SessionDescription
	if theirs.Unmarshal(in) == nil {
		sameAs(tb, &theirs, s)
	}
	var again pion.SessionDescription
	err := again.Unmarshal(s.Marshal())
	switch {
	case err == nil:
		sameAs(tb, &again, s)
	case pionKnows(s):
		tb.Fatalf("%v in:\n%s", err, s.Marshal())
	}
}

// pionKnows tells whether s has only the media and transports of its list.
func pionKnows(s *Session) bool {
	for _, m := range s.Media {
		if !slices.Contains([]string{"audio", "video", "text", "application", "message"}, m.Kind) || !m.Proto.RTP() {
			return false
		}
	}
	return true
}

func sameAs(tb testing.TB, theirs *pion.SessionDescription, s *Session) {
	tb.Helper()
	if len(theirs.MediaDescriptions) != len(s.Media) {
		tb.Fatalf("%d m-lines, pion has %d", len(s.Media), len(theirs.MediaDescriptions))
	}
	// Of a space behind it, which we take for the line's end, it makes another attribute.
	inactive := slices.ContainsFunc(theirs.Attributes, func(a pion.Attribute) bool { return strings.TrimRight(a.Key, " ") == "inactive" })
	if o := theirs.Origin; len(theirs.Attributes) == 1 && inactive != (s.Direction == Inactive) || named(o.Username) != s.Origin.Username {
		tb.Errorf("session: %+v, pion has %+v", s, o)
	}
	for i, m := range theirs.MediaDescriptions {
		sameMedia(tb, theirs, m, &s.Media[i])
	}
}

func sameMedia(tb testing.TB, session *pion.SessionDescription, theirs *pion.MediaDescription, m *Media) {
	tb.Helper()
	name := theirs.MediaName
	proto, _ := parseProto(strings.Join(name.Protos, "/"))
	if name.Media != m.Kind || name.Port.Value != int(m.Port) || proto != m.Proto {
		tb.Errorf("m-line %s %d %s, pion has %s", m.Kind, m.Port, m.Proto, name.String())
	}
	var formats []string
	for _, f := range name.Formats {
		if !slices.Contains(formats, f) {
			formats = append(formats, f)
		}
	}
	if !slices.EqualFunc(formats, m.Formats, func(a string, b Format) bool { return a == b.Name }) {
		tb.Errorf("formats %+v, pion has %q", m.Formats, formats)
	}
	c := theirs.ConnectionInformation
	if c == nil {
		c = session.ConnectionInformation
	}
	var addr netip.Addr
	if c != nil && c.Address != nil {
		addr, _ = netip.ParseAddr(c.Address.Address)
	}
	if addr.Unmap() != m.Addr {
		tb.Errorf("address %s, pion has %s", m.Addr, addr)
	}
	keys := 0
	for _, a := range theirs.Attributes {
		if a.Key == "crypto" {
			keys++
		}
	}
	usable := slices.ContainsFunc(m.Crypto, func(c Crypto) bool { return c.Usable() == nil })
	if keys > len(m.Crypto) || usable && keys == 0 {
		tb.Errorf("%d crypto lines, pion has %d", len(m.Crypto), keys)
	}
}

func TestPion(t *testing.T) {
	read := 0
	for name, in := range samples(t) {
		t.Run(name, func(t *testing.T) { checkPion(t, in, mustParse(t, in)) })
		if (&pion.SessionDescription{}).Unmarshal(in) == nil {
			read++
		}
	}
	if read < 10 {
		t.Errorf("pion read %d samples: the comparison says little", read)
	}
}
