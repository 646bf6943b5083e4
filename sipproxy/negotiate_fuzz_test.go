package sipproxy

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/sdp"
)

// offeredLines are m-lines as phones and PBXs have them, of all that negotiation tells apart;
// %d is the port.
var offeredLines = [2][]string{
	flow.Secure: {
		"m=audio %d RTP/SAVP 0\r\n" + cryptoLine,
		"m=audio %d UDP/TLS/RTP/SAVPF 0\r\na=fingerprint:sha-256 " + strings.Repeat("AB:", 31) + "AB\r\na=setup:actpass\r\na=mid:0\r\na=ice-ufrag:abcd\r\na=ice-pwd:" + strings.Repeat("x", 22) + "\r\na=rtcp-mux\r\n",
		"m=video %d UDP/TLS/RTP/SAVPF 96\r\na=fingerprint:sha-256 " + strings.Repeat("CD:", 31) + "CD\r\na=setup:active\r\na=mid:1\r\n",
		"m=audio %d RTP/SAVP 8\r\na=fingerprint:sha-1 " + strings.Repeat("AB:", 19) + "AB\r\na=setup:passive\r\n" + cryptoLine,
		"m=video %d RTP/SAVP 96\r\na=mid:1\r\na=bundle-only\r\n" + cryptoLine,
		"m=audio %d RTP/AVP 0\r\n",
		"m=image %d udptl t38\r\n",
		"m=audio %d RTP/SAVP 0\r\na=ssrc:7 cname:x\r\n" + strings.Replace(cryptoLine, "crypto:1", "crypto:2", 1),
	},
	flow.Plain: {
		"m=audio %d RTP/AVP 0\r\n", "m=video %d RTP/AVP 96\r\n", "m=image %d udptl t38\r\n", "m=audio %d RTP/SAVP 0\r\n",
		"m=audio %d RTP/AVPF 0 8\r\na=inactive\r\n", "m=audio %d RTP/AVP 0\r\nc=IN IP4 pbx.example.com\r\n", "m=text %d RTP/AVP 98\r\n", "m=audio %d RTP/AVP 96\r\n",
	},
}

// descriptionOf is a body of lines that bytes choose; the lowest three bits are which, and
// those above have its port be 0, or that of others.
func descriptionOf(side flow.Side, choice []byte) body {
	var b strings.Builder
	b.WriteString("v=0\r\no=- 1 1 IN IP4 192.168.1.9\r\ns=-\r\nc=IN IP4 192.168.1.9\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n")
	for i, c := range choice {
		fmt.Fprintf(&b, offeredLines[side][c&7], []int{40000 + 2*i, 0, 40000, 9}[c>>3&3])
	}
	return body{kind: "application/sdp", bytes: []byte(b.String())}
}

// Whatever two sides offer, answer and take back, in whatever order: nothing panics, no
// line of the other side is in clear towards a phone, or keyed towards the PBX, and
// nothing is left of it in the end.
func FuzzNegotiation(f *testing.F) {
	mc := media.Defaults()
	mc.SecureIPs, mc.PlainIP, mc.Port, mc.Workers, mc.PlainPorts, mc.TCP = []netip.Addr{loopback}, loopback, 0, 1, media.PortRange{First: 31000, Last: 31999}, false
	engine, err := media.New(mc)
	if err != nil {
		f.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }() // ends with stop; waited for below
	f.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			f.Error(err)
		}
	})
	for _, script := range []string{
		"\x00\x01\x00\x05\x00",                                 // a call of a phone
		"\x00\x04\x00\x02\x00",                                 // and one to it
		"\x01\x11\x01\x02\x15\x00\x01\x14\x00\x01\x12\x01\x02", // a page's, with video, and an offer of the PBX
		"\x02\x04\x00\x02\x01\x0a\x01\x01\x05\x00",
		"\x03\x01\x07\x05\x00\x08\x07\x09\x02\x07\x0b",                     // a trunk's, and new keys
		"\x00\x11\x00\x08\x05\x00\x11\x00\x04\x0a\x00\x04\x00\x12\x00\x04", // a line that was refused, and was offered again in vain
		"\x00\x07\x00\x00\x03\x00\x0c\x00\x0d\x00",
		"\x00\x07\x00\x03\x05", // both sides say the same
	} {
		f.Add([]byte(script))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) < 2 || len(script) > 64 {
			return
		}
		n := &negotiation{engine: engine, notify: func(media.Event) {}, suites: Defaults().Suites, peer: peer{phone: loopback}}
		n.web, n.page, n.trunk = script[0]&3 == 1 || script[0]&3 == 2, script[0]&3 == 1, script[0]&3 == 3
		n.voices[flow.Secure], n.voices[flow.Plain] = newVoice(loopback), newVoice(loopback)
		defer func() {
			n.close()
			if s := engine.Stats(); s.Sessions != 0 || s.Streams != 0 {
				t.Errorf("%d sessions and %d streams are left", s.Sessions, s.Streams)
			}
		}()
		var responded *offer
		for script = script[1:]; len(script) > 0; {
			op, more := script[0]&15, min(int(script[0]>>4)+1, len(script)-1)
			choice := script[1 : 1+more]
			script = script[1+more:]
			side := flow.Secure
			if op >= 4 && op < 8 {
				side = flow.Plain
			}
			b := descriptionOf(side, choice)
			var out body
			var r *refusal
			switch offered := n.pending; op {
			case 1, 4:
				if out, r = n.request(side, "INVITE", b); r == nil {
					holds(t, other(side), out, len(n.lines[other(side)]))
				}
			case 2, 5:
				if out, r = n.answer(side, b); r == nil {
					holds(t, other(side), out, len(offered.session.Media))
				}
			case 3, 7:
				if out, r = n.response(side, b, responded); r == nil {
					responded = n.pending
					holds(t, other(side), out, len(n.lines[other(side)]))
				}
			case 0, 6, 10, 15:
				n.withdraw(flow.Side(op>>2&1), op&3 == 2) // of whom, and whether it had an offer
			case 8:
				if out, ok := n.takeKeys(b); ok {
					holds(t, flow.Secure, out, len(choice))
				}
			case 9:
				if n.mayRekey(time.Now()) {
					if out, r = n.offerKeys(); r == nil {
						holds(t, flow.Secure, out, len(n.lines[flow.Secure]))
					}
				}
			case 11:
				if n.keys.under {
					if r := n.answerKeys(b); r != nil {
						n.keepKeys()
					}
				}
			case 12, 13:
				_, _ = n.acknowledge(flow.Side(op&1), body{})
			case 14:
				_, _ = n.request(side, "PRACK", b)
			}
		}
	})
}

// holds tells whether what is written to a side is a description that may go there.
func holds(t *testing.T, to flow.Side, b body, lines int) {
	t.Helper()
	s, err := sdp.Parse(b.bytes)
	if err != nil || len(s.Media) != lines {
		t.Fatalf("%d lines, %v:\n%s", lines, err, b.bytes)
	}
	for _, m := range s.Media {
		keyed := m.Proto.Secure() || len(m.Crypto)+len(m.Fingerprints) > 0
		if m.Port != 0 && keyed != (to == flow.Secure) {
			t.Fatalf("to the %s side:\n%s", to, b.bytes)
		}
	}
}
