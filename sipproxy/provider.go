package sipproxy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

// A provider may know us by user and password. Its challenges are answered here, of the
// PBX's requests too, which the PBX does not see; and we register with it, so that it
// sends calls by the connection that the registration went by (RFC 3261 section 10.2).

const (
	// enrolRetry is how long after a registration that was refused the next is tried.
	// Each time it is twice that, up to enrolRarely: providers ban who never stops.
	enrolRetry  = 30 * time.Second
	enrolRarely = 10 * time.Minute
	// enrolEarly is how long before the end of a registration it is made again, or a
	// tenth of its time, whichever is less.
	enrolEarly = time.Minute
)

// enrolment is our registration with a provider.
type enrolment struct {
	mu     sync.Mutex // guards what follows
	callID string
	tag    string
	seq    uint32
	under  bool
	flow   *flow.Flow // that it was made by
	hangs  *flow.Flow // with whose end it is time for the next; nil: with none's
	until  time.Time  // when the provider forgets it; zero: it knows of none
	next   time.Time
	routes []string  // that the provider wants requests to go by (RFC 3608)
	least  int       // seconds that the provider wants at least
	failed int       // how often in a row it was refused
	told   string    // of a refusal, last
	denied time.Time // when it was told last that user and password are not taken

	busy map[netip.AddrPort]time.Time // until when its servers want to hear nothing: they have said 503
}

// asOurselves is a sender to the far end of a leg that answers a provider's challenges.
// Those inside of what came from there are not: no provider asks whom it called who he
// is, but who calls by one that passes all on may, and would have a digest of the
// password to guess by (CVE-2021-41158).
func (p *Proxy) asOurselves(to *leg, send sender) sender {
	t := to.trunk
	if t.Account.User == "" || to.began {
		return send
	}
	return afresh(p.proving(p.proofOf(t), send))
}

func (p *Proxy) proofOf(t *trunk) proof {
	return proof{user: t.Account.User, password: t.Account.Password, vain: func(at *flow.Flow) {
		e, now := &t.with, time.Now()
		e.mu.Lock()
		defer e.mu.Unlock()
		if now.Sub(e.denied) < enrolRarely {
			return
		}
		e.denied = now
		p.log.Error("the provider does not take user and password: look at user and password_file of the trunk", "trunk", t.Name, "user", t.Account.User, "peer", at.Remote().String())
	}}
}

// enrol registers with each provider with whom it is time to.
func (p *Proxy) enrol(now time.Time) {
	for _, t := range p.trunks {
		if t.Account.Register {
			p.enrolWith(t, now)
		}
	}
}

func (p *Proxy) enrolWith(t *trunk, now time.Time) {
	e, f := &t.with, t.far.Flow()
	if f == nil {
		return
	}
	e.mu.Lock()
	due := !now.Before(e.next) || e.hangs != nil && closed(e.hangs)
	if e.under || p.isDraining() || !due || now.Before(e.busy[t.serverAt(f)]) {
		e.mu.Unlock()
		return
	}
	e.under = true
	seconds := max(int(t.Account.Interval/time.Second), e.least)
	req := p.registration(t, f, seconds)
	e.mu.Unlock()
	vain, as := "", p.proofOf(t)
	as.vain = func(*flow.Flow) {
		vain = "the provider does not take user and password: look at user and password_file of the trunk"
	}
	_, err := p.proving(as, p.sendTo(f))(req, hearer{on: func(at *flow.Flow, res *sip.Response, err error) {
		p.enrolled(t, at, req, res, err, vain)
	}})
	if err != nil {
		p.enrolled(t, f, req, nil, err, "")
	}
}

// registration is a REGISTER of ours. t.with.mu is held.
func (p *Proxy) registration(t *trunk, f *flow.Flow, seconds int) *sip.Request {
	e := &t.with
	if e.callID == "" {
		e.callID, e.tag = randomToken(12), randomToken(6)
	}
	e.seq += maxTries + 1 // what answers a challenge counts on
	us := flow.NameAddr{URI: t.aor()}
	req := sip.NewRequest(sip.REGISTER, sip.Uri{Scheme: "sip", Host: t.Domain})
	req.AppendHeader(p.via(f))
	req.AppendHeader(sip.NewHeader("Max-Forwards", "70"))
	req.AppendHeader(sip.NewHeader("From", us.WithTag(e.tag)))
	req.AppendHeader(sip.NewHeader("To", us.String()))
	req.AppendHeader(sip.NewHeader("Call-ID", e.callID))
	req.AppendHeader(&sip.CSeqHeader{SeqNo: e.seq, MethodName: sip.REGISTER})
	req.AppendHeader(sip.NewHeader("Contact", p.contactForPhone(f, "sip", p.cfg.Domain, t.Account.User)))
	req.AppendHeader(sip.NewHeader("Expires", strconv.Itoa(seconds)))
	req.AppendHeader(sip.NewHeader("Allow", methods))
	appendBody(req, body{})
	return req
}

// aor is who we are to the provider.
func (t *trunk) aor() string { return fmt.Sprintf("sip:%s@%s", t.Account.User, t.Domain) }

