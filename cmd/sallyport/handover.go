package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/cmd/internal/succession"
	"github.com/sallyport/sallyport/media/seam"
	"github.com/sallyport/sallyport/sipproxy/flow"
)

const (
	// readyWithin is how long a new process may take until it could serve.
	readyWithin = time.Minute
	// dismissEvery is when connections that nothing needs are closed, some at a time:
	// a hundredth of those there were, so that phones come to the new process within
	// ten seconds, and not all at once.
	dismissEvery = 100 * time.Millisecond
	// gently is for how long no phone is sent on in the middle of what it has to say.
	gently = 30 * time.Second
	// An heir that dies is followed by another at once; if that one dies, too, or can't
	// start, after a pause that doubles, up to the longest.
	firstPause   = time.Second
	longestPause = 30 * time.Second
	// lived is for how long an heir must have served to be none that dies at once.
	lived = time.Minute
)

// errOrphaned ends a process whose calls are over while no other serves: whoever started
// it may start it anew.
var errOrphaned = errors.New("the process that served is gone, and no other could be started")

// heirlooms are the sockets that are handed on, a seam from the heir for each of UDP, and
// the keys of session tickets. outs are our ends of the seams, by the socket's address;
// ins are what is the heir's alone. Sockets of TCP are left once: an heir after the first
// one binds them anew.
type heirlooms struct {
	left []succession.Heirloom
	outs map[netip.AddrPort]int
	ins  []int
	err  error
}

func (h *heirlooms) leave(name string, fd int, err error) {
	h.err = errors.Join(h.err, err)
	h.left = append(h.left, succession.Heirloom{Name: name, FD: fd})
}

func (h *heirlooms) leaveUDP(at netip.AddrPort, fd int, err error) {
	h.leave(udp(at), fd, err)
	out, in, err := seam.Pair()
	h.leave("seam "+at.String(), in, err)
	if err == nil {
		h.outs[at], h.ins = out, append(h.ins, in)
	}
}

// leaveTickets leaves keys, which the heir can do without.
func (h *heirlooms) leaveTickets(keys []byte, log *slog.Logger) {
	defer clear(keys)
	c, err := succession.Content(sessionTickets, keys)
	if err != nil {
		log.Warn("phones will make full handshakes with the new process", "reason", err)
		return
	}
	h.left, h.ins = append(h.left, c), append(h.ins, c.FD)
}

// udp is the name under which a socket is left.
func udp(at netip.AddrPort) string { return "udp " + at.String() }

// close gives up what is only the heir's, which has its own descriptors.
func (h *heirlooms) close() {
	for _, fd := range h.ins {
		_ = unix.Close(fd)
	}
}

// heirlooms collects them.
func (e *edge) heirlooms(first bool) *heirlooms {
	h := &heirlooms{outs: make(map[netip.AddrPort]int)}
	for _, s := range e.plainSockets() {
		fd, err := s.Heirloom()
		h.leaveUDP(s.Addr(), fd, err)
	}
	media, err := e.media.Heirlooms()
	h.err = errors.Join(h.err, err)
	for _, m := range media {
		if m.Network == "udp" {
			h.leaveUDP(m.Addr, m.FD, nil)
		} else {
			h.leave(m.Network+" "+m.Addr.String(), m.FD, nil)
		}
	}
	h.leaveTickets(e.certificate.Tickets(), e.log)
	if !first {
		return h
	}
	for _, l := range e.listeners {
		fd, err := l.Heirloom()
		h.leave("tcp "+l.Addr().String(), fd, err)
	}
	fd, err := e.admin.Heirloom()
	h.leave("tcp "+e.admin.Addr().String(), fd, err)
	fd, err = e.control.Heirloom()
	h.leave(unixControl, fd, err)
	return h
}

// plainSockets are those towards the PBXs.
func (e *edge) plainSockets() []*flow.PlainSocket {
	return append(e.trunkPlain[:len(e.trunkPlain):len(e.trunkPlain)], e.plain)
}

