package phone

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/sallyport/sallyport/cmd/internal/load/message"
	"github.com/sallyport/sallyport/cmd/internal/nameaddr"
)

// allow is what the phone answers otherwise than by 405.
const allow = "INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, INFO, MESSAGE, NOTIFY"

// Call is one end of a call: a dialog (RFC 3261 section 12).
type Call struct {
	Media    Media
	Ringing  time.Time // of the first 180 or 183, of one that was made; zero: it was answered without
	Answered time.Time // of its 200
	Ended    <-chan struct{}

	phone         *Phone
	id            string        // Call-ID
	ended         chan struct{} // Ended; closed once, with why set
	local, remote string        // From and To of our requests
	caller        bool

	// What follows is guarded by the phone's mutex.
	target   string   // the other end's Contact
	routes   []string // to it
	cseq     uint32
	theirs   uint64 // the least that the other end's next request may have
	ack      []byte // to the last 2xx, if it comes again
	offering bool   // a change of ours is under way
	offered  bool   // our 2xx had an offer: the ACK has the answer
	answer   *repeating
	begun    bool              // the ACK to our first 2xx came
	early    map[string]*early // by To tag
	timer    *time.Timer       // refreshes the session (RFC 4028); nil: that is not ours to do
	why      error             // how it ended; nil: by a BYE
}

