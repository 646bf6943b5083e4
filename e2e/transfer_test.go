package e2e

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// Each end of a call hands the other on to a third phone, unasked.
func TestBlindTransfer(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{}, func(o *office) { o.transfers(false) })
}

// Each end joins the other with whom it called before. The PBX must know the
// call that Replaces names: its Call-ID and tags cross the edge as they are, or
// come back as they were.
func TestAttendedTransfer(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{}, func(o *office) { o.transfers(true) })
}

// transfers has first the caller and then the callee hand a call on. Whoever is
// left and the third hear each other.
func (o *office) transfers(attended bool) {
	anna, ben, cara := o.registered("1001"), o.registered("1002"), o.registered("1003")
	for _, byCaller := range []bool{true, false} {
		a, b, c, second := anna.NewMedia(suite), ben.NewMedia(suite), cara.NewMedia(suite), anna.NewMedia(suite)
		d, e := o.ends(anna, ben, a, b)
		hear(a, b)
		by, call, left, leftMedia, hz := anna, d, e, b, 1300.0
		if !byCaller {
			by, call, left, leftMedia, hz = ben, e, d, a, 700
			second = ben.NewMedia(suite)
		}
		answered := peers.Meanwhile(o.t, func() *peers.Dialog { return o.answer(cara, c, 1900) })
		to := "sip:1003@pbx.example.com:5061;transport=tls"
		if attended {
			consulted := o.call(by, "1003", second, 2300)
			answered()
			second.Hears(1900, 10*time.Second)
			to += "?Replaces=" + replaces(consulted)
		}
		if m := call.Request("REFER", "", "Refer-To: <"+to+">", "Referred-By: <sip:"+by.User+"@pbx.example.com>"); m.Status() != 202 {
			o.t.Fatalf("the transfer was answered %s", m.Start)
		}
		by.Told("NOTIFY", "how the transfer went", func(m *peers.Message) bool { return strings.HasPrefix(m.Body, "SIP/2.0 200") })
		if !attended {
			answered()
		}
		leftMedia.Forget()
		c.Forget()
		leftMedia.Hears(1900, 10*time.Second)
		c.Hears(hz, 10*time.Second)
		for _, d := range []*peers.Dialog{left, call} { // whoever hands on hangs up, if the PBX has not
			d.Ask("BYE", "")
		}
		o.over(anna, ben, cara)
		for _, m := range []*peers.Media{a, b, c, second} {
			m.Stop()
		}
	}
}

// replaces names a call to its far end (RFC 3891), as a URI's header does.
func replaces(d *peers.Dialog) string {
	return url.QueryEscape(fmt.Sprintf("%s;to-tag=%s;from-tag=%s", d.ID(), tagOf(d.Remote()), tagOf(d.Local())))
}

func tagOf(v string) string {
	_, tag, _ := strings.Cut(v, "tag=")
	tag, _, _ = strings.Cut(tag, ";")
	return tag
}

// The PBX hands a phone's call on, before it has answered and then, and the
// phone goes there; and a phone sends its call elsewhere, and the PBX goes there.
func TestTransfer(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{}, func(o *office) {
		anna, ben, cara := o.registered("1001"), o.registered("1002"), o.registered("1003")
		_, m := anna.Invite("6421003", anna.NewMedia(suite).Offer())
		if m.Status() != 302 || m.URI("Contact") != "sip:1003@pbx.example.com" {
			o.t.Fatalf("the call is answered %s, and sent to %s", m.Start, m.Get("Contact"))
		}
		o.reaches(anna, "1003", cara)

		media := anna.NewMedia(suite)
		d := o.call(anna, "6431003", media, 700)
		anna.Told("REFER", "where to go", func(m *peers.Message) bool { return m.URI("Refer-To") == "sip:1003@pbx.example.com" })
		o.reaches(anna, "1003", cara)
		if m := d.Request("NOTIFY", "SIP/2.0 200 OK\r\n", "Content-Type: message/sipfrag", "Event: refer", "Subscription-State: terminated;reason=noresource"); m.Status() != 200 {
			o.t.Errorf("the PBX answers %s to how the transfer went", m.Start)
		}
		if o.pbx.Version == 22 { // chan_sip goes on before it is told
			o.pbxSays("the transfer was SUCCESS", 1)
		}
		o.bye(d, media)
		o.over(anna, cara)

		go func() { // ends with the call's end for this phone; waited for by what the third answers
			ben.Forward(ben.Expect("INVITE", 5*time.Second), "sip:1003@pbx.example.com;transport=tls")
		}()
		o.reaches(anna, "1002", cara)
		o.over(anna, ben, cara)
	})
}

// reaches has a phone call a number, which rings another; both hear each other,
// and it hangs up.
func (o *office) reaches(from *peers.Phone, number string, to *peers.Phone) {
	o.t.Helper()
	a, b := from.NewMedia(suite), to.NewMedia(suite)
	called := peers.Meanwhile(o.t, func() *peers.Dialog { return o.call(from, number, a, 700) })
	o.answer(to, b, 1300)
	d := called()
	hear(a, b)
	o.bye(d, a)
	to.Told("BYE", "goodbye", func(*peers.Message) bool { return true })
	b.Stop()
}
