package e2e

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

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
