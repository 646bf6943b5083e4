package media

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const pcmu = 0 // its payload type (RFC 3551 section 6)

// section is an m-line with what belongs to it.
type section struct {
	kind, port, proto string
	formats           []string
	lines             []string // below it
}

// description is what is read of a session description: its first audio that is
// not refused, and what must be answered beside it.
type description struct {
	sections []section
	audio    int // which of them
	addr     netip.AddrPort
	proto    string
	wants    string // direction
	digits   string // payload type of RFC 4733; empty: none
	crypto   []crypto
	lite     bool   // the other end's ICE (RFC 8839 section 5.3)
	mid      string // RFC 5888
	bundled  bool   // RFC 9143
	setup    string
	print    string // fingerprint, as "sha-256 AB:CD…"
	ufrag    string
	pwd      string
	paths    []netip.AddrPort // candidates of UDP, best first
}

// crypto is a line with a key (RFC 4568 section 9.1).
type crypto struct {
	tag, suite string
	key        []byte // and salt
}

var errNoAudio = errors.New("it has no audio that we speak")

// parse reads a description.
func parse(text string) (*description, error) {
	d := &description{audio: -1, wants: "sendrecv"}
	var above []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "m="):
			f := strings.Fields(line[2:])
			if len(f) < 4 {
				return nil, fmt.Errorf("read description: %q is cut short", line)
			}
			d.sections = append(d.sections, section{kind: f[0], port: f[1], proto: f[2], formats: f[3:]})
		case len(d.sections) > 0:
			s := &d.sections[len(d.sections)-1]
			s.lines = append(s.lines, line)
		default:
			above = append(above, line)
		}
	}
	for i, s := range d.sections {
		if s.kind == "audio" && s.port != "0" && slices.Contains(s.formats, strconv.Itoa(pcmu)) {
			d.audio = i
			break
		}
	}
	if d.audio < 0 {
		return nil, fmt.Errorf("read description: %w", errNoAudio)
	}
	s := d.sections[d.audio]
	d.proto = s.proto
	port, err := strconv.ParseUint(s.port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("read description: %q is no port", s.port)
	}
	var ip netip.Addr
	var candidates []candidate
	for _, line := range slices.Concat(above, s.lines) { // what is in the section goes before what is above it
		name, value, _ := strings.Cut(strings.TrimPrefix(line, "a="), ":")
		switch {
		case strings.HasPrefix(line, "c=IN IP"):
			if f := strings.Fields(line); len(f) == 3 {
				ip, _ = netip.ParseAddr(f[2])
			}
		case name == "rtpmap" && strings.HasSuffix(strings.ToLower(value), " telephone-event/8000"):
			d.digits, _, _ = strings.Cut(value, " ")
		case mirrored[name] != "":
			d.wants = name
		case name == "ice-lite":
			d.lite = true
		case name == "mid":
			d.mid = value
		case name == "group" && strings.HasPrefix(value, "BUNDLE"):
			d.bundled = true
		case name == "setup":
			d.setup = value
		case name == "fingerprint":
			d.print = value
		case name == "ice-ufrag":
			d.ufrag = value
		case name == "ice-pwd":
			d.pwd = value
		case name == "candidate":
			if c, ok := readCandidate(value); ok {
				candidates = append(candidates, c)
			}
		case name == "crypto":
			if c, ok := readCrypto(value); ok {
				d.crypto = append(d.crypto, c)
			}
		}
	}
	if !ip.IsValid() && len(candidates) == 0 {
		return nil, errors.New("read description: it names no address")
	}
	d.addr = netip.AddrPortFrom(ip, uint16(port))
	slices.SortStableFunc(candidates, func(a, b candidate) int { return int(b.priority - a.priority) })
	for _, c := range candidates {
		d.paths = append(d.paths, c.at)
	}
	return d, nil
}

// candidate is where the other end may be reached (RFC 8839 section 5.1).
type candidate struct {
	at       netip.AddrPort
	priority int64
}

// readCandidate takes those of UDP for RTP, whose address is no name.
func readCandidate(value string) (c candidate, ok bool) {
	f := strings.Fields(value)
	if len(f) < 8 || f[1] != "1" || !strings.EqualFold(f[2], "UDP") {
		return c, false
	}
	addr, err := netip.ParseAddr(f[4])
	port, err2 := strconv.ParseUint(f[5], 10, 16)
	c.priority, _ = strconv.ParseInt(f[3], 10, 64)
	c.at = netip.AddrPortFrom(addr, uint16(port))
	return c, err == nil && err2 == nil && port > 0
}

// readCrypto reads what is behind a=crypto:. A line with session parameters that
// change what is sent is not taken.
func readCrypto(value string) (c crypto, ok bool) {
	f := strings.Fields(value)
	if len(f) != 3 || !strings.HasPrefix(f[2], "inline:") {
		return c, false
	}
	text, more, _ := strings.Cut(strings.TrimPrefix(f[2], "inline:"), "|")
	if strings.Contains(more, ":") { // an MKI
		return c, false
	}
	key, err := base64.StdEncoding.DecodeString(text)
	s, known := suites[f[1]]
	return crypto{f[0], f[1], key}, known && err == nil && len(key) == s.key+s.salt
}

// mirrored is the direction that answers another (RFC 3264 section 6.1).
var mirrored = map[string]string{"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}

// write describes one audio line, beside the refusals of what else was offered.
func write(at netip.AddrPort, version int, proto, direction string, lines []string, offer *description) string {
	host := "IP4 " + at.Addr().String()
	if at.Addr().Is6() {
		host = "IP6 " + at.Addr().String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "v=0\r\no=- %d %d IN %s\r\ns=-\r\nc=IN %s\r\nt=0 0\r\n", uint32(at.Port())+1, version, host, host)
	sections := []section{{}}
	audio, mid, bundled := 0, "", false
	if offer != nil {
		sections, audio, mid, bundled = offer.sections, offer.audio, offer.mid, offer.bundled
	} else if strings.Contains(proto, "TLS") {
		mid, bundled = "0", true
	}
	if bundled && mid != "" {
		b.WriteString("a=group:BUNDLE " + mid + "\r\n")
	}
	for i, s := range sections {
		if i != audio {
			fmt.Fprintf(&b, "m=%s 0 %s %s\r\n", s.kind, s.proto, strings.Join(s.formats, " "))
			continue
		}
		digits := "101"
		if offer != nil {
			digits = offer.digits
		}
		fmt.Fprintf(&b, "m=audio %d %s %s\r\na=rtpmap:0 PCMU/8000\r\n", at.Port(), proto, strings.TrimSpace("0 "+digits))
		if digits != "" {
			fmt.Fprintf(&b, "a=rtpmap:%[1]s telephone-event/8000\r\na=fmtp:%[1]s 0-15\r\n", digits)
		}
		b.WriteString("a=ptime:20\r\n")
		if mid != "" {
			b.WriteString("a=mid:" + mid + "\r\n")
		}
		for _, line := range lines {
			b.WriteString("a=" + line + "\r\n")
		}
		b.WriteString("a=" + direction + "\r\n")
	}
	return b.String()
}

// Echo answers a plain offer, as an echo at an address does.
func Echo(offer string, at netip.AddrPort) (string, error) {
	d, err := parse(offer)
	if err != nil {
		return "", err
	}
	return write(at, 1, d.proto, mirrored[d.wants], nil, d), nil
}
