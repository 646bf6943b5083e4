package sdp

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds: far above what any phone or browser sends.
const (
	maxSize    = 64 << 10
	maxLine    = 4 << 10
	maxLines   = 1024
	maxMedia   = 16
	maxFormats = 64
	maxPerLine = 32 // of attributes that may repeat
)

// parser holds what is read so far.
type parser struct {
	s         *Session
	line      int
	transport Transport // of the session
	media     []pending
	haveV     bool
	haveO     bool
}

// pending is a Media before the session's defaults are resolved into it.
type pending struct {
	Media
	ownAddr, ownDirection bool
	formats               map[string]int // index by payload type
}

// Parse reads a description. b is borrowed. Errors wrap ErrSyntax or ErrLimit
// and name the line.
func Parse(b []byte) (*Session, error) {
	if len(b) > maxSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrLimit, len(b))
	}
	p := &parser{s: &Session{}}
	for len(b) > 0 {
		var line []byte
		line, b, _ = bytes.Cut(b, []byte("\n")) // RFC 8866 section 5: LF alone SHOULD be accepted
		line = bytes.TrimSuffix(line, []byte("\r"))
		if p.line++; p.line > maxLines {
			return nil, fmt.Errorf("%w: over %d lines", ErrLimit, maxLines)
		}
		if len(line) == 0 && len(bytes.TrimSpace(b)) == 0 {
			break // an empty line at the very end harms nobody
		}
		if err := p.take(line); err != nil {
			return nil, err
		}
	}
	if !p.haveV || !p.haveO {
		return nil, syntax(p.line, "v= or o= missing")
	}
	return p.resolve(), nil
}

// take reads one line.
func (p *parser) take(line []byte) error {
	if len(line) > maxLine {
		return fmt.Errorf("%w: line %d has %d bytes", ErrLimit, p.line, len(line))
	}
	if len(line) < 2 || line[1] != '=' {
		return syntax(p.line, "not type=value")
	}
	for _, c := range line {
		if (c < ' ' && c != '\t') || c == 0x7f {
			return syntax(p.line, "control character")
		}
	}
	if !utf8.Valid(line) {
		return syntax(p.line, "not UTF-8")
	}
	kind, value := line[0], string(line[2:])
	if !p.haveV && kind != 'v' {
		return syntax(p.line, "does not begin with v=")
	}
	switch kind {
	case 'v':
		if p.haveV || value != "0" {
			return syntax(p.line, "version is not 0")
		}
		p.haveV = true
	case 'o':
		return p.origin(value)
	case 's':
		p.s.Name = value
	case 'c':
		return p.connection(value)
	case 'm':
		return p.mline(value)
	case 'b':
		return p.bandwidth(value)
	case 'a':
		return p.attribute(value)
	case 't', 'r', 'z', 'i', 'u', 'e', 'p', 'k': // nothing that a call needs
	default:
		return syntax(p.line, "unknown type %q", kind)
	}
	return nil
}

func (p *parser) origin(v string) error {
	f := strings.Fields(v)
	if len(f) != 6 || p.haveO || len(p.media) > 0 {
		return syntax(p.line, "bad o=")
	}
	// Some phones send numbers beyond 64 bits, or signed ones: ours are our
	// own, so theirs only need to be digits.
	id, version := strings.TrimPrefix(f[1], "-"), strings.TrimPrefix(f[2], "-")
	if !digits(id, 64) || !digits(version, 64) || f[3] != "IN" {
		return syntax(p.line, "bad o=")
	}
	addr, err := address(f[4], f[5])
	if err != nil {
		return syntax(p.line, "o=: %v", err)
	}
	o := Origin{Username: f[0], Addr: addr}
	o.ID, _ = strconv.ParseUint(id, 10, 64)
	o.Version, _ = strconv.ParseUint(version, 10, 64)
	p.s.Origin, p.haveO = o, true
	return nil
}

// address reads an address type and an address: a literal, or a host name
// that stays unresolved and gives the zero Addr.
func address(kind, v string) (netip.Addr, error) {
	if kind != "IP4" && kind != "IP6" {
		return netip.Addr{}, fmt.Errorf("address type is not IP4 or IP6")
	}
	v, ttl, multicast := strings.Cut(v, "/")
	if multicast && !digits(ttl, 3) {
		return netip.Addr{}, fmt.Errorf("bad address")
	}
	ip, err := netip.ParseAddr(v)
	if err != nil {
		if !hostname(v) || kind == "IP4" && strings.Trim(v, "0123456789.") == "" {
			return netip.Addr{}, fmt.Errorf("bad address")
		}
		return netip.Addr{}, nil
	}
	if ip.Zone() != "" || ip.Is4() != (kind == "IP4") {
		return netip.Addr{}, fmt.Errorf("address is not of its type")
	}
	if ip.IsMulticast() || multicast {
		return netip.Addr{}, fmt.Errorf("multicast is not supported")
	}
	return ip.Unmap(), nil
}

