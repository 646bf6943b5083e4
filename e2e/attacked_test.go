package e2e

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// talk is a call with the PBX's echo that goes on while somebody attacks.
type talk struct {
	*office
	phone       *peers.Phone
	media       *peers.Media
	d           *peers.Dialog
	sent, heard int // when its measure began
}

// talks registers a phone and begins one.
func (o *office) talks(user string) *talk {
	o.t.Helper()
	c := &talk{office: o, phone: o.registered(user)}
	c.media = c.phone.NewMedia(suite)
	c.d = o.echo(c.phone, c.media, 700)
	c.media.Hears(700, 10*time.Second)
	c.measure()
	return c
}

// measure begins anew.
func (c *talk) measure() { c.sent, c.heard = c.settled() }

// settled counts what was sent and came back when nothing more is on its way: late is
// not lost. The phone is silent for that moment.
func (c *talk) settled() (sent, heard int) {
	c.media.Silence(true)
	defer c.media.Silence(false)
	for range 50 {
		time.Sleep(20 * time.Millisecond)
		sent = c.media.Sent()
		if heard, _, _ = c.media.Counts(); heard-c.heard >= sent-c.sent {
			break
		}
	}
	return sent, heard
}

// keepsSound tells what share of the sound was lost since the measure began, six
// seconds of it at least, and that must be next to nothing; the phone is still heard.
func (c *talk) keepsSound(t *testing.T, what string) {
	t.Helper()
	peers.Until(t, 20*time.Second, "6 s of sound", func() bool { return c.media.Sent()-c.sent >= 300 })
	c.speaks(c.media, 900)
	sent, heard := c.settled()
	sent, heard = sent-c.sent, heard-c.heard
	loss := 1 - float64(heard)/float64(sent)
	t.Logf("the call meanwhile: %d packets sent, %d came back: %.2f %% lost", sent, heard, 100*loss)
	if loss > 0.01 {
		t.Errorf("%s: %.2f %% of the sound was lost", what, 100*loss)
	}
	c.media.Speak(700)
	c.measure()
}

// ends hangs up, and sees that both are still there.
func (c *talk) ends() {
	c.t.Helper()
	if !c.edge.Running() || !c.pbx.Running() {
		c.t.Fatal("the edge or Asterisk ended")
	}
	c.hangUp(c.d, c.media)
}

// calls registers a phone over a new connection, and has it call and be heard.
func (o *office) calls(from *peers.Host, user string) {
	o.t.Helper()
	phone := peers.NewPhone(from, o.edge, user)
	if m := phone.Register("secret-"+user, 600, ""); m.Status() != 200 {
		o.t.Fatalf("registration answered %s", m.Start)
	}
	media := phone.NewMedia(suite)
	d := o.echo(phone, media, 1300)
	media.Hears(1300, 10*time.Second)
	o.bye(d, media)
	phone.Close()
}
