package sdp

import (
	"fmt"
	"net/netip"
	"strings"
)

// Marshal writes the description. Every line comes from the model.
func (s *Session) Marshal() []byte {
	var b strings.Builder
	name := s.Name
	if name == "" {
		name = "-"
	}
	user := s.Origin.Username
	if user == "" {
		user = "-"
	}
	fmt.Fprintf(&b, "v=0\r\no=%s %d %d IN %s\r\ns=%s\r\n", user, s.Origin.ID, s.Origin.Version, addrText(s.Origin.Addr), name)
	if s.Addr.IsValid() {
		fmt.Fprintf(&b, "c=IN %s\r\n", addrText(s.Addr))
	}
	b.WriteString("t=0 0\r\n")
	for _, g := range s.Groups {
		fmt.Fprintf(&b, "a=group:%s\r\n", strings.Join(append([]string{g.Semantics}, g.MIDs...), " "))
	}
	if s.ICELite {
		b.WriteString("a=ice-lite\r\n")
	}
	if s.Direction != SendRecv {
		fmt.Fprintf(&b, "a=%s\r\n", s.Direction)
	}
	for i := range s.Media {
		s.Media[i].write(&b, s.Addr)
	}
	return []byte(b.String())
}

// addrText writes address type and address. A missing one is 0.0.0.0: nothing
// is sent there.
func addrText(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "IP4 0.0.0.0"
	case a.Is4():
		return "IP4 " + a.String()
	}
	return "IP6 " + a.String()
}

func (m *Media) write(b *strings.Builder, session netip.Addr) {
	names := make([]string, 0, len(m.Formats))
	for _, f := range m.Formats {
		names = append(names, f.Name)
	}
	if len(names) == 0 {
		names = append(names, "0") // the grammar wants one, also on a rejected line
	}
	fmt.Fprintf(b, "m=%s %d %s %s\r\n", m.Kind, m.Port, m.Proto, strings.Join(names, " "))
	if m.Addr != session {
		fmt.Fprintf(b, "c=IN %s\r\n", addrText(m.Addr))
	}
	for _, w := range m.Bandwidth {
		fmt.Fprintf(b, "b=%s:%d\r\n", w.Type, w.Value)
	}
	for _, f := range m.Formats {
		f.write(b)
	}
	m.writeTransport(b)
	for _, c := range m.Crypto {
		if c.broken == "" {
			c.write(b)
		}
	}
	m.writeLabels(b)
	if m.Ptime > 0 {
		fmt.Fprintf(b, "a=ptime:%d\r\n", m.Ptime)
	}
	if m.Maxptime > 0 {
		fmt.Fprintf(b, "a=maxptime:%d\r\n", m.Maxptime)
	}
	fmt.Fprintf(b, "a=%s\r\n", m.Direction)
	switch {
	case m.RTCP.Port() != 0 && m.RTCP.Addr().IsValid():
		fmt.Fprintf(b, "a=rtcp:%d IN %s\r\n", m.RTCP.Port(), addrText(m.RTCP.Addr()))
	case m.RTCP.Port() != 0:
		fmt.Fprintf(b, "a=rtcp:%d\r\n", m.RTCP.Port())
	}
	if m.RTCPMux {
		b.WriteString("a=rtcp-mux\r\n")
	}
}

func (f *Format) write(b *strings.Builder) {
	if f.Codec != "" {
		fmt.Fprintf(b, "a=rtpmap:%s %s/%d", f.Name, f.Codec, f.ClockRate)
		if f.Channels > 0 {
			fmt.Fprintf(b, "/%d", f.Channels)
		}
		b.WriteString("\r\n")
	}
	if f.Fmtp != "" {
		fmt.Fprintf(b, "a=fmtp:%s %s\r\n", f.Name, f.Fmtp)
	}
	for _, v := range f.Feedback {
		fmt.Fprintf(b, "a=rtcp-fb:%s %s\r\n", f.Name, v)
	}
}

func (m *Media) writeTransport(b *strings.Builder) {
	t := &m.Transport
	text(b, "ice-ufrag", t.Ufrag)
	text(b, "ice-pwd", t.Pwd)
	text(b, "ice-options", t.ICEOptions)
	for _, c := range t.Candidates {
		text(b, "candidate", c)
	}
	if t.Complete {
		b.WriteString("a=end-of-candidates\r\n")
	}
	for _, f := range t.Fingerprints {
		text(b, "fingerprint", f.Hash+" "+f.Value)
	}
	text(b, "setup", t.Setup)
}

func (m *Media) writeLabels(b *strings.Builder) {
	l := &m.Label
	text(b, "mid", l.MID)
	for _, e := range l.Extmap {
		text(b, "extmap", e)
	}
	text(b, "msid", l.MSID)
	text(b, "label", l.Label)
	text(b, "content", l.Content)
	if l.RTCPRsize {
		b.WriteString("a=rtcp-rsize\r\n")
	}
	for _, s := range m.SSRCs {
		if s.CNAME != "" {
			fmt.Fprintf(b, "a=ssrc:%d cname:%s\r\n", s.ID, s.CNAME)
		} else {
			fmt.Fprintf(b, "a=ssrc:%d\r\n", s.ID)
		}
	}
}

func text(b *strings.Builder, name, value string) {
	if value != "" {
		fmt.Fprintf(b, "a=%s:%s\r\n", name, value)
	}
}
