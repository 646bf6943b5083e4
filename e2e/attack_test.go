package e2e

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// forgery is what an attacker who knows a call's addresses and SSRC, but not
// its key, can send: plain RTP, SRTP with a wrong tag, and RTCP both ways.
func forgery(kind int, ssrc uint32, seq uint16) []byte {
	b := make([]byte, 12, 256)
	b[0] = 0x80
	binary.BigEndian.PutUint16(b[2:], seq)
	binary.BigEndian.PutUint32(b[4:], uint32(seq)*160)
	binary.BigEndian.PutUint32(b[8:], ssrc)
	tone := peers.Sine(2000, 1)
	for i := range 160 {
		b = append(b, peers.MuLaw(tone[i%len(tone)]))
	}
	tag := make([]byte, 16)
	binary.BigEndian.PutUint64(tag, rand.Uint64())
	switch kind % 5 {
	case 1: // SRTP with a tag of AES_CM
		b = append(b, tag[:10]...)
	case 2: // with one of GCM
		b = append(b, tag...)
	case 3: // plain RTCP: a BYE
		b = append([]byte{0x81, 203, 0, 1}, b[8:12]...)
	case 4: // SRTCP
		b = append([]byte{0x80, 200, 0, 6}, b[8:32]...)
		b = append(append(b, 0x80, 0, 0, byte(seq)), tag[:10]...)
	}
	return b
}

// An attacker sprays the media ports before, during and after the answer and a
// re-INVITE, from its own address and in the phone's name. It gets nothing,
// nobody hears it, and the call does not notice.
func TestOffPathInjection(t *testing.T) {
	for _, name := range []string{suite, "AEAD_AES_128_GCM"} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			phone := o.registered("1001")
			media := phone.NewMedia(name)
			attacker := peers.StartAttacker(o.Lab)
			own := netip.AddrPortFrom(attacker.Addr, 40000)
			phoneAt, edge := media.Addr(), netip.MustParseAddr(peers.EdgeOutside)
			stop := attacker.Spray(func(i int) (from, to netip.AddrPort, payload []byte) {
				from = own
				if i%2 == 1 {
					from = netip.AddrPortFrom(phoneAt.Addr(), phoneAt.Port()+uint16(i/2%2))
				}
				ssrc := media.SSRC
				if i%3 == 0 {
					ssrc = rand.Uint32()
				}
				return from, netip.AddrPortFrom(edge, uint16(10000+i%4)), forgery(rand.IntN(5), ssrc, uint16(65000+i))
			})
			d := o.call(phone, "610", media, 700)
			media.Hears(1004, 10*time.Second)
			media.NewKey()
			o.change(d, media)
			media.Forget()
			media.Hears(1004, 10*time.Second)
			if _, share := peers.Tone(media.Samples(), peers.Rate); share < 0.95 {
				t.Errorf("the PBX's tone is only %.0f %% of what the phone hears", 100*share)
			}
			o.bye(d, media)
			o.idle()
			sprayed := stop()
			o.pbxHeard(700)
			samples, rate, err := o.pbx.Recording("heard")
			if _, share := peers.Tone(samples, rate); err != nil || share < 0.95 {
				t.Errorf("the phone's tone is only %.0f %% of what the PBX hears: %v", 100*share, err)
			}
			if n := attacker.Got(); n != 0 {
				t.Errorf("the edge sent the attacker %d packets", n)
			}
			if _, _, bad := media.Counts(); bad > 2 { // those on their way when the key changed
				t.Errorf("the phone got %d packets that it could not decrypt", bad)
			}
			refused := 0.0
			for _, reason := range []string{"auth_failed", "no_stream", "budget", "malformed"} {
				refused += o.edge.Metrics()[fmt.Sprintf("sallyport_media_drops_total{reason=%q}", reason)]
			}
			if refused < float64(sprayed)*9/10 {
				t.Errorf("%d packets were sprayed, only %v are counted as refused", sprayed, refused)
			}
			t.Logf("sprayed %d packets, refused %v", sprayed, refused)
		})
	}
}

// The control of OffPathInjection: the same attacker, but with packets that
// the phone's key made, is followed.
func TestOnlyTheKeyLatches(t *testing.T) {
	o := newOffice(t)
	phone := o.registered("1001")
	media := phone.NewMedia(suite)
	attacker := peers.StartAttacker(o.Lab)
	d := o.call(phone, "610", media, 700)
	media.Hears(1004, 10*time.Second)
	media.Silence(true)
	before := o.relayed()
	for range 20 {
		attacker.Send(netip.AddrPortFrom(attacker.Addr, 40000), media.Remote(), media.Packet())
		time.Sleep(20 * time.Millisecond) // as a phone would
	}
	peers.Until(t, 10*time.Second, "the PBX to have sent as much", func() bool { return o.relayed() >= before+40 })
	if n := attacker.Got(); n < 10 {
		t.Fatalf("the edge sent %d packets to where authentic ones come from: the injection test would pass without a check", n)
	}
	media.Silence(false)
	media.Forget()
	media.Hears(1004, 10*time.Second) // the phone's next packet brings the call back
	o.hangUp(d, media)
}

