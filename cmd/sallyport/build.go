package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/admin"
	"github.com/sallyport/sallyport/cmd/internal/phone"
	"github.com/sallyport/sallyport/cmd/internal/succession"
	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sipproxy"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/users"
	"github.com/sallyport/sallyport/tlsconf"
)

// Files of the state folder.
const (
	bansFile      = "bans.json"
	controlSocket = "control.sock"
)

// edge is every part, built and bound, with nothing running yet.
type edge struct {
	log   *slog.Logger
	drain time.Duration

	handover time.Duration
	estate   *succession.Estate // of the process before this one; nil: there was none
	binary   string             // what Upgrade starts
	heirs    int                // started so far
	upgrades chan chan error    // asked for, and answered when it is over
	last     chan struct{}      // closed when none is taken any more
	ledger   *ledger

	policy      *policy.Policy
	webhook     *webhook // nil: alarms are logged alone
	certificate *tlsconf.Source
	media       *media.Engine
	mediaTCP    []netip.AddrPort // where it listens
	proxy       *sipproxy.Proxy
	plain       *flow.PlainSocket
	listeners   []*flow.Listener
	trunks      []*flow.Trunk
	trunkPlain  []*flow.PlainSocket // of those that have one
	admin       *admin.Server
	control     *admin.Server

	draining atomic.Bool
}

// build makes the parts, leaves first, and binds their sockets. The words of its
// errors begin with the key at fault, where there is one.
func (p plan) build(log *slog.Logger) (_ *edge, err error) {
	e := &edge{log: log, drain: p.drain, handover: p.handover, estate: p.estate, upgrades: make(chan chan error), last: make(chan struct{})}
	if e.binary, err = os.Executable(); err != nil { // as of now: it may be replaced, and moved
		return nil, fmt.Errorf("find the running binary: %w", err)
	}
	if err := os.MkdirAll(p.tls.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("edge.state_dir: %w; let the user sallyport runs as write there", err)
	}
	e.ledger = &ledger{Ledger: policy.File(filepath.Join(p.tls.StateDir, bansFile)), estate: p.estate}
	parts := policy.Parts{Log: log, Ledger: e.ledger, Banned: e.ledger.banned}
	if p.alarms != "" {
		if e.webhook, err = newWebhook(p.alarms, log); err != nil {
			return nil, fmt.Errorf("policy.calls.alarm_url: %w", err)
		}
		parts.Alarm = e.webhook.tell
	}
	judge, err := policy.New(p.policy, parts)
	if err != nil {
		return nil, err
	}
	e.policy = judge
	if e.certificate, err = tlsconf.New(p.tls, log); err != nil {
		return nil, err
	}
	if err := p.inheritTickets(e.certificate); err != nil {
		log.Warn("phones make full handshakes with this process", "reason", err)
	}
	if p.sip.Secret, err = loadSecret(p.tls.StateDir); err != nil {
		return nil, err
	}
	if p.users != "" {
		if p.sip.Accounts, err = users.Open(p.users, p.sip.Domain, log); err != nil {
			return nil, err
		}
	}
	// What holds sockets comes last, and gives them up if a later one fails.
	var bound []func(context.Context) error
	defer func() {
		if err != nil {
			giveUp(bound)
		}
	}()
	keepOff, err := guard(p.media.SecureIPs, p.plain.Addr())
	if err != nil {
		return nil, err
	}
	p.media.Guard, p.media.Admit, p.media.Inherit = keepOff, admission(judge), p.inherit
	if e.media, err = media.New(p.media); err != nil {
		return nil, err
	}
	bound = append(bound, e.media.Run)
	e.mediaTCP = p.media.TCPListen()
	if e.proxy, err = sipproxy.New(p.sip, e.media, judge, log); err != nil {
		return nil, err
	}
	if e.plain, err = p.listenPlain(p.plain, keepOff, e.proxy, log); err != nil {
		return nil, fmt.Errorf("sip.plain_listen: %w", err)
	}
	bound = append(bound, e.plain.Run)
	e.proxy.Attach(e.plain)
	if err = e.buildTrunks(p, func(run func(context.Context) error) { bound = append(bound, run) }); err != nil {
		return nil, err
	}
	phones := e.certificate.Audience(p.tls.Clients.TLS, true)
	for _, at := range p.listen {
		ln, err := p.listenTCP(at)
		if err != nil {
			return nil, fmt.Errorf("sip.tls_listen: listen on %s: %w", at, err)
		}
		l := flow.NewListener(ln, phones.Config(), p.limits, e.proxy, admission(judge), log)
		l.Accept(e.trunks...)
		if phones.Shows() {
			l.Know(phones)
		}
		e.listeners = append(e.listeners, l)
		bound = append(bound, l.Run)
	}
	site := flow.Site{Origins: p.origins}
	if p.phone {
		site.Pages = phone.New(p.sip.Domain)
	}
	browsers := e.certificate.Audience(p.tls.Clients.WSS, false)
	for _, at := range p.web {
		ln, err := p.listenTCP(at)
		if err != nil {
			return nil, fmt.Errorf("sip.wss_listen: listen on %s: %w", at, err)
		}
		l := flow.NewWebListener(ln, browsers.Config(), p.limits, site, e.proxy, admission(judge), log)
		if browsers.Shows() {
			l.Know(browsers)
		}
		e.listeners = append(e.listeners, l)
		bound = append(bound, l.Run)
	}
	if phones.Shows() || browsers.Shows() {
		e.certificate.OnTaken(e.recheck)
	}
	for _, l := range e.listeners {
		l.Behind(p.balancers)
		l.OnForeign(func(from netip.Addr) { judge.Observe(policy.Outcome{What: policy.Foreign, Source: from}) })
	}
	if err = e.buildControl(p, judge); err != nil {
		return nil, err
	}
	bound = append(bound, e.control.Run)
	inherited, err := p.inheritListener("tcp " + p.admin.String())
	if err != nil {
		return nil, err
	}
	e.admin, err = admin.New(admin.Config{Listen: p.admin, Inherited: inherited, Health: e.health, Sources: e.sources(judge)}, log)
	return e, err
}

