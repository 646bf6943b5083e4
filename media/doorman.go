package media

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/sallyport/sallyport/media/seam"
)

// This file is who may begin a handshake without ICE, where nothing but the
// certificate says whose it is.

const (
	// maxHandshakes bounds those that run at a time on one worker.
	maxHandshakes = 512
	// maxStrangers bounds those of unknown hosts among them, and maxSameHost
	// those of one host that a phone without ICE is expected at, once they have
	// shown that they are there (RFC 6347 section 4.2.1).
	maxStrangers = 16
	maxSameHost  = 8
	// maxUnproven bounds those of either that have not: anybody can write any
	// source into a ClientHello. It is how many it takes to displace an honest
	// one within its round trip. maxAllUnproven bounds those of all hosts.
	maxUnproven    = 64
	maxAllUnproven = 256
)

// doorman keeps a worker's handshakes.
type doorman struct {
	running  sync.WaitGroup // of their goroutines
	open     map[*association]struct{}
	nameless map[doorKey][]*association // without ICE, by where they come from
	waiting  []*transport               // without ICE, or not known to have it, which the phone may begin with
}

// doorKey is what a datagram without ICE is found by.
type doorKey struct {
	from netip.AddrPort
	kind uint8
}

func newDoorman() doorman {
	return doorman{open: make(map[*association]struct{}), nameless: make(map[doorKey][]*association)}
}

// nameless finds the handshake of a phone without ICE by its source, or lets
// it begin one. Whose it is, its certificate will say. One source may have
// several: what somebody else began in the phone's name is not in its way.
func (w *worker) nameless(s *secureSocket, from netip.AddrPort, p []byte) *association {
	key := doorKey{from, s.kind}
	if a := addressee(w.dtls.nameless[key], p); a != nil {
		return a
	}
	if len(w.dtls.waiting) == 0 || !isClientHello(p) {
		return nil
	}
	host, near := w.waitsFor(from.Addr(), s.kind)
	if !w.budget.knock(near) {
		return nil
	}
	w.makeRoom(from.Addr(), near)
	a := w.begin(&association{kind: s.kind, role: Passive, cert: host.cert, suites: host.params.Suites, from: from, sock: s, near: near, hello: helloOf(p)})
	if a != nil {
		insert(w.dtls.nameless, key, a)
	}
	return a
}

// isAnothers tells whether a ClientHello is left to another process on the same socket: the
// one before, which is given it, or the one after, which gave it. Here phones may begin
// before their answer says that they will, but nobody is expected: whoever that is one of
// comes again, and is expected then.
func (w *worker) isAnothers(s *secureSocket, from netip.AddrPort, p []byte) bool {
	_, yielded := w.seams[s]
	if s.past == nil && !yielded || !isClientHello(p) || addressee(w.dtls.nameless[doorKey{from, s.kind}], p) != nil ||
		slices.ContainsFunc(w.dtls.waiting, func(t *transport) bool { return t.said }) {
		return false
	}
	if s.past != nil && s.past.Pass(from, p) != seam.Vain {
		return true
	}
	if yielded {
		w.drop(nil, DropDTLS)
	}
	return yielded
}

// addressee is the one of a source's handshakes that a datagram is for: of a
// ClientHello the one with its random, of all else the newest whose source has
// answered a HelloVerifyRequest, or that we began.
func addressee(list []*association, p []byte) *association {
	hello := helloOf(p)
	for _, a := range slices.Backward(list) {
		if a.role == Active || hello == 0 && a.proven || hello != 0 && a.hello == hello {
			return a
		}
	}
	if len(list) > 0 && hello == 0 && len(p) > recordHeader && p[0] == recordHandshake && p[recordHeader] == clientHello {
		return list[len(list)-1] // a later part of a long one
	}
	return nil
}

// waitsFor finds a transport that a handshake from a host may be for, and
// tells whether one is expected there.
func (w *worker) waitsFor(host netip.Addr, kind uint8) (*transport, bool) {
	for _, t := range w.dtls.waiting {
		if t.uses(kind) && t.parts[kindRTP].hint.Addr() == host {
			return t, true
		}
	}
	return w.dtls.waiting[len(w.dtls.waiting)-1], false
}

// makeRoom bounds the handshakes that anybody can begin. Those of unknown hosts
// take each other's place, and those of one known host do, the oldest first. Who
// has shown to be there keeps its own against who has not.
func (w *worker) makeRoom(host netip.Addr, near bool) {
	unproven := func(a *association) bool { return !a.proven && a.near == near }
	w.displace(maxAllUnproven-1, unproven)
	w.displace(maxUnproven-1, func(a *association) bool { return unproven(a) && (!near || a.from.Addr() == host) })
}

// proves notes that a source has answered a HelloVerifyRequest.
func (w *worker) proves(a *association) {
	a.proven = true
	limit := maxStrangers
	if a.near {
		limit = maxSameHost
	}
	w.displace(limit, func(o *association) bool {
		return o.proven && o.near == a.near && (!a.near || o.from.Addr() == a.from.Addr())
	})
}

// displace ends the oldest handshake of a class that is nobody's yet, if there
// are more than a limit.
func (w *worker) displace(limit int, class func(*association) bool) {
	count := 0
	var oldest *association
	for a := range w.dtls.open {
		if a.transport != nil || !class(a) {
			continue
		}
		count++
		if oldest == nil || a.began < oldest.began {
			oldest = a
		}
	}
	if count > limit {
		w.end(oldest)
	}
}

// wait says whether a transport is one that a phone without ICE may begin a
// handshake with.
func (w *worker) wait(t *transport) {
	w.dtls.waiting = slices.DeleteFunc(w.dtls.waiting, func(o *transport) bool { return o == t })
	if _, ok := w.table.transports[t]; !ok {
		return
	}
	if !t.said || !t.params.ICE && t.params.Role == Passive && !t.complete() {
		w.dtls.waiting = append(w.dtls.waiting, t)
	}
}

// claims finds whose handshake one without ICE is: of the transports that wait
// for such a certificate, the one that expects it from just there, or from that
// host, or the one that has waited longest.
func (w *worker) claims(a *association) (best *transport) {
	rank := 0
	for _, t := range w.dtls.waiting {
		if !t.said || !t.uses(a.kind) || !t.awaits(a.kind) || !names(t.params.Fingerprints, a.done.peer) {
			continue
		}
		r := 1
		switch hint := t.parts[a.kind].hint; {
		case hint == a.from:
			r = 3
		case hint.Addr() == a.from.Addr():
			r = 2
		}
		if r > rank {
			best, rank = t, r
		}
	}
	if best == nil { // somebody is just there with another certificate
		for _, t := range w.dtls.waiting {
			if t.said && t.uses(a.kind) && t.parts[a.kind].hint == a.from {
				w.mistaken(t, a.kind)
			}
		}
	}
	return best
}
