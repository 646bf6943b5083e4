package e2e

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// allow is what phones take that know UPDATE (RFC 3311 section 4).
const allow = "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK"

// The PBX points the legs of two phones at each other by UPDATE, and a phone
// changes its media by UPDATE.
func TestUpdate(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{DirectMedia: "update"}, func(o *office) {
		anna, ben := o.registered("1001"), o.registered("1002")
		a, b := anna.NewMedia(suite), ben.NewMedia("AEAD_AES_128_GCM")
		d := anna.Call("1002", a.Offer(), allow)
		inv := ben.Expect("INVITE", 5*time.Second)
		ben.Answer(inv, 200, "OK", b.Accept(inv.Body), allow)
		ben.Expect("ACK", 5*time.Second)
		b.Start(onlySuite(inv.Body, b.Suite), 1300)
		m := d.Await("INVITE", 200)
		d.Ack(m, "")
		a.Start(m.Body, 700)
		o.updated(ben, b)
		o.updated(anna, a)
		hear(a, b)
		o.bye(d, a)
		o.hungUp(ben, b)
		o.idle()

		media := anna.NewMedia(suite)
		d = o.echo(anna, media, 700)
		media.Hears(700, 10*time.Second)
		media.Session++
		media.Shift()
		d.Ask("UPDATE", media.Offer(), allow)
		switch m := d.Await("UPDATE", 0); m.Status() {
		case 200:
			media.Apply(m.Body)
		case 501: // chan_sip: nothing has changed, and the sound follows by its tags
			if o.pbx.Version != 16 {
				o.t.Errorf("UPDATE is answered %s", m.Start)
			}
		default:
			o.t.Errorf("UPDATE is answered %s", m.Start)
		}
		o.speaks(media, 900)
		o.change(d, media) // nothing is left pending
		o.speaks(media, 1100)
		o.hangUp(d, media)
	})
	for name, fromPBX := range map[string]bool{"scripted phone": false, "scripted PBX": true} {
		t.Run(name, func(t *testing.T) {
			s := newRinging(t)
			s.call.Prack(s.early(), "")
			s.pbx.Answer(s.pbx.Expect("PRACK", 5*time.Second), 200, "OK", "")
			s.call.Await("PRACK", 200)
			d, media, far, farMedia := s.sides(fromPBX)
			media.Shift()
			s.change(fromPBX, "UPDATE", "sendrecv") // before the answer
			s.talk()
			s.taken()
			s.talk()
			for _, h := range [][2]string{{"sendonly", "recvonly"}, {"sendrecv", "sendrecv"}} {
				said, back := h[0], h[1]
				media.Direction = said
				if offer, answer := s.change(fromPBX, "UPDATE", back); direction(offer.Body) != said || direction(answer.Body) != back {
					t.Errorf("%s is offered as %s and answered as %s", said, direction(offer.Body), direction(answer.Body))
				}
			}
			media.Shift()
			s.change(fromPBX, "UPDATE", "sendrecv")
			s.talk()

			d.Ask("UPDATE", "") // a refresh of the dialog, without media
			far.Answer(far.Expect("UPDATE", 5*time.Second), 200, "OK", "")
			if m := d.Await("UPDATE", 200); m.Body != "" {
				t.Errorf("a refresh is answered with\n%s", m.Body)
			}
			media.Session++
			d.Ask("UPDATE", media.Offer()) // refused, it changes nothing
			far.Answer(far.Expect("UPDATE", 5*time.Second), 488, "Not Acceptable Here", "")
			d.Await("UPDATE", 488)
			s.talk()
			farMedia.Shift()
			s.change(!fromPBX, "UPDATE", "sendrecv")
			s.talk()
			s.end()
		})
	}
}

// updated takes an UPDATE of the PBX.
func (o *office) updated(phone *peers.Phone, media *peers.Media) {
	o.t.Helper()
	m := phone.Expect("UPDATE", 10*time.Second)
	media.Session++
	phone.Answer(m, 200, "OK", media.Accept(m.Body), allow)
	media.Apply(onlySuite(m.Body, media.Suite))
}
