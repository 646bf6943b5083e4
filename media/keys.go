package media

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"time"
)

// This file tells which keys protect what crosses the secure side, to an
// operator who proves that nothing else does. It changes nothing but for how
// long the keys of sessions that end are remembered.

const (
	// provenFor is for how long an engine that was asked for its keys goes on to
	// remember those of sessions that end, and for how long each. Who proves asks
	// each second.
	provenFor = 10 * time.Second
	// maxEnded bounds the ended sessions that are remembered.
	maxEnded = 4096
	// heldFor is for how many streams or transports at once a worker is held: some
	// 20 µs.
	heldFor = 8
)

// Keys are what verifies the packets of the secure side: those of the sessions
// that live, and of those that ended in the last seconds. They are secrets, and
// do not print.
type Keys struct {
	UDP   []netip.AddrPort // our sockets for RTP and RTCP, of all workers
	TCP   []netip.AddrPort // our listeners for media by TCP (RFC 6544)
	SRTP  []LiveKey
	ICE   []LivePassword
	Hosts []netip.Addr // where the phones of calls are, or are expected
}

// LiveKey is a key of one direction of one call.
type LiveKey struct {
	Ports   []uint16 // of UDP, that the call's media use at our end
	Inward  bool     // the phone's; else ours
	Suite   string   // by its SDES name
	KeySalt []byte   // master key, then master salt
	MKI     []byte   // carried by each packet if not nil
	Sources []LiveSource
}

// LiveSource is an SSRC whose RTP was seen or sent under a key.
type LiveSource struct {
	SSRC  uint32
	Index uint64 // of its newest packet: roll-over counter and sequence number (RFC 3711 section 3.3.1)
}

// LivePassword is our end of a call's ICE: what its checks and our answers are
// authenticated by.
type LivePassword struct{ Ufrag, Password string }

// Format keeps keys out of logs and errors, whatever the verb.
func (k Keys) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "%d keys (not shown)", len(k.SRTP))
}

// Format does the same for one.
func (k LiveKey) Format(s fmt.State, _ rune) { _, _ = fmt.Fprintf(s, "%s (key not shown)", k.Suite) }

// Format does the same for a password.
func (p LivePassword) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "%s (password not shown)", p.Ufrag)
}

// Keys returns what verifies the packets of now and of the last seconds. From
// then on, for some seconds, the keys of sessions that end are remembered, so
// that who asks often misses none.
func (e *Engine) Keys() Keys {
	var k Keys
	for _, w := range e.workers {
		w.tell(&k)
	}
	k.TCP = e.lobby.locals()
	slices.SortFunc(k.Hosts, netip.Addr.Compare)
	k.Hosts = slices.Compact(k.Hosts)
	return k
}

// tell adds a worker's keys. The worker is let go of every few streams, or all its
// calls would stumble: of those that come meanwhile some are not told, as if they had
// come after; those that go are remembered.
func (w *worker) tell(k *Keys) {
	var part Keys // since the worker was let go of last: what is copied as it grows is small
	w.mu.Lock()
	held := 0
	pause := func() {
		if held++; held%heldFor != 0 {
			return
		}
		w.mu.Unlock()
		k.merge(part)
		part = Keys{}
		runtime.Gosched() // or who waits for the mutex is woken too late to get it
		w.mu.Lock()
	}
	w.prover.until = w.elapsed() + int64(provenFor)
	for _, s := range w.secure {
		part.UDP = append(part.UDP, s.Local)
	}
	for t := range w.table.transports {
		part.addTransport(w, t)
		pause()
	}
	for st := range w.table.all {
		part.addStream(w, st)
		pause()
	}
	ended := slices.Clone(w.prover.ended)
	w.mu.Unlock()
	k.merge(part)
	for _, was := range ended {
		k.merge(was.keys)
	}
}

func (l *lobby) locals() (list []netip.AddrPort) {
	for _, ln := range l.ports {
		if at, err := netip.ParseAddrPort(ln.Addr().String()); err == nil {
			list = append(list, at)
		}
	}
	return list
}

// prover is what a worker remembers for who asks for keys. It is empty unless
// somebody has, lately.
type prover struct {
	until int64 // on the worker's clock: to be remembered until then
	ended []*endedKeys
}

