package media

import (
	"crypto/rand"
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	// maxPaths bounds the addresses of one transport that valid checks came
	// from. A phone has a few networks, each with a few candidates.
	maxPaths = 16
	// steady is for how long a nomination stands against one of lower
	// priority: phones that nominate aggressively (RFC 5245 section 8.1.1.2)
	// nominate all their paths, and mean the best.
	steady = 2 * time.Second
	// consent is for how long media is sent to a phone that checks no more
	// (RFC 7675 section 5.1).
	consent = 30 * time.Second
	// renewal is how long after the first nomination a check must come to be
	// one that renews consent. Those that find the path are over by then, and
	// who renews does so each 5 s (RFC 7675 section 5.1).
	renewal = 10 * time.Second
)

// path is where valid checks of a transport came from: the source, and our
// socket, which for TCP is the connection itself.
type path struct {
	addr      netip.AddrPort
	sock      *secureSocket
	priority  uint32 // as the phone computed it (RFC 8445 section 7.1.1)
	checked   int64  // when the last valid check came
	nominated int64  // when the last one with USE-CANDIDATE came; 0: never
}

// newCredentials makes ours. The first two characters of the user fragment
// are the worker's, so that a TCP connection's first check says whose it is.
func newCredentials(worker int) Credentials {
	var b [2 + 6 + 18]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	text := base64.RawStdEncoding.EncodeToString
	return Credentials{Ufrag: workerTag(worker) + text(b[2:8]), Pwd: text(b[8:])}
}

// tagDigits are what a user fragment may be made of (RFC 8839 section 5.4).
const tagDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// workerTag is a worker's number as two characters of a user fragment.
func workerTag(n int) string { return string([]byte{tagDigits[n>>6&63], tagDigits[n&63]}) }

// workerOf reads the number of the worker that made a user fragment.
func workerOf(ufrag []byte) (int, bool) {
	if len(ufrag) < 2 {
		return 0, false
	}
	high, low := strings.IndexByte(tagDigits, ufrag[0]), strings.IndexByte(tagDigits, ufrag[1])
	return high<<6 | low, high >= 0 && low >= 0
}

// admit takes a transport in.
func (w *worker) admit(t *transport) error {
	if w.control.ended {
		return ErrClosed
	}
	w.table.transports[t] = struct{}{}
	w.table.agents[t.creds[0].Ufrag] = agent{t, t.creds[0]}
	w.wait(t)
	return nil
}

// dismiss lets a transport go. It may be called again.
func (w *worker) dismiss(t *transport) {
	for len(t.streams) > 0 {
		w.part(t.streams[0])
	}
	for kind := range t.parts {
		w.giveUp(&t.parts[kind])
	}
	for _, c := range t.creds {
		delete(w.table.agents, c.Ufrag)
	}
	for len(t.paths) > 0 {
		w.leave(t, t.paths[0])
	}
	delete(w.table.transports, t)
	w.hangUpAll(t)
	w.wait(t)
}

// restart gives a transport new credentials. Of those before, the ones that
// the path in use was nominated under still count.
func (w *worker) restart(t *transport) Credentials {
	fresh := newCredentials(w.index)
	if _, ok := w.table.transports[t]; !ok {
		return fresh
	}
	if len(t.creds) > 1 {
		delete(w.table.agents, t.creds[1].Ufrag)
		t.creds = t.creds[:1]
	}
	t.creds = append(t.creds, fresh)
	w.table.agents[fresh.Ufrag] = agent{t, fresh}
	return fresh
}

// checked takes a check that is the phone's: its source can be sent to.
func (w *worker) checked(a agent, s *secureSocket, from netip.AddrPort, priority uint32, nominates bool) {
	t := a.transport
	p := t.path(from, s)
	if p == nil {
		if p = w.discover(t, from, s); p == nil {
			return
		}
	}
	p.checked, p.priority = w.now, priority
	newest := a.creds == t.creds[len(t.creds)-1]
	restarts := newest && len(t.creds) > 1
	if t.settled != 0 && !restarts && w.now-t.settled >= int64(renewal) {
		t.renews = true
	}
	if !nominates {
		return
	}
	p.nominated = w.now
	if t.settled == 0 || restarts {
		t.settled = max(w.now, 1)
	}
	if t.chosen != p && (restarts || t.prefers(p, w.now)) {
		w.choose(t, p)
	}
	if newest {
		w.retireCredentials(t)
	}
}

