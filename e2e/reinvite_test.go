package e2e

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

const pcmu, pcma = 0, 8

// Each end changes the call's media, with an offer in the re-INVITE and
// without, and to another codec; each time with sound.
func TestReinviteBothWays(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{DirectMedia: "yes"}, func(o *office) {
		anna, ben := o.registered("1001"), o.registered("1002")
		media := anna.NewMedia(suite)
		d := o.echo(anna, media, 500)
		media.Hears(500, 10*time.Second)
		for i, codec := range []uint8{pcma, pcmu} {
			media.Speaks(codec)
			o.change(d, media)
			o.speaks(media, float64(600+100*i))
			o.delayed(d, media)
			o.speaks(media, float64(1600+100*i))
		}
		o.hangUp(d, media)

		a, b := anna.NewMedia(suite), ben.NewMedia("AEAD_AES_128_GCM")
		d = o.connect(anna, ben, a, b)
		o.reinvited(ben, b) // the PBX points the legs at each other
		o.reinvited(anna, a)
		hear(a, b)
		o.bye(d, a)
		o.hungUp(ben, b)
		o.idle()
	})
	for name, fromPBX := range map[string]bool{"scripted phone": false, "scripted PBX": true} {
		t.Run(name, func(t *testing.T) {
			s := newStandsIn(t)
			d, media, far, farMedia := s.sides(fromPBX)
			for _, codec := range []uint8{pcma, pcmu} {
				s.out.Speaks(codec)
				s.in.Speaks(codec)
				s.change(fromPBX, "INVITE", "sendrecv")
				s.talk()

				d.Ask("INVITE", "") // the far end is to offer
				inv := far.Expect("INVITE", 5*time.Second)
				if inv.Body != "" {
					t.Fatalf("a re-INVITE without an offer has come with\n%s", inv.Body)
				}
				farMedia.Session++
				media.Session++
				far.Answer(inv, 200, "OK", farMedia.Offer())
				m := d.Await("INVITE", 200)
				d.Ack(m, media.Accept(m.Body))
				media.Apply(onlySuite(m.Body, media.Suite))
				farMedia.Apply(far.Expect("ACK", 5*time.Second).Body)
				s.talk()
			}
			media.Session++
			media.Direction = "inactive"
			d.Ask("INVITE", media.Offer()) // refused, it changes nothing
			far.Answer(far.Expect("INVITE", 5*time.Second), 488, "Not Acceptable Here", "")
			d.Refused(d.Await("INVITE", 488))
			media.Direction = "sendrecv"
			far.Expect("ACK", 5*time.Second)
			s.talk()
			s.end()
		})
	}
}

// delayed re-invites without an offer: the PBX makes it, and the ACK answers.
func (o *office) delayed(d *peers.Dialog, media *peers.Media) {
	o.t.Helper()
	media.Session++
	d.Ask("INVITE", "")
	m := d.Await("INVITE", 200)
	d.Ack(m, media.Accept(m.Body))
	media.Apply(onlySuite(m.Body, media.Suite))
}

// Both ends change the call at once. Each is told 491 for its own (RFC 3261
// section 14.1), tries again after a while, and is heard.
func TestGlare(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{DirectMedia: "yes"}, func(o *office) {
		anna, ben := o.registered("1001"), o.registered("1002")
		a, b := anna.NewMedia(suite), ben.NewMedia(suite)
		called := peers.Meanwhile(o.t, func() *peers.Dialog { return o.call(anna, "1002", a, 700) })
		bens := o.answer(ben, b, 1300)
		d := called()

		inv := ben.Expect("INVITE", 10*time.Second)
		b.Session++
		bens.Ask("INVITE", b.Offer())
		bens.Refused(bens.Await("INVITE", 491))
		ben.Answer(inv, 491, "Request Pending", "")
		ben.Expect("ACK", 5*time.Second)
		b.Session++ // ben did not begin the call, so it may be the first to try again
		bens.Ask("INVITE", b.Offer())
		m := bens.Await("INVITE", 200)
		bens.Ack(m, "")
		b.Apply(m.Body)
		o.reinvited(ben, b)
		o.reinvited(anna, a)
		hear(a, b)
		o.bye(d, a)
		o.hungUp(ben, b)
		o.idle()
	})
	for name, fromPBX := range map[string]bool{"phone first": false, "PBX first": true} {
		t.Run(name, func(t *testing.T) {
			s := newStandsIn(t)
			first, media, far, farMedia := s.sides(fromPBX)
			second, _, near, _ := s.sides(!fromPBX)
			media.Session++
			farMedia.Session++
			first.Ask("INVITE", media.Offer())
			inv := far.Expect("INVITE", 5*time.Second)
			second.Ask("INVITE", farMedia.Offer())
			second.Refused(second.Await("INVITE", 491)) // it goes no further
			far.Answer(inv, 491, "Request Pending", "")
			first.Refused(first.Await("INVITE", 491))
			s.talk()
			s.change(!fromPBX, "INVITE", "sendrecv")
			s.change(fromPBX, "INVITE", "sendrecv")
			s.talk()

			// One that asks for an offer is the other end's to refuse, and what is
			// under way is not harmed.
			media.Session++
			first.Ask("INVITE", media.Offer())
			inv = far.Expect("INVITE", 5*time.Second)
			second.Ask("INVITE", "")
			near.Answer(near.Expect("INVITE", 5*time.Second), 491, "Request Pending", "")
			second.Refused(second.Await("INVITE", 491))
			far.Answer(inv, 200, "OK", farMedia.Accept(inv.Body))
			first.Ack(first.Await("INVITE", 200), "")
			s.talk()
			s.end()
		})
	}
}
