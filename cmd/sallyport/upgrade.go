package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/cmd/internal/admin"
	"github.com/sallyport/sallyport/cmd/internal/succession"
	"github.com/sallyport/sallyport/media/seam"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sipproxy/flow"
)

const (
	// readyWithin is how long a new process may take until it could serve.
	readyWithin = time.Minute
	// dismissEvery is when connections that nothing needs are closed, some at a time:
	// a hundredth of those there were, so that phones come to the new process within
	// ten seconds, and not all at once.
	dismissEvery = 100 * time.Millisecond
	// upgradePatience is longer than the edge may take to answer.
	upgradePatience = readyWithin + 10*time.Second
)

// unixControl is the name under which the control socket is handed on.
const unixControl = "unix control"

// inherit takes what a process before this one left of an address.
func (p plan) inherit(network string, at netip.AddrPort) (fd int, ok bool) {
	return p.estate.Take(network + " " + at.String())
}

func (p plan) inheritListener(name string) (net.Listener, error) {
	fd, ok := p.estate.Take(name)
	if !ok {
		return nil, nil
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close() // FileListener has a descriptor of its own
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take over %s: %w", name, err)
	}
	return l, nil
}

// listenTCP binds an address for phones, or takes the listener that is bound already.
func (p plan) listenTCP(at netip.AddrPort) (net.Listener, error) {
	if l, err := p.inheritListener("tcp " + at.String()); l != nil || err != nil {
		return l, err
	}
	return flow.Listen(at)
}

// listenPlain does so with an address for PBXs, and with the seam to the process that
// has calls by it.
func (p plan) listenPlain(at netip.AddrPort, keepOff func(int) error, to flow.Handler, log *slog.Logger) (s *flow.PlainSocket, err error) {
	if fd, ok := p.inherit("udp", at); ok {
		s, err = flow.TakePlain(fd, p.limits, to, log)
	} else {
		s, err = flow.ListenPlain(at, keepOff, p.limits, to, log)
	}
	if err != nil {
		return nil, err
	}
	if fd, ok := p.inherit("seam", at); ok {
		s.Follow(fd)
	}
	return s, nil
}

func (e *edge) buildControl(p plan, judge *policy.Policy) error {
	operations := admin.Operations{Bans: judge, Trunks: e.trunkStates, Keys: e, Upgrade: e.upgrade}
	l, err := p.inheritListener(unixControl)
	switch {
	case err != nil:
		return err
	case l != nil:
		e.control = admin.TakeControl(l, operations, e.log)
		return nil
	}
	e.control, err = admin.NewControl(filepath.Join(p.tls.StateDir, controlSocket), operations, e.log)
	return err
}

// ledger is kept by one process at a time.
type ledger struct {
	policy.Ledger
	sealed atomic.Bool
}

// Save implements policy.Ledger.
func (l *ledger) Save(k policy.Kept) error {
	if l.sealed.Load() {
		return nil
	}
	return l.Ledger.Save(k)
}

// upgrade asks for the process to be replaced by its binary, as it is on the disk now.
// It returns when it is, or why it is not.
func (e *edge) upgrade() error {
	asked := make(chan error, 1)
	select {
	case e.upgrades <- asked:
		return <-asked
	case <-e.last:
		return errors.New("the edge shuts down, or is upgraded already")
	}
}

// upgradeAsked is that at SIGUSR2. The log tells the outcome.
func (e *edge) upgradeAsked() { _ = e.upgrade() }

// heirlooms are the sockets that are handed on, and a seam from the heir for each of
// UDP: outs are our ends of those, by the socket's address; ins are the heir's.
func (e *edge) heirlooms() (left []succession.Heirloom, outs map[netip.AddrPort]int, ins []int, err error) {
	outs = make(map[netip.AddrPort]int)
	leave := func(name string, fd int, failed error) {
		err = errors.Join(err, failed)
		left = append(left, succession.Heirloom{Name: name, FD: fd})
	}
	udp := func(at netip.AddrPort, fd int, failed error) {
		leave("udp "+at.String(), fd, failed)
		out, in, failed := seam.Pair()
		leave("seam "+at.String(), in, failed)
		if failed == nil {
			outs[at], ins = out, append(ins, in)
		}
	}
	for _, s := range append(e.trunkPlain[:len(e.trunkPlain):len(e.trunkPlain)], e.plain) {
		fd, failed := s.Heirloom()
		udp(s.Addr(), fd, failed)
	}
	for _, l := range e.listeners {
		fd, failed := l.Heirloom()
		leave("tcp "+l.Addr().String(), fd, failed)
	}
	fd, failed := e.admin.Heirloom()
	leave("tcp "+e.admin.Addr().String(), fd, failed)
	fd, failed = e.control.Heirloom()
	leave(unixControl, fd, failed)
	media, failed := e.media.Heirlooms()
	err = errors.Join(err, failed)
	for _, h := range media {
		if h.Network == "udp" {
			udp(h.Addr, h.FD, nil)
		} else {
			leave(h.Network+" "+h.Addr.String(), h.FD, nil)
		}
	}
	return left, outs, ins, err
}

