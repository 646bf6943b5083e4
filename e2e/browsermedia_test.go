package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// What a browser says was agreed: DTLS 1.2 (RFC 5764) under a suite of today,
// whichever end begins it.
func TestBrowserDtls(t *testing.T) {
	o := newPageOffice(t, peers.AsteriskConfig{})
	b := o.browser("1001", peers.JsSIP, 700)
	// DTLS's server chooses: the browser not as the edge would.
	o.dial(b, "602")
	o.agreed(b, "server", "SRTP_AES128_CM_HMAC_SHA1_80", "SRTP_AEAD_AES_128_GCM")
	b.Hears(1004, 10*time.Second)
	o.quit(b)
	o.pbx.Originate("1001", "602")
	o.accept(b)
	o.agreed(b, "client", "SRTP_AEAD_AES_128_GCM")
	b.Hears(1004, 10*time.Second)
	o.quit(b)
}

// agreed waits for a browser's keys and checks how they came about.
func (o *office) agreed(b *peers.Browser, role string, suites ...string) {
	o.t.Helper()
	b.Connected(10 * time.Second)
	got := b.Transport()
	o.t.Logf("agreed as DTLS %s: %s, %s, version %s", got.DtlsRole, got.DtlsCipher, got.SrtpCipher, got.TLSVersion)
	if got.DtlsState != "connected" || got.DtlsRole != role || got.TLSVersion != "FEFD" {
		o.t.Errorf("the browser's DTLS is %s as %s, version %s; want as %s, FEFD", got.DtlsState, got.DtlsRole, got.TLSVersion, role)
	}
	if !strings.HasPrefix(got.DtlsCipher, "TLS_ECDHE_ECDSA_WITH_AES_") || !slices.Contains(suites, got.SrtpCipher) {
		o.t.Errorf("the browser's DTLS uses %s, its SRTP %s, want one of %v", got.DtlsCipher, got.SrtpCipher, suites)
	}
}

// A browser holds a call and goes on with it.
func TestBrowserHold(t *testing.T) { eachStack(t, (*office).holds) }

// holds lets a browser call a desk phone and hold it. One that goes on sending
// is mixed with the music by chan_sip: all that matters is what comes after.
func (o *office) holds(b *peers.Browser) {
	o.t.Helper()
	desk := o.phone("1002", 1300)
	o.dial(b, "1002")
	b.Hears(1300, 10*time.Second)
	desk.Hears(700, 10*time.Second)
	for _, silent := range []bool{false, true} {
		b.Hold()
		if _, answer := b.Descriptions(); direction(answer) != "recvonly" {
			o.t.Fatalf("the hold was answered %s, want recvonly", direction(answer))
		}
		if silent {
			b.Mute(true)
			desk.Forget()
			desk.Hears(peers.MusicHz, 10*time.Second)
			b.Mute(false)
		}
		b.Resume()
		desk.Forget()
		desk.Hears(700, 10*time.Second)
		b.Hears(1300, 10*time.Second)
	}
	o.quit(b)
}

// A desk phone holds a browser and takes it back: the browser hears the PBX's
// music, and after that the phone again. The music has an SSRC of its own, and
// the phone's comes back after it.
func TestBrowserHeld(t *testing.T) {
	eachStack(t, func(o *office, b *peers.Browser) {
		desk := o.phone("1002", 1300)
		o.dial(b, "1002")
		b.Hears(1300, 10*time.Second)
		desk.Hears(700, 10*time.Second) // it records no more once it held
		for range 2 {
			desk.Hold()
			b.Hears(peers.MusicHz, 10*time.Second)
			desk.Resume()
			b.Hears(1300, 10*time.Second)
		}
		o.quit(b)
	})
}

// A browser hears what the PBX plays before it answers.
func TestBrowserEarlyMedia(t *testing.T) { eachStack(t, (*office).hearsEarly) }

func (o *office) hearsEarly(b *peers.Browser) {
	o.t.Helper()
	b.Dial("608")
	if e := b.Event("progress", 10*time.Second); e.Detail != "183" {
		o.t.Fatalf("the call was answered %s, want 183", e.Detail)
	}
	b.Hears(peers.MusicHz, 10*time.Second)
	b.Quiet("established")
	o.pbx.Redirect("1001", "610") // which answers
	b.Event("established", 10*time.Second)
	b.Hears(1004, 10*time.Second)
	o.pbxHeard(700)
	o.quit(b)
}

// A browser begins ICE again in a call (RFC 8445 section 9): both ends are new,
// and the sound goes on both ways.
func TestIceRestart(t *testing.T) { eachStack(t, (*office).restartsICE) }

