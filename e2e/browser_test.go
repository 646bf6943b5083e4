package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

var stacks = []string{peers.JsSIP, peers.SIPJS, peers.Own}

// newPageOffice has an edge that takes browsers whose page is the tests'.
func newPageOffice(t *testing.T, pbx peers.AsteriskConfig) *office {
	t.Helper()
	return newOfficeWith(t, pbx, peers.EdgeConfig{Extra: peers.WSS + fmt.Sprintf("wss_origins = [%q]\nwss_phone = true\n", peers.PageOrigin)})
}

// browser starts one that is registered and speaks a tone.
func (o *office) browser(user, stack string, hz float64) *peers.Browser {
	o.t.Helper()
	return peers.StartBrowser(o.Phone(user), o.edge, peers.BrowserConfig{User: user, Stack: stack, ToneHz: hz})
}

// eachStack runs a case with a browser of each stack, that speaks 700 Hz.
func eachStack(t *testing.T, run func(o *office, b *peers.Browser)) {
	for _, stack := range stacks {
		t.Run(stack, func(t *testing.T) {
			o := newPageOffice(t, peers.AsteriskConfig{})
			run(o, o.browser("1001", stack, 700))
		})
	}
}

// dial lets a browser call a number.
func (o *office) dial(b *peers.Browser, number string) {
	o.t.Helper()
	b.Dial(number)
	b.Event("established", 10*time.Second)
}

// accept lets a browser answer.
func (o *office) accept(b *peers.Browser) {
	o.t.Helper()
	b.Event("incoming", 10*time.Second)
	b.Accept()
	b.Event("established", 10*time.Second)
}

// quit ends a browser's only call.
func (o *office) quit(b *peers.Browser) {
	o.t.Helper()
	b.Hangup()
	b.Event("ended", 5*time.Second)
	o.idle()
}

// turnedAway starts a browser that the edge or it itself keeps away, which it
// says in its log.
func (o *office) turnedAway(c peers.BrowserConfig, said, event string) {
	o.t.Helper()
	c.User, c.NoRegister = "1001", true
	b := peers.StartBrowser(o.Phone(event), o.edge, c)
	b.Start()
	b.Event("disconnected", 10*time.Second)
	b.WaitLog(said, 5*time.Second)
	b.Quiet("registered")
	peers.Until(o.t, 10*time.Second, "the edge to count its "+event, func() bool {
		return o.edge.Metric(fmt.Sprintf(`sallyport_flow_events_total{event=%q,socket="203.0.113.7:%s"}`, event, peers.WSSPort)) > 0
	})
	if contact := o.pbx.Contact("1001"); contact != "" {
		o.t.Errorf("it is registered at %s", contact)
	}
}

// What the other cases rely on: a browser keeps away from an edge whose
// certificate it has no reason to trust, the edge keeps away pages it was not
// told of, and the meter tells one tone from another and from none.
func TestBrowserControl(t *testing.T) {
	o := newPageOffice(t, peers.AsteriskConfig{})
	t.Run("foreign page", func(*testing.T) {
		o.turnedAway(peers.BrowserConfig{Page: "http://localhost:8080"}, "Unexpected response code: 403", "refused_upgrade")
	})
	t.Run("distrust", func(*testing.T) {
		o.turnedAway(peers.BrowserConfig{Distrust: true}, "net::ERR_CERT_AUTHORITY_INVALID", "handshake_failed")
	})
	b := o.browser("1002", peers.JsSIP, 700)
	if hz, share, ok := b.Listen(700, 1500*time.Millisecond); ok || share > 0 {
		t.Fatalf("before any call, the browser hears %v Hz (%.0f %% of the sound)", hz, 100*share)
	}
	b.Dial("605")
	b.Event("progress", 10*time.Second)
	if hz, share, ok := b.Listen(700, 1500*time.Millisecond); ok || share > 0 { // of its own tone
		t.Fatalf("while it rings, the browser hears %v Hz (%.0f %% of the sound)", hz, 100*share)
	}
	o.quit(b)
	o.dial(b, "602")
	b.Hears(1004, 10*time.Second)
	if hz, _, ok := b.Listen(700, 1500*time.Millisecond); ok || !peers.Near(hz, 1004) {
		t.Fatalf("1004 Hz are taken for %v Hz", hz)
	}
	o.quit(b)
}

// A page calls the PBX: tones both ways.
func TestBrowserCallsPBX(t *testing.T) {
	eachStack(t, func(o *office, b *peers.Browser) {
		o.dial(b, "610")
		b.Hears(1004, 10*time.Second)
		o.pbxHeard(700)
		o.quit(b)
	})
}

