package sdp

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// attribute reads an a= line. One that is unknown, or known and off, is
// dropped: only lines that change where media goes are worth refusing a call
// for.
func (p *parser) attribute(v string) error {
	name, value, _ := strings.Cut(v, ":")
	if !token(name) {
		return syntax(p.line, "bad attribute")
	}
	m := p.last()
	if d, ok := direction(name); ok {
		if m != nil {
			m.Direction, m.ownDirection = d, true
		} else {
			p.s.Direction = d
		}
		return nil
	}
	t := &p.transport
	if m != nil {
		t = &m.Transport
	}
	if transportAttribute(t, name, value) {
		return nil
	}
	if m == nil {
		p.sessionAttribute(name, value)
		return nil
	}
	if p.formatAttribute(m, name, value) {
		return nil
	}
	return p.mediaAttribute(m, name, value)
}

func direction(name string) (Direction, bool) {
	for i, d := range directions {
		if name == d {
			return Direction(i), true
		}
	}
	return 0, false
}

func transportAttribute(t *Transport, name, value string) bool {
	switch name {
	case "ice-ufrag":
		keep(&t.Ufrag, value, iceChars(value, 4, 256))
	case "ice-pwd":
		keep(&t.Pwd, value, iceChars(value, 22, 256))
	case "ice-options":
		keep(&t.ICEOptions, value, words(value))
	case "candidate":
		if words(value) && len(t.Candidates) < maxPerLine {
			t.Candidates = append(t.Candidates, value)
		}
	case "end-of-candidates":
		t.Complete = true
	case "setup":
		switch value = strings.ToLower(value); value {
		case "active", "passive", "actpass", "holdconn":
			t.Setup = value
		}
	case "fingerprint":
		f := strings.Fields(value)
		if len(f) == 2 && token(f[0]) && hexBytes(f[1]) && len(t.Fingerprints) < 8 {
			t.Fingerprints = append(t.Fingerprints, Fingerprint{strings.ToLower(f[0]), strings.ToUpper(f[1])})
		}
	default:
		return false
	}
	return true
}

func (p *parser) sessionAttribute(name, value string) {
	switch name {
	case "ice-lite":
		p.s.ICELite = true
	case "group":
		f := strings.Fields(value)
		if len(f) > 0 && words(value) && len(p.s.Groups) < 8 {
			p.s.Groups = append(p.s.Groups, Group{Semantics: f[0], MIDs: f[1:]})
		}
	}
}

// formatAttribute reads what is about one payload type of the m-line.
func (p *parser) formatAttribute(m *pending, name, value string) bool {
	if name != "rtpmap" && name != "fmtp" && name != "rtcp-fb" {
		return false
	}
	pt, rest, _ := strings.Cut(value, " ")
	rest = strings.Trim(rest, " ")
	i, listed := m.formats[pt]
	if name == "rtcp-fb" && pt == "*" && printable(rest) {
		for j := range m.Formats {
			m.Formats[j].addFeedback(rest)
		}
		return true
	}
	if !listed || !printable(rest) {
		return true
	}
	f := &m.Formats[i]
	switch name {
	case "rtpmap":
		f.rtpmap(rest)
	case "fmtp":
		if f.Fmtp == "" && len(rest) <= 1024 {
			f.Fmtp = rest
		}
	case "rtcp-fb":
		f.addFeedback(rest)
	}
	return true
}

func (f *Format) addFeedback(v string) {
	if v != "" && len(f.Feedback) < maxPerLine {
		f.Feedback = append(f.Feedback, v)
	}
}

// rtpmap reads <encoding>/<clock rate>[/<channels>].
func (f *Format) rtpmap(v string) {
	parts := strings.Split(v, "/")
	if len(parts) < 2 || len(parts) > 3 || !token(parts[0]) || !digits(parts[1], 6) {
		return
	}
	if len(parts) == 3 && !digits(parts[2], 2) {
		return
	}
	f.Codec = parts[0]
	f.ClockRate, _ = strconv.Atoi(parts[1])
	if len(parts) == 3 {
		f.Channels, _ = strconv.Atoi(parts[2])
	}
}

