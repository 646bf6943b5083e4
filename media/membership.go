package media

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// This file is how streams come to a transport and leave it, and how a
// transport ends that does not come about.

// failedEvery is how often a failure is told again to who did not act on it.
const failedEvery = 5 * time.Second

// join puts a stream on a transport: SetSecure without keys.
func (w *worker) join(st *stream, p SecureParams) error {
	if _, ok := w.table.all[st]; !ok { // the engine has ended
		return ErrClosed
	}
	t := p.Transport.t
	if _, ok := w.table.transports[t]; !ok {
		return ErrClosed
	}
	w.describe(st, p)
	w.table.isolate(st, false)
	st.fixed = false
	if st.transport == t {
		return nil
	}
	w.part(st)
	st.own.tx.part(st)
	w.table.settle(st)
	st.transport = t
	t.streams = append(t.streams, st)
	w.bind(t)
	for _, path := range t.paths {
		insert(w.table.byAddr, path.origin(), st)
	}
	if t.chosen != nil {
		w.pointStream(st, t.chosen)
	}
	for kind := range t.parts {
		w.reachedStream(st, t, uint8(kind))
		if t.uses(uint8(kind)) && t.parts[kind].prot.ready() { // the handshake was quicker than the description
			w.secured(st, uint8(kind))
		}
	}
	return nil
}

// part takes a stream off its transport, if it has one.
func (w *worker) part(st *stream) {
	t := st.transport
	if t == nil {
		return
	}
	st.transport = nil
	st.prot[kindRTP].tx.part(st)
	t.streams = slices.DeleteFunc(t.streams, func(o *stream) bool { return o == st })
	st.prot = [numKinds]*protection{&st.own, &st.own}
	w.table.retire(st, func(*lane) bool { return false })
	for _, path := range t.paths {
		remove(w.table.byAddr, path.origin(), st)
	}
	for kind := range t.parts {
		remove(w.table.byAddr, origin{AddrPort: t.parts[kind].from}, st)
		st.peers[kind].latched = netip.AddrPort{}
		st.peers[kind].reach(netip.AddrPort{}, nil)
	}
}

// bind gives the streams of a transport its keys.
func (w *worker) bind(t *transport) {
	for _, st := range t.streams {
		st.mux = !t.uses(kindRTCP)
		for kind := range st.prot {
			p := &t.parts[kindRTP]
			if t.uses(uint8(kind)) {
				p = &t.parts[kind]
			}
			st.prot[kind] = &p.prot
		}
	}
}

// sweepTransports ends what has had its time.
func (w *worker) sweepTransports() {
	for t := range w.table.transports {
		w.hangUpIdle(t)
		switch {
		case !t.said:
		case !t.keyed(kindRTP): // without RTCP of its own a call goes on
			if w.now-t.began >= int64(setupLimit) {
				w.fail(t)
			}
		case t.params.ICE && !t.consents(w.now):
			if t.chosen != nil {
				t.chosen = nil
				w.point(t, nil)
			}
			t.cause = fmt.Sprintf("ICE: the phone has checked no path for %s (RFC 7675)", consent)
			w.fail(t)
		}
		if w.now-t.began >= int64(setupLimit) {
			w.shut(t)
		}
	}
	for a := range w.dtls.open {
		age := w.now - a.began
		if a.transport == nil && age >= int64(setupLimit) {
			w.end(a)
		}
		if t := a.transport; t != nil && a.done != nil && age >= int64(linger) {
			w.giveUp(&t.parts[a.kind])
		}
	}
}

// shut ends the time in which a phone that has keys may handshake in its new role.
func (w *worker) shut(t *transport) {
	for kind := range t.parts {
		if t.parts[kind].anew {
			t.parts[kind].anew = false
			w.wait(t)
		}
	}
}

// linger is for how long a handshake that is done answers what is repeated, if
// nothing is heard under its keys.
const linger = time.Minute

// fail tells a transport's owner that it did not come about, and why.
func (w *worker) fail(t *transport) {
	if t.told != 0 && w.now-t.told < int64(failedEvery) {
		return
	}
	t.told = max(w.now, 1)
	cause := t.cause
	if cause == "" {
		cause = t.missing()
	}
	w.events.put(t.session, Event{Kind: Failed, Cause: cause})
}

// missing says what a transport waits for.
func (t *transport) missing() string {
	switch {
	case t.params.ICE && len(t.paths) == 0:
		return fmt.Sprintf("ICE: no check of the phone came in %s; can it reach the media ports?", setupLimit)
	case t.params.ICE && t.chosen == nil:
		return "ICE: the phone nominated no path"
	case t.params.Role == Active:
		return "DTLS: the phone did not answer"
	}
	return "DTLS: the phone did not begin"
}