// succeed starts the binary anew and leaves it all that the next calls need. An error
// tells why nothing has changed.
func (e *edge) succeed(yield func()) (*succession.Heir, error) {
	e.log.Info("upgrade: starting the new process", "binary", e.binary)
	heir, outs, err := e.raise()
	if err != nil {
		for _, fd := range outs {
			_ = unix.Close(fd)
		}
		e.log.Error("upgrade failed; this process goes on as before", "reason", err)
		return nil, err
	}
	e.ledger.sealed.Store(true)
	for _, l := range e.listeners {
		l.StopAccepting()
	}
	for _, t := range e.trunks {
		t.Retire()
	}
	e.proxy.Yield()
	for _, s := range append(e.trunkPlain[:len(e.trunkPlain):len(e.trunkPlain)], e.plain) {
		s.Yield(outs[s.Addr()])
		delete(outs, s.Addr())
	}
	if err := e.media.Yield(outs); err != nil {
		e.log.Error("calls may lose their sound", "reason", err)
	}
	e.control.Yield()
	if err := heir.Yield(); err != nil {
		e.log.Error("upgrade", "reason", err) // it has died since; handOver sees so too
	}
	yield()
	return heir, nil
}

// raise starts the heir and waits until it could serve. outs are our ends of the seams.
func (e *edge) raise() (heir *succession.Heir, outs map[netip.AddrPort]int, err error) {
	left, outs, ins, err := e.heirlooms()
	defer func() {
		for _, fd := range ins {
			_ = unix.Close(fd) // the heir has its own
		}
	}()
	if err != nil {
		return nil, outs, err
	}
	if heir, err = succession.Start(e.binary, e.estate.Generation()+1, left); err != nil {
		return nil, outs, err
	}
	return heir, outs, heir.Await(readyWithin)
}

// handOver is the rest of a process that another has followed: its calls end, and
// phones without one come to the other. It returns when nothing is left.
func (e *edge) handOver(ctx, stop, hurry context.Context, heir *succession.Heir) {
	e.log.Info("upgraded: another process serves; this one ends with its calls", "pid", heir.Pid(), "calls", e.proxy.Calls(), "at_most", e.handover)
	over := time.NewTimer(e.handover)
	defer over.Stop()
	tick := time.NewTicker(dismissEvery)
	defer tick.Stop()
	at := e.dismiss(0)/100 + 1
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if e.dismiss(at) == 0 && e.proxy.Calls() == 0 && e.isAlone() {
				e.log.Info("nothing is left of the time before the upgrade; this process ends")
				return
			}
			continue
		case <-over.C:
			e.log.Warn("edge.handover is over; the calls that are left are hung up", "calls", e.proxy.Calls())
			ended, end := context.WithCancel(ctx)
			end()
			e.leave(ctx, ended)
			return
		case <-stop.Done():
		case word, ok := <-heir.Said():
			if ok && word != succession.Drain {
				continue
			}
			if !ok {
				e.log.Error("the process that serves is gone; calls of this one have no sound any longer")
			}
		}
		e.leave(ctx, hurried(hurry, heir))
		return
	}
}

// hurried ends with a context, or when the heir says so, or is gone.
func hurried(ctx context.Context, heir *succession.Heir) context.Context {
	soon, cancel := context.WithCancel(ctx)
	go func() { // ends with the heir
		defer cancel()
		for word := range heir.Said() {
			if word == succession.Hurry {
				return
			}
		}
	}()
	return soon
}

// isAlone tells whether no process before this one is left, which hears by our sockets.
func (e *edge) isAlone() bool {
	select {
	case <-e.estate.Gone():
		return true
	default:
		return false
	}
}

// dismiss closes connections that nothing needs, so many at most, and tells how many
// there are.
func (e *edge) dismiss(most int) (left int) {
	for _, l := range e.listeners {
		left += l.Dismiss(e.proxy.IsIdle, most)
	}
	for _, t := range e.trunks {
		left += t.Dismiss(e.proxy.IsIdle, most)
	}
	return left
}

// notifySystemd tells the service manager, if there is one, that this is the process
// to watch (sd_notify(3)).
func notifySystemd() {
	at := os.Getenv("NOTIFY_SOCKET")
	if at == "" {
		return
	}
	c, err := net.Dial("unixgram", at) // a leading @ is an abstract name to both
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprintf(c, "MAINPID=%d\nREADY=1\n", os.Getpid())
}

// upgradeCommand has the edge that runs replaced, and tells the outcome.
func upgradeCommand(c console, args []string) int {
	flags := newFlags("upgrade")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	if status, ok := parse(c, flags, args); !ok {
		return status
	}
	cfg, doc := load(*path)
	if doc.unreadable {
		report(c.err, doc.sorted())
		return exitFault
	}
	client := admin.ControlClient(filepath.Join(cfg.Edge.StateDir, controlSocket))
	client.Timeout = upgradePatience
	res, err := client.Post("http://control/upgrade", "", nil)
	if errors.Is(err, os.ErrNotExist) {
		err = errors.New("no edge runs with this configuration")
	}
	if err != nil {
		fmt.Fprintf(c.err, "sallyport upgrade: %v\n", err)
		return exitFault
	}
	defer res.Body.Close()
	said, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil || res.StatusCode != http.StatusOK {
		fmt.Fprintf(c.err, "sallyport upgrade: the former process goes on: %s\n", strings.TrimSpace(string(said)))
		return exitFault
	}
	fmt.Fprintln(c.out, "the new process serves; the one before it ends with its calls")
	return exitOK
}
