package sdp

import (
	"net/netip"
	"strconv"
	"strings"
)

// attribute reads an a= line. The unknown are dropped. Of the known, those
// about the m-line are looked for last.
func (p *parser) attribute(v string) error {
	name, value, valued := strings.Cut(v, ":")
	if !valued { // a phone may end the line with a space
		name = strings.TrimRight(name, " ")
	}
	if !token(name) {
		return syntax(p.line, "bad attribute")
	}
	value = strings.Trim(value, " ")
	m := p.last()
	if d, ok := parseDirection(name); ok {
		if m != nil {
			m.Direction, m.haveDirection = d, true
		} else {
			p.s.Direction = d
		}
		return nil
	}
	if name == "fingerprint" {
		return p.fingerprint(value)
	}
	if m == nil {
		p.sessionAttribute(name, value)
		keying(&p.s.ICE, &p.s.Setup, name, value)
		return nil
	}
	keying(&m.ICE, &m.Setup, name, value)
	m.candidate(name, value)
	p.formatAttribute(m, name, value)
	m.name(name, value)
	return p.transport(m, name, value)
}

// fingerprint reads a=fingerprint:<hash> <value>. It decides whom we talk to,
// so one that is off is no detail: left out, the session's would step in.
func (p *parser) fingerprint(value string) error {
	f := split(value)
	if len(f) != 2 || !token(f[0]) {
		return syntax(p.line, "bad a=fingerprint")
	}
	fp := Fingerprint{Hash: strings.ToLower(f[0]), Value: strings.ToUpper(f[1])}
	if !hexBytes(fp.Value, hashLen(fp.Hash)) {
		return syntax(p.line, "bad a=fingerprint")
	}
	list := &p.s.Fingerprints
	if m := p.last(); m != nil {
		list = &m.Fingerprints
	}
	if len(*list) == maxRepeat {
		return limit(p.line, "over %d fingerprints", maxRepeat)
	}
	*list = append(*list, fp)
	return nil
}

// hashLen is 0 for a hash that is not known.
func hashLen(hash string) int {
	switch hash {
	case "sha-1":
		return 20
	case "sha-224":
		return 28
	case "sha-256":
		return 32
	case "sha-384":
		return 48
	case "sha-512":
		return 64
	}
	return 0
}

func (p *parser) sessionAttribute(name, value string) {
	switch name {
	case "ice-lite":
		p.s.ICELite = true
	case "group":
		f := split(value)
		if tokens(f) && len(f) > 0 && len(f) <= 1+maxMedia && len(p.s.Groups) < maxRepeat {
			p.s.Groups = append(p.s.Groups, Group{Semantics: f[0], MIDs: f[1:]})
		}
	}
}

// keying reads what the session may say for all its media, and each medium
// for itself.
func keying(ice *ICE, setup *string, name, value string) {
	switch name {
	case "ice-ufrag":
		keep(&ice.Ufrag, value, iceChars(value, 4, 256))
	case "ice-pwd":
		keep(&ice.Pwd, value, iceChars(value, 22, 256))
	case "ice-options":
		if f := split(value); ice.Options == nil && tokens(f) && len(f) > 0 && len(f) <= maxRepeat {
			ice.Options = f
		}
	case "end-of-candidates":
		ice.EndOfCandidates = true
	case "setup":
		value = strings.ToLower(value)
		keep(setup, value, value == "active" || value == "passive" || value == "actpass" || value == "holdconn")
	}
}

// candidate reads a=candidate:<foundation> <component> <transport> <priority>
// <address> <port> typ <type> … (RFC 8839 section 5.1).
func (m *pending) candidate(name, value string) {
	if name != "candidate" || !words(value) || len(m.ICE.Candidates) == maxRepeat {
		return
	}
	f := split(value)
	if len(f) < 8 || !iceChars(f[0], 1, 32) || f[6] != "typ" || !token(f[2]) || !token(f[7]) {
		return
	}
	_, okComponent := number(f[1], 3)
	_, okPriority := number(f[3], 10)
	_, okPort := port(f[5])
	_, err := netip.ParseAddr(f[4])
	if okComponent && okPriority && okPort && (err == nil || hostname(f[4])) {
		m.ICE.Candidates = append(m.ICE.Candidates, value)
	}
}

// formatAttribute reads what is about one payload type of the m-line, or
// rtcp-fb for all of them.
func (p *parser) formatAttribute(m *pending, name, value string) {
	if name != "rtpmap" && name != "fmtp" && name != "rtcp-fb" {
		return
	}
	format, rest, _ := strings.Cut(value, " ")
	rest = strings.Trim(rest, " ")
	i, listed := m.index[format]
	switch {
	case !m.Proto.RTP() && name != "fmtp":
	case name == "rtcp-fb" && format == "*":
		for i := range m.Formats {
			p.addFeedback(&m.Formats[i], rest)
		}
	case !listed:
	case name == "rtcp-fb":
		p.addFeedback(&m.Formats[i], rest)
	case name == "rtpmap":
		m.Formats[i].rtpmap(rest)
	case name == "fmtp":
		keep(&m.Formats[i].Fmtp, rest, ascii(rest) && len(rest) <= 1024)
	}
}

func (p *parser) addFeedback(f *Format, v string) {
	if words(v) && len(v) <= maxToken && len(f.Feedback) < maxRepeat && p.feedback < maxFeedback {
		f.Feedback = append(f.Feedback, v)
		p.feedback++
	}
}

