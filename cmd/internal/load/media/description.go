package media

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/cmd/internal/sound"
)

// section is an m-line with what belongs to it.
type section struct {
	kind, port, proto string
	formats           []string
	lines             []string // below it
}

// codecs are those of its formats that we know, in its order.
func (s *section) codecs() (known []sound.Codec) {
	for _, f := range s.formats {
		n, err := strconv.ParseUint(f, 10, 7)
		if c := sound.Codec(n); err == nil && slices.Contains(sound.Codecs(), c) {
			known = append(known, c)
		}
	}
	return known
}

// description is what is read of a session description: its first audio that is
// not refused, and what must be answered beside it.
type description struct {
	sections []section
	audio    int // which of them
	addr     netip.AddrPort
	control  netip.AddrPort // of RTCP, unless mux
	mux      bool           // RTCP comes to addr (RFC 5761)
	proto    string
	codecs   []sound.Codec // best first
	wants    string        // direction
	digits   string        // payload type of RFC 4733; empty: none
	crypto   []crypto
	lite     bool   // the other end's ICE (RFC 8839 section 5.3)
	mid      string // RFC 5888
	bundled  bool   // RFC 9143
	setup    string
	prints   []string // fingerprints, as "sha-256 AB:CD…"
	ufrag    string
	pwd      string
	paths    []netip.AddrPort // candidates of UDP, best first
}

// crypto is a line with a key (RFC 4568 section 9.1).
type crypto struct {
	tag, suite string
	key        []byte // and salt
	mki        []byte // that packets have (RFC 3711 section 3.1); empty: none
}

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
		if d.codecs = s.codecs(); s.kind == "audio" && s.port != "0" && len(d.codecs) > 0 {
			d.audio = i
			break
		}
	}
	if d.audio < 0 {
		return nil, d.strange()
	}
	s := d.sections[d.audio]
	d.proto = s.proto
	port, err := strconv.ParseUint(s.port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("read description: %q is no port", s.port)
	}
	var ip netip.Addr
	var control string
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
		case name == "rtcp-mux":
			d.mux = true
		case name == "rtcp":
			control = value
		case name == "mid":
			d.mid = value
		case name == "group" && strings.HasPrefix(value, "BUNDLE"):
			d.bundled = true
		case name == "setup":
			d.setup = value
		case name == "fingerprint":
			d.prints = append(d.prints, value)
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
	d.control = readControl(control, d.addr)
	slices.SortStableFunc(candidates, func(a, b candidate) int { return int(b.priority - a.priority) })
	for _, c := range candidates {
		d.paths = append(d.paths, c.at)
	}
	return d, nil
}

// strange tells what a description has in place of audio that we speak.
func (d *description) strange() error {
	for _, s := range d.sections {
		if s.kind != "audio" {
			continue
		}
		if s.port == "0" {
			return fmt.Errorf("read description: %w: it refuses audio", ErrNoAudio)
		}
		names := slices.Clone(s.formats)
		for _, line := range s.lines {
			if format, name, ok := strings.Cut(strings.TrimPrefix(line, "a=rtpmap:"), " "); ok {
				for i := range names {
					if names[i] == format {
						names[i] = name
					}
				}
			}
		}
		return fmt.Errorf("read description: %w: it has %s", ErrNoAudio, strings.Join(names, ", "))
	}
	return fmt.Errorf("read description: %w: it has none at all", ErrNoAudio)
}

// readControl is where RTCP goes that is not where RTP goes: what a=rtcp: says (RFC
// 3605 section 2.1), else the next port (RFC 3550 section 11).
func readControl(value string, rtp netip.AddrPort) netip.AddrPort {
	f := strings.Fields(value)
	if len(f) == 0 {
		return netip.AddrPortFrom(rtp.Addr(), rtp.Port()+1)
	}
	port, err := strconv.ParseUint(f[0], 10, 16)
	if err != nil || port == 0 {
		return netip.AddrPort{}
	}
	at := rtp.Addr()
	if len(f) == 4 {
		at, _ = netip.ParseAddr(f[3])
	}
	return netip.AddrPortFrom(at, uint16(port))
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
// change what is sent is not taken: all but the hint of a window's size, and a rate of
// new keys that is none (RFC 4568 sections 6.3.1 and 6.3.6).
func readCrypto(value string) (c crypto, ok bool) {
	f := strings.Fields(value)
	if len(f) < 3 || !strings.HasPrefix(f[2], "inline:") || strings.Contains(f[2], ";") { // one of several keys in turn
		return c, false
	}
	for _, param := range f[3:] {
		if !strings.HasPrefix(param, "WSH=") && param != "KDR=0" {
			return c, false
		}
	}
	params := strings.Split(strings.TrimPrefix(f[2], "inline:"), "|") // the key, its lifetime and its MKI
	text, last := params[0], params[len(params)-1]
	if len(params) > 1 && strings.Contains(last, ":") {
		if c.mki = readMKI(last); c.mki == nil {
			return c, false
		}
	}
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "=")) // rtpengine leaves the padding out
	s, known := suites[f[1]]
	c.tag, c.suite, c.key = f[0], f[1], key
	return c, known && err == nil && len(key) == s.key+s.salt
}

const maxMKI = 128 // bytes

// readMKI reads the number of a key and its length in packets (RFC 4568 section 6.1);
// nil: it is none.
func readMKI(text string) []byte {
	number, size, _ := strings.Cut(text, ":")
	n, err := strconv.Atoi(size)
	v, ok := new(big.Int).SetString(number, 10)
	if err != nil || n < 1 || n > maxMKI || !ok || v.Sign() < 0 || v.BitLen() > 8*n {
		return nil
	}
	return v.FillBytes(make([]byte, n))
}

// mirrored is the direction that answers another (RFC 3264 section 6.1).
var mirrored = map[string]string{"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}

// written is what write describes: one audio line.
type written struct {
	at               netip.AddrPort
	version          int
	proto, direction string
	codecs           []sound.Codec // best first
	lines            []string      // below it
	offer            *description  // that it answers; nil: it is one
}

// write describes it, beside the refusals of what else was offered.
func (w written) write() string {
	at, version, proto, offer := w.at, w.version, w.proto, w.offer
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
		fmt.Fprintf(&b, "m=audio %d %s", at.Port(), proto)
		for _, c := range w.codecs {
			fmt.Fprintf(&b, " %d", c)
		}
		b.WriteString(strings.TrimRight(" "+digits, " ") + "\r\n")
		for _, c := range w.codecs {
			fmt.Fprintf(&b, "a=rtpmap:%d %s/%d\r\n", c, c, sound.Rate)
		}
		if digits != "" {
			fmt.Fprintf(&b, "a=rtpmap:%[1]s telephone-event/8000\r\na=fmtp:%[1]s 0-15\r\n", digits)
		}
		b.WriteString("a=ptime:20\r\n")
		if mid != "" {
			b.WriteString("a=mid:" + mid + "\r\n")
		}
		for _, line := range w.lines {
			b.WriteString("a=" + line + "\r\n")
		}
		b.WriteString("a=" + w.direction + "\r\n")
	}
	return b.String()
}

// choose is the best of the description's codecs that is one of ours (RFC 3264
// sections 6.1 and 7).
func (d *description) choose(ours []sound.Codec) (sound.Codec, error) {
	for _, c := range d.codecs {
		if slices.Contains(ours, c) {
			return c, nil
		}
	}
	return 0, fmt.Errorf("read description: %w: it has %v, and %v may be spoken", ErrNoAudio, d.codecs, ours)
}
