package e2e

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// office is what most cases need: a PBX, an edge, and a network.
type office struct {
	*peers.Lab
	t     *testing.T
	pbx   *peers.Asterisk
	edge  *peers.Edge
	tap   *peers.Tap             // before the PBX, if it is Tapped
	hosts map[string]*peers.Host // of SIPp, by its user
}

func newOffice(t *testing.T) *office {
	t.Helper()
	return newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{})
}

func newOfficeWith(t *testing.T, pbx peers.AsteriskConfig, edge peers.EdgeConfig) *office {
	t.Helper()
	return furnish(t, peers.NewLab(t), pbx, edge)
}

// newManagedOffice is one whose edge a service manager watches.
func newManagedOffice(t *testing.T) (*office, *peers.Supervisor) {
	t.Helper()
	l := peers.NewLab(t)
	manager := peers.StartSupervisor(l)
	return furnish(t, l, peers.AsteriskConfig{}, peers.EdgeConfig{Before: manager.Manage}), manager
}

func furnish(t *testing.T, l *peers.Lab, pbx peers.AsteriskConfig, edge peers.EdgeConfig) *office {
	t.Helper()
	o := &office{Lab: l, t: t, hosts: make(map[string]*peers.Host)}
	if pbx.Tapped {
		o.tap = peers.StartTap(l, nil)
	}
	o.pbx, o.edge = peers.StartAsterisk(l, pbx), peers.StartEdge(l, edge)
	return o
}

// phone starts a registered baresip that speaks a tone.
func (o *office) phone(user string, hz float64) *peers.Baresip {
	o.t.Helper()
	return peers.StartBaresip(o.Phone(user), peers.BaresipConfig{User: user, CAFile: o.edge.CAFile(), ToneHz: hz, AutoAnswer: true})
}

// script connects a phone whose bytes the test decides.
func (o *office) script(user string) *peers.Phone {
	o.t.Helper()
	return peers.NewPhone(o.Phone(user), o.edge, user)
}

// registered connects one and registers it.
func (o *office) registered(user string) *peers.Phone {
	o.t.Helper()
	p := o.script(user)
	if m := p.Register("secret-"+user, 600, ""); m.Status() != 200 {
		o.t.Fatalf("registration answered %s", m.Start)
	}
	return p
}

// idle waits until nobody has a call.
func (o *office) idle() {
	o.t.Helper()
	peers.Until(o.t, 10*time.Second, "the edge to have no call", func() bool { return o.edge.Metric("sallyport_calls") == 0 })
	peers.Until(o.t, 10*time.Second, "the edge to have no media session", func() bool { return o.edge.Metric("sallyport_media_sessions") == 0 })
	peers.Until(o.t, 10*time.Second, "Asterisk to have no channel", func() bool { return o.pbx.Channels() == 0 })
}

// answers has phones answer what has come, and tells whether anything had.
func answers(phones ...*peers.Phone) (had bool) {
	for _, p := range phones {
		for m := p.Within(20 * time.Millisecond); m != nil; m = p.Within(20 * time.Millisecond) {
			if had = true; m.Status() == 0 && m.Method() != "ACK" {
				p.Answer(m, 200, "OK", "")
			}
		}
	}
	return had
}

// over answers all that comes to phones until nobody has a call, and nothing
// more comes.
func (o *office) over(phones ...*peers.Phone) {
	o.t.Helper()
	peers.Until(o.t, 10*time.Second, "the phones' calls to end", func() bool {
		return !answers(phones...) && o.edge.Metric("sallyport_calls") == 0
	})
	o.idle()
}

// connect lets one scripted phone call another: 700 Hz one way, 1300 Hz back.
func (o *office) connect(from, to *peers.Phone, a, b *peers.Media) *peers.Dialog {
	o.t.Helper()
	d, _ := o.ends(from, to, a, b)
	return d
}

// ends does so, and returns both ends of the call.
func (o *office) ends(from, to *peers.Phone, a, b *peers.Media) (caller, callee *peers.Dialog) {
	o.t.Helper()
	called := peers.Meanwhile(o.t, func() *peers.Dialog { return o.call(from, to.User, a, 700) })
	callee = o.answer(to, b, 1300)
	return called(), callee
}

// hear waits until both ends of such a call hear the other from now on.
func hear(a, b *peers.Media) {
	a.Forget()
	b.Forget()
	a.Hears(1300, 10*time.Second)
	b.Hears(700, 10*time.Second)
}

// talk lets one baresip call another, and each hear the other's tone.
func (o *office) talk(from, to *peers.Baresip) {
	o.t.Helper()
	from.Dial(to.User())
	from.Event("CALL_ESTABLISHED", 10*time.Second)
	to.Event("CALL_ESTABLISHED", 10*time.Second)
	from.Hears(to.ToneHz(), 10*time.Second)
	to.Hears(from.ToneHz(), 10*time.Second)
}

// echo calls the PBX's echo: what the phone hears is what it said, so a tone
// proves both directions at once.
func (o *office) echo(phone *peers.Phone, media *peers.Media, hz float64) *peers.Dialog {
	o.t.Helper()
	return o.call(phone, "600", media, hz)
}

// call calls a number and starts the sound.
func (o *office) call(phone *peers.Phone, number string, media *peers.Media, hz float64) *peers.Dialog {
	o.t.Helper()
	d, m := phone.Invite(number, media.Offer())
	if m.Status() != 200 {
		o.t.Fatalf("the call was answered %s, Warning %q", m.Start, m.Get("Warning"))
	}
	media.Start(m.Body, hz)
	return d
}

// change re-invites with what media says now, and takes the answer.
func (o *office) change(d *peers.Dialog, media *peers.Media) *peers.Message {
	o.t.Helper()
	media.Session++
	m := d.Reinvite(media.Offer())
	if m.Status() != 200 {
		o.t.Fatalf("the re-INVITE was answered %s, Warning %q", m.Start, m.Get("Warning"))
	}
	media.Apply(m.Body)
	return m
}

// speaks lets the phone say another tone and waits for its echo.
func (o *office) speaks(media *peers.Media, hz float64) {
	o.t.Helper()
	media.Speak(hz)
	media.Forget()
	media.Hears(hz, 10*time.Second)
}

// hangUp ends a call from the phone.
func (o *office) hangUp(d *peers.Dialog, media *peers.Media) {
	o.t.Helper()
	o.bye(d, media)
	o.idle()
}

func (o *office) bye(d *peers.Dialog, media *peers.Media) {
	o.t.Helper()
	if m := d.Request("BYE", ""); m.Status() != 200 {
		o.t.Fatalf("BYE was answered %s", m.Start)
	}
	media.Stop()
}

// answer takes the next call and starts the sound.
func (o *office) answer(phone *peers.Phone, media *peers.Media, hz float64) *peers.Dialog {
	o.t.Helper()
	inv := phone.Expect("INVITE", 5*time.Second)
	phone.Answer(inv, 180, "Ringing", "")
	phone.Answer(inv, 200, "OK", media.Accept(inv.Body))
	phone.Expect("ACK", 5*time.Second)
	media.Start(onlySuite(inv.Body, media.Suite), hz)
	return phone.DialogOf(inv)
}