// succeed starts the binary anew and leaves it all that the next calls need, unless stop
// ends before it is ready: who tells this process to end means the edge. An error tells
// why nothing has changed.
func (e *edge) succeed(stop context.Context, yield func()) (*succession.Heir, error) {
	if stop.Err() != nil {
		return nil, errLast
	}
	e.log.Info("upgrade: starting the new process", "binary", e.binary)
	heir, outs, err := e.raise(stop, true)
	if err != nil && stop.Err() != nil {
		return nil, errLast
	}
	if err != nil {
		e.log.Error("upgrade failed; this process goes on as before", "reason", err)
		return nil, err
	}
	e.policy.Save() // the heir reads it again
	e.ledger.seal()
	for _, l := range e.listeners {
		l.StopAccepting()
	}
	for _, t := range e.trunks {
		t.Retire(func() bool { return e.proxy.IsUsing(t.Name()) })
	}
	e.proxy.Yield()
	e.certificate.Yield()
	e.control.Yield()
	e.yieldTo(heir, outs)
	e.estate.Tell(succession.Yielded)
	yield()
	return heir, nil
}

// yieldTo leaves the heir the sockets that it took, and has it begin. This one goes
// on to read the others, which the configuration no longer has, for its calls by them.
func (e *edge) yieldTo(heir *succession.Heir, outs map[netip.AddrPort]int) {
	for _, s := range e.plainSockets() {
		if out, ok := outs[s.Addr()]; ok {
			s.Yield(out)
			delete(outs, s.Addr())
		}
	}
	if err := e.media.Yield(outs); err != nil {
		e.log.Error("calls may lose their sound", "reason", err)
	}
	if err := heir.Yield(); err != nil {
		e.log.Error("upgrade", "reason", err) // it has died since; handOver sees so too
	}
	for _, name := range e.proxy.Unanswered() {
		heir.Tell(succession.Asked + name)
	}
	e.ledger.leaveTo(heir)
	notifyMain(heir.Pid()) // before this one may end, which is the one that is watched
}

// raise starts the heir and waits until it could serve, or stop ends. outs are our ends of
// the seams of what it took.
func (e *edge) raise(stop context.Context, first bool) (heir *succession.Heir, outs map[netip.AddrPort]int, err error) {
	h := e.heirlooms(first)
	defer h.close()
	err = h.err
	if err == nil {
		e.heirs++
		heir, err = succession.Start(e.binary, e.estate.Generation()+e.heirs, h.left)
	}
	if err == nil {
		err = heir.Await(stop, readyWithin)
	}
	for at, fd := range h.outs {
		if err != nil || !heir.Took(udp(at)) {
			_ = unix.Close(fd)
			delete(h.outs, at)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	return heir, h.outs, nil
}

// remainder is the rest of a process that another has followed.
type remainder struct {
	*edge
	heir   *succession.Heir // nil: it is gone
	said   <-chan string    // by the heir
	since  time.Time        // when the heir began to serve
	reigns bool             // the heir has none of its own
	next   *time.Timer      // raises another
	pause  time.Duration    // before that
	vain   bool             // the last that was to be raised could not be
	atOnce int              // connections to dismiss at a time
}

// handOver lasts until the calls have ended, and phones without one have gone to the
// heir. If that dies, this process takes its sockets back, so that its calls go on, and
// raises another. An error tells that nobody serves.
func (e *edge) handOver(ctx, stop, hurry context.Context, heir *succession.Heir) error {
	r := &remainder{edge: e, next: time.NewTimer(0)}
	r.next.Stop()
	defer r.next.Stop()
	r.follow(heir)
	e.log.Info("upgraded: another process serves; this one ends with its calls", "pid", heir.Pid(), "calls", e.proxy.Calls(), "at_most", e.handover)
	over := time.NewTimer(e.handover)
	defer over.Stop()
	tick := time.NewTicker(dismissEvery)
	defer tick.Stop()
	r.atOnce = e.dismiss(0, true)/100 + 1
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if r.isOver() {
				return r.outcome()
			}
			continue
		case <-over.C:
			e.log.Warn("edge.handover is over; the calls that are left are hung up", "calls", e.proxy.Calls())
			ended, end := context.WithCancel(ctx)
			end()
			e.leave(ctx, ended)
			return r.outcome()
		case <-r.next.C:
			r.again(stop)
			continue
		case <-stop.Done():
			if r.heir == nil {
				notify(leaving)
			}
		case word, ok := <-r.said:
			if r.hears(word, ok) {
				continue
			}
		}
		e.leave(ctx, r.hurried(hurry))
		return nil
	}
}

