package e2e

import (
	"regexp"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// The network between the edge and the PBX loses the ACK of an answer, or the
// answer itself, twice. Whoever waits says its part again (RFC 3261 section
// 13.3.1.4) until the call has come about; the phone, over TLS, sees each once.
func TestLostAck(t *testing.T) {
	t.Parallel()
	eachPBXWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{PBX: peers.Unchecked}, func(o *office) {
		phone := o.registered("1001")
		for _, c := range []struct {
			name string
			call func() (*peers.Dialog, *peers.Media)
		}{
			{"ACK of a phone's call", func() (*peers.Dialog, *peers.Media) {
				media := phone.NewMedia(suite)
				d := phone.Call("600", media.Offer())
				m := d.Await("INVITE", 200)
				before := o.acknowledged()
				o.loses(o.PBX, "ACK ", 2, func() { d.Ack(m, "") })
				peers.Until(o.t, 20*time.Second, "the ACK that is not lost", func() bool { return o.acknowledged() >= before+3 })
				media.Start(m.Body, 700)
				return d, media
			}},
			{"answer to a phone's call", func() (*peers.Dialog, *peers.Media) {
				media := phone.NewMedia(suite)
				d := phone.Call("609", media.Offer())
				d.Await("INVITE", 183)
				o.loses(o.Edge, "SIP/", 2, func() {})
				m := d.Await("INVITE", 200)
				d.Ack(m, "")
				media.Start(m.Body, 700)
				return d, media
			}},
			{"ACK of the PBX's call", func() (*peers.Dialog, *peers.Media) {
				inv, media := o.rung(phone)
				o.loses(o.Edge, "ACK ", 2, func() { phone.Answer(inv, 200, "OK", media.Accept(inv.Body)) })
				return o.taken(phone, inv, media)
			}},
			{"answer to the PBX's call", func() (*peers.Dialog, *peers.Media) {
				inv, media := o.rung(phone)
				o.loses(o.PBX, "SIP/", 2, func() { phone.Answer(inv, 200, "OK", media.Accept(inv.Body)) })
				return o.taken(phone, inv, media)
			}},
		} {
			d, media := c.call()
			media.Hears(700, 10*time.Second)
			calm := peers.StartCapture(o.Edge, "inside")
			phone.Silent(5 * time.Second) // longer than anybody waits before it repeats (T2)
			calm.Stop()
			if n := calm.Count("sip"); n != 0 {
				o.t.Errorf("%s: after it got through, %d more messages passed inside", c.name, n)
			}
			o.hangUp(d, media)
		}
	})
}

// loses does something, and has the network lose SIP on its way to a host,
// until it has lost so many messages.
func (o *office) loses(to *peers.Host, word string, n int, do func()) {
	o.t.Helper()
	loss := to.Lose(word, n)
	do()
	peers.Until(o.t, 20*time.Second, "the loss of messages", func() bool { return loss.Count() >= n })
	loss.Stop()
}

// acknowledged counts the ACKs that the edge has sent to the PBX.
func (o *office) acknowledged() int {
	o.t.Helper()
	return len(regexp.MustCompile(`"side":"plain","dir":"out","peer":"[^"]*","start":"ACK `).FindAllString(o.edgeLog(), -1))
}

// rung is a call of the PBX's echo to a phone.
func (o *office) rung(phone *peers.Phone) (*peers.Message, *peers.Media) {
	o.t.Helper()
	o.pbx.Originate(phone.User, "600")
	return phone.Expect("INVITE", 5*time.Second), phone.NewMedia(suite)
}

// taken is the call that a phone has answered.
func (o *office) taken(phone *peers.Phone, inv *peers.Message, media *peers.Media) (*peers.Dialog, *peers.Media) {
	o.t.Helper()
	phone.Expect("ACK", 10*time.Second)
	media.Start(onlySuite(inv.Body, media.Suite), 700)
	return phone.DialogOf(inv), media
}
