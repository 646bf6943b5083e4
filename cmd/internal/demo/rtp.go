package demo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pion/rtp"

	"github.com/sallyport/sallyport/cmd/internal/sound"
)

const (
	frameTime  = 20 * time.Millisecond
	headerSize = 12 // bytes, of RTP without extras (RFC 3550 section 5.1)
	pcmu       = 0  // payload type (RFC 3551)
)

// frames makes the packets of a tone.
type frames struct {
	tone   sound.Tone
	packet rtp.Packet
}

func newFrames(hertz float64, ssrc uint32) *frames {
	return &frames{
		tone: sound.Tone{Hertz: hertz},
		packet: rtp.Packet{
			Header:  rtp.Header{Version: 2, PayloadType: pcmu, SSRC: ssrc},
			Payload: make([]byte, sound.FrameSamples),
		},
	}
}

// next returns the next packet, valid until the call after.
func (f *frames) next() *rtp.Packet {
	f.packet.SequenceNumber++
	f.packet.Timestamp += sound.FrameSamples
	f.tone.Frame(f.packet.Payload)
	return &f.packet
}

// pause lets the time of one packet pass: nothing of it is missed.
func (f *frames) pause() { f.packet.Timestamp += sound.FrameSamples }

// ear keeps the last second of PCMU it was given, in order of arrival. It is
// safe for concurrent use.
type ear struct {
	mu      sync.Mutex // guards what follows
	packets int
	heard   []byte
}

// hear takes a payload, borrowed.
func (e *ear) hear(payload []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.packets++
	e.heard = append(e.heard, payload...)
	if extra := len(e.heard) - sound.Rate; extra > 0 {
		e.heard = slices.Delete(e.heard, 0, extra)
	}
}

func (e *ear) sound() (sound.Pitch, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return sound.Listen(sound.Decode(e.heard)), e.packets
}

// rtpPayload is the rest of a packet after a plain header.
func rtpPayload(packet []byte) ([]byte, bool) {
	if len(packet) <= headerSize || packet[0] != 0x80 || isRTCP(packet) {
		return nil, false
	}
	return packet[headerSize:], true
}

// isRTCP tells the two apart by the second byte (RFC 5761 section 4).
func isRTCP(packet []byte) bool {
	return len(packet) > 1 && packet[1] >= 192 && packet[1] <= 223
}

func setSSRC(packet []byte, ssrc uint32) { binary.BigEndian.PutUint32(packet[8:], ssrc) }

// sdpMedia is what the demo reads of a session description: its first audio.
type sdpMedia struct {
	addr    netip.AddrPort
	proto   string
	formats []string // as in the m-line
	rtpmaps map[string]string
	wants   string // its direction: "sendrecv" unless it says otherwise
	crypto  string // suite, as in the first a=crypto
	key     string // after "inline:"
}

func parseSDP(body []byte) (sdpMedia, error) {
	m := sdpMedia{rtpmaps: make(map[string]string), wants: "sendrecv"}
	var ip netip.Addr
	var port uint64
	for line := range strings.Lines(string(body)) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "m="):
			f := strings.Fields(line[2:])
			if m.proto != "" || len(f) < 4 || f[0] != "audio" {
				continue
			}
			port, _ = strconv.ParseUint(f[1], 10, 16)
			m.proto, m.formats = f[2], f[3:]
		case strings.HasPrefix(line, "c=IN IP"):
			if f := strings.Fields(line); len(f) == 3 {
				ip, _ = netip.ParseAddr(f[2])
			}
		case strings.HasPrefix(line, "a=rtpmap:"):
			if pt, codec, ok := strings.Cut(line[len("a=rtpmap:"):], " "); ok {
				m.rtpmaps[pt] = codec
			}
		case mirrored[strings.TrimPrefix(line, "a=")] != "":
			m.wants = strings.TrimPrefix(line, "a=")
		case strings.HasPrefix(line, "a=crypto:") && m.crypto == "":
			f := strings.Fields(line)
			if len(f) < 3 {
				return m, errors.New("parse a=crypto: it is cut short")
			}
			m.crypto, m.key = f[1], strings.TrimPrefix(f[2], "inline:")
			m.key, _, _ = strings.Cut(m.key, "|")
		}
	}
	if m.proto == "" || !ip.IsValid() || port == 0 {
		return m, fmt.Errorf("parse SDP: it offers no audio")
	}
	m.addr = netip.AddrPortFrom(ip, uint16(port))
	return m, nil
}

// mirrored is the direction that answers another (RFC 3264 section 6.1).
var mirrored = map[string]string{"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}

// events is the payload type of DTMF (RFC 4733) in an offer, if it has one.
func (m sdpMedia) events() string {
	for _, pt := range m.formats {
		if strings.EqualFold(m.rtpmaps[pt], "telephone-event/8000") {
			return pt
		}
	}
	return ""
}

// sdp writes a session description with one audio stream, which is sendrecv.
func sdp(at netip.AddrPort, proto string, format, codec string, more ...string) string {
	version := "IP4"
	if at.Addr().Is6() {
		version = "IP6"
	}
	lines := []string{
		"v=0",
		fmt.Sprintf("o=- 1 1 IN %s %s", version, at.Addr()),
		"s=-",
		fmt.Sprintf("c=IN %s %s", version, at.Addr()),
		"t=0 0",
		fmt.Sprintf("m=audio %d %s %s", at.Port(), proto, format),
	}
	if codec != "" {
		lines = append(lines, fmt.Sprintf("a=rtpmap:%s %s", format, codec))
	}
	lines = append(append(lines, more...), "a=sendrecv", "")
	return strings.Join(lines, "\r\n")
}
