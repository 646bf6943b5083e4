package e2e

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// isClean checks a proof against what an independent capture of the same interface,
// the edge's outer one with an address, holds: nothing leaked, each packet of media was verified, and none is missing.
func isClean(t *testing.T, proof peers.Proof, seen *peers.Capture, at netip.Addr) {
	t.Helper()
	if proof.Exit != 0 || proof.Verdict != "clean" {
		t.Fatalf("prove ended with status %d:\n%s", proof.Exit, proof.Text)
	}
	// Media is all UDP at the edge's ports for it.
	media := fmt.Sprintf("udp.port >= 10000 && udp.port <= 10003 && ip.addr == %s", at)
	counted := map[string]string{
		"tls":   "tcp.port == 5061 || tcp.port == " + peers.WSSPort,
		"dtls":  media + " && udp.payload[0] >= 14 && udp.payload[0] <= 3f",
		"stun":  media + " && udp.payload[0] <= 03",
		"srtp":  media + " && udp.payload[0] >= 80 && !(udp.payload[1] >= c0 && udp.payload[1] <= df)",
		"srtcp": media + " && udp.payload[0] >= 80 && udp.payload[1] >= c0 && udp.payload[1] <= df",
	}
	for kind, filter := range counted {
		packets, verified := proof.Of(kind)
		if want := seen.CountBetween(proof.From, proof.To, filter); packets != want || verified != want {
			t.Errorf("%d packets of %s and %d verified; the interface had %d\n%s", packets, kind, verified, want, proof.Text)
		}
	}
	if want := seen.CountBetween(proof.From, proof.To, "udp || tcp"); proof.Group("proved") != want { // ARP and the like come at any time
		t.Errorf("%d packets were verified, the interface had %d\n%s", proof.Group("proved"), want, proof.Text)
	}
	sum := 0
	for _, r := range proof.Kinds {
		sum += r.Packets
	}
	if sum != proof.Packets || proof.Dropped != 0 {
		t.Errorf("the kinds have %d packets of %d, and %d were dropped", sum, proof.Packets, proof.Dropped)
	}
}

// Calls are set up, talk and end while the edge's outer interface is watched: by
// SDES, and by DTLS with ICE. Each packet of theirs is verified.
func TestProveCall(t *testing.T) {
	o := newWebOffice(t, "")
	seen := peers.StartCapture(o.Edge, "outside")
	prover := peers.StartProver(o.edge, o.Edge, "outside")
	phone := o.registered("1001")
	for _, name := range []string{"AES_CM_128_HMAC_SHA1_80", "AEAD_AES_128_GCM"} {
		media := phone.NewMedia(name)
		d := o.echo(phone, media, 700)
		media.Report()
		media.Hears(700, 10*time.Second)
		o.hangUp(d, media)
	}
	web := o.webPhone("1002")
	media := web.NewDTLS()
	media.NewICE()
	d := o.dtlsCall(web, "602", media, 700)
	media.Hears(1004, 10*time.Second)
	o.hangUp(d, media)

	proof := prover.Proof()
	seen.Stop()
	isClean(t, proof, seen, netip.MustParseAddr(peers.EdgeOutside))
	for _, kind := range []string{"tls", "dtls", "stun", "srtp", "srtcp"} {
		if n, _ := proof.Of(kind); n == 0 {
			t.Errorf("nothing of %s was seen", kind)
		}
	}
}

// plainCall has one host call another by plain SIP and RTP, which is no business of
// the edge's.
func (o *office) plainCall(from, to *peers.Host) {
	o.t.Helper()
	const at = 7777
	callee := peers.StartPlainSIPp(to, scenario(o.t, "answer.xml"), "", at, "-rtp_echo", "-m", "1")
	caller := peers.StartPlainSIPp(from, scenario(o.t, "plain.xml"), fmt.Sprintf("%s:%d", to.Addr, at), 8888, "-m", "1", "-timeout", "20s", "-timeout_error")
	if r := caller.Result(30 * time.Second); r.Successful != 1 {
		o.t.Fatalf("the plain call failed: %+v\n%s", r, caller.Complaint())
	}
	callee.Stop()
}

// leaks finds what a proof lists of a kind from one host to another.
func leaks(proof peers.Proof, kind string, from, to *peers.Host) (packets int, first string) {
	for _, l := range proof.Leaks {
		if l.Kind == kind && l.Source.Addr() == from.Addr && l.Destination.Addr() == to.Addr {
			packets, first = packets+l.Packets, l.First
		}
	}
	return packets, first
}

