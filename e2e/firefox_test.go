package e2e

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// Firefox's WebRTC is not Chromium's: it has an ICE, a DTLS and a way to write
// SDP of its own. Its page calls the PBX and is called, tones both ways, holds
// and goes on, begins ICE again, and calls by TCP where UDP is blocked.
func TestBrowserFirefox(t *testing.T) {
	const suite = "SRTP_AEAD_AES_128_GCM"
	for _, stack := range []string{peers.JsSIP, peers.Own} {
		t.Run(stack, func(t *testing.T) {
			o := newPageOffice(t, peers.AsteriskConfig{})
			b := peers.StartBrowser(o.Phone("1001"), o.edge, peers.BrowserConfig{User: "1001", Program: peers.Firefox, Stack: stack, ToneHz: 700})
			o.dial(b, "610")
			o.agreed(b, "server", suite)
			b.Hears(1004, 10*time.Second)
			o.pbxHeard(700)
			o.quit(b)

			o.pbx.Originate("1001", "600")
			o.accept(b)
			o.agreed(b, "client", suite)
			b.Hears(700, 10*time.Second) // its own tone: both ways
			o.pbx.Must("channel request hangup all")
			b.Event("ended", 5*time.Second)
			o.idle()

			o.holds(b)
			if stack == peers.Own { // Firefox does nothing upon a provisional answer
				o.hearsEarly(b)
				return
			}
			o.restartsICE(b) // the browser's matter alone
			o.callsByTCP(b)
		})
	}
	t.Run("distrust", func(t *testing.T) { // the control
		o := newPageOffice(t, peers.AsteriskConfig{})
		// RFC 6455 section 7.4.1: the TLS handshake failed.
		o.turnedAway(peers.BrowserConfig{Program: peers.Firefox, Distrust: true}, "page: disconnected 1015", "handshake_failed")
	})
}
