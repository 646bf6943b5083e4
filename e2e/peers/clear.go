package peers

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// This file looks for what anybody on the way could read.

// clearWords are in SIP and in descriptions, whatever they are about.
var clearWords = []string{"SIP/2.0", "INVITE ", "REGISTER ", "OPTIONS ", "<sip:", "Call-ID", "application/sdp", "m=audio", "a=rtpmap", "a=crypto", "inline:"}

// Spoken is a packet's payload of a tone.
func Spoken(hz float64) string {
	b := make([]byte, frame)
	for i, s := range Sine(hz, 1)[:frame] {
		b[i] = MuLaw(s)
	}
	return string(b)
}

// Clear tells what in a capture is not encrypted, each fault once, and nothing if
// all is: only TLS (over TCP, whole records), DTLS, SRTP and SRTCP whose content
// looks like chance, and ICMP about these. Nor may there be words of SIP or those
// that are known to have been said; of six bytes or more, as chance may say less.
func (c *Capture) Clear(known ...string) []string {
	c.lab.t.Helper()
	return inClear(c.Packets(), known...)
}

func inClear(packets []Packet, known ...string) []string {
	r := &reader{
		words: append(slices.Clone(clearWords), known...), faults: make(map[string]int),
		streams: make(map[ends]*stream), sealed: make(map[string][]byte),
	}
	for _, p := range packets {
		r.packet(p)
	}
	for _, s := range r.streams {
		r.finish(s)
	}
	var few []byte
	for who, b := range r.sealed {
		if len(b) < enoughBytes {
			few = append(few, b...)
		} else if !likeChance(b) {
			r.fault("%s does not look like chance", who)
		}
	}
	if len(few) >= enoughBytes && !likeChance(few) {
		r.fault("what was said in few bytes does not look like chance")
	}
	list := make([]string, 0, len(r.faults))
	for what, n := range r.faults {
		list = append(list, fmt.Sprintf("%s (%d times)", what, n))
	}
	slices.Sort(list)
	return list
}

// reader reads a capture as one who has no keys.
type reader struct {
	words   []string
	faults  map[string]int
	streams map[ends]*stream
	sealed  map[string][]byte // what should look like chance, by whose it is
}

type ends struct{ from, to netip.AddrPort }

func (e ends) String() string { return fmt.Sprintf("from %s to %s", e.from, e.to) }

func (r *reader) fault(format string, args ...any) { r.faults[fmt.Sprintf(format, args...)]++ }

func (r *reader) packet(p Packet) {
	e := ends{p.Source(), p.Destination()}
	switch p.Protocol() {
	case TCP:
		r.segment(e, p)
	case UDP:
		r.search(e, p.Payload())
		r.datagram(e, p.Payload())
	case ICMP: // which quotes what came to its sender: that is another's word
		if quoted := p.Payload(); len(quoted) < ipHead || netip.AddrFrom4([4]byte(quoted[12:])) != e.to.Addr() || netip.AddrFrom4([4]byte(quoted[16:])) != e.from.Addr() {
			r.search(e, quoted)
		}
	case 0:
		r.fault("a fragment, or a packet that is not whole")
	default:
		r.fault("protocol %d %s", p.Protocol(), e)
	}
}

// search looks for words.
func (r *reader) search(e ends, b []byte) {
	for _, w := range r.words {
		if bytes.Contains(b, []byte(w)) {
			if strings.ContainsFunc(w, func(c rune) bool { return c < ' ' || c > '~' }) {
				w = fmt.Sprintf("%.8x…", w)
			}
			r.fault("%q is said by %s", w, e.from.Addr())
		}
	}
}

const (
	rtpHead  = 12
	rtcpHead = 8
	// srtcpTail is the longest that follows on a report without looking like
	// chance: the index, and a tag of AES_CM behind it.
	srtcpTail = 14
)

// datagram reads UDP (RFC 7983).
func (r *reader) datagram(e ends, b []byte) {
	switch {
	case len(b) > 13 && b[0] >= 20 && b[0] <= 25 && b[1] == 0xfe: // DTLS 1.2
	case isRTCP(b) && len(b) > rtcpHead+srtcpTail && b[0]>>6 == 2:
		r.seal("SRTCP", e, b[rtcpHead:len(b)-srtcpTail])
	case len(b) > rtpHead && b[0]>>6 == 2 && !isRTCP(b):
		head := rtpHead + 4*int(b[0]&15)
		if b[0]&0x10 != 0 && len(b) > head+4 {
			head += 4 + 4*int(binary.BigEndian.Uint16(b[head+2:]))
		}
		if head >= len(b) {
			r.fault("RTP without content %s", e)
			return
		}
		r.seal(fmt.Sprintf("RTP of source %08x", b[8:12]), e, b[head:])
	default:
		r.fault("UDP that is neither DTLS nor SRTP %s", e)
	}
}

