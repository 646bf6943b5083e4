package phone

import (
	"slices"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/sallyport/sallyport/cmd/internal/load/message"
	"github.com/sallyport/sallyport/cmd/internal/nameaddr"
)

// request answers one of the other side, on the connection's goroutine.
func (p *Phone) request(r *sip.Request) {
	if required := message.All(r, "Require"); r.Method != sip.ACK && r.Method != sip.CANCEL {
		for _, option := range required {
			if option != "timer" && !(option == reliable && r.Method == sip.INVITE) {
				p.answer(message.Answer(r, 420, "Bad Extension", p.tag).Add("Unsupported", option))
				return
			}
		}
	}
	inside := nameaddr.Tag(message.Get(r, "To")) != ""
	var c *Call
	if inside {
		p.mu.Lock()
		c = p.calls[message.Get(r, "Call-ID")]
		if c != nil && !c.has(r) {
			c = nil
		}
		p.mu.Unlock()
	}
	switch {
	case r.Method == sip.ACK:
		if c != nil {
			c.acknowledged(r)
		}
	case r.Method == sip.CANCEL:
		p.cancelled(r)
	case r.Method == sip.PRACK:
		p.heard(r)
	case inside && c == nil && r.Method != sip.NOTIFY:
		p.answer(message.Answer(r, 481, "Call/Transaction Does Not Exist", ""))
	case c != nil && !c.inOrder(r.CSeq().SeqNo):
		p.answer(message.Answer(r, 500, "Server Internal Error", "")) // RFC 3261 section 12.2.2
	case r.Method == sip.INVITE && inside:
		c.changed(r)
	case r.Method == sip.INVITE:
		p.called(r)
	case r.Method == sip.UPDATE && inside:
		c.updated(r)
	case r.Method == sip.BYE && inside:
		p.answer(message.Answer(r, 200, "OK", ""))
		c.end(nil)
	case r.Method == sip.OPTIONS:
		p.answer(message.Answer(r, 200, "OK", p.tag).Add("Allow", allow).Add("Accept", "application/sdp").Add("Supported", "timer"))
	case r.Method == sip.NOTIFY, r.Method == sip.MESSAGE, r.Method == sip.INFO && inside:
		p.answer(message.Answer(r, 200, "OK", p.tag))
	case r.Method == sip.INFO, r.Method == sip.UPDATE, r.Method == sip.BYE:
		p.answer(message.Answer(r, 481, "Call/Transaction Does Not Exist", p.tag))
	default:
		p.answer(message.Answer(r, 405, "Method Not Allowed", p.tag).Add("Allow", allow))
	}
}

// has tells whether a request is of this dialog. One that is not answered yet is
// of whoever speaks. The phone's mutex is held.
func (c *Call) has(r *sip.Request) bool {
	early := c.caller && c.ack == nil
	return nameaddr.Tag(c.local) == nameaddr.Tag(message.Get(r, "To")) && (early || nameaddr.Tag(c.remote) == nameaddr.Tag(message.Get(r, "From")))
}

// answer sends a final answer; the reader hears of a connection that is gone.
func (p *Phone) answer(d *message.Draft) { _ = p.send(d.Bytes()) }

// inOrder takes the number of a request.
func (c *Call) inOrder(number uint32) bool {
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	if uint64(number) < c.theirs {
		return false
	}
	c.theirs = uint64(number) + 1
	return true
}

// incoming is a call that is not answered yet.
type incoming struct {
	invite *sip.Request
	media  Media
	branch string
	tag    string
	ring   time.Duration

	// What follows is guarded by the phone's mutex.
	timer   *time.Timer // that answers it
	unheard *repeating  // its 180, until that is acknowledged; nil: it is, or need not be
	offered bool        // the 180 had an offer, and what acknowledged it the answer
}

// stop ends it. The phone's mutex is held.
func (in *incoming) stop() {
	if in.unheard != nil && in.unheard.stop() || in.timer != nil && in.timer.Stop() {
		in.media.Close()
	}
}

// branch is that of the hop before, which alone a CANCEL has in common with its INVITE:
// the first of the Vias, which may share a line (RFC 3261 sections 7.3.1 and 9.1).
func branch(r *sip.Request) string {
	return nameaddr.Param(message.All(r, "Via")[0], "branch")
}

// called takes a call, or refuses it.
func (p *Phone) called(r *sip.Request) {
	id := message.Get(r, "Call-ID")
	p.mu.Lock()
	busy := len(p.calls)+len(p.received) > 0
	p.mu.Unlock()
	if busy || p.config.Answer == nil {
		p.answer(message.Answer(r, 486, "Busy Here", word()))
		return
	}
	m, ring, status := p.config.Answer(p, nameaddr.User(nameaddr.URI(message.Get(r, "From"))))
	if m == nil {
		p.answer(message.Answer(r, status, "Refused", word()))
		return
	}
	in := &incoming{invite: r, media: m, branch: branch(r), tag: word(), ring: ring}
	p.mu.Lock()
	p.received[id] = in
	ringing := message.Answer(r, 180, "Ringing", in.tag).Add("Contact", p.contact())
	p.mu.Unlock()
	if slices.Contains(message.All(r, "Require"), reliable) {
		p.ringReliably(in, ringing)
		return
	}
	p.answer(ringing)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ripen(in)
}

// ripen has a call answered once it has rung. The phone's mutex is held.
func (p *Phone) ripen(in *incoming) {
	in.timer = time.AfterFunc(in.ring, func() { p.take(in) }) // ends with the answer
}