func (o *office) restartsICE(b *peers.Browser) {
	o.t.Helper()
	o.dial(b, "600")
	b.Hears(700, 10*time.Second) // its own tone: both ways
	for range 2 {
		local, remote := b.Descriptions()
		b.RestartICE()
		newLocal, newRemote := b.Descriptions()
		if ufrag(o.t, newLocal) == ufrag(o.t, local) || ufrag(o.t, newRemote) == ufrag(o.t, remote) {
			o.t.Fatalf("ICE did not begin again: the browser's ufrag was %s and is %s, the edge's was %s and is %s",
				ufrag(o.t, local), ufrag(o.t, newLocal), ufrag(o.t, remote), ufrag(o.t, newRemote))
		}
		// Chromium goes on naming the edge's former ufrag at a pair of addresses
		// where that is still answered; its own end is a new one.
		peers.Until(o.t, 10*time.Second, "the browser to use its new end", func() bool {
			local, _ := b.Pair()
			return local.UsernameFragment == ufrag(o.t, newLocal)
		})
		b.Hears(700, 10*time.Second)
	}
	o.quit(b)
}

func ufrag(t *testing.T, description string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^a=ice-ufrag:(\S+)`).FindStringSubmatch(description)
	if m == nil {
		t.Fatalf("a description without ICE:\n%s", description)
	}
	return m[1]
}

// A picture is turned down by a PBX that takes none; the sound is not.
func TestBrowserVideoRefused(t *testing.T) {
	eachStack(t, func(o *office, b *peers.Browser) {
		b.DialVideo("600")
		b.Event("established", 10*time.Second)
		b.Hears(700, 10*time.Second)
		local, remote := b.Descriptions()
		if !strings.Contains(local, "m=video ") || !strings.Contains(remote, "m=video 0 ") {
			o.t.Errorf("a picture that was offered with\n%s\nis answered with\n%s", peers.Line(local, 1), peers.Line(remote, 1))
		}
		o.quit(b)
	})
}

// A picture comes back from a PBX that takes it.
func TestBrowserVideo(t *testing.T) {
	o := newPageOffice(t, peers.AsteriskConfig{General: "videosupport=yes\nallow=vp8\n"})
	b := o.browser("1001", peers.JsSIP, 700)
	b.DialVideo("600")
	b.Event("established", 10*time.Second)
	b.Hears(700, 10*time.Second)
	peers.Until(t, 10*time.Second, "a second of the browser's own picture", func() bool {
		for _, s := range b.Stats("inbound-rtp") {
			if s.Kind == "video" && s.FramesDecoded > 15 {
				return true
			}
		}
		return false
	})
	o.quit(b)
}

// A browser behind a NAT.
func TestBrowserBehindNat(t *testing.T) {
	o := newPageOffice(t, peers.AsteriskConfig{})
	nat := o.NAT("nat")
	b := peers.StartBrowser(nat.Phone("1001"), o.edge, peers.BrowserConfig{User: "1001", ToneHz: 700})
	o.dial(b, "610")
	b.Hears(1004, 10*time.Second)
	local, remote := b.Pair()
	if local.CandidateType != "prflx" || local.Address != nat.Addr.String() || remote.Address != peers.EdgeOutside {
		t.Errorf("the browser speaks from %s (%s) to %s, want from the address that the edge sees to the edge's", local.Address, local.CandidateType, remote.Address)
	}
	o.pbxHeard(700)
	o.quit(b)
	o.pbx.Originate("1001", "602")
	o.accept(b)
	b.Hears(1004, 10*time.Second)
	o.quit(b)
}

// Nothing of a browser's calls is to be read outside; the same checks find all
// of it inside.
func TestBrowserNothingInClear(t *testing.T) {
	o := newPageOffice(t, peers.AsteriskConfig{})
	outside, inside := peers.StartCapture(o.Edge, "outside"), peers.StartCapture(o.Edge, "inside")
	b := o.browser("1001", peers.JsSIP, 700)
	o.dial(b, "610")
	b.Hears(1004, 10*time.Second)
	o.pbxHeard(700)
	o.quit(b)
	outside.Stop()
	inside.Stop()
	for _, word := range []string{"SIP/2.0", "INVITE ", "REGISTER ", "Call-ID", "m=audio", "Digest ", "a=fingerprint", "a=ice-pwd", peers.JsSIP} {
		if outside.Contains(word) {
			t.Errorf("%q is to be read outside", word)
		}
		if webRTC := strings.HasPrefix(word, "a="); inside.Contains(word) == webRTC {
			t.Errorf("%q inside: found %v, want %v", word, webRTC, !webRTC)
		}
	}
	for _, hz := range []float64{700, 1004} {
		if !plays(inside, hz) {
			t.Errorf("the tone of %v Hz is not found inside: the check is broken", hz)
		}
		if plays(outside, hz) {
			t.Errorf("the tone of %v Hz is to be heard outside", hz)
		}
	}
	if n := outside.Count("udp.length > 172"); n < 100 {
		t.Errorf("only %d packets of media outside: was there a call at all?", n)
	}
}
