package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// The other driver of Asterisk, chan_pjsip: registration, calls both ways, and
// two phones whose legs it points at each other.
func TestPjsip(t *testing.T) {
	for _, version := range []int{16, 22} {
		t.Run(fmt.Sprintf("Asterisk %d", version), func(t *testing.T) {
			newOfficeWith(t, peers.AsteriskConfig{PJSIP: true, Version: version, DirectMedia: "yes"}, peers.EdgeConfig{}).tryPjsip()
		})
	}
}

func (o *office) tryPjsip() {
	t := o.t
	phone := o.registered("1001")
	contact := o.pbx.Contact("1001")
	if !strings.HasSuffix(contact, "@"+peers.EdgeInside+":5060") {
		t.Fatalf("Asterisk has the contact %q", contact)
	}
	phone.Reset()
	phone.Connect(o.edge)
	if m := phone.Register("secret-1001", 600, ""); m.Status() != 200 {
		t.Fatalf("registering again was answered %s", m.Start)
	}
	if after := o.pbx.Contact("1001"); after != contact || o.pbx.Registered() != 1 {
		t.Fatalf("after a reconnect Asterisk has %d contacts, the last %q; before it had %q", o.pbx.Registered(), after, contact)
	}

	media := phone.NewMedia(suite)
	d := o.echo(phone, media, 700)
	media.Hears(700, 10*time.Second)
	media.Direction = "sendonly"
	o.change(d, media)
	media.Direction = "sendrecv"
	o.change(d, media)
	o.speaks(media, 900)
	o.hangUp(d, media)

	o.pbx.Originate("1001", "610")
	media = phone.NewMedia(suite)
	o.answer(phone, media, 800)
	media.Hears(1004, 10*time.Second)
	o.pbx.Must("channel request hangup all")
	phone.Answer(phone.Expect("BYE", 5*time.Second), 200, "OK", "")
	media.Stop()
	o.idle()
	o.pbxHeard(800)

	ben := o.registered("1002")
	a, b := phone.NewMedia(suite), ben.NewMedia("AEAD_AES_128_GCM")
	d = o.connect(phone, ben, a, b)
	o.reinvited(ben, b)
	o.reinvited(phone, a)
	o.bypassed()
	hear(a, b)
	if m := d.Request("BYE", ""); m.Status() != 200 {
		t.Fatalf("BYE was answered %s", m.Start)
	}
	a.Stop()
	o.hungUp(ben, b)
	o.idle()
}

// baresip with chan_pjsip.
func TestPjsipBaresip(t *testing.T) {
	o := newOfficeWith(t, peers.AsteriskConfig{PJSIP: true}, peers.EdgeConfig{})
	anna, ben := o.phone("1001", 700), o.phone("1002", 1300)
	anna.Dial("602")
	anna.Event("CALL_ESTABLISHED", 10*time.Second)
	anna.Hears(1004, 10*time.Second)
	anna.Hangup()
	anna.Event("CALL_CLOSED", 5*time.Second)
	o.talk(anna, ben)
	ben.Hangup()
	anna.Event("CALL_CLOSED", 5*time.Second)
	o.idle()
}