func (p *parser) connection(v string) error {
	f := strings.Fields(v)
	if len(f) != 3 || f[0] != "IN" {
		return syntax(p.line, "bad c=")
	}
	ip, err := address(f[1], f[2])
	if err != nil {
		return syntax(p.line, "c=: %v", err)
	}
	if m := p.last(); m != nil {
		m.Addr, m.ownAddr = ip, true
	} else {
		p.s.Addr = ip
	}
	return nil
}

func (p *parser) bandwidth(v string) error {
	kind, value, ok := strings.Cut(v, ":")
	if !ok || !token(kind) || !digits(value, 15) {
		return syntax(p.line, "bad b=")
	}
	if m := p.last(); m != nil {
		n, _ := strconv.ParseUint(value, 10, 64)
		if m.Bandwidth = append(m.Bandwidth, Bandwidth{kind, n}); len(m.Bandwidth) > maxPerLine {
			return fmt.Errorf("%w: line %d: too many b=", ErrLimit, p.line)
		}
	}
	return nil
}

// mline reads m=<media> <port>[/<n>] <proto> <fmt> …
func (p *parser) mline(v string) error {
	if len(p.media) == maxMedia {
		return fmt.Errorf("%w: over %d m-lines", ErrLimit, maxMedia)
	}
	f := strings.Fields(v)
	if len(f) < 4 || !token(f[0]) {
		return syntax(p.line, "bad m=")
	}
	portText, count, several := strings.Cut(f[1], "/")
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || !digits(portText, 5) || (several && !digits(count, 3)) {
		return syntax(p.line, "bad port")
	}
	for _, word := range strings.Split(f[2], "/") {
		if !token(word) {
			return syntax(p.line, "bad proto")
		}
	}
	if len(f)-3 > maxFormats {
		return fmt.Errorf("%w: line %d: over %d formats", ErrLimit, p.line, maxFormats)
	}
	m := pending{formats: make(map[string]int)}
	m.Kind, m.Port, m.Proto = f[0], uint16(port), Proto(strings.ToUpper(f[2]))
	if !m.Proto.RTP() {
		m.Proto = Proto(f[2])
	}
	for _, name := range f[3:] {
		if m.Proto.RTP() && !payloadType(name) || !token(name) {
			return syntax(p.line, "bad format %q", name)
		}
		if _, twice := m.formats[name]; twice {
			continue
		}
		m.formats[name] = len(m.Formats)
		m.Formats = append(m.Formats, staticFormat(m.Proto, name))
	}
	p.media = append(p.media, m)
	return nil
}

func (p *parser) last() *pending {
	if len(p.media) == 0 {
		return nil
	}
	return &p.media[len(p.media)-1]
}

// resolve gives each m-line what the session says for all.
func (p *parser) resolve() *Session {
	for _, m := range p.media {
		if !m.ownAddr {
			m.Addr = p.s.Addr
		}
		if !m.ownDirection {
			m.Direction = p.s.Direction
		}
		t, all := &m.Transport, p.transport
		if t.Ufrag == "" {
			t.Ufrag, t.Pwd = all.Ufrag, all.Pwd
		}
		if t.ICEOptions == "" {
			t.ICEOptions = all.ICEOptions
		}
		if len(t.Fingerprints) == 0 {
			t.Fingerprints = append(t.Fingerprints, all.Fingerprints...)
		}
		if t.Setup == "" {
			t.Setup = all.Setup
		}
		p.s.Media = append(p.s.Media, m.Media)
	}
	return p.s
}

// staticFormat names the payload types that need no rtpmap (RFC 3551 table 4
// and 5).
func staticFormat(proto Proto, name string) Format {
	f := Format{Name: name}
	if !proto.RTP() {
		return f
	}
	if s, ok := static[name]; ok {
		f.Codec, f.ClockRate = s.Codec, s.ClockRate
	}
	return f
}

var static = map[string]Format{
	"0": {Codec: "PCMU", ClockRate: 8000}, "3": {Codec: "GSM", ClockRate: 8000},
	"4": {Codec: "G723", ClockRate: 8000}, "5": {Codec: "DVI4", ClockRate: 8000},
	"7": {Codec: "LPC", ClockRate: 8000}, "8": {Codec: "PCMA", ClockRate: 8000},
	"9": {Codec: "G722", ClockRate: 8000}, "13": {Codec: "CN", ClockRate: 8000},
	"15": {Codec: "G728", ClockRate: 8000}, "18": {Codec: "G729", ClockRate: 8000},
	"26": {Codec: "JPEG", ClockRate: 90000}, "31": {Codec: "H261", ClockRate: 90000},
	"32": {Codec: "MPV", ClockRate: 90000}, "34": {Codec: "H263", ClockRate: 90000},
}

// payloadType accepts 0 to 127.
func payloadType(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && digits(s, 3) && n < 128
}

func digits(s string, n int) bool {
	return s != "" && len(s) <= n && strings.Trim(s, "0123456789") == ""
}

// token is RFC 8866 section 9: token.
func token(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

func hostname(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '.' || c == '_') {
			return false
		}
	}
	return s != "" && len(s) < 256
}
