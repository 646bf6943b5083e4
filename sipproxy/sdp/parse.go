package sdp

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Bounds: far above what any phone or browser sends.
const (
	maxSize     = 64 << 10
	maxLine     = 4 << 10
	maxLines    = 1024
	maxMedia    = 16
	maxFormats  = 64
	maxRepeat   = 32   // of an attribute that may repeat, in one place
	maxFeedback = 1024 // rtcp-fb values in all: one line with * stands for up to maxFormats
)

// parser holds what is read so far.
type parser struct {
	s        *Session
	line     int
	haveS    bool
	haveC    bool // of the session
	media    []*pending
	feedback int
}

// pending is a Media before the session's defaults are resolved into it.
type pending struct {
	Media
	haveC, haveDirection bool
	index                map[string]int // of each format
}

// Parse reads a description. b is borrowed. Errors wrap ErrSyntax or ErrLimit
// and name the line.
func Parse(b []byte) (*Session, error) {
	if len(b) > maxSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrLimit, len(b))
	}
	p := &parser{s: &Session{}}
	empty := len(b) - len(bytes.TrimRight(b, "\r\n")) // lines at the very end, which harm nobody
	for len(b) > empty {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte("\n")) // RFC 8866 section 5: LF alone SHOULD be accepted
		line = bytes.TrimSuffix(line, []byte("\r"))
		if p.line++; p.line > maxLines {
			return nil, limit(p.line, "over %d lines", maxLines)
		}
		if err := p.take(line); err != nil {
			return nil, err
		}
	}
	if !p.haveS {
		return nil, syntax(p.line, "ends before v=, o= and s=")
	}
	return p.resolve(), nil
}

// take reads one line. The first three have their order; what follows may
// come in any order within its part, as it does from phones, and t= may lack.
func (p *parser) take(line []byte) error {
	if len(line) > maxLine {
		return limit(p.line, "%d bytes", len(line))
	}
	if len(line) < 2 || line[1] != '=' {
		return syntax(p.line, "not type=value")
	}
	if fault := clean(line); fault != "" {
		return syntax(p.line, "%s", fault)
	}
	kind, value := line[0], string(line[2:])
	switch {
	case p.line == 1 && kind == 'v':
		if value != "0" {
			return syntax(p.line, "version is not 0")
		}
		return nil
	case p.line == 2 && kind == 'o':
		return p.origin(value)
	case p.line == 3 && kind == 's':
		p.s.Name, p.haveS = named(value), true
		return nil
	case !p.haveS:
		return syntax(p.line, "does not begin with v=, o= and s=")
	}
	switch kind {
	case 'c':
		return p.connection(value)
	case 'm':
		return p.mline(value)
	case 'b':
		return p.bandwidth(value)
	case 'a':
		return p.attribute(value)
	case 'i', 'k': // nothing that a call needs; k= is obsolete and never read
		return nil
	case 't', 'r', 'z', 'u', 'e', 'p': // nor these
		if p.last() == nil {
			return nil
		}
	}
	return syntax(p.line, "%c= in the wrong place", printable(kind))
}

func printable(c byte) byte {
	if c > ' ' && c < 0x7f {
		return c
	}
	return '?'
}

// named reads a text that "-" or a space stand for when there is none.
func named(s string) string {
	if s == "-" || len(split(s)) == 0 {
		return ""
	}
	return s
}

// origin reads o=<user> <id> <version> IN <type> <address>. Some phones send
// numbers beyond 64 bits, or negative ones: ours are our own, so theirs only
// need to be digits.
func (p *parser) origin(v string) error {
	f := split(v)
	if len(f) == 5 { // a few phones leave the user empty
		f = append([]string{"-"}, f...)
	}
	if len(f) != 6 {
		return syntax(p.line, "o= has not six fields")
	}
	if strings.ContainsFunc(f[0], unicode.IsSpace) { // of Unicode: another reader may cut there
		return syntax(p.line, "o= with a bad user")
	}
	o := Origin{Username: named(f[0])}
	var okID, okVersion bool
	o.ID, okID = saturated(f[1])
	o.Version, okVersion = saturated(f[2])
	if !okID || !okVersion {
		return syntax(p.line, "o= with a bad number")
	}
	addr, fault := address(f[3], f[4], f[5])
	if fault != "" {
		return syntax(p.line, "o=: %s", fault)
	}
	o.Addr = addr
	p.s.Origin = o
	return nil
}