// advised tells of a socket that could not be bound what to do.
func advised(err error) error {
	var op *net.OpError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w; `ss -tulpn` tells who has it", err)
	case errors.Is(err, syscall.EACCES) && errors.As(err, &op) && op.Net != "unix":
		return fmt.Errorf("%w; a port below 1024 takes root or CAP_NET_BIND_SERVICE, which sallyport.service gives", err)
	}
	return err
}

// giveUp closes what a part bound but never ran: each part's Run closes what it
// owns when its context ends, and here it has ended before.
func giveUp(parts []func(context.Context) error) {
	ended, end := context.WithCancel(context.Background())
	end()
	for _, run := range slices.Backward(parts) {
		_ = run(ended) // nothing ran yet: there is nothing to lose
	}
}

// admission asks policy about a connection, in the words flow understands.
func admission(judge *policy.Policy) flow.Admit {
	return func(from netip.Addr) (func(), error) {
		v := judge.Decide(policy.Event{Kind: policy.Connection, Source: from})
		if !v.Allowed {
			return nil, errors.New(v.Reason)
		}
		return v.Release, nil
	}
}

// Secure tells what crosses the secure side, for `sallyport prove`.
func (e *edge) Secure() admin.Secure {
	s := admin.Secure{Keys: e.media.Keys(), Former: !e.isAlone()}
	for _, l := range e.listeners {
		s.Listeners = append(s.Listeners, l.Addr())
	}
	for _, t := range e.trunks {
		s.Trunks = append(s.Trunks, t.Peers()...)
	}
	return s
}

func (e *edge) health() error {
	if e.draining.Load() {
		return errors.New("the edge shuts down and takes no new calls")
	}
	return nil
}

func (e *edge) sources(judge *policy.Policy) []admin.Source {
	sources := []admin.Source{
		admin.Policy(judge.Stats),
		admin.SIP(e.proxy.Stats),
		admin.Media(e.media.Stats),
		admin.Certificates(e.certificate.Stats),
		admin.Clients(e.refusedClients),
		admin.Flows(e.plain.Addr().String(), e.plain.Stats),
	}
	if e.webhook != nil {
		sources = append(sources, e.webhook.metrics)
	}
	for _, s := range e.trunkPlain {
		sources = append(sources, admin.Flows(s.Addr().String(), s.Stats))
	}
	for _, t := range e.trunks {
		sources = append(sources, admin.Trunk(t.Name(), t.Stats))
	}
	for _, l := range e.listeners {
		sources = append(sources, admin.Flows(l.Addr().String(), l.Stats))
	}
	return sources
}

// refusedClients sums up what became of phones' certificates.
func (e *edge) refusedClients() map[string]uint64 {
	out := map[string]uint64{"other_user": e.proxy.Stats().OtherUsers}
	for _, l := range e.listeners {
		for reason, n := range l.Stats().Clients {
			out[reason] += n
		}
	}
	return out
}