// A hundred thousand forged packets as fast as one host can send them, in the
// name of the phone and of others: the call stays up and loses next to nothing.
func TestForgedFlood(t *testing.T) {
	for _, name := range []string{suite, "AEAD_AES_128_GCM"} {
		t.Run(name, func(t *testing.T) {
			o := newOffice(t)
			phone := o.registered("1001")
			media := phone.NewMedia(name)
			d := o.echo(phone, media, 700)
			media.Hears(700, 10*time.Second)
			attacker := peers.StartAttacker(o.Lab)
			const floods, each = 4, 25_000
			packets := make([][]byte, 1000)
			for i := range packets {
				ssrc := media.SSRC
				if i%4 == 3 {
					ssrc = rand.Uint32()
				}
				packets[i] = forgery(1+i%2, ssrc, uint16(i))
			}
			call := &talk{office: o, phone: phone, media: media, d: d}
			call.measure()
			began := time.Now()
			for f := range floods {
				from := media.Addr()
				if f%2 == 1 {
					from = netip.AddrPortFrom(attacker.Addr, 40000)
				}
				for i := range each {
					attacker.Send(from, media.Remote(), packets[i%len(packets)])
				}
				media.Forget()
				media.Hears(700, 10*time.Second)
			}
			took := time.Since(began)
			t.Logf("%d forged packets within %s", floods*each, took.Round(time.Millisecond))
			peers.Until(t, 20*time.Second, "12 s of sound", func() bool { return media.Sent()-call.sent >= 600 })
			call.keepsSound(t, "forged packets")
			if n := attacker.Got(); n != 0 {
				t.Errorf("the edge sent the attacker %d packets", n)
			}
			o.hangUp(d, media)
		})
	}
}

// An attacker on the outside segment writes the PBX's address into packets for
// the plain side: SIP, and RTP for a call's plain ports. The host's own kernel
// may let them in by the outside interface; the edge does not.
func TestPlainSideFromOutside(t *testing.T) {
	o := newOffice(t)
	phone := o.registered("1001")
	media := phone.NewMedia(suite)
	attacker := peers.StartAttacker(o.Lab)
	attacker.Run(t, "ip", "route", "add", "10.0.0.0/24", "via", peers.EdgeOutside)
	inside := peers.StartCapture(o.Edge, "inside")
	d := o.call(phone, "602", media, 700)
	media.Hears(1004, 10*time.Second)
	inside.Stop()
	var ports []uint16
	for _, row := range inside.Fields("ip.src == "+peers.PBXAddr+" && udp.length == 180", []string{"udp.dstport"}) {
		var port uint16
		if _, err := fmt.Sscan(row[0], &port); err == nil && (len(ports) == 0 || ports[0] != port) {
			ports = append(ports, port)
		}
	}
	if len(ports) != 1 {
		t.Fatalf("the call's plain port is not known: %v", ports)
	}
	pbx, edge := netip.MustParseAddr(peers.PBXAddr), netip.MustParseAddr(peers.EdgeInside)
	media.Forget()
	for i := range 500 {
		attacker.Send(netip.AddrPortFrom(pbx, 30000), netip.AddrPortFrom(edge, ports[0]), forgery(0, 0xbad, uint16(i)))
		time.Sleep(2 * time.Millisecond)
	}
	attacker.Send(netip.AddrPortFrom(pbx, 5060), netip.AddrPortFrom(edge, 5060), []byte("OPTIONS sip:x@10.0.0.1 SIP/2.0\r\n"+
		"Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKevil\r\nMax-Forwards: 70\r\nFrom: <sip:evil@10.0.0.5>;tag=1\r\nTo: <sip:x@10.0.0.1>\r\n"+
		"Call-ID: evil\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"))
	media.Hears(1004, 10*time.Second)
	if n := media.Sources(); n != 1 {
		t.Errorf("the phone hears %d sources, want the PBX alone", n)
	}
	if b, _ := os.ReadFile(o.edge.Log); strings.Contains(string(b), `"call_id":"evil"`) {
		t.Error("a SIP request with the PBX's address came in by the outside interface")
	}
	o.hangUp(d, media)
}

// Handshakes as fast as eight clients can make them, with the limits on them
// off: a call in progress keeps its sound.
func TestHandshakeFlood(t *testing.T) {
	o := newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{Extra: "[policy]\nmax_connections_per_address = 0\nnew_connections_per_second = 0.0\n"})
	call := o.talks("1001")
	host := o.Phone("flood")
	stop := make(chan struct{})
	var shaken atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() { // ends with stop
			_ = host.Do(func() error {
				for {
					select {
					case <-stop:
						return nil
					default:
					}
					if peers.Handshake(peers.EdgeOutside + ":5061") {
						shaken.Add(1)
					}
				}
			})
		})
	}
	call.keepsSound(t, "handshakes")
	for began := time.Now(); shaken.Load() < 500 && time.Since(began) < 3*time.Minute; { // a slow machine takes longer
		call.keepsSound(t, "handshakes")
	}
	close(stop)
	clients.Wait()
	t.Logf("%d handshakes meanwhile", shaken.Load())
	if n := shaken.Load(); n < 500 {
		t.Errorf("only %d handshakes: that was no flood", n)
	}
	call.ends()
}
