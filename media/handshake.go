package media

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pion/dtls/v3/pkg/protocol/alert"
	"github.com/pion/transport/v5/packetio"
)

// This file is the worker's part of DTLS: which handshake a datagram is for,
// and whose keys come out of it.

// fromDTLS takes a datagram of the secure side that may belong to a handshake.
// It reaches one of a transport whose check came from there, or one that its
// source began.
func (w *worker) fromDTLS(s *secureSocket, from netip.AddrPort, p []byte) {
	a := w.expected(s, from, p)
	if a == nil && s.conn == nil { // what comes by TCP does ICE
		if w.isAnothers(s, from, p) {
			return
		}
		a = w.nameless(s, from, p)
	}
	if a == nil {
		w.strange(s, from, p, nil, DropDTLS)
		return
	}
	if !a.admissible(p) || !a.feed(p) {
		w.drop(nil, DropDTLS)
	}
}

// expected finds the handshake of a transport with ICE. A ClientHello that
// comes before the description that says who begins starts one as well: its
// keys wait until then.
func (w *worker) expected(s *secureSocket, from netip.AddrPort, p []byte) *association {
	var best *transport
	var heard int64
	for _, t := range w.table.byPath[s.origin(from)] {
		if path := t.path(from, s); path != nil && (best == nil || path.checked > heard) {
			best, heard = t, path.checked
		}
	}
	if best == nil {
		return nil
	}
	part := &best.parts[kindRTP]
	if part.dtls == nil && (!best.said || best.params.Role == Passive && best.awaits(kindRTP)) && isClientHello(p) {
		part.dtls = w.begin(&association{transport: best, role: Passive, cert: best.cert, suites: best.params.Suites, from: from, sock: s})
	}
	return part.dtls
}

// begin starts a handshake, unless too many run.
func (w *worker) begin(a *association) *association {
	if len(w.dtls.open) >= maxHandshakes || w.control.ended {
		return nil
	}
	a.worker, a.began, a.in = w, w.now, packetio.NewBuffer()
	a.in.SetLimitCount(datagrams)
	w.dtls.open[a] = struct{}{}
	w.dtls.running.Add(1)
	go a.run() // see association
	return a
}

// end forgets a handshake.
func (w *worker) end(a *association) {
	a.stop()
	delete(w.dtls.open, a)
	remove(w.dtls.nameless, doorKey{a.from, a.kind}, a)
}

// giveUp ends a part's handshake, if it has one.
func (w *worker) giveUp(p *part) {
	if p.dtls != nil {
		w.end(p.dtls)
		p.dtls = nil
	}
}

// sendDTLS sends what a handshake has to say.
func (w *worker) sendDTLS(a *association, p []byte) {
	if _, ok := w.dtls.open[a]; !ok {
		return
	}
	if !a.proven && isServerHello(p) {
		w.proves(a)
	}
	to := peer{}
	switch {
	case a.transport != nil && a.transport.params.ICE || a.transport != nil && !a.transport.said:
		if path := a.transport.best(); path != nil {
			to.reach(path.addr, path.sock)
		}
	default:
		to.reach(a.from, a.sock)
	}
	if to.sock == nil || !to.sock.send(p, &to.to) {
		w.drop(nil, DropSend)
	}
}

// start is Transport.Start.
func (w *worker) start(t *transport, p TransportParams) {
	if _, ok := w.table.transports[t]; !ok {
		return
	}
	again := t.said && slices.Equal(t.params.Fingerprints, p.Fingerprints) && t.params.Role == p.Role &&
		t.params.RTCPMux == p.RTCPMux && t.params.ICE == p.ICE && (p.ICE || p.Role == Passive || t.params.Hint == p.Hint && t.params.RTCPHint == p.RTCPHint)
	if !again || !t.keyed(kindRTP) { // a phone may begin with the last of several answers
		t.began = w.now
	}
	if !again {
		t.cause, t.told = "", 0
		for kind := range t.parts { // of another certificate or role the keys will be others
			part := &t.parts[kind]
			if t.said {
				w.giveUp(part)
				part.anew = part.anew || p.Role != t.params.Role && t.keyed(uint8(kind))
			}
		}
	}
	t.said, t.params = true, p
	t.parts[kindRTP].hint, t.parts[kindRTCP].hint = p.Hint, p.RTCPHint
	w.bind(t)
	if !p.ICE {
		w.hangUpAll(t)
	}
	if again {
		return
	}
	if a := t.parts[kindRTP].dtls; a != nil { // begun by the phone, before
		if p.Role == Active {
			w.giveUp(&t.parts[kindRTP])
		} else if a.done != nil {
			w.settle(a)
		}
	}
	w.wait(t)
	w.greet(t)
	for a := range w.dtls.open {
		if a.transport == nil && a.done != nil {
			w.settle(a)
		}
	}
}