// endedKeys are not changed once they are remembered.
type endedKeys struct {
	keys  Keys
	until int64
}

// remember keeps the keys of streams and transports that are about to go, if
// somebody proves.
func (w *worker) remember(streams []*stream, transports []*transport) {
	now := w.elapsed()
	if now >= w.prover.until || len(w.prover.ended) >= maxEnded {
		return
	}
	var k Keys
	for _, t := range transports {
		k.addTransport(w, t)
	}
	for _, st := range streams {
		k.addStream(w, st)
	}
	w.prover.ended = append(w.prover.ended, &endedKeys{k, now + int64(provenFor)})
}

// forget gives up what was remembered long enough.
func (p *prover) forget(now int64) {
	p.ended = slices.DeleteFunc(p.ended, func(was *endedKeys) bool { return now >= was.until })
	if len(p.ended) == 0 {
		p.ended = nil
	}
}

func (k *Keys) merge(o Keys) {
	k.UDP = append(k.UDP, o.UDP...)
	k.SRTP = append(k.SRTP, o.SRTP...)
	k.ICE = append(k.ICE, o.ICE...)
	k.Hosts = append(k.Hosts, o.Hosts...)
}

func (k *Keys) addTransport(w *worker, t *transport) {
	for _, c := range t.creds {
		k.ICE = append(k.ICE, LivePassword{c.Ufrag, c.Pwd})
	}
	for _, p := range t.paths {
		k.addHost(p.addr)
	}
	for kind := range t.parts {
		part := &t.parts[kind]
		k.addHost(part.from)
		k.addHost(part.hint)
		k.addProtection(w, &part.prot, t.streams)
	}
}

func (k *Keys) addStream(w *worker, st *stream) {
	for kind := range st.peers {
		k.addHost(st.peers[kind].latched)
		k.addHost(st.peers[kind].hint)
	}
	k.addProtection(w, &st.own, []*stream{st})
}

func (k *Keys) addHost(a netip.AddrPort) {
	if a.Addr().IsValid() {
		k.Hosts = append(k.Hosts, a.Addr())
	}
}

// addProtection adds all keys of one protection, which is that of the streams.
func (k *Keys) addProtection(w *worker, p *protection, streams []*stream) {
	var ports []uint16
	for _, s := range w.secure {
		ports = append(ports, s.Local.Port())
	}
	for i, o := range append([]opener{p.rx.now, p.rx.old}, p.rx.spent...) {
		if o.ctx == nil || i > 1 && o.ctx == p.rx.old.ctx {
			continue
		}
		live := LiveKey{Ports: ports, Inward: true, Suite: o.key.Suite.String(), KeySalt: o.key.KeySalt, MKI: o.key.MKI}
		for _, st := range streams {
			for _, l := range st.lanes {
				if roc, ok := o.ctx.ROC(l.key.ssrc); ok && l.key.kind == kindRTP {
					live.Sources = append(live.Sources, LiveSource{l.key.ssrc, uint64(roc)<<16 | uint64(uint16(l.index))})
				}
			}
		}
		k.SRTP = append(k.SRTP, live)
	}
	var sources []LiveSource // whose counters go on from key to key
	for ssrc, src := range p.tx.sources {
		if src.started {
			sources = append(sources, LiveSource{ssrc, uint64(src.index)})
		}
	}
	keys := slices.Clone(p.tx.retired)
	for _, s := range []*sealer{p.tx.now, p.tx.next} {
		if s != nil {
			keys = append(keys, s.key)
		}
	}
	for _, key := range keys {
		k.SRTP = append(k.SRTP, LiveKey{Ports: ports, Suite: key.Suite.String(), KeySalt: key.KeySalt, MKI: key.MKI, Sources: sources})
	}
}

// maxRetired bounds how many keys of ours are remembered that were replaced. Who asks
// each second knows those that were in force for longer.
const maxRetired = 4

// retire remembers the key that is about to be replaced.
func (s *sender) retire() {
	if s.now != nil {
		s.retired = append(slices.Clone(s.retired[max(0, len(s.retired)+1-maxRetired):]), s.now.key)
	}
}
