package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// refusedCall makes a call that must be refused, with a reason, and of which the
// PBX must hear nothing.
func (o *office) refusedCall(phone *peers.Phone, number, why string) {
	o.t.Helper()
	before := o.pbx.Channels()
	_, m := phone.Invite(number, phone.NewMedia(suite).Offer())
	if m.Status() != 403 || !strings.Contains(m.Get("Warning"), why) {
		o.t.Errorf("the call to %s was answered %s, Warning %q, want 403 and %q", number, m.Start, m.Get("Warning"), why)
	}
	if n := o.pbx.Channels(); n != before {
		o.t.Errorf("the PBX has %d channels for it", n-before)
	}
}

// A thief has a user's password, and calls as much as he can. Without rules he
// can all he wants; with them two calls at a time, for twenty seconds abroad in
// all, and no premium number. The alarm arrives, and the others call on.
func TestTollFraud(t *testing.T) {
	l := peers.NewLab(t)
	o := &office{Lab: l, t: t, pbx: peers.StartAsterisk(l, peers.AsteriskConfig{}), edge: peers.StartEdge(l, peers.EdgeConfig{})}
	thief := o.script("1002")
	const abroad, premium = "0044123", "0900123"
	var control []*peers.Dialog
	for _, number := range []string{abroad, abroad, abroad, premium} {
		media := thief.NewMedia(suite)
		control = append(control, o.call(thief, number, media, 900))
		media.Stop()
	}
	if n := o.pbx.Channels(); n != len(control) {
		t.Fatalf("without rules the thief has %d calls", n)
	}
	for _, d := range control {
		d.Request("BYE", "")
	}
	o.idle()
	o.edge.Stop()

	alarms := peers.StartReceiver(o.PBX)
	o.edge = peers.StartEdge(l, peers.EdgeConfig{State: "ruled", Extra: fmt.Sprintf("[policy.calls]\nnumbers = [\"deny * 0900\"]\nmax_calls_per_user = 2\nabroad_a_day_per_user = \"20s\"\nend_calls = true\nalarm_url = %q\n", alarms.URL)})
	honest := o.registered("1001")
	media := honest.NewMedia(suite)
	talk := o.echo(honest, media, 700)
	media.Hears(700, 10*time.Second)

	thief = peers.NewPhone(thief.Host, o.edge, "1002")
	o.refusedCall(thief, premium, "may not be called")
	o.refusedCall(thief, "0-900-123", "may not be called")
	other := peers.NewPhone(thief.Host, o.edge, "1002")
	for _, phone := range []*peers.Phone{thief, other} {
		m := phone.NewMedia(suite)
		o.call(phone, abroad, m, 900)
		m.Hears(900, 10*time.Second)
		defer m.Stop()
	}
	alarms.Awaits(o.PBX, "first_call_abroad", "1002", abroad)
	third := peers.NewPhone(o.Phone("elsewhere"), o.edge, "1002")
	o.refusedCall(third, abroad, "the limit")
	alarms.Awaits(o.PBX, "limit", "1002", "policy.calls.max_calls_per_user")
	began := time.Now()
	for _, phone := range []*peers.Phone{thief, other} {
		phone.Answer(phone.Expect("BYE", 40*time.Second), 200, "OK", "")
	}
	t.Logf("the calls abroad were hung up %s after the third was refused", time.Since(began).Round(100*time.Millisecond))
	peers.Until(t, 10*time.Second, "Asterisk to have the honest call alone", func() bool { return o.pbx.Channels() == 1 })
	o.refusedCall(third, abroad, "the limit")

	o.speaks(media, 900)
	o.hangUp(talk, media)
	media = honest.NewMedia(suite) // what the thief has used up is his user's
	d := o.call(honest, abroad, media, 900)
	o.hangUp(d, media)
	media = thief.NewMedia(suite)
	d = o.echo(thief, media, 700) // which may call what costs nothing
	media.Hears(700, 10*time.Second)
	o.hangUp(d, media)
}

// Help can be called when nothing else may be any more.
func TestEmergencyAlways(t *testing.T) {
	o := newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{
		Extra: "[policy.calls]\nnumbers = [\"allow * 600\", \"deny * *\"]\nmax_calls = 1\nper_hour_per_user = 1\n"})
	phone := o.registered("1001")
	media := phone.NewMedia(suite)
	d := o.echo(phone, media, 700)
	media.Hears(700, 10*time.Second)
	o.refusedCall(phone, "600", "the limit")
	o.refusedCall(phone, "1123", "may not be called")
	for range 2 {
		help := phone.NewMedia(suite)
		e := o.call(phone, "112", help, 1300)
		help.Hears(1300, 10*time.Second)
		o.bye(e, help)
	}
	o.hangUp(d, media)
	o.refusedCall(phone, "600", "the limit") // in this hour
}