// greet begins the handshakes that are ours to begin.
func (w *worker) greet(t *transport) {
	if !t.said || t.params.Role != Active {
		return
	}
	for kind := range t.parts {
		part := &t.parts[kind]
		if !t.uses(uint8(kind)) || part.dtls != nil || !t.awaits(uint8(kind)) {
			continue
		}
		a := &association{transport: t, kind: uint8(kind), role: Active, cert: t.cert, suites: t.params.Suites}
		if t.params.ICE {
			if t.best() == nil {
				continue
			}
		} else {
			a.from, a.sock = part.hint, w.socketFor(part.hint.Addr(), uint8(kind))
			if a.sock == nil {
				continue
			}
		}
		if part.dtls = w.begin(a); part.dtls != nil && !t.params.ICE {
			insert(w.dtls.nameless, doorKey{a.from, a.kind}, a)
		}
	}
}

// shook takes the end of a handshake.
func (w *worker) shook(a *association, s *secret, err error) {
	if _, ok := w.dtls.open[a]; !ok {
		return
	}
	if err != nil {
		if t := a.transport; t != nil {
			t.cause = a.complaint(err)
			if t.parts[a.kind].dtls == a {
				t.parts[a.kind].dtls = nil // the phone may begin again
			}
		}
		w.end(a)
		return
	}
	a.done = s
	w.settle(a)
}

// complaint says why a handshake failed, for the log.
func (a *association) complaint(err error) string {
	if said := a.alert.Load(); said != 0 {
		return fmt.Sprintf("DTLS: the phone seems to have refused it (%s)", alert.Description(said))
	}
	return fmt.Sprintf("DTLS: %v", err)
}

// settle gives the keys of a handshake that is done to the transport that
// named its certificate. Before one has, they wait.
func (w *worker) settle(a *association) {
	t := a.transport
	if t == nil {
		if t = w.claims(a); t == nil {
			return
		}
		w.giveUp(&t.parts[a.kind])
		a.transport, t.parts[a.kind].dtls = t, a
	}
	if !t.said {
		return
	}
	if !names(t.params.Fingerprints, a.done.peer) {
		w.giveUp(&t.parts[a.kind])
		w.mistaken(t, a.kind)
		return
	}
	if err := w.key(t, a); err != nil {
		t.cause = fmt.Sprintf("DTLS: %v", err)
		w.giveUp(&t.parts[a.kind])
	}
}

// mistaken tells that another certificate came than the one that a transport's phone named.
// Keys that it has go on.
func (w *worker) mistaken(t *transport, kind uint8) {
	t.cause = "DTLS: the phone's certificate is not the one that its description names"
	if !t.keyed(kind) {
		w.fail(t)
	}
}

// key puts the keys of a handshake in force.
func (w *worker) key(t *transport, a *association) error {
	part := &t.parts[a.kind]
	rx, err := newOpener(a.done.rx)
	if err != nil {
		return err
	}
	tx, err := newSealer(a.done.tx)
	if err != nil {
		return err
	}
	part.prot.rx.set(rx, w.now)
	if part.prot.tx.set(tx, false, w.now) {
		part.prot.tx.restart()
	}
	part.peer, part.anew = a.done.peer, false
	t.cause, t.told = "", 0
	if !t.params.ICE {
		w.reached(t, a)
	}
	w.wait(t)
	for _, st := range t.streams {
		w.secured(st, a.kind)
	}
	return nil
}

// secured tells a stream's owner that it has keys, and of whom.
func (w *worker) secured(st *stream, kind uint8) {
	t := st.transport
	ev := Event{Kind: Secured, Stream: st.index, Remote: t.parts[kind].from}
	if path := t.best(); t.params.ICE && path != nil {
		ev.Remote, ev.TCP = path.addr, path.sock.conn != nil
	}
	w.events.put(st.session, ev)
}

// reached latches the streams of a transport without ICE to where their
// handshake came from. From there on they follow what verifies, as all do.
func (w *worker) reached(t *transport, a *association) {
	before := origin{AddrPort: t.parts[a.kind].from}
	t.parts[a.kind].from = a.from
	for _, st := range t.streams {
		if !st.comesFrom(before) {
			remove(w.table.byAddr, before, st)
		}
		w.reachedStream(st, t, a.kind)
	}
}

func (w *worker) reachedStream(st *stream, t *transport, kind uint8) {
	from := t.parts[kind].from
	if !from.IsValid() {
		return
	}
	st.peers[kind].latched = from
	st.peers[kind].reach(from, w.socketFor(from.Addr(), kind))
	insert(w.table.byAddr, origin{AddrPort: from}, st)
}

// spoken ends a handshake whose keys were heard: the phone has them too, and
// has nothing to repeat.
func (w *worker) spoken(st *stream, kind uint8) {
	if t := st.transport; t != nil {
		if !t.uses(kind) {
			kind = kindRTP
		}
		if p := &t.parts[kind]; p.dtls != nil && p.dtls.done != nil {
			w.giveUp(p)
		}
	}
}

// complete tells whether no part that is used awaits a handshake.
func (t *transport) complete() bool {
	for kind := range t.parts {
		if t.uses(uint8(kind)) && t.awaits(uint8(kind)) {
			return false
		}
	}
	return true
}

// awaits tells whether a handshake may come for a part.
func (t *transport) awaits(kind uint8) bool { return t.parts[kind].anew || !t.keyed(kind) }

// keyed tells whether a part has keys under the certificate named last.
func (t *transport) keyed(kind uint8) bool {
	peer := t.parts[kind].peer
	return peer != nil && names(t.params.Fingerprints, peer)
}
