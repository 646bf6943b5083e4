package e2e

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// standsIn is an office whose PBX is played by the script, for what real ones
// do rarely or never: a call from a phone to it.
type standsIn struct {
	*office
	phone, pbx *peers.Phone
	out, in    *peers.Media  // the phone's, and the PBX's
	call       *peers.Dialog // the phone's
	called     *peers.Dialog // the PBX's
	inv        *peers.Message
}

// newStandsIn has the call answered, with sound both ways.
func newStandsIn(t *testing.T) *standsIn {
	t.Helper()
	s := newRinging(t)
	s.pbx.Answer(s.inv, 200, "OK", s.in.Accept(s.inv.Body))
	m := s.call.Await("INVITE", 200)
	s.call.Ack(m, "")
	s.pbx.Expect("ACK", 5*time.Second)
	s.start(m)
	return s
}

// newRinging has the PBX called.
func newRinging(t *testing.T) *standsIn {
	t.Helper()
	l := peers.NewLab(t)
	s := &standsIn{office: &office{Lab: l, t: t, edge: peers.StartEdge(l, peers.EdgeConfig{PBX: peers.Unchecked})}}
	s.pbx = peers.NewPBXPhone(l, "602")
	s.phone = s.script("1001")
	s.out, s.in = s.phone.NewMedia(suite), s.pbx.NewPlainMedia()
	s.call = s.phone.Dial("602", s.out.Offer())
	s.inv = s.pbx.Expect("INVITE", 5*time.Second)
	s.called = s.pbx.DialogOf(s.inv)
	return s
}

// early has the PBX answer with a reliable provisional response, which is
// returned as the phone gets it.
func (s *standsIn) early() *peers.Message {
	s.t.Helper()
	s.pbx.Answer(s.inv, 183, "Session Progress", s.in.Accept(s.inv.Body), reliably(1)...)
	m := s.call.Await("INVITE", 183)
	s.start(m)
	return m
}

// start begins the sound, by the answer to the phone's offer.
func (s *standsIn) start(answer *peers.Message) {
	s.t.Helper()
	s.in.Start(s.inv.Body, 1300)
	s.out.Start(answer.Body, 700)
	s.talk()
}

// taken has the PBX take a call whose offer was answered before.
func (s *standsIn) taken() {
	s.t.Helper()
	s.pbx.Answer(s.inv, 200, "OK", "")
	s.call.Ack(s.call.Await("INVITE", 200), "")
	s.pbx.Expect("ACK", 5*time.Second)
}

// talk waits until both hear each other.
func (s *standsIn) talk() {
	s.t.Helper()
	hear(s.out, s.in)
}

// sides are both ends of the call, the one that begins first.
func (s *standsIn) sides(fromPBX bool) (d *peers.Dialog, media *peers.Media, far *peers.Phone, farMedia *peers.Media) {
	if fromPBX {
		return s.called, s.in, s.phone, s.out
	}
	return s.call, s.out, s.pbx, s.in
}

// end hangs up from the phone.
func (s *standsIn) end() {
	s.t.Helper()
	s.call.Ask("BYE", "")
	s.pbx.Answer(s.pbx.Expect("BYE", 5*time.Second), 200, "OK", "")
	s.call.Await("BYE", 200)
	peers.Until(s.t, 10*time.Second, "the edge to have no call", func() bool { return s.edge.Metric("sallyport_calls") == 0 })
}

// change offers what media say now, has the far end take it with a direction,
// and returns what it was offered and what came back.
func (s *standsIn) change(fromPBX bool, method, direction string) (offer, answer *peers.Message) {
	s.t.Helper()
	d, media, far, farMedia := s.sides(fromPBX)
	media.Session++
	farMedia.Session++
	d.Ask(method, media.Offer())
	offer = far.Expect(method, 5*time.Second)
	farMedia.Direction = direction
	accepted := farMedia.Accept(offer.Body)
	far.Answer(offer, 200, "OK", accepted)
	answer = d.Await(method, 200)
	if method == "INVITE" {
		d.Ack(answer, "")
		far.Expect("ACK", 5*time.Second)
	}
	farMedia.Apply(onlySuite(offer.Body, farMedia.Suite))
	media.Apply(answer.Body)
	return offer, answer
}

// moves goes on from other ports, and returns the offer that says so.
func (s *standsIn) moves() string {
	s.t.Helper()
	s.out.Session++
	s.out.Shift()
	return s.out.Offer()
}