// take answers a call with 200.
func (p *Phone) take(in *incoming) {
	r, tag := in.invite, in.tag
	c := &Call{
		Media: in.media, Answered: time.Now(), phone: p, id: message.Get(r, "Call-ID"), ended: make(chan struct{}),
		remote: message.Get(r, "From"), local: message.Get(r, "To") + ";tag=" + tag,
		target: nameaddr.URI(message.Get(r, "Contact")), routes: message.All(r, "Record-Route"), theirs: uint64(r.CSeq().SeqNo) + 1,
	}
	c.Ended = c.ended
	description, offered, err := "", false, error(nil)
	if !in.offered {
		description, offered, err = describe(c.Media, string(r.Body()))
	}
	if err != nil {
		p.refuse(in, err)
		return
	}
	p.mu.Lock()
	if p.received[c.id] != in { // cancelled meanwhile
		p.mu.Unlock()
		in.media.Close()
		return
	}
	delete(p.received, c.id)
	c.offered = offered
	p.calls[c.id] = c
	p.mu.Unlock()
	c.agree(r, tag, description)
}

// refuse ends a call whose description is of no use.
func (p *Phone) refuse(in *incoming, why error) {
	p.mu.Lock()
	there := p.received[message.Get(in.invite, "Call-ID")] == in
	if there {
		delete(p.received, message.Get(in.invite, "Call-ID"))
	}
	p.mu.Unlock()
	in.media.Close()
	if there { // or it was cancelled
		p.answer(message.Answer(in.invite, 488, "Not Acceptable Here", in.tag).Add("Warning", `399 sallyload "`+why.Error()+`"`))
	}
}

// describe answers an offer, or offers where there is none.
func describe(m Media, offer string) (description string, offered bool, err error) {
	if offer == "" {
		description, err = m.Offer()
		return description, true, err
	}
	description, err = m.Answer(offer)
	return description, false, err
}

// agree sends the 200 to an INVITE, until it is acknowledged.
func (c *Call) agree(r *sip.Request, tag, description string) {
	p := c.phone
	p.mu.Lock()
	d := message.Answer(r, 200, "OK", tag).Add("Contact", p.contact()).Add("Allow", allow).Add("Supported", "timer").SDP(description)
	c.expires(r, d)
	if c.answer != nil {
		c.answer.stop()
	}
	b := d.Bytes()
	c.answer = repeat(p, b, r.CSeq().SeqNo, func() { c.end(ErrTimeout) })
	p.mu.Unlock()
	_ = p.send(b) // the reader hears of a connection that is gone
}

// expires agrees on a session's timer. The phone's mutex is held.
func (c *Call) expires(r *sip.Request, d *message.Draft) {
	if se := sessionExpires(message.Get(r, "Session-Expires")); se != "" {
		d.Add("Session-Expires", se).Add("Require", "timer")
		c.keepAlive(se, "uas")
	}
}

// changed takes a re-INVITE.
func (c *Call) changed(r *sip.Request) {
	p := c.phone
	p.mu.Lock()
	glare := c.offering
	p.mu.Unlock()
	if glare {
		p.answer(message.Answer(r, 491, "Request Pending", ""))
		return
	}
	description, offered, err := describe(c.Media, string(r.Body()))
	if err != nil {
		p.answer(message.Answer(r, 488, "Not Acceptable Here", ""))
		return
	}
	p.mu.Lock()
	c.offered = offered
	c.follow(message.Get(r, "Contact"))
	p.mu.Unlock()
	c.agree(r, "", description)
}

// updated takes an UPDATE (RFC 3311): with an offer, or to keep the session alive.
func (c *Call) updated(r *sip.Request) {
	p := c.phone
	description := ""
	if len(r.Body()) > 0 {
		p.mu.Lock()
		glare := c.offering
		p.mu.Unlock()
		if glare {
			p.answer(message.Answer(r, 491, "Request Pending", ""))
			return
		}
		var err error
		if description, err = c.Media.Answer(string(r.Body())); err != nil {
			p.answer(message.Answer(r, 488, "Not Acceptable Here", ""))
			return
		}
	}
	p.mu.Lock()
	c.follow(message.Get(r, "Contact"))
	d := message.Answer(r, 200, "OK", "").Add("Contact", p.contact()).SDP(description)
	c.expires(r, d)
	p.mu.Unlock()
	p.answer(d)
}

// acknowledged takes the ACK to our 2xx.
func (c *Call) acknowledged(r *sip.Request) {
	p := c.phone
	p.mu.Lock()
	if c.answer == nil || c.answer.number != r.CSeq().SeqNo {
		p.mu.Unlock()
		return
	}
	c.answer.stop()
	first := !c.caller && !c.begun
	c.answer, c.begun = nil, true
	offered := c.offered
	c.offered = false
	p.mu.Unlock()
	if offered {
		if err := c.Media.Accept(string(r.Body()), true); err != nil {
			c.end(err)
			return
		}
	}
	if first && p.config.Answered != nil {
		p.config.Answered(p, c)
	}
}

// cancelled takes a CANCEL (RFC 3261 section 9.2).
func (p *Phone) cancelled(r *sip.Request) {
	id := message.Get(r, "Call-ID")
	p.mu.Lock()
	in := p.received[id]
	if in != nil && in.branch == branch(r) {
		delete(p.received, id)
		in.stop()
	} else {
		in = nil
	}
	p.mu.Unlock()
	if in == nil { // it was answered before, or never was
		p.answer(message.Answer(r, 481, "Call/Transaction Does Not Exist", p.tag))
		return
	}
	p.answer(message.Answer(r, 200, "OK", p.tag))
	p.answer(message.Answer(in.invite, 487, "Request Terminated", p.tag))
}
