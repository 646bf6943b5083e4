package sipproxy

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// When the edge is replaced, the process before this one goes on with its calls: on
// its phones' connections, which cannot be handed over, and by the same plain socket,
// which this one reads. What the PBX says is for either. Answers tell by their branch,
// requests inside of calls by Call-ID and tags, all others by the phone's token.

// succession is what a Proxy has to do with the processes before and after it.
type succession struct {
	yielded atomic.Bool // see Yield
	left    left        // to the one before
}

// IsForeign implements flow.Stranger.
func (p *Proxy) IsForeign(f *flow.Flow, m sip.Message) bool {
	if f.Side() != flow.Plain || p.tx.Has(f, m) {
		return false
	}
	in, ok := m.(*sip.Request)
	if ok && p.left.has(transaction.Name(in), time.Now()) {
		return true
	}
	switch {
	case !ok, in.Method == sip.CANCEL:
		return true
	case flow.Tag(in, "To") == "":
		return p.isElsewhere(f, in)
	}
	id := p.dialogOn(f, in)
	if p.calls.dialog(id) != nil || p.watches.get(id) != nil {
		return false
	}
	if in.Method == sip.NOTIFY {
		id.plainTag = "" // of a subscription that has no dialog yet
		return p.watches.get(id) == nil && !p.tellsOurs(in)
	}
	return true
}

// tellsOurs tells whether a NOTIFY is for a phone that is connected here, of a subscription
// that it may have made by the process before: that has no way to it any more. What tells of
// a transfer is of a call, and goes by the connection of that.
func (p *Proxy) tellsOurs(in *sip.Request) bool {
	event, _, _ := strings.Cut(headerOf(in, "Event"), ";")
	b := p.bindings.get(p.addressee(in))
	return !strings.EqualFold(strings.TrimSpace(event), "refer") && b != nil && !closed(b.flow)
}

// isElsewhere tells whether a new request is for a phone that has not come here yet, or
// for a trunk without a connection here: the process before may have one, which its far
// end keeps for the calls by it.
func (p *Proxy) isElsewhere(f *flow.Flow, in *sip.Request) bool {
	if t := p.trunkFor(f, in); t != nil {
		return !t.far.State().Up
	}
	token := p.addressee(in)
	return token != "" && p.bindings.get(token) == nil && p.bindings.latest(token) == nil && !p.asking.has(token)
}

// Yield leaves all that is not a call's own business to the process after this one:
// whether the PBXs are there, unless one was not, registering with providers, and new calls
// of trunks.
func (p *Proxy) Yield() {
	p.yielded.Store(true)
	for _, t := range p.trunks {
		for _, f := range t.far.Flows() {
			p.takeLeave(t, f)
		}
	}
}

// Unanswered are the names of what the PBX has asked and not been answered yet, for the
// process after this one. It repeats itself, and would be sent on twice.
func (p *Proxy) Unanswered() []string { return p.tx.Unanswered() }

// Leave has a request, by its name, be the process's before this one.
func (p *Proxy) Leave(name string) { p.left.add(name, time.Now()) }

// repeatedFor is how long a request is repeated by UDP, timer F (RFC 3261 section
// 17.1.2.2).
const repeatedFor = 32 * time.Second

// maxLeft bounds the requests that are remembered.
const maxLeft = 1 << 16

// left are requests that the process before this one has begun with.
type left struct {
	mu    sync.Mutex // guards what follows
	until time.Time
	names map[string]struct{}
}

func (l *left) add(name string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil {
		l.names = make(map[string]struct{})
	}
	if len(l.names) < maxLeft {
		l.names[name], l.until = struct{}{}, now.Add(repeatedFor)
	}
}

func (l *left) has(name string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil {
		return false
	}
	if now.After(l.until) { // all came at once
		l.names = nil
	}
	_, ok := l.names[name]
	return ok
}

// The far end of a trunk has no way to see that the edge was replaced: it keeps the
// connections on which there are calls, and would begin new ones on them, so that the
// process before might never be without a call. Closing them would take the calls'
// signalling away. So it is told, by an OPTIONS with this header: an edge then begins
// new calls by the other connections, which are the new process's. To any other peer it
// is an OPTIONS like all others.
const (
	flowHeader  = "Sallyport-Flow"
	flowLeaving = "leaving"
)

// takeLeave asks a trunk's far end to begin nothing new on a connection.
func (p *Proxy) takeLeave(t *trunk, f *flow.Flow) {
	req := sip.NewRequest(sip.OPTIONS, sip.Uri{Scheme: "sip", Host: t.Domain})
	req.AppendHeader(p.via(f))
	req.AppendHeader(sip.NewHeader("Max-Forwards", "70"))
	req.AppendHeader(sip.NewHeader("From", fmt.Sprintf("<sip:%s>;tag=%s", p.cfg.Domain, randomToken(6))))
	req.AppendHeader(sip.NewHeader("To", fmt.Sprintf("<sip:%s>", t.Domain)))
	req.AppendHeader(sip.NewHeader("Call-ID", randomToken(12)))
	req.AppendHeader(&sip.CSeqHeader{SeqNo: 1, MethodName: sip.OPTIONS})
	req.AppendHeader(sip.NewHeader(flowHeader, flowLeaving))
	appendBody(req, body{})
	if _, err := p.tx.Request(f, req, func(*sip.Response, error) {}); err != nil {
		p.log.Debug("take leave of a trunk", "trunk", t.Name, "peer", f.Remote().String(), "reason", err)
	}
}

// Connected takes a connection that was dialled to a trunk's far end. Where another process
// follows, calls of before alone have need of it.
func (p *Proxy) Connected(f *flow.Flow) {
	if t := p.trunkOf(f); t != nil && p.yielded.Load() {
		p.takeLeave(t, f)
	}
}

// IsUsing tells whether there are calls by a trunk, or its far end is to be told that one
// is over.
func (p *Proxy) IsUsing(trunk string) bool {
	if t := p.trunks[trunk]; t != nil && t.owes() {
		return true
	}
	return slices.ContainsFunc(p.calls.list(), func(c *call) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		l := c.outside()
		return l != nil && l.trunk != nil && l.trunk.Name == trunk
	})
}

// takesLeave tells whether that is what the far end of a trunk says.
func takesLeave(in *sip.Request) bool { return headerOf(in, flowHeader) == flowLeaving }

// isIdle tells whether nothing is under way on a phone's or a trunk's connection.
func (p *Proxy) isIdle(f *flow.Flow) bool {
	if t := p.trunkOf(f); t != nil && t.owes() { // by this one, as soon as it is tried again
		return false
	}
	return !p.tx.Busy(f) && !p.isTalking(f)
}

// Idle tells so of many connections: it goes through the calls once, for those that have
// one.
func (p *Proxy) Idle() func(*flow.Flow) bool {
	talking := make(map[*flow.Flow]struct{})
	for _, c := range p.calls.list() {
		for _, f := range c.isBy() {
			talking[f] = struct{}{}
		}
	}
	return func(f *flow.Flow) bool {
		_, talks := talking[f]
		return !talks && p.isIdle(f) // a call may have begun since
	}
}

// Calls tells how many calls there are.
func (p *Proxy) Calls() int { return p.calls.len() }
