package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

var stacks = []string{peers.JsSIP, peers.SIPJS}

// newPageOffice has an edge that takes browsers whose page is the tests'.
func newPageOffice(t *testing.T, more string) *office {
	t.Helper()
	return newWebOffice(t, fmt.Sprintf("wss_origins = [%q]\n", peers.PageOrigin)+more)
}

// browser starts one that is registered and speaks a tone.
func (o *office) browser(user, stack string, hz float64) *peers.Browser {
	o.t.Helper()
	return peers.StartBrowser(o.Phone(user), o.edge, peers.BrowserConfig{User: user, Stack: stack, ToneHz: hz})
}

// A page calls the PBX: tones both ways.
func TestBrowserCallsPBX(t *testing.T) {
	for _, stack := range stacks {
		t.Run(stack, func(t *testing.T) {
			o := newPageOffice(t, "")
			b := o.browser("1001", stack, 700)
			b.Dial("610")
			b.Event("established", 10*time.Second)
			b.Hears(1004, 10*time.Second)
			b.Hangup()
			b.Event("ended", 5*time.Second)
			o.idle()
			o.pbxHeard(700)
		})
	}
}
