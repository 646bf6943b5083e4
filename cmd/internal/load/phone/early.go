package phone

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"
	"github.com/sallyport/sallyport/cmd/internal/load/message"
	"github.com/sallyport/sallyport/cmd/internal/nameaddr"
)

// early is a dialog that was begun by a provisional answer (RFC 3261 section 12.1).
// Who forks a call begins several. The phone's mutex guards it.
type early struct {
	number uint64 // RSeq of the last reliable one; 0: there was none
	answer string // description that came last
}

const maxEarly = 16 // dialogs of one call that are remembered

// begins takes a provisional answer to our INVITE, and acknowledges a reliable one by
// PRACK (RFC 3262 section 4). One that came twice, or before the one that it follows,
// is not acknowledged: it comes again.
func (c *Call) begins(r *sip.Response) {
	p, tag := c.phone, nameaddr.Tag(message.Get(r, "To"))
	if r.StatusCode <= 100 || tag == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := c.early[tag]
	if e == nil {
		if len(c.early) == maxEarly {
			return
		}
		if e = new(early); c.early == nil {
			c.early = make(map[string]*early)
		}
		c.early[tag] = e
	}
	if description := string(r.Body()); description != "" {
		e.answer = description
	}
	number, err := strconv.ParseUint(message.Get(r, "RSeq"), 10, 32)
	if err != nil || number == 0 || !slices.Contains(message.All(r, "Require"), reliable) || e.number != 0 && number != e.number+1 {
		return
	}
	e.number = number
	to := &Call{phone: p, id: c.id, local: c.local, remote: message.Get(r, "To"), target: c.target}
	to.follow(message.Get(r, "Contact"))
	to.routes = message.All(r, "Record-Route")
	slices.Reverse(to.routes)
	d := to.draft("PRACK").Add("RAck", fmt.Sprintf("%d %s", number, r.CSeq().Value())).Add("User-Agent", p.config.Agent)
	go func() { // ends with the answer, or after Timeout; nobody waits: without it the answer comes again
		ctx, done := context.WithTimeout(context.Background(), p.config.Timeout)
		defer done()
		_, _ = p.exchange(ctx, "PRACK", to.target, d, c.next, nil)
	}()
}

// ringReliably rings until that is acknowledged, as the INVITE requires (RFC 3262 section
// 3): only then is the call answered. Where nothing was offered, the offer goes with it
// (section 5).
func (p *Phone) ringReliably(in *incoming, ringing *message.Draft) {
	if len(in.invite.Body()) == 0 {
		offer, err := in.media.Offer()
		if err != nil {
			p.refuse(in, err)
			return
		}
		ringing.SDP(offer)
		in.offered = true
	}
	number := rand.Uint32N(1<<31-1) + 1 // no secret
	b := ringing.Add("Require", reliable).Add("RSeq", strconv.FormatUint(uint64(number), 10)).Bytes()
	p.mu.Lock()
	in.unheard = repeat(p, b, number, func() { p.unheard(in) })
	p.mu.Unlock()
	_ = p.send(b) // the reader hears of a connection that is gone
}

// unheard ends a call whose ringing nobody acknowledges (RFC 3262 section 3).
func (p *Phone) unheard(in *incoming) {
	id := message.Get(in.invite, "Call-ID")
	p.mu.Lock()
	there := p.received[id] == in
	if there {
		delete(p.received, id)
		in.stop()
	}
	p.mu.Unlock()
	if there {
		p.answer(message.Answer(in.invite, 504, "Server Time-out", in.tag))
	}
}

// heard takes the PRACK to our ringing.
func (p *Phone) heard(r *sip.Request) {
	p.mu.Lock()
	in := p.received[message.Get(r, "Call-ID")]
	if in == nil || in.unheard == nil || nameaddr.Tag(message.Get(r, "To")) != in.tag ||
		strings.Join(strings.Fields(message.Get(r, "RAck")), " ") != fmt.Sprintf("%d %s", in.unheard.number, in.invite.CSeq().Value()) {
		p.mu.Unlock()
		p.answer(message.Answer(r, 481, "Call/Transaction Does Not Exist", ""))
		return
	}
	in.unheard.stop()
	in.unheard = nil
	p.mu.Unlock()
	p.answer(message.Answer(r, 200, "OK", ""))
	if in.offered {
		if err := in.media.Accept(string(r.Body()), true); err != nil {
			p.refuse(in, err)
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ripen(in)
}

// reliable is the option of provisional answers that are acknowledged.
const reliable = "100rel"

// described is the answer to our offer: that of a 2xx, or, if that has none, what a
// provisional one of its dialog had (RFC 3262 section 5).
func (c *Call) described(r *sip.Response) string {
	if body := string(r.Body()); body != "" {
		return body
	}
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	if e := c.early[nameaddr.Tag(message.Get(r, "To"))]; e != nil {
		return e.answer
	}
	return ""
}

// moved is where a 3xx says that the callee is: its first Contact (RFC 3261 section
// 8.1.3.4); empty if that is to be another server's to know.
func moved(r *sip.Response) string {
	switch r.StatusCode {
	case 300, 301, 302:
	default:
		return ""
	}
	for _, c := range message.All(r, "Contact") {
		if uri := nameaddr.URI(c); nameaddr.User(uri) != "" {
			return uri
		}
	}
	return ""
}

const maxMoves = 5 // that a call follows