// mostBytes are looked at of one source.
const mostBytes = 1 << 16

func (r *reader) seal(what string, e ends, b []byte) {
	who := what + " " + e.String()
	if len(r.sealed[who]) < mostBytes {
		r.sealed[who] = append(r.sealed[who], b...)
	}
}

// enoughBytes are needed to tell whether they look like chance.
const enoughBytes = 1024

// likeChance tells whether all bytes are about as frequent, by the sum of
// Pearson: of chance it is 255, and deviates by 23.
func likeChance(b []byte) bool {
	var seen [256]float64
	for _, v := range b {
		seen[v]++
	}
	each, sum := float64(len(b))/256, 0.0
	for _, n := range seen {
		sum += (n - each) * (n - each) / each
	}
	return sum < 255+8*23
}

// stream is one way of a TCP connection.
type stream struct {
	e     ends
	base  uint32 // number of its first byte
	whole bool   // its beginning was seen
	parts map[int][]byte
}

func (r *reader) segment(e ends, p Packet) {
	seq, flags := p.sequence()
	s, b := r.streams[e], p.Payload()
	if flags&tcpSYN != 0 {
		if s != nil && s.base == seq+1 { // sent again
			return
		}
		if s != nil {
			r.finish(s)
		}
		r.streams[e] = &stream{e: e, base: seq + 1, whole: true, parts: make(map[int][]byte)}
		return
	}
	if len(b) == 0 {
		return
	}
	if s == nil {
		s = &stream{e: e, base: seq, parts: make(map[int][]byte)}
		r.streams[e] = s
	}
	if at := int(int32(seq - s.base)); len(b) > len(s.parts[at]) {
		s.parts[at] = b
	}
}

// finish reads a stream when all of it was seen.
func (r *reader) finish(s *stream) {
	starts := make([]int, 0, len(s.parts))
	for at := range s.parts {
		starts = append(starts, at)
	}
	slices.Sort(starts)
	var all []byte
	for _, at := range starts {
		b := s.parts[at]
		switch {
		case at > len(all) && len(all) > 0 || at > 0 && len(all) == 0:
			r.fault("TCP %s has a hole", s.e)
			return
		case at+len(b) <= len(all): // sent again, or before the capture
		case at < 0:
			all = append(all, b[-at:]...)
		default:
			all = append(all, b[len(all)-at:]...)
		}
	}
	r.search(s.e, all)
	r.records(s, all)
}

const (
	tlsHead        = 5
	tlsMost        = 16384 + 2048 // RFC 5246 section 6.2.3
	tlsHandshake   = 22
	tlsApplication = 23
)

// recordSize is how long the TLS record is that bytes begin with; 0 if none
// does.
func recordSize(b []byte) int {
	if len(b) < tlsHead || b[0] < 20 || b[0] > tlsApplication || b[1] != 3 || b[2] < 1 || b[2] > 3 {
		return 0
	}
	if n := int(binary.BigEndian.Uint16(b[3:])); n > 0 && n <= tlsMost {
		return tlsHead + n
	}
	return 0
}

// records reads a stream as TLS (RFC 8446 section 5.1). Where its beginning was
// not seen, a record may have begun before.
func (r *reader) records(s *stream, b []byte) {
	if len(b) == 0 {
		return
	}
	if !s.whole {
		skipped := 0
		for ; len(b) >= tlsHead && !chain(b); skipped++ {
			b = b[1:]
		}
		if len(b) < tlsHead || skipped > tlsHead+tlsMost {
			r.fault("TCP that is no TLS %s", s.e)
			return
		}
	} else if b[0] != tlsHandshake {
		r.fault("TCP that is no TLS %s", s.e)
		return
	}
	for len(b) >= tlsHead {
		n := recordSize(b)
		if n == 0 {
			r.fault("TCP that is no TLS %s", s.e)
			return
		}
		record := b[:min(n, len(b))]
		if b[0] == tlsApplication {
			r.seal("TLS", s.e, record[tlsHead:])
		}
		b = b[len(record):]
	}
}

// chain tells whether records follow one on the other to the end.
func chain(b []byte) bool {
	for len(b) >= tlsHead {
		n := recordSize(b)
		if n == 0 {
			return false
		}
		b = b[min(n, len(b)):]
	}
	return true
}
