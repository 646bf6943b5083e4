package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

// pbxCall is the media of one call at the PBX.
type pbxCall struct {
	sock   *net.UDPConn
	cancel context.CancelFunc
	remote atomic.Pointer[netip.AddrPort] // where the other end asked us to send
	ear    *ear
	ssrc   uint32
	format string // payload type
	codec  string // of its rtpmap; may be empty for a static type
}

func (c *pbxCall) local() netip.AddrPort { return c.sock.LocalAddr().(*net.UDPAddr).AddrPort() }

// sendTo sends where an offer asks to, or nowhere while it holds the call.
func (c *pbxCall) sendTo(offer sdpMedia) {
	if offer.wants == "sendonly" || offer.wants == "inactive" {
		c.remote.Store(nil)
		return
	}
	c.remote.Store(&offer.addr)
}

// describe answers an offer: one codec, and DTMF beside it, which an echo gives
// back like all else.
func (c *pbxCall) describe(offer sdpMedia) string {
	formats, lines := c.format, []string{}
	if c.codec != "" {
		lines = append(lines, fmt.Sprintf("a=rtpmap:%s %s", c.format, c.codec))
	}
	if pt := offer.events(); pt != "" && pt != c.format {
		formats += " " + pt
		lines = append(lines, fmt.Sprintf("a=rtpmap:%s telephone-event/8000", pt), fmt.Sprintf("a=fmtp:%s 0-15", pt))
	}
	text := sdp(c.local(), "RTP/AVP", formats, "", lines...)
	return strings.Replace(text, "a=sendrecv", "a="+mirrored[offer.wants], 1)
}

// close ends the call's goroutines; the PBX waits for them.
func (c *pbxCall) close() {
	c.cancel()
	c.sock.Close()
}

// listen hears what comes, and sends it back if it echoes, until close.
func (c *pbxCall) listen(echo bool) {
	buf := make([]byte, 2048)
	for {
		n, _, err := c.sock.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		payload, ok := rtpPayload(buf[:max(n, 0)])
		if err != nil || !ok {
			continue
		}
		if buf[1]&0x7f == pcmu {
			c.ear.hear(payload)
		}
		if echo {
			setSSRC(buf[:n], c.ssrc) // a phone takes its own for a loop (RFC 3550 section 8.2)
			c.send(buf[:n])
		}
	}
}

// play sends the test tone until ctx ends.
func (c *pbxCall) play(ctx context.Context) {
	tick := time.NewTicker(frameTime)
	defer tick.Stop()
	f := newFrames(testTone, c.ssrc)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if c.remote.Load() == nil { // held
			f.pause()
			continue
		}
		if packet, err := f.next().Marshal(); err == nil {
			c.send(packet)
		}
	}
}

// send is best effort, as media is.
func (c *pbxCall) send(packet []byte) {
	if to := c.remote.Load(); to != nil {
		_, _ = c.sock.WriteToUDPAddrPort(packet, *to)
	}
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}