// Call calls a user or number, or a URI. ctx bounds how long it may ring: what is
// not answered then is cancelled, and the error is that of ctx, or the 487. progress
// is told of each provisional answer; it may be nil.
func (p *Phone) Call(ctx context.Context, uri string, m Media, progress func(status int)) (*Call, error) {
	offer, err := m.Offer()
	if err != nil {
		return nil, fmt.Errorf("call: %w", err)
	}
	c := &Call{Media: m, phone: p, id: word(), target: uri, caller: true, ended: make(chan struct{}), remote: "<" + uri + ">", offering: true}
	c.Ended = c.ended
	c.local = "<" + p.aor() + ">;tag=" + word()
	p.mu.Lock()
	if len(p.calls) > 0 {
		p.mu.Unlock()
		return nil, fmt.Errorf("call: %w", ErrBusy)
	}
	p.calls[c.id] = c
	c.routes = p.route
	p.mu.Unlock()
	r, d, err := c.invite(ctx, offer, progress)
	for moves := 0; err == nil && moves < maxMoves && moved(r) != ""; moves++ { // by this connection: the server knows the way
		p.mu.Lock()
		c.target = moved(r)
		p.mu.Unlock()
		r, d, err = c.invite(ctx, offer, progress)
	}
	if err == nil && r.StatusCode >= 300 {
		err = refused(r)
	}
	if err != nil {
		c.end(err)
		return nil, fmt.Errorf("call: %w", err)
	}
	c.Answered = time.Now()
	if err := c.accept(r, d); err != nil {
		return nil, errors.Join(fmt.Errorf("call: %w", err), c.Hangup(context.WithoutCancel(ctx)))
	}
	if ctx.Err() != nil { // it was answered while it was cancelled
		return nil, errors.Join(fmt.Errorf("call: %w", ctx.Err()), c.Hangup(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// invite asks for the call, and returns the final answer, and to what.
func (c *Call) invite(ctx context.Context, offer string, progress func(status int)) (*sip.Response, *message.Draft, error) {
	p := c.phone
	p.mu.Lock()
	uri := c.target
	d := c.draft("INVITE").Add("Contact", p.contact()).Add("Allow", allow).Add("Supported", "timer, "+reliable).Add("User-Agent", p.config.Agent).SDP(offer)
	p.mu.Unlock()
	r, err := p.exchange(ctx, "INVITE", uri, d, c.next, func(r *sip.Response) {
		if c.Ringing.IsZero() && (r.StatusCode == 180 || r.StatusCode == 183) { // a 181 or 182 says that it takes longer
			c.Ringing = time.Now()
		}
		c.begins(r)
		if body := string(r.Body()); body != "" && r.StatusCode > 100 {
			_ = c.Media.Accept(body, false) // what is of no use there the final answer tells
		}
		if progress != nil {
			progress(r.StatusCode)
		}
	})
	return r, d, err
}

// next numbers the next request of the dialog. The phone's mutex is held.
func (c *Call) next() uint32 {
	c.cseq++
	return c.cseq
}

// draft begins a request of the dialog. The phone's mutex is held.
func (c *Call) draft(method string) *message.Draft {
	d := message.Request(method, c.target).Add("Via", "").Add("Max-Forwards", "70")
	for _, route := range c.routes {
		d.Add("Route", route)
	}
	return d.Add("From", c.local).Add("To", c.remote).Add("Call-ID", c.id).Add("CSeq", "")
}

// accept takes the 2xx to an INVITE, puts its description in force, and acknowledges
// it. Not the other way round: behind the ACK the other end may offer at once.
func (c *Call) accept(r *sip.Response, invite *message.Draft) error {
	p := c.phone
	err := c.Media.Accept(c.described(r), true)
	p.mu.Lock()
	c.offering = false
	c.remote = message.Get(r, "To")
	c.follow(message.Get(r, "Contact"))
	if c.ack == nil { // the dialog is made by this answer (RFC 3261 section 12.1.2)
		c.routes = message.All(r, "Record-Route")
		slices.Reverse(c.routes)
	}
	ack := c.acknowledgement(r, invite)
	c.ack = ack
	c.keepAlive(message.Get(r, "Session-Expires"), "uac")
	p.mu.Unlock()
	return errors.Join(err, p.send(ack))
}

// acknowledgement is the ACK to a 2xx: a transaction of its own (RFC 3261 section
// 13.2.2.4). The phone's mutex is held.
func (c *Call) acknowledgement(r *sip.Response, invite *message.Draft) []byte {
	d := c.draft("ACK")
	d.Set("Via", c.phone.via(cookie+word())).Set("CSeq", strconv.Itoa(int(r.CSeq().SeqNo))+" ACK")
	for _, h := range headers { // the same credentials as the INVITE (section 22.1)
		for _, answer := range invite.All(h.answer) {
			d.Add(h.answer, answer)
		}
	}
	return d.Bytes()
}

// follow takes the other end's newest Contact. The phone's mutex is held.
func (c *Call) follow(contact string) {
	if uri := nameaddr.URI(contact); uri != "" {
		c.target = uri
	}
}

// repeated takes a 2xx that nobody waits for: one that came again, whose ACK is
// repeated, or that of another who was called too, which is hung up (RFC 3261
// section 13.2.2.4).
func (p *Phone) repeated(r *sip.Response) {
	p.mu.Lock()
	c := p.calls[message.Get(r, "Call-ID")]
	if c == nil || c.ack == nil {
		p.mu.Unlock()
		return
	}
	if nameaddr.Tag(message.Get(r, "To")) == nameaddr.Tag(c.remote) {
		ack := c.ack
		p.mu.Unlock()
		_ = p.send(ack) // the reader hears of a connection that is gone
		return
	}
	other := &Call{phone: p, id: c.id, local: c.local, remote: message.Get(r, "To"), target: c.target, cseq: c.cseq}
	other.follow(message.Get(r, "Contact"))
	other.routes = message.All(r, "Record-Route")
	slices.Reverse(other.routes)
	ack := other.acknowledgement(r, message.Request("INVITE", ""))
	bye := other.draft("BYE")
	bye.Set("Via", p.via(cookie+word())).Set("CSeq", strconv.Itoa(int(other.next()))+" BYE")
	p.mu.Unlock()
	_ = p.send(ack)
	_ = p.send(bye.Bytes())
}

// Change offers the media as they are now: it holds, or resumes. Where the other
// end does so at the same time, it is tried again (RFC 3261 section 14.1).
func (c *Call) Change(ctx context.Context) error {
	for try := 0; ; try++ {
		err := c.change(ctx)
		var r *Refused
		if !errors.As(err, &r) || r.Status != 491 || try == 3 {
			return err
		}
		wait := glareCallee
		if c.caller {
			wait = glareCaller
		}
		select {
		case <-time.After(wait):
		case <-c.ended:
			return ErrDown
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// How long ends wait after a glare, of what RFC 3261 section 14.1 lets them draw.
const (
	glareCaller = 2500 * time.Millisecond
	glareCallee = 1 * time.Second
)

func (c *Call) change(ctx context.Context) error {
	p := c.phone
	p.mu.Lock()
	c.offering = true // an offer of theirs is refused from here on: media are told of one at a time
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		c.offering = false
	}()
	offer, err := c.Media.Offer()
	if err != nil {
		return fmt.Errorf("change: %w", err)
	}
	p.mu.Lock()
	d := c.draft("INVITE").Add("Contact", p.contact()).Add("Allow", allow).Add("Supported", "timer").SDP(offer)
	uri := c.target
	p.mu.Unlock()
	r, err := p.exchange(ctx, "INVITE", uri, d, c.next, nil)
	if err == nil && r.StatusCode >= 300 {
		if err = refused(r); r.StatusCode == 481 || r.StatusCode == 408 { // RFC 3261 section 12.2.1.2
			c.end(err)
		}
	}
	if err == nil {
		err = c.accept(r, d)
	}
	if err != nil {
		return fmt.Errorf("change: %w", err)
	}
	return nil
}

// Hangup ends the call. One that has ended is none to end.
func (c *Call) Hangup(ctx context.Context) error {
	select {
	case <-c.ended:
		return nil
	default:
	}
	p := c.phone
	p.mu.Lock()
	d := c.draft("BYE").Add("User-Agent", p.config.Agent)
	uri := c.target
	p.mu.Unlock()
	r, err := p.exchange(ctx, "BYE", uri, d, c.next, nil)
	select {
	case <-c.ended: // its own BYE crossed ours, and left nothing to be ended
		if err == nil && r.StatusCode == 481 {
			return nil
		}
	default:
	}
	c.end(nil)
	if err == nil && r.StatusCode/100 != 2 {
		err = refused(r)
	}
	if err != nil {
		return fmt.Errorf("hang up: %w", err)
	}
	return nil
}

// Err is how the call ended, once it has: nil by a BYE.
func (c *Call) Err() error {
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	return c.why
}

// end forgets the call.
func (c *Call) end(why error) {
	if !c.forget(why) {
		return
	}
	c.Media.Close()
	close(c.ended)
}

// forget tells whether it was there to be forgotten.
func (c *Call) forget(why error) bool {
	p := c.phone
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls[c.id] != c {
		return false
	}
	if c.why = why; c.timer != nil {
		c.timer.Stop()
	}
	if c.answer != nil {
		c.answer.stop()
	}
	delete(p.calls, c.id)
	return true
}

// Busy tells whether the phone has a call, or is being called.
func (p *Phone) Busy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.calls)+len(p.received) > 0
}
