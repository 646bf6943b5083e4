package sdp

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Marshal writes the description; the caller owns the bytes. Every line comes
// from the model, and the strings in it from Parse or from us: they are not
// checked again.
func (s *Session) Marshal() []byte {
	w := &writer{b: make([]byte, 0, 1024)}
	w.line("v=0")
	w.line("o=", orDash(s.Origin.Username), " ", decimal(s.Origin.ID), " ", decimal(s.Origin.Version), " ", addrText(s.Origin.Addr))
	w.line("s=", orDash(s.Name))
	if s.Addr.IsValid() {
		w.line("c=", addrText(s.Addr))
	}
	w.line("t=0 0")
	for _, g := range s.Groups {
		w.line("a=group:", strings.Join(append([]string{g.Semantics}, g.MIDs...), " "))
	}
	w.flag("ice-lite", s.ICELite)
	if s.Direction != SendRecv {
		w.line("a=", s.Direction.String())
	}
	w.keying(s.ICE, s.Fingerprints, s.Setup)
	for i := range s.Media {
		w.media(&s.Media[i], s.Addr)
	}
	return w.b
}

// writer holds what is written so far.
type writer struct{ b []byte }

func (w *writer) line(parts ...string) {
	for _, p := range parts {
		w.b = append(w.b, p...)
	}
	w.b = append(w.b, "\r\n"...)
}

// decimal writes a number, which is never negative in a model.
func decimal[T int | uint16 | uint32 | uint64](n T) string { return strconv.FormatUint(uint64(n), 10) }

func (w *writer) text(name, value string) {
	if value != "" {
		w.line("a=", name, ":", value)
	}
}

func (w *writer) number(name string, value int) {
	if value > 0 {
		w.line("a=", name, ":", decimal(value))
	}
}

func (w *writer) flag(name string, on bool) {
	if on {
		w.line("a=", name)
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// addrText writes network type, address type and address. An unknown address
// is a name that nobody resolves (RFC 6761 section 6.4), not 0.0.0.0, which
// would say hold.
func addrText(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "IN IP4 unknown.invalid"
	case a.Is4():
		return "IN IP4 " + a.String()
	}
	return "IN IP6 " + a.String()
}

func (w *writer) media(m *Media, session netip.Addr) {
	names := make([]string, 0, len(m.Formats))
	for _, f := range m.Formats {
		names = append(names, f.Name)
	}
	if len(names) == 0 {
		names = append(names, "0") // the grammar wants one, also on a rejected line
	}
	w.line("m=", m.Kind, " ", decimal(m.Port), " ", string(m.Proto), " ", strings.Join(names, " "))
	if m.Addr != session || !session.IsValid() {
		w.line("c=", addrText(m.Addr))
	}
	for _, b := range m.Bandwidth {
		w.line("b=", b.Type, ":", decimal(b.Value))
	}
	for i := range m.Formats {
		w.format(&m.Formats[i])
	}
	w.keying(m.ICE, m.Fingerprints, m.Setup)
	for _, c := range m.Crypto {
		if c.broken == "" {
			w.b = append(c.appendTo(append(w.b, "a=crypto:"...)), "\r\n"...)
		}
	}
	w.names(m)
	w.number("ptime", m.Ptime)
	w.number("maxptime", m.Maxptime)
	w.line("a=", m.Direction.String())
	w.rtcp(m)
}

func (w *writer) format(f *Format) {
	switch {
	case f.Codec == "" || f.ClockRate <= 0:
	case f.Channels > 0:
		w.line("a=rtpmap:", f.Name, " ", f.Codec, "/", decimal(f.ClockRate), "/", decimal(f.Channels))
	default:
		w.line("a=rtpmap:", f.Name, " ", f.Codec, "/", decimal(f.ClockRate))
	}
	if f.Fmtp != "" {
		w.line("a=fmtp:", f.Name, " ", f.Fmtp)
	}
	for _, v := range f.Feedback {
		w.line("a=rtcp-fb:", f.Name, " ", v)
	}
}

// keying writes what ICE and DTLS need.
func (w *writer) keying(ice ICE, fingerprints []Fingerprint, setup string) {
	w.text("ice-ufrag", ice.Ufrag)
	w.text("ice-pwd", ice.Pwd)
	w.text("ice-options", strings.Join(ice.Options, " "))
	for _, c := range ice.Candidates {
		w.text("candidate", c)
	}
	w.flag("end-of-candidates", ice.EndOfCandidates)
	for _, f := range fingerprints {
		w.line("a=fingerprint:", f.Hash, " ", f.Value)
	}
	w.text("setup", setup)
}

// names writes what a stream and its sources are called.
func (w *writer) names(m *Media) {
	w.text("mid", m.MID)
	w.flag("bundle-only", m.BundleOnly)
	for _, e := range m.Extmap {
		w.extmap(e)
	}
	w.text("msid", m.MSID)
	w.text("label", m.Label)
	w.text("content", m.Content)
	for _, g := range m.SSRCGroups {
		w.line("a=ssrc-group:", g.Semantics, " ", strings.Trim(fmt.Sprint(g.IDs), "[]"))
	}
	for _, s := range m.SSRCs {
		if s.CNAME == "" {
			w.line("a=ssrc:", decimal(s.ID))
		} else {
			w.line("a=ssrc:", decimal(s.ID), " cname:", s.CNAME)
		}
	}
}

func (w *writer) extmap(e Extmap) {
	id, attributes := decimal(e.ID), ""
	if e.Direction != "" {
		id += "/" + e.Direction
	}
	if e.Attributes != "" {
		attributes = " " + e.Attributes
	}
	w.line("a=extmap:", id, " ", e.URI, attributes)
}

func (w *writer) rtcp(m *Media) {
	switch {
	case m.RTCP.Port() == 0:
	case m.RTCP.Addr().IsValid():
		w.line("a=rtcp:", decimal(m.RTCP.Port()), " ", addrText(m.RTCP.Addr()))
	default:
		w.line("a=rtcp:", decimal(m.RTCP.Port()))
	}
	w.flag("rtcp-mux", m.RTCPMux)
	w.flag("rtcp-rsize", m.RTCPRsize)
}