// A call in clear beside an encrypted one is found, and told without who called
// whom; and so is each packet of media that is not under its call's key.
func TestProveLeak(t *testing.T) {
	o := newOffice(t)
	phone := o.registered("1001")
	other := o.Phone("other")
	at, port := phone.Host.Port()
	echo := func() (*peers.Dialog, *peers.Media) {
		media := phone.NewMedia(suite)
		d := o.echo(phone, media, 700)
		media.Hears(700, 10*time.Second)
		return d, media
	}
	leaking := func(t *testing.T, p *peers.Prover) peers.Proof {
		t.Helper()
		proof := p.Proof()
		if proof.Exit != 1 || proof.Verdict != "leak" {
			t.Fatalf("prove ended with status %d:\n%s", proof.Exit, proof.Text)
		}
		if _, verified := proof.Of("srtp"); verified < 50 {
			t.Errorf("%d packets of SRTP were verified, want those of the encrypted call", verified)
		}
		// As words: the digits of a time may be those of a phone by chance.
		if secret := regexp.MustCompile(`\b(secret|1001\b|Call-ID|INVITE sip)`).FindString(proof.Text); secret != "" {
			t.Errorf("it tells of what leaked %q:\n%s", secret, proof.Text)
		}
		return proof
	}
	t.Run("between others", func(t *testing.T) {
		prover := peers.StartProver(o.edge, at, port)
		d, media := echo()
		o.plainCall(phone.Host, other)
		o.hangUp(d, media)
		proof := leaking(t, prover)
		for from, to := range map[*peers.Host]*peers.Host{phone.Host: other, other: phone.Host} {
			for kind, want := range map[string]int{"sip": 2, "rtp": 20} {
				if n, first := leaks(proof, kind, from, to); n < want || !strings.HasPrefix(strings.ToLower(first), kind) {
					t.Errorf("%d packets of %s from %s: %q\n%s", n, kind, from.Name, first, proof.Text)
				}
			}
		}
		if n, _ := leaks(proof, "rtp", phone.Host, o.Edge); n != 0 {
			t.Errorf("%d packets of the encrypted call are listed:\n%s", n, proof.Text)
		}
	})
	t.Run("fragmented", func(t *testing.T) {
		prover := peers.StartProver(o.edge, at, port)
		d, media := echo()
		message := "MESSAGE sip:secret@[::] SIP/2.0\r\nSubject: " + strings.Repeat("x", 4000) + "\r\n\r\n"
		peers.SendUDP(t, phone.Host, netip.AddrPortFrom(other.Addr, 9999), []byte(message))
		o.hangUp(d, media)
		proof := leaking(t, prover)
		if n, first := leaks(proof, "sip", phone.Host, other); n != 3 || first != "SIP MESSAGE" {
			t.Errorf("%d packets of it, %q\n%s", n, first, proof.Text)
		}
	})
	t.Run("super-packet", func(t *testing.T) { // which the kernel parts behind us
		prover := peers.StartProver(o.edge, at, port)
		d, media := echo()
		var rtp []byte
		for i := range byte(10) {
			rtp = append(append(rtp, 0x80, 0, 7, i, 0, 0, i, 0, 1, 2, 3, 4), make([]byte, 160)...)
		}
		peers.SendSuper(t, phone.Host, netip.AddrPortFrom(other.Addr, 9998), rtp, 172)
		o.hangUp(d, media)
		proof := leaking(t, prover)
		if n, first := leaks(proof, "rtp", phone.Host, other); n != 10 || first != "RTP v2 PT 0 ssrc 0x01020304" {
			t.Errorf("%d packets of it, %q\n%s", n, first, proof.Text)
		}
	})
	t.Run("one bit of SRTP", func(t *testing.T) {
		prover := peers.StartProver(o.edge, at, port)
		d, media := echo()
		spoilt := media.Packet()
		spoilt[40] ^= 1
		media.Send(spoilt)
		media.Forget()
		media.Hears(700, 10*time.Second)
		o.hangUp(d, media)
		proof := leaking(t, prover)
		if n, _ := leaks(proof, "rtp", phone.Host, o.Edge); n != 1 || proof.Group("leak") != 1 {
			t.Errorf("%d packets are listed, want the one\n%s", n, proof.Text)
		}
	})
	t.Run("another key", func(t *testing.T) {
		prover := peers.StartProver(o.edge, at, port)
		media := phone.NewMedia(suite)
		media.UseKey = peers.RandomKey(suite)
		d := o.call(phone, "602", media, 700)
		media.Hears(1004, 10*time.Second)
		o.hangUp(d, media)
		sent := media.Sent()
		proof := leaking(t, prover)
		if n, _ := leaks(proof, "rtp", phone.Host, o.Edge); n != sent || proof.Group("leak") != sent {
			t.Errorf("%d of the phone's %d packets are listed\n%s", n, sent, proof.Text)
		}
	})
}

