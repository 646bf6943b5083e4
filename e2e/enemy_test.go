package e2e

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// enemy has a call between two branches on the network that is his. The caller
// said 700 Hz and the callee 1300 Hz; since he has kept that, they say 900 Hz and
// 1500 Hz.
type enemy struct {
	*link
	b    *branches
	kept []peers.Packet // of the call's beginning, both ways, UDP and TCP
}

const forgedHz = 2000

// enemy has such a call made.
func (b *branches) enemy(from, to *branch) *enemy {
	b.t.Helper()
	e := &enemy{b: b}
	kept := b.Net.Record(peers.All, 100_000)
	e.link = b.connect(from, to, 700, 1300)
	e.in.Hears(700, 10*time.Second)
	e.out.Hears(1300, 10*time.Second)
	kept.Stop()
	e.kept = kept.Packets()
	e.out.Speak(900)
	e.in.Speak(1500)
	e.hear()
	return e
}

// hear waits until both ends hear each other, as they speak now.
func (e *enemy) hear() {
	e.b.t.Helper()
	e.in.Forget()
	e.out.Forget()
	e.in.Hears(900, 10*time.Second)
	e.out.Hears(1500, 10*time.Second)
}

// media are the packets of media that were kept.
func (e *enemy) media() []peers.Packet {
	return slices.DeleteFunc(slices.Clone(e.kept), func(p peers.Packet) bool { return !isMedia(p) })
}

// isMedia takes RTP with 20 ms of PCMU, encrypted or not.
func isMedia(p peers.Packet) bool {
	b := p.Payload()
	return peers.IsUDP(p) && len(b) >= 172 && b[0] == 0x80
}

// replays sends all media again, once as they were and once from other ports, and
// tells how many packets of foreign sound the callee and the caller hear.
func (e *enemy) replays() (in, out int) {
	e.b.t.Helper()
	return e.attack(func() {
		for _, p := range e.media() {
			e.b.Net.Send(p, p.FromPort(p.Source().Port()^1024))
		}
	})
}

// forges sends media of the enemy's own making, with the sources and numbers of
// those of the call.
func (e *enemy) forges() (in, out int) {
	e.b.t.Helper()
	return e.attack(func() {
		last := make(map[netip.AddrPort]peers.Packet) // of each end
		for _, p := range e.media() {
			last[p.Source()] = p
		}
		for _, p := range last {
			head := slices.Clone(p.Payload()[:12])
			for ahead := range uint16(100) {
				binary.BigEndian.PutUint16(head[2:], binary.BigEndian.Uint16(p.Payload()[2:])+ahead)
				forged := peers.Datagram(p.Source(), p.Destination(), append(slices.Clone(head), peers.Spoken(forgedHz)...))
				e.b.Net.Send(forged, forged.FromPort(p.Source().Port()^1024))
			}
		}
	})
}

// attack does something, and counts the packets that are heard meanwhile and are
// not what the other end says.
func (e *enemy) attack(do func()) (in, out int) {
	e.b.t.Helper()
	if len(e.media()) < 100 {
		e.b.t.Fatalf("the enemy has kept %d packets of media", len(e.media()))
	}
	e.in.Forget()
	e.out.Forget()
	do()
	peers.Until(e.b.t, 10*time.Second, "the call to go on", func() bool {
		return len(e.in.Samples()) >= 150*160 && len(e.out.Samples()) >= 150*160
	})
	in, out = foreign(e.in, 900), foreign(e.out, 1500)
	e.hear()
	return in, out
}

// foreign counts the packets that were heard and are not of a tone.
func foreign(m *peers.Media, hz float64) (n int) {
	for _, got := range peers.Pitches(m.Samples()) {
		if math.Abs(got-hz) > 4 {
			n++
		}
	}
	return n
}

// cuts has no media come for a while: then neither end hears anything, and after it
// both again.
func (e *enemy) cuts() {
	e.b.t.Helper()
	cut := e.b.Net.Drop(isMedia)
	carried := func(n int) {
		before := e.b.Net.Carried()
		peers.Until(e.b.t, 10*time.Second, "packets to be lost", func() bool { return e.b.Net.Carried() >= before+n })
	}
	carried(50) // and what was on its way has come
	e.in.Forget()
	e.out.Forget()
	carried(100)
	if in, out := len(e.in.Samples()), len(e.out.Samples()); in > 0 || out > 0 {
		e.b.t.Errorf("through a network that carries nothing %d and %d samples are heard", in, out)
	}
	cut.Stop()
	e.hear()
}

// invitation is a call by UDP to a number, from anybody to anybody.
func invitation(from, to netip.AddrPort, number string) peers.Packet {
	return peers.Datagram(from, to, []byte(invite(from, to, "UDP", number)))
}

// invite is the text of a call to a number, by a transport.
func invite(from, to netip.AddrPort, transport, number string) string {
	sdp := fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %[1]s\r\ns=-\r\nc=IN IP4 %[1]s\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n", from.Addr())
	if transport == "TLS" {
		sdp = strings.Replace(sdp, "AVP", "SAVP", 1) + peers.CryptoLine(1, suite, peers.RandomKey(suite)) + "\r\n"
	}
	return fmt.Sprintf("INVITE sip:%[1]s@%[2]s SIP/2.0\r\nVia: SIP/2.0/%[7]s %[3]s;branch=z9hG4bK%[4]s;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:enemy@%[3]s>;tag=%[4]s\r\nTo: <sip:%[1]s@%[2]s>\r\nCall-ID: %[4]s\r\nCSeq: 1 INVITE\r\nContact: <sip:enemy@%[3]s>\r\n"+
		"Content-Type: application/sdp\r\nContent-Length: %[5]d\r\n\r\n%[6]s", number, to, from, peers.Random(8), len(sdp), sdp, transport)
}
