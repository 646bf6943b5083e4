package phone

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/sallyport/sallyport/cmd/internal/load/message"
	"github.com/sallyport/sallyport/cmd/internal/nameaddr"
)

// transaction is a request of ours (RFC 3261 section 17.1), over a transport
// that loses nothing.
type transaction struct {
	key      string
	branch   string
	final    chan *sip.Response // of one
	begun    chan struct{}      // closed at the first answer
	once     sync.Once          // closes begun
	progress func(*sip.Response)
}

const cookie = "z9hG4bK" // RFC 3261 section 8.1.1.7

// begin sends a request. progress is told of provisional answers, on the
// connection's goroutine; it may be nil. finish must follow.
func (p *Phone) begin(method string, d *message.Draft, progress func(*sip.Response)) (*transaction, error) {
	t := &transaction{branch: cookie + word(), final: make(chan *sip.Response, 1), begun: make(chan struct{}), progress: progress}
	t.key = t.branch + method
	p.mu.Lock()
	d.Set("Via", p.via(t.branch))
	p.pending[t.key] = t
	p.mu.Unlock()
	if err := p.send(d.Bytes()); err != nil {
		p.finish(t)
		return nil, err
	}
	return t, nil
}

func (p *Phone) finish(t *transaction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pending, t.key)
}

// response hands an answer to who waits for it.
func (p *Phone) response(r *sip.Response) {
	method := string(r.CSeq().MethodName)
	p.mu.Lock()
	t := p.pending[nameaddr.Param(message.Get(r, "Via"), "branch")+method]
	p.mu.Unlock()
	switch {
	case t == nil:
		if method == "INVITE" && r.StatusCode/100 == 2 {
			p.repeated(r)
		}
		return
	case r.StatusCode < 200:
		if t.progress != nil {
			t.progress(r)
		}
	default:
		select {
		case t.final <- r:
		default: // it has one
		}
	}
	t.once.Do(func() { close(t.begun) })
}

// wait waits for the final answer. No answer at all in Timeout is an end; so is
// that time without a final one, but for INVITE, where only ctx sets an end.
func (p *Phone) wait(ctx context.Context, t *transaction) (*sip.Response, error) {
	p.mu.Lock()
	down := p.down
	p.mu.Unlock()
	timer := time.NewTimer(p.config.Timeout)
	defer timer.Stop()
	expired, begun := timer.C, t.begun
	if !strings.HasSuffix(t.key, "INVITE") {
		begun = nil
	}
	for {
		select {
		case r := <-t.final:
			return r, nil
		case <-begun:
			expired, begun = nil, nil
		case <-expired:
			return nil, ErrTimeout
		case <-down:
			return nil, ErrDown
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// numbering gives the next request its number: of its dialog, or of
// registrations. The phone's mutex is held when it is called.
type numbering func() uint32

// maxChallenges are answered for one request: those of a server and of a proxy,
// each once more if its nonce was old.
const maxChallenges = 4

// exchange sends a request, answers challenges, and returns the final answer. An
// INVITE that was refused is acknowledged; one that ctx ends is cancelled.
func (p *Phone) exchange(ctx context.Context, method, uri string, d *message.Draft, next numbering, progress func(*sip.Response)) (*sip.Response, error) {
	p.mu.Lock()
	request := p.auth.begin()
	p.mu.Unlock()
	for try := 0; ; try++ {
		p.mu.Lock()
		d.Set("CSeq", strconv.FormatUint(uint64(next()), 10)+" "+method)
		err := p.auth.add(d, method, uri)
		p.mu.Unlock()
		if err != nil {
			return nil, err
		}
		t, err := p.begin(method, d, progress)
		if err != nil {
			return nil, err
		}
		r, err := p.wait(ctx, t)
		if err != nil && method == "INVITE" && ctx.Err() != nil {
			r, err = p.cancel(t, uri, d)
		}
		p.finish(t)
		if err != nil {
			return nil, err
		}
		if method == "INVITE" && r.StatusCode >= 300 {
			if err := p.send(p.acknowledge(uri, d, r).Bytes()); err != nil {
				return nil, err
			}
		}
		if r.StatusCode != 401 && r.StatusCode != 407 {
			return r, nil
		}
		p.mu.Lock()
		err = p.auth.learn(r, request)
		p.mu.Unlock()
		if err == nil && try == maxChallenges {
			err = ErrAuth
		}
		if err != nil {
			return r, err
		}
	}
}

// acknowledge is the ACK to a final answer that is no 2xx: it belongs to the
// INVITE's own transaction (RFC 3261 section 17.1.1.3).
func (p *Phone) acknowledge(uri string, invite *message.Draft, r *sip.Response) *message.Draft {
	d := p.same("ACK", uri, invite)
	return d.Set("To", message.Get(r, "To"))
}

// same is a request of the same transaction as an INVITE: ACK or CANCEL.
func (p *Phone) same(method, uri string, invite *message.Draft) *message.Draft {
	d := message.Request(method, uri)
	d.Add("Via", invite.Get("Via")).Add("Max-Forwards", "70")
	for _, route := range invite.All("Route") {
		d.Add("Route", route)
	}
	number, _, _ := strings.Cut(invite.Get("CSeq"), " ")
	return d.Add("From", invite.Get("From")).Add("To", invite.Get("To")).Add("Call-ID", invite.Get("Call-ID")).Add("CSeq", number+" "+method)
}

// cancelTime is how long a cancelled INVITE may take to end.
const cancelTime = 8 * time.Second

// cancel cancels an INVITE, as soon as it was answered at all (RFC 3261 section
// 9.1), and returns its final answer.
func (p *Phone) cancel(invite *transaction, uri string, d *message.Draft) (*sip.Response, error) {
	p.mu.Lock()
	down := p.down
	p.mu.Unlock()
	ctx, done := context.WithTimeout(context.Background(), cancelTime)
	defer done()
	select {
	case <-invite.begun:
	case <-ctx.Done():
		return nil, ErrTimeout
	case <-down:
		return nil, ErrDown
	}
	t := &transaction{branch: invite.branch, key: invite.branch + "CANCEL", final: make(chan *sip.Response, 1), begun: make(chan struct{})}
	p.mu.Lock()
	p.pending[t.key] = t
	p.mu.Unlock()
	defer p.finish(t)
	if err := p.send(p.same("CANCEL", uri, d).Bytes()); err != nil {
		return nil, err
	}
	select {
	case r := <-invite.final:
		return r, nil
	case <-ctx.Done():
		return nil, ErrTimeout
	case <-down:
		return nil, ErrDown
	}
}