// baresip's calls pass, by SDES and by DTLS, also where the watch begins in the middle
// of one. But what it says in clear is found: as it opens its ports' NAT bindings (RTCP
// APP) with SDES, as it says goodbye when it has put its keys away (RTCP BYE), and, now and
// then, a packet of sound while DTLS shakes hands.
func TestProvePhones(t *testing.T) {
	o := newOffice(t)
	for i, keying := range []string{"srtp-mand", "dtls_srtp"} {
		t.Run(keying, func(t *testing.T) {
			user := fmt.Sprint(1001 + i)
			host := o.Phone(user)
			seen := peers.StartCapture(o.Edge, "outside")
			whole := peers.StartProver(o.edge, o.Edge, "outside")
			phone := peers.StartBaresip(host, peers.BaresipConfig{User: user, CAFile: o.edge.CAFile(), MediaEnc: keying, ToneHz: 700})
			phone.Dial("602")
			phone.Event("CALL_ESTABLISHED", 10*time.Second)
			phone.Hears(1004, 10*time.Second)
			middle := peers.StartProver(o.edge, o.Edge, "outside")
			relayed := o.relayed()
			peers.Until(t, 10*time.Second, "a second of the PBX's sound", func() bool { return o.relayed() > relayed+50 })
			proof := middle.Proof()
			if srtp, _ := proof.Of("srtp"); proof.Exit != 0 || srtp < 50 {
				t.Errorf("the middle of the call: status %d\n%s", proof.Exit, proof.Text)
			}
			phone.Hangup()
			phone.Event("CALL_CLOSED", 5*time.Second)
			o.idle()
			phone.Stop()
			proof = whole.Proof()
			seen.Stop()
			// By their lengths: SRTCP is 14 bytes longer, SRTP 10 or 16.
			clear := func(what string) int { return seen.Count("ip.src == " + host.Addr.String() + " && (" + what + ")") }
			reports := clear("udp.payload[1] == cc && udp.length == 24 || udp.payload[1] == cb && udp.length == 56")
			sounds := clear("udp.payload[0] == 80 && udp.length == 180")
			toldReports, _ := leaks(proof, "rtcp", host, o.Edge)
			toldSounds, _ := leaks(proof, "rtp", host, o.Edge)
			if reports == 0 || toldReports != reports || toldSounds != sounds || proof.Group("leak") != reports+sounds || proof.Exit != 1 {
				t.Errorf("in clear %d reports and %d packets of sound, listed %d and %d: status %d\n%s", reports, sounds, toldReports, toldSounds, proof.Exit, proof.Text)
			}
		})
	}
}

// What strangers send in clear, and the edge refuses, is no leak of its own, but
// is told; and it is one if anything at the edge's address answers.
func TestProveStrangers(t *testing.T) {
	o := newOffice(t)
	stranger := o.Phone("stranger")
	options := "OPTIONS sip:100@203.0.113.7 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.99;branch=z9hG4bK1\r\n\r\n"
	rtp := append([]byte{0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7}, make([]byte, 160)...)
	prover, strict := peers.StartProver(o.edge, o.Edge, "outside"), peers.StartProver(o.edge, o.Edge, "outside", "-strict")
	for i := range byte(5) {
		rtp[3] = i
		peers.SendUDP(t, stranger, netip.MustParseAddrPort(peers.EdgeOutside+":10000"), rtp)
	}
	peers.SendUDP(t, stranger, netip.MustParseAddrPort(peers.EdgeOutside+":5060"), []byte(options))
	peers.SendUDP(t, stranger, netip.MustParseAddrPort(peers.EdgeOutside+":10000"), []byte(options))
	peers.SendTCP(t, stranger, netip.MustParseAddrPort(peers.EdgeOutside+":5061"), []byte(options))
	proof := prover.Proof()
	if proof.Exit != 0 {
		t.Errorf("prove ended with status %d\n%s", proof.Exit, proof.Text)
	}
	for kind, want := range map[string]int{"stranger_sip": 3, "stranger_media": 5} {
		if n, _ := proof.Of(kind); n != want {
			t.Errorf("%d packets of %s, want %d\n%s", n, kind, want, proof.Text)
		}
	}
	if proof := strict.Proof(); proof.Exit != 1 || proof.Group("leak") != 8 {
		t.Errorf("strictly, prove ended with status %d\n%s", proof.Exit, proof.Text)
	}
	t.Run("loopback", func(t *testing.T) { // where each packet comes twice
		prover := peers.StartProver(o.edge, o.Edge, "lo")
		for range 3 {
			peers.SendUDP(t, o.Edge, netip.MustParseAddrPort("127.0.0.1:9999"), []byte(options))
		}
		if proof := prover.Proof(); proof.Exit != 1 || proof.Group("leak") != 3 {
			t.Errorf("prove ended with status %d\n%s", proof.Exit, proof.Text)
		}
	})
	t.Run("answered", func(t *testing.T) {
		prover := peers.StartProver(o.edge, o.Edge, "outside")
		o.plainCall(stranger, o.Edge)
		proof := prover.Proof()
		for from, to := range map[*peers.Host]*peers.Host{stranger: o.Edge, o.Edge: stranger} {
			for kind, want := range map[string]int{"sip": 2, "rtp": 20} {
				if n, _ := leaks(proof, kind, from, to); n < want || proof.Exit != 1 {
					t.Errorf("%d packets of %s from %s\n%s", n, kind, from.Name, proof.Text)
				}
			}
		}
	})
}
