package e2e

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// A phone hands its call on, to a number and to a call of its own. The PBX must
// know the call that Replaces names: its Call-ID and tags cross the edge as
// they are.
func TestTransfer(t *testing.T) {
	for _, attended := range []bool{false, true} {
		t.Run(map[bool]string{false: "blind", true: "attended"}[attended], func(t *testing.T) {
			o := newOffice(t)
			anna, ben := o.registered("1001"), o.registered("1002")
			a, b := anna.NewMedia(suite), ben.NewMedia(suite)
			answered := make(chan *peers.Dialog, 1)
			go func() { answered <- o.answer(ben, b, 1300) }() // ends with the call's answer; waited for below
			d := o.call(anna, "1002", a, 700)
			bens := <-answered
			a.Hears(1300, 10*time.Second)

			to, hz := "<sip:602@pbx.example.com:5061;transport=tls>", 1004.0
			if attended {
				cara := o.registered("1003")
				second, c := anna.NewMedia(suite), cara.NewMedia(suite)
				go func() { answered <- o.answer(cara, c, 1900) }() // ends with the call's answer; waited for below
				_, m := anna.Invite("1003", second.Offer())
				<-answered
				replaces := url.QueryEscape(fmt.Sprintf("%s;to-tag=%s;from-tag=%s", m.Get("Call-Id"), tagOf(m.Get("To")), tagOf(m.Get("From"))))
				to, hz = "<sip:1003@pbx.example.com:5061;transport=tls?Replaces="+replaces+">", 1900
			}
			if m := d.Request("REFER", "", "Refer-To: "+to, "Referred-By: <sip:1001@pbx.example.com>"); m.Status() != 202 {
				t.Fatalf("the transfer was answered %s", m.Start)
			}
			for done := false; !done; {
				m := anna.Next(5 * time.Second)
				done = strings.HasPrefix(m.Body, "SIP/2.0 200")
				if m.Status() == 0 {
					anna.Answer(m, 200, "OK", "")
				}
			}
			b.Forget()
			b.Hears(hz, 10*time.Second)
			if m := bens.Request("BYE", ""); m.Status() != 200 {
				t.Fatalf("BYE was answered %s", m.Start)
			}
		})
	}
}

func tagOf(v string) string {
	_, tag, _ := strings.Cut(v, "tag=")
	tag, _, _ = strings.Cut(tag, ";")
	return tag
}