// The PBX calls a page: tones both ways.
func TestPBXCallsBrowser(t *testing.T) {
	eachStack(t, func(o *office, b *peers.Browser) {
		o.pbx.Originate("1001", "610")
		o.accept(b)
		b.Hears(1004, 10*time.Second)
		o.pbxHeard(700)
		o.pbx.Must("channel request hangup all")
		b.Event("ended", 5*time.Second)
		o.idle()
	})
}

// A page and a desk phone with SDES call each other.
func TestBrowserToPhone(t *testing.T) {
	eachStack(t, func(o *office, b *peers.Browser) {
		desk := o.phone("1002", 1300)
		talk := func() {
			desk.Event("CALL_ESTABLISHED", 10*time.Second)
			b.Hears(1300, 10*time.Second)
			desk.Hears(700, 10*time.Second)
			o.quit(b)
			desk.Event("CALL_CLOSED", 5*time.Second)
			desk.Forget()
		}
		o.dial(b, "1002")
		talk()
		desk.Dial("1001")
		o.accept(b)
		talk()
	})
}

// Two browsers call each other.
func TestBrowserToBrowser(t *testing.T) {
	o := newPageOffice(t, peers.AsteriskConfig{})
	anna, ben := o.browser("1001", peers.JsSIP, 700), o.browser("1002", peers.SIPJS, 1300)
	for range 2 {
		anna.Dial(ben.User())
		o.accept(ben)
		anna.Event("established", 10*time.Second)
		anna.Hears(ben.ToneHz(), 10*time.Second)
		ben.Hears(anna.ToneHz(), 10*time.Second)
		o.quit(anna)
		ben.Event("ended", 5*time.Second)
		anna, ben = ben, anna
	}
}

// The PBX rings a desk phone and a browser at once; either answers, and the
// other stops ringing.
func TestBrowserForkedRing(t *testing.T) {
	o := newPageOffice(t, peers.AsteriskConfig{})
	b := o.browser("1001", peers.JsSIP, 700)
	desk := peers.StartBaresip(o.Phone("1002"), peers.BaresipConfig{User: "1002", CAFile: o.edge.CAFile(), ToneHz: 1300})
	caller := o.phone("1003", 500)
	ring := func() {
		caller.Dial("620")
		b.Event("incoming", 10*time.Second)
		desk.Event("CALL_INCOMING", 10*time.Second)
	}
	ring()
	b.Accept()
	b.Event("established", 10*time.Second)
	desk.Event("CALL_CLOSED", 5*time.Second)
	b.Hears(500, 10*time.Second)
	caller.Hears(700, 10*time.Second)
	o.quit(b)
	caller.Event("CALL_CLOSED", 5*time.Second)

	ring()
	desk.Accept()
	desk.Event("CALL_ESTABLISHED", 10*time.Second)
	b.Event("ended", 5*time.Second)
	caller.Forget()
	caller.Hears(1300, 10*time.Second)
	desk.Hears(500, 10*time.Second)
	desk.Hangup()
	caller.Event("CALL_CLOSED", 5*time.Second)
	o.idle()
}

// A page that is loaded again takes the place of the one before: the next call
// rings there, and the PBX knows one contact all along.
func TestBrowserReload(t *testing.T) {
	eachStack(t, func(o *office, b *peers.Browser) {
		contact := o.pbx.Contact("1001")
		b.Reload()
		b.Register()
		o.pbx.Originate("1001", "610")
		o.accept(b)
		b.Hears(1004, 10*time.Second)
		o.quit(b)
		if after := o.pbx.Contact("1001"); after != contact || contact == "" {
			o.t.Errorf("Asterisk's contact was %q and is %q: want the same", contact, after)
		}
		if n := o.edge.Metric("sallyport_bindings"); n != 1 {
			o.t.Errorf("the edge has %v bindings, want 1", n)
		}
	})
}

// Digits as telephone events (RFC 4733) reach the PBX.
func TestBrowserDtmf(t *testing.T) {
	eachStack(t, func(o *office, b *peers.Browser) {
		for i, digits := range []string{"1946", "*07#"} {
			o.dial(b, "611")
			b.Connected(5 * time.Second)
			o.pbxSays("Executing [611@phones:2] Read", i+1) // before, it learns by the first packets whose they are, and has no use for them
			b.Digits(digits)
			want := "it was told " + digits
			if strings.HasSuffix(digits, "#") { // which ends them
				want = strings.TrimSuffix(want, "#")
			}
			o.pbx.WaitLog(strings.ReplaceAll(want, "*", `\*`)+"\n", 10*time.Second)
			b.Event("ended", 5*time.Second)
			o.idle()
		}
	})
}