// follow has an heir be the one that serves.
func (r *remainder) follow(heir *succession.Heir) {
	r.heir, r.said, r.since, r.reigns, r.vain = heir, heir.Said(), time.Now(), true, false
}

// isOver tells whether nothing is left. Phones without a call are sent on while there is
// somebody to go to.
func (r *remainder) isOver() bool {
	left := 0
	if r.heir != nil {
		left = r.dismiss(r.atOnce, time.Since(r.since) < gently)
	} else if !r.vain {
		return false
	}
	return left == 0 && r.proxy.Calls() == 0 && !r.proxy.Owes() && r.isAlone()
}

// outcome is how the process ends.
func (r *remainder) outcome() error {
	if r.heir == nil {
		return errOrphaned
	}
	r.log.Info("nothing is left of the time before the upgrade; this process ends")
	return nil
}

// hears takes a word of the heir, or its end, and tells whether all goes on.
func (r *remainder) hears(word string, alive bool) bool {
	switch {
	case alive && word == succession.Kept:
		r.policy.Restore()
		r.estate.Tell(word)
		return true
	case alive:
		r.reigns = r.reigns && word != succession.Yielded
		return word != succession.Drain
	case !r.reigns: // its own heir has the sockets
		r.log.Error("the process after this one is gone, by which its packets came; its calls have no sound any longer")
		return false
	}
	r.log.Error("the process that serves is gone; this one goes on with its own calls, and starts another. Calls of that one are lost", "pid", r.heir.Pid(), "calls", r.proxy.Calls())
	r.heir, r.said = nil, nil
	r.ledger.leaveTo(nil)
	for _, s := range r.plainSockets() {
		s.Resume()
	}
	if err := r.media.Resume(); err != nil {
		r.log.Error("calls may lose their sound", "reason", err)
	}
	notifyMain(os.Getpid())
	if time.Since(r.since) >= lived {
		r.pause = 0
	}
	r.later()
	return true
}

// later raises an heir after the pause, which grows.
func (r *remainder) later() {
	r.next.Reset(r.pause)
	r.pause = min(max(2*r.pause, firstPause), longestPause)
}

// again raises another heir, unless stop ends before it is ready.
func (r *remainder) again(stop context.Context) {
	heir, outs, err := r.raise(stop, false)
	if err != nil && stop.Err() != nil {
		return
	}
	if err != nil {
		r.vain = true
		r.log.Error("no other process could be started; trying on", "reason", err, "pause", r.pause)
		r.later()
		return
	}
	r.follow(heir)
	r.yieldTo(heir, outs)
	r.log.Info("another process serves", "pid", heir.Pid())
}

// hurried ends with a context, or when the heir says so, or is gone.
func (r *remainder) hurried(ctx context.Context) context.Context {
	if r.heir == nil {
		return ctx
	}
	soon, cancel := context.WithCancel(ctx)
	go func() { // ends with the heir
		defer cancel()
		for word := range r.said {
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
func (e *edge) dismiss(most int, gently bool) (left int) {
	idle := e.proxy.Idle()
	for _, l := range e.listeners {
		left += l.Dismiss(idle, most, gently)
	}
	for _, t := range e.trunks {
		left += t.Dismiss(idle, most, gently)
	}
	return left
}