func (p *parser) mediaAttribute(m *pending, name, value string) error {
	switch name {
	case "rtcp":
		return p.rtcp(m, value)
	case "rtcp-mux":
		m.RTCPMux = true
	case "rtcp-rsize":
		m.Label.RTCPRsize = true
	case "ptime":
		m.Ptime = milliseconds(value)
	case "maxptime":
		m.Maxptime = milliseconds(value)
	case "crypto":
		if len(m.Crypto) == maxPerLine {
			return fmt.Errorf("%w: line %d: over %d crypto lines", ErrLimit, p.line, maxPerLine)
		}
		m.Crypto = append(m.Crypto, parseCrypto(value))
	case "mid":
		keep(&m.Label.MID, value, token(value))
	case "msid":
		keep(&m.Label.MSID, value, words(value))
	case "label":
		keep(&m.Label.Label, value, token(value))
	case "content":
		keep(&m.Label.Content, value, words(value))
	case "extmap":
		if words(value) && len(m.Label.Extmap) < maxPerLine {
			m.Label.Extmap = append(m.Label.Extmap, value)
		}
	case "ssrc":
		m.ssrc(value)
	}
	return nil
}

// rtcp reads a=rtcp:<port> [IN IP4 <address>] (RFC 3605).
func (p *parser) rtcp(m *pending, value string) error {
	f := strings.Fields(value)
	if len(f) != 1 && len(f) != 4 {
		return syntax(p.line, "bad a=rtcp")
	}
	port, err := strconv.ParseUint(f[0], 10, 16)
	if err != nil || !digits(f[0], 5) {
		return syntax(p.line, "bad a=rtcp")
	}
	var ip netip.Addr
	if len(f) == 4 {
		if ip, err = address(f[2], f[3]); err != nil || f[1] != "IN" {
			return syntax(p.line, "bad a=rtcp")
		}
	}
	m.RTCP = netip.AddrPortFrom(ip, uint16(port))
	return nil
}

// ssrc reads a=ssrc:<id> <attribute>, of which only the cname is kept.
func (m *pending) ssrc(value string) {
	idText, attr, _ := strings.Cut(value, " ")
	id, err := strconv.ParseUint(idText, 10, 32)
	if err != nil || !digits(idText, 10) {
		return
	}
	i := 0
	for ; i < len(m.SSRCs) && m.SSRCs[i].ID != uint32(id); i++ {
	}
	if i == len(m.SSRCs) {
		if i == maxPerLine {
			return
		}
		m.SSRCs = append(m.SSRCs, SSRC{ID: uint32(id)})
	}
	if cname, ok := strings.CutPrefix(attr, "cname:"); ok {
		keep(&m.SSRCs[i].CNAME, cname, words(cname))
	}
}

func keep(to *string, value string, good bool) {
	if good && *to == "" {
		*to = value
	}
}

func milliseconds(v string) int {
	whole, _, _ := strings.Cut(v, ".")
	if !digits(whole, 4) {
		return 0
	}
	n, _ := strconv.Atoi(whole)
	return n
}

// words accepts visible ASCII with single spaces between, up to 512 bytes.
func words(s string) bool {
	return s != "" && len(s) <= 512 && printable(s) && s == strings.Join(strings.Fields(s), " ")
}

func printable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

func iceChars(s string, low, high int) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '+' || c == '/') {
			return false
		}
	}
	return len(s) >= low && len(s) <= high
}

func hexBytes(s string) bool {
	for _, part := range strings.Split(s, ":") {
		if len(part) != 2 || strings.Trim(part, "0123456789abcdefABCDEF") != "" {
			return false
		}
	}
	return len(s) <= 3*64
}
