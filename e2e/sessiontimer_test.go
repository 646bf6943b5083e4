package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// A session timer of 90 s, the least that RFC 4028 allows: of three calls one is
// refreshed by the PBX, one by the phone, and the third, the control, by
// nobody. The PBX ends it, and the others, which are older, go on.
func TestSessionTimer(t *testing.T) {
	t.Parallel()
	eachPBX(t, peers.AsteriskConfig{
		General:  "session-timers=accept\nsession-expires=90\nsession-minse=90\n",
		Endpoint: "timers=yes\ntimers_min_se=90\ntimers_sess_expires=90\n",
	}, func(o *office) {
		const timer = "Supported: timer"
		phone, far, idle := o.registered("1001"), o.registered("1002"), o.registered("1003")
		begin := func(p *peers.Phone, refresher string) (*peers.Dialog, *peers.Media) {
			media := p.NewMedia(suite)
			d := p.Call("600", media.Offer(), timer, allow, "Session-Expires: 90;refresher="+refresher)
			m := d.Await("INVITE", 200)
			if got := m.Get("Session-Expires"); got != "90;refresher="+refresher {
				o.t.Fatalf("the PBX agrees on %q, want the refresher %s", got, refresher)
			}
			d.Ack(m, "")
			media.Start(m.Body, 700)
			return d, media
		}

		d := phone.Call("600", phone.NewMedia(suite).Offer(), timer, "Session-Expires: 30")
		m := d.Await("INVITE", 0)
		d.Refused(m)
		if m.Status() != 422 || m.Get("Min-Se") != "90" {
			o.t.Errorf("a timer of 30 s is answered %s, Min-SE %q", m.Start, m.Get("Min-Se"))
		}

		theirs, a := begin(far, "uas")
		ours, b := begin(phone, "uac")
		_, c := begin(idle, "uac")
		refresh := far.Next(60 * time.Second)
		se, refresher, _ := strings.Cut(refresh.Get("Session-Expires"), ";")
		if se != "90" || refresher != "refresher=uac" {
			o.t.Fatalf("the PBX refreshes by %s with Session-Expires %q", refresh.Start, refresh.Get("Session-Expires"))
		}
		o.t.Logf("the PBX refreshes by %s", refresh.Method())
		sdp := ""
		if refresh.Body != "" {
			sdp = a.Accept(refresh.Body)
		}
		far.Answer(refresh, 200, "OK", sdp, allow, "Require: timer", "Session-Expires: 90;refresher=uac")
		if refresh.Method() == "INVITE" {
			far.Expect("ACK", 5*time.Second)
			a.Apply(onlySuite(refresh.Body, a.Suite))
		}
		b.Session++
		ours.Ask("INVITE", b.Offer(), timer, allow, "Session-Expires: 90;refresher=uac")
		m = ours.Await("INVITE", 200)
		ours.Ack(m, "")
		b.Apply(m.Body)

		idle.Answer(idle.Expect("BYE", 120*time.Second), 200, "OK", "")
		c.Stop()
		o.speaks(a, 900)
		o.speaks(b, 1100)
		o.bye(theirs, a)
		o.hangUp(ours, b)
	})
}