// saturated reads a number of any size; one beyond 64 bits is the highest.
func saturated(s string) (uint64, bool) {
	if len(s) > 1 && s[0] == '-' {
		s = s[1:]
	}
	if !digits(s, 64) {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return math.MaxUint64, true
	}
	return n, true
}

// connection reads c=IN <type> <address>. A second one in the same place is
// for layered multicast only: here it would be two opinions on where media go.
func (p *parser) connection(v string) error {
	f := split(v)
	if len(f) != 3 {
		return syntax(p.line, "c= has not three fields")
	}
	ip, fault := address(f[0], f[1], f[2])
	if fault != "" {
		return syntax(p.line, "c=: %s", fault)
	}
	have, addr := &p.haveC, &p.s.Addr
	if m := p.last(); m != nil {
		have, addr = &m.haveC, &m.Addr
	}
	if *have {
		return syntax(p.line, "second c=")
	}
	*have, *addr = true, ip
	return nil
}

// bandwidth reads b=<type>:<value>. The session's is not about one stream,
// and dropped.
func (p *parser) bandwidth(v string) error {
	kind, value, ok := strings.Cut(v, ":")
	n, isNumber := number(value, 15)
	if !ok || !token(kind) || !isNumber {
		return syntax(p.line, "bad b=")
	}
	m := p.last()
	if m == nil {
		return nil
	}
	switch kind {
	case "CT", "AS", "TIAS", "RS", "RR":
		if len(m.Bandwidth) == maxRepeat {
			return limit(p.line, "over %d b= lines", maxRepeat)
		}
		m.Bandwidth = append(m.Bandwidth, Bandwidth{kind, n})
	}
	return nil
}

// mline reads m=<media> <port>[/<count>] <proto> <format> …
func (p *parser) mline(v string) error {
	if len(p.media) == maxMedia {
		return limit(p.line, "over %d m-lines", maxMedia)
	}
	f := split(v)
	if len(f) < 4 || !token(f[0]) {
		return syntax(p.line, "bad m=")
	}
	first, count, several := strings.Cut(f[1], "/") // the count is for layered media: we take the first
	rtp, okPort := port(first)
	if !okPort || several && !digits(count, 3) {
		return syntax(p.line, "bad port")
	}
	proto, okProto := parseProto(f[2])
	if !okProto {
		return syntax(p.line, "bad proto")
	}
	m := &pending{Media: Media{Kind: f[0], Port: rtp, Proto: proto}, index: make(map[string]int)}
	if len(f)-3 > maxFormats {
		return limit(p.line, "over %d formats", maxFormats)
	}
	for _, name := range f[3:] {
		if !token(name) || m.Proto.RTP() && !payloadType(name) {
			return syntax(p.line, "bad format")
		}
		if _, twice := m.index[name]; twice {
			continue
		}
		m.index[name] = len(m.Formats)
		m.Formats = append(m.Formats, newFormat(m.Proto, name))
	}
	p.media = append(p.media, m)
	return nil
}

// last is the m-line being read; nil in the session's part.
func (p *parser) last() *pending {
	if len(p.media) == 0 {
		return nil
	}
	return p.media[len(p.media)-1]
}

// resolve gives each m-line what the session says for all.
func (p *parser) resolve() *Session {
	s := p.s
	for _, m := range p.media {
		if !m.haveC {
			m.Addr = s.Addr
		}
		if !m.haveDirection {
			m.Direction = s.Direction
		}
		if m.ICE.Ufrag == "" { // with its password, or not at all
			m.ICE.Ufrag, m.ICE.Pwd = s.ICE.Ufrag, s.ICE.Pwd
		}
		if m.ICE.Options == nil {
			m.ICE.Options = slices.Clone(s.ICE.Options)
		}
		m.ICE.EndOfCandidates = m.ICE.EndOfCandidates || s.ICE.EndOfCandidates
		if m.Fingerprints == nil {
			m.Fingerprints = slices.Clone(s.Fingerprints)
		}
		if m.Setup == "" {
			m.Setup = s.Setup
		}
		s.Media = append(s.Media, m.Media)
	}
	return s
}