// rtpmap reads <encoding>/<clock rate>[/<channels>]. A clock that stands
// still has made decoders divide by zero.
func (f *Format) rtpmap(v string) {
	codec, rest, _ := strings.Cut(v, "/")
	rate, channels, more := strings.Cut(rest, "/")
	hz, okRate := number(rate, 6)
	n, okChannels := number(channels, 2)
	if token(codec) && okRate && hz > 0 && (okChannels || !more) {
		f.Codec, f.ClockRate, f.Channels = codec, int(hz), int(n)
	}
}

// transport reads how the stream's packets travel.
func (p *parser) transport(m *pending, name, value string) error {
	switch name {
	case "rtcp":
		return p.rtcp(m, value)
	case "crypto":
		return p.crypto(m, value)
	case "bundle-only":
		m.BundleOnly = true
	case "rtcp-mux":
		m.RTCPMux = true
	case "rtcp-rsize":
		m.RTCPRsize = true
	case "ptime":
		m.Ptime = milliseconds(value)
	case "maxptime":
		m.Maxptime = milliseconds(value)
	}
	return nil
}

// rtcp reads a=rtcp:<port> [IN IP4 <address>] (RFC 3605).
func (p *parser) rtcp(m *pending, value string) error {
	f := split(value)
	if len(f) != 1 && len(f) != 4 {
		return syntax(p.line, "bad a=rtcp")
	}
	to, ok := port(f[0])
	if !ok {
		return syntax(p.line, "bad a=rtcp")
	}
	var ip netip.Addr
	if len(f) == 4 {
		var fault string
		if ip, fault = address(f[1], f[2], f[3]); fault != "" {
			return syntax(p.line, "a=rtcp: %s", fault)
		}
	}
	if to != 0 && m.RTCP.Port() == 0 {
		m.RTCP = netip.AddrPortFrom(ip, to)
	}
	return nil
}

// crypto keeps a line that can't be used, with its reason: who answers wants
// to say why there is no key.
func (p *parser) crypto(m *pending, value string) error {
	if len(m.Crypto) == maxRepeat {
		return limit(p.line, "over %d crypto lines", maxRepeat)
	}
	c := parseCrypto(value)
	for _, other := range m.Crypto {
		if c.broken == "" && other.broken == "" && other.Tag == c.Tag {
			c.broken = "tag used twice" // RFC 4568 section 9.1: an answer could mean either
		}
	}
	m.Crypto = append(m.Crypto, c)
	return nil
}

// name reads what the stream and its sources are called.
func (m *pending) name(name, value string) {
	switch name {
	case "mid":
		keep(&m.MID, value, token(value))
	case "msid":
		keep(&m.MSID, value, words(value))
	case "label":
		keep(&m.Label, value, token(value))
	case "content":
		keep(&m.Content, value, tokens(strings.Split(value, ",")) && len(value) <= maxToken)
	case "extmap":
		m.extmap(value)
	case "ssrc":
		m.ssrc(value)
	case "ssrc-group":
		m.ssrcGroup(value)
	}
}

// extmap reads <id>[/<direction>] <URI> [<attributes>].
func (m *pending) extmap(value string) {
	if !words(value) || len(m.Extmap) == maxRepeat {
		return
	}
	head, rest, _ := strings.Cut(value, " ")
	id, way, directed := strings.Cut(head, "/")
	n, ok := number(id, 4)
	if _, isDirection := parseDirection(way); !ok || directed && !isDirection || rest == "" {
		return
	}
	e := Extmap{ID: int(n), Direction: way}
	e.URI, e.Attributes, _ = strings.Cut(rest, " ")
	m.Extmap = append(m.Extmap, e)
}

// ssrc reads <id> <attribute>, of which only the cname is kept.
func (m *pending) ssrc(value string) {
	idText, attribute, _ := strings.Cut(value, " ")
	id, ok := ssrcID(idText)
	if !ok {
		return
	}
	i := 0
	for ; i < len(m.SSRCs) && m.SSRCs[i].ID != id; i++ {
	}
	if i == len(m.SSRCs) {
		if i == maxRepeat {
			return
		}
		m.SSRCs = append(m.SSRCs, SSRC{ID: id})
	}
	if cname, ok := strings.CutPrefix(attribute, "cname:"); ok {
		keep(&m.SSRCs[i].CNAME, cname, words(cname))
	}
}

// ssrcGroup reads <semantics> <id> …
func (m *pending) ssrcGroup(value string) {
	f := split(value)
	if len(f) < 2 || len(f) > 1+maxRepeat || !token(f[0]) || len(m.SSRCGroups) == maxRepeat {
		return
	}
	g := SSRCGroup{Semantics: f[0]}
	for _, s := range f[1:] {
		id, ok := ssrcID(s)
		if !ok {
			return
		}
		g.IDs = append(g.IDs, id)
	}
	m.SSRCGroups = append(m.SSRCGroups, g)
}

func ssrcID(s string) (uint32, bool) {
	if !digits(s, 10) {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// keep takes a value that is good, unless one was taken before.
func keep(to *string, value string, good bool) {
	if good && *to == "" {
		*to = value
	}
}

// milliseconds drops what follows a point: 20 and 20.0 are both sent.
func milliseconds(v string) int {
	whole, _, _ := strings.Cut(v, ".")
	n, _ := number(whole, 4)
	return int(n)
}
