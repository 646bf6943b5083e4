package sipproxy

import (
	"fmt"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/transaction"
)

const (
	// patience is how long a PBX may take to say anything at all to a request,
	// a 100 at least: time for the request to be sent twice (T1, RFC 3261 section
	// 17.1.1.2). After that the next one is asked.
	patience = time.Second
	// downAfter is how many checks in a row go without an answer before a PBX is
	// taken for down; that a request had none counts for one.
	downAfter = 2
	// upAfter is how many a PBX that was down must answer.
	upAfter = 2
	// downInterval is how long after one check of such a PBX the next is.
	downInterval = time.Second
	// retryAfter is what those are told who call while no PBX is up, in seconds
	// (RFC 3261 section 20.33).
	retryAfter = "10"
)

// health is how PBXs are watched: by an OPTIONS each interval, to which any answer
// is good but 503, by which an Asterisk that shuts down says so.
type health struct {
	interval time.Duration // 0: they are not, and all are up
	send     func(*pbx, func(*sip.Response, error)) (check, error)
}

// check is one OPTIONS under way; *transaction.Client is one.
type check interface{ Abandon() }

// checks is what they said of one PBX.
type checks struct {
	down     bool
	mute     bool // the last one said nothing, and nothing else did
	failures int  // in a row
	passes   int  // in a row
	next     time.Time
	started  time.Time // of the one under way
	under    check     // nil: none is
}

// state tells whether a PBX is down, or may be: it owes an answer.
func (b *pbx) state() (down, suspect bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.checks.down, b.checks.failures > 0
}

func (b *pbx) isDown() bool {
	down, _ := b.state()
	return down
}

// isMute tells whether a PBX is down and says nothing at all. One that only takes nothing
// new, as an Asterisk that shuts down when its calls are over, is not.
func (b *pbx) isMute() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.checks.down && b.checks.mute
}

// watch begins the checks that are due, and ends those that took too long.
func (l *pool) watch(now time.Time) {
	if l.health.interval == 0 {
		return
	}
	for _, b := range l.all() {
		b.mu.Lock()
		late, due := b.checks.under != nil && now.Sub(b.checks.started) > patience, b.checks.under == nil && !now.Before(b.checks.next)
		b.mu.Unlock()
		switch {
		case late:
			l.checked(b, nil, transaction.ErrTimeout)
		case due:
			l.check(b, now)
		}
	}
}

func (l *pool) check(b *pbx, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	under, err := l.health.send(b, func(res *sip.Response, err error) { l.checked(b, res, err) })
	b.checks.started, b.checks.next = now, now.Add(l.health.interval)
	if err == nil { // else the edge itself ends
		b.checks.under = under
	}
}

// suspect is told that a request had no answer in time: the PBX is checked at once,
// and others are asked before it until then.
func (l *pool) suspect(b *pbx) {
	if l.health.interval == 0 { // nothing would ever clear it
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.checks.down && b.checks.failures < downAfter-1 {
		b.checks.failures = downAfter - 1
		b.checks.next = time.Time{}
	}
}

// checked takes the outcome of a check.
func (l *pool) checked(b *pbx, res *sip.Response, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := &b.checks
	if c.under == nil { // it came too late
		return
	}
	c.under.Abandon()
	c.under = nil
	alive := err == nil && res.StatusCode != sip.StatusServiceUnavailable
	c.mute = err != nil && b.heard.Load() <= c.started.UnixNano()
	if err != nil && !c.mute && !c.down {
		alive = true // it takes no OPTIONS, or has no time for them: it speaks
	}
	wait := l.health.interval
	if alive {
		c.failures, c.passes = 0, c.passes+1
	} else {
		c.failures, c.passes = c.failures+1, 0
	}
	switch {
	case !c.down && c.failures >= downAfter:
		c.down = true
		l.log.Warn("the PBX does not answer: no calls go there until it does; look whether it runs, and whether it takes SIP from us", "peer", b.Addr, "reason", whyDown(res, err))
	case c.down && c.passes >= upAfter:
		c.down = false
		l.log.Info("the PBX answers again", "peer", b.Addr)
	}
	switch {
	case c.down:
		wait = downInterval
	case c.failures > 0:
		wait = 0
	}
	c.next = time.Now().Add(wait)
}

func whyDown(res *sip.Response, err error) string {
	if err != nil {
		return err.Error()
	}
	return reasonOf(res)
}

// checkPBX sends an OPTIONS about nobody to a PBX (RFC 3261 section 11).
func (p *Proxy) checkPBX(b *pbx, on func(*sip.Response, error)) (check, error) {
	addr := b.Addr.Addr().String()
	if b.Addr.Addr().Is6() {
		addr = "[" + addr + "]"
	}
	req := sip.NewRequest(sip.OPTIONS, sip.Uri{Scheme: "sip", Host: addr, Port: int(b.Addr.Port())})
	req.AppendHeader(p.via(b.flow))
	req.AppendHeader(sip.NewHeader("Max-Forwards", "70"))
	req.AppendHeader(sip.NewHeader("From", fmt.Sprintf("<sip:sallyport@%s>;tag=%s", b.flow.Local(), randomToken(6))))
	req.AppendHeader(sip.NewHeader("To", fmt.Sprintf("<sip:%s>", b.Addr)))
	req.AppendHeader(sip.NewHeader("Call-ID", randomToken(12)))
	req.AppendHeader(&sip.CSeqHeader{SeqNo: 1, MethodName: sip.OPTIONS})
	req.AppendHeader(sip.NewHeader("Contact", fmt.Sprintf("<sip:%s>", b.flow.Local())))
	req.AppendHeader(sip.NewHeader("Accept", "application/sdp"))
	appendBody(req, body{})
	return p.tx.Request(b.flow, req, on)
}