// enrolled takes the provider's answer; vain says why its challenge was for nothing.
func (p *Proxy) enrolled(t *trunk, at *flow.Flow, req *sip.Request, res *sip.Response, err error, vain string) {
	if err == nil && res.StatusCode < 200 {
		return
	}
	e, now := &t.with, time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.under = false
	asked, _ := strconv.Atoi(headerOf(req, "Expires"))
	switch {
	case err == nil && res.StatusCode < 300:
		granted := time.Duration(grantedUs(req, res, asked)) * time.Second
		if e.until.IsZero() || e.told != "" || e.flow != at {
			p.log.Info("registered with the provider", "trunk", t.Name, "user", t.Account.User, "peer", at.Remote().String(), "expires", granted)
		}
		e.flow, e.hangs, e.told, e.failed, e.until = at, at, "", 0, now.Add(granted)
		e.next = now.Add(granted - min(granted/10, enrolEarly))
		delete(e.busy, t.serverAt(at))
		e.routes = serviceRoute(res)
		return
	case err == nil && res.StatusCode == sip.StatusIntervalToBrief:
		if least, _ := strconv.Atoi(headerOf(res, "Min-Expires")); least > asked && least <= maxGranted {
			e.least, e.next = least, now
			return
		}
	}
	var why string
	if err != nil { // the next connection's first word
		e.next, e.hangs, why = now.Add(enrolRetry), at, err.Error()
	} else {
		e.failed++
		e.next, e.hangs = now.Add(max(min(enrolRetry<<min(e.failed-1, 16), enrolRarely), retryAfterOf(res))), nil
		why = cmp.Or(vain, reasonOf(res))
	}
	if now.After(e.until) {
		e.until = time.Time{}
	}
	if e.told != why {
		e.told = why
		p.log.Warn("not registered with the provider; trying on", "trunk", t.Name, "user", t.Account.User, "peer", at.Remote().String(), "reason", why)
	}
	busy := err == nil && res.StatusCode == sip.StatusServiceUnavailable
	if busy {
		e.hangs = at // the next one may be to another server
		e.isBusy(t.serverAt(at), now)
	}
	if errors.Is(err, transaction.ErrTimeout) || busy && e.hasIdle(t.far.Peers(), now) { // another of its servers may do better
		t.far.Shun(at, fmt.Errorf("REGISTER: %s", why))
	}
}

// isBusy notes that a server wants no other REGISTER before the next is due. e.mu is held.
func (e *enrolment) isBusy(server netip.AddrPort, now time.Time) {
	if e.busy == nil {
		e.busy = make(map[netip.AddrPort]time.Time)
	}
	maps.DeleteFunc(e.busy, func(_ netip.AddrPort, until time.Time) bool { return now.After(until) })
	e.busy[server] = e.next
}

// hasIdle tells whether one of a provider's servers may be asked now. Without, the
// connection stays that is there: calls are on it. e.mu is held.
func (e *enrolment) hasIdle(servers []netip.AddrPort, now time.Time) bool {
	return slices.ContainsFunc(servers, func(at netip.AddrPort) bool { return !now.Before(e.busy[at]) })
}

// serverAt is the address of the server that a connection is with: of one that the provider
// dialled the port says nothing.
func (t *trunk) serverAt(f *flow.Flow) netip.AddrPort {
	if at := f.Remote(); slices.Contains(t.far.Peers(), at) {
		return at
	}
	return netip.AddrPortFrom(f.Remote().Addr(), 0)
}

// grantedUs reads for how many seconds a registration of ours was taken. The answer may
// have the contacts of others who are the same user (RFC 3261 section 10.2.4).
func grantedUs(req *sip.Request, res *sip.Response, asked int) int {
	list, _ := flow.Addresses(res, "Contact")
	own, _ := flow.Address(req, "Contact") // we wrote it
	if len(list) != 1 {
		list = slices.DeleteFunc(list, func(n flow.NameAddr) bool { return !sameContact(n.URI, own.URI) })
	}
	text := expiresOf(res)
	if len(list) > 0 {
		param, _ := list[0].Param("expires")
		text = cmp.Or(param, text)
	}
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		return min(seconds, maxGranted)
	}
	return asked
}

// sameContact tells whether two URIs are one user at one address.
func sameContact(a, b string) bool {
	u, errA := parseURI(a)
	v, errB := parseURI(b)
	return errA == nil && errB == nil && u.User == v.User && strings.EqualFold(u.Host, v.Host) && u.Port == v.Port
}

// serviceRoutes is the way that requests outside of dialogs take, as the provider said
// when we registered last (RFC 3608 section 6). They go by the same connection in any
// case.
func (t *trunk) serviceRoutes() []string {
	t.with.mu.Lock()
	defer t.with.mu.Unlock()
	return t.with.routes
}

// retryAfterOf is for how long an answer wants no other request (RFC 3261 section 20.33).
func retryAfterOf(res *sip.Response) time.Duration {
	text, _, _ := strings.Cut(headerOf(res, "Retry-After"), ";")
	text, _, _ = strings.Cut(text, "(")
	seconds, _ := strconv.Atoi(strings.TrimSpace(text))
	return time.Duration(min(max(seconds, 0), maxGranted)) * time.Second
}

func headerOf(m sip.Message, name string) string {
	if h := m.GetHeaders(name); len(h) > 0 {
		return h[0].Value()
	}
	return ""
}

// resignTime is how long providers have to take a registration back.
const resignTime = time.Second

// resign takes our registrations back: nobody is here any longer to take calls.
func (p *Proxy) resign() {
	var answers sync.WaitGroup
	for _, t := range p.trunks {
		e := &t.with
		e.mu.Lock()
		f := e.flow
		if f == nil || closed(f) || e.until.IsZero() {
			e.mu.Unlock()
			continue
		}
		req := p.registration(t, f, 0)
		e.until = time.Time{}
		e.mu.Unlock()
		answers.Add(1)
		answered := sync.OnceFunc(answers.Done)
		_, err := p.proving(p.proofOf(t), p.sendTo(f))(req, hearer{on: func(_ *flow.Flow, res *sip.Response, err error) {
			if err != nil || res.StatusCode >= 200 {
				answered()
			}
		}})
		if err != nil {
			answered()
		}
	}
	over := make(chan struct{})
	go func() { // ends with the last answer, or with its transaction at the latest
		answers.Wait()
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(resignTime):
	}
}
