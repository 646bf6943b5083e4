package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// Calls that ring while the edge is replaced are cancelled, refused and answered as any,
// each way, by the process that they rang in; and that one ends with them.
func TestUpgradeRinging(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{}, func(o *office) {
		t := o.t
		var phones []*peers.Phone
		for i := range 8 {
			phones = append(phones, o.registered(fmt.Sprint(1001+i)))
		}
		media := func(p *peers.Phone) *peers.Media { return p.NewMedia(suite) }
		ring := func(caller, callee *peers.Phone, m *peers.Media) (*peers.Dialog, *peers.Message) {
			t.Helper()
			d := caller.Call(callee.User, m.Offer())
			inv := callee.Expect("INVITE", 5*time.Second)
			callee.Answer(inv, 180, "Ringing", "")
			d.Await("INVITE", 180)
			return d, inv
		}
		// A phone's call to the PBX, the PBX's to a phone, and three between phones.
		cancels := phones[0].Call("605", media(phones[0]).Offer())
		cancels.Await("INVITE", 180)
		o.pbx.Originate(phones[1].User, "602")
		called := phones[1].Expect("INVITE", 5*time.Second)
		phones[1].Answer(called, 180, "Ringing", "")
		first, refused := ring(phones[2], phones[3], media(phones[2]))
		second, late := ring(phones[4], phones[5], media(phones[4]))
		a, b := media(phones[6]), media(phones[7])
		third, answered := ring(phones[6], phones[7], a)

		before := o.edge.Upgrade()
		cancels.Cancel()
		m := cancels.Await("INVITE", 487)
		cancels.Refused(m)

		in := media(phones[1])
		phones[1].Answer(called, 200, "OK", in.Accept(called.Body))
		phones[1].Expect("ACK", 5*time.Second)
		in.Start(onlySuite(called.Body, suite), 900)
		in.Hears(1004, 10*time.Second)

		phones[3].Answer(refused, 486, "Busy Here", "")
		phones[3].Expect("ACK", 5*time.Second)
		first.Refused(first.Await("INVITE", 486))

		second.Cancel() // the PBX's CANCEL to the other phone passes the seam
		second.Refused(second.Await("INVITE", 487))
		phones[5].Answer(phones[5].Expect("CANCEL", 5*time.Second), 200, "OK", "")
		phones[5].Answer(late, 487, "Request Terminated", "")
		phones[5].Expect("ACK", 5*time.Second)

		phones[7].Answer(answered, 200, "OK", b.Accept(answered.Body))
		phones[7].Expect("ACK", 5*time.Second)
		b.Start(onlySuite(answered.Body, suite), 1300)
		m = third.Await("INVITE", 200)
		third.Ack(m, "")
		a.Start(m.Body, 700)
		hear(a, b)

		o.bye(third, a)
		o.hungUp(phones[7], b)
		o.pbx.Must("channel request hangup all")
		o.hungUp(phones[1], in)
		if status, err := before.Wait(60 * time.Second); status != 0 || err != nil {
			t.Errorf("the process before ended with status %d, %v", status, err)
		}
		o.idle()
	})
}

// What belongs to a call crosses when the edge was replaced: reliable answers and their
// PRACKs, changes by UPDATE, and all else that either end has to say.
func TestUpgradeInDialog(t *testing.T) {
	for _, name := range []string{"from the phone", "from the PBX"} {
		fromPBX := strings.HasSuffix(name, "PBX")
		t.Run(name, func(t *testing.T) {
			s := newRinging(t)
			m := s.early()
			before := s.edge.Upgrade()
			s.call.Prack(m, "")
			s.pbx.Answer(s.pbx.Expect("PRACK", 5*time.Second), 200, "OK", "")
			s.call.Await("PRACK", 200)
			d, media, far, _ := s.sides(fromPBX)
			media.Shift()
			s.change(fromPBX, "UPDATE", "sendrecv") // before the answer
			s.talk()
			s.taken()
			s.talk()
			for _, h := range [][2]string{{"sendonly", "recvonly"}, {"inactive", "inactive"}, {"sendrecv", "sendrecv"}} {
				media.Direction = h[0]
				s.change(fromPBX, "INVITE", h[1])
			}
			s.talk()
			for method, headers := range map[string][]string{
				"INFO":    {"Info-Package: x"},
				"NOTIFY":  {"Event: refer;id=1", "Subscription-State: active"},
				"REFER":   {"Refer-To: <sip:1003@pbx.example.com>"},
				"MESSAGE": nil,
				"OPTIONS": nil,
			} {
				d.Ask(method, "", headers...)
				far.Answer(far.Expect(method, 5*time.Second), 202, "Accepted", "")
				d.Await(method, 202)
			}
			d.Ask("BYE", "")
			far.Answer(far.Expect("BYE", 5*time.Second), 200, "OK", "")
			d.Await("BYE", 200)
			if status, err := before.Wait(60 * time.Second); status != 0 || err != nil {
				t.Errorf("the process before ended with status %d, %v", status, err)
			}
		})
	}
}

// Calls are put on hold before the edge is replaced, in each way and by either end, and
// go on after it.
func TestUpgradeOnHold(t *testing.T) {
	eachPBX(t, peers.AsteriskConfig{}, func(o *office) {
		t := o.t
		var held []talker
		for i, h := range holds {
			p := o.registered(fmt.Sprint(1001 + i))
			m := p.NewMedia(suite)
			d := o.echo(p, m, 700)
			m.Hears(700, 10*time.Second)
			m.Direction, m.Zero = h.direction, h.zero
			o.change(d, m)
			held = append(held, talker{p, m, d})
		}
		// One is held by the other phone, and hears music.
		anna, ben := o.registered("1008"), o.registered("1009")
		a, b := anna.NewMedia(suite), ben.NewMedia(suite)
		d, e := o.ends(anna, ben, a, b)
		hear(a, b)
		b.Direction = "sendonly"
		o.change(e, b)
		b.Silence(true)
		a.Forget()
		a.Hears(peers.MusicHz, 10*time.Second)
		for _, c := range held {
			c.media.Silence(true)
		}

		before := o.edge.Upgrade()
		a.Forget()
		a.Hears(peers.MusicHz, 10*time.Second)
		for i, c := range held {
			c.media.Silence(false)
			c.media.Direction, c.media.Zero = "sendrecv", false
			if m := o.change(c.call, c.media); direction(m.Body) != "sendrecv" {
				t.Errorf("resuming from %s was answered %s", holds[i].name, direction(m.Body))
			}
			o.speaks(c.media, float64(900+100*i))
			o.bye(c.call, c.media)
		}
		b.Silence(false)
		b.Direction = "sendrecv"
		o.change(e, b)
		hear(a, b)
		o.bye(d, a)
		o.hungUp(ben, b)
		if status, err := before.Wait(60 * time.Second); status != 0 || err != nil {
			t.Errorf("the process before ended with status %d, %v", status, err)
		}
		o.idle()
	})
}