// prefers tells whether a path that was just nominated replaces the chosen one.
func (t *transport) prefers(p *path, now int64) bool {
	return t.chosen == nil || p.priority >= t.chosen.priority || now-t.chosen.nominated >= int64(steady)
}

// discover adds a path. If there are too many, the one whose last check is
// oldest goes.
func (w *worker) discover(t *transport, from netip.AddrPort, s *secureSocket) *path {
	if len(t.paths) >= maxPaths {
		oldest := t.oldest()
		switch {
		case oldest == nil:
			return nil
		case oldest.sock.conn != nil:
			w.hangUp(oldest.sock)
		default:
			w.leave(t, oldest)
		}
	}
	p := &path{addr: from, sock: s}
	t.paths = append(t.paths, p)
	for _, st := range t.streams {
		insert(w.table.byAddr, p.origin(), st)
	}
	insert(w.table.byPath, p.origin(), t)
	return p
}

func (t *transport) oldest() (oldest *path) {
	for _, p := range t.paths {
		if p != t.chosen && (oldest == nil || p.checked < oldest.checked) {
			oldest = p
		}
	}
	return oldest
}

// leave forgets a path.
func (w *worker) leave(t *transport, p *path) {
	t.paths = slices.DeleteFunc(t.paths, func(o *path) bool { return o == p })
	t.parted = max(t.parted, p.checked)
	if t.chosen == p {
		t.chosen = nil
		w.point(t, nil)
	}
	at := p.origin()
	if t.hasPath(at) {
		return
	}
	remove(w.table.byPath, at, t)
	for _, st := range t.streams {
		if !st.comesFrom(at) {
			remove(w.table.byAddr, at, st)
		}
	}
}

// choose sends to a path from now on.
func (w *worker) choose(t *transport, p *path) {
	t.chosen, t.byTCP = p, p.sock.conn != nil
	w.point(t, p)
	w.greet(t)
}

// point gives the streams of a transport their destination; nil: none.
func (w *worker) point(t *transport, p *path) {
	for _, st := range t.streams {
		w.pointStream(st, p)
	}
}

func (w *worker) pointStream(st *stream, p *path) {
	peer := &st.peers[kindRTP]
	if p == nil {
		peer.reach(netip.AddrPort{}, nil)
		return
	}
	peer.latched = p.addr
	peer.reach(p.addr, p.sock)
	w.events.put(st.session, Event{Kind: Latched, Stream: st.index, Remote: p.addr, TCP: p.sock.conn != nil})
}

// retireCredentials forgets all but the newest.
func (w *worker) retireCredentials(t *transport) {
	for _, c := range t.creds[:len(t.creds)-1] {
		delete(w.table.agents, c.Ufrag)
	}
	t.creds = t.creds[len(t.creds)-1:]
}

func (t *transport) path(from netip.AddrPort, s *secureSocket) *path {
	for _, p := range t.paths {
		if p.addr == from && p.sock == s {
			return p
		}
	}
	return nil
}

func (t *transport) hasPath(from origin) bool {
	return slices.ContainsFunc(t.paths, func(p *path) bool { return p.origin() == from })
}

func (p *path) origin() origin { return p.sock.origin(p.addr) }

// best is where to send DTLS: the chosen path, else the one checked last.
func (t *transport) best() *path {
	if t.chosen != nil {
		return t.chosen
	}
	var best *path
	for _, p := range t.paths {
		if best == nil || p.checked > best.checked {
			best = p
		}
	}
	return best
}

// consents tells whether the phone still wants what we send. One that has never
// renewed its consent does not know RFC 7675: it keeps its path alive by
// indications (RFC 8445 section 11), which anybody could send, and nothing can
// be read from their absence; but without any path it has to come back in time.
func (t *transport) consents(now int64) bool {
	if !t.renews && len(t.paths) > 0 {
		return true
	}
	last := t.began
	if t.parted != 0 {
		last = max(last, t.parted)
	}
	for _, p := range t.paths {
		last = max(last, p.checked)
	}
	return now-last < int64(consent)
}
