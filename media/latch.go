package media

import (
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/media/packet"
)

// Trials cost a verification each, some 2 µs, and strangers can cause them.
// Packets that come from where a phone is expected have a budget of their own,
// so that a flood from elsewhere keeps no call from beginning; and a source
// that keeps failing is not tried on others' calls any longer.
const (
	nearPerTick   = 20_000 // 4 % of a core
	farPerTick    = 2_000
	failsPerTick  = 20 // of one hash of sources
	sourceBuckets = 4096
)

// table finds the stream of a packet from the secure side. It belongs to the
// worker.
type table struct {
	lanes  map[laneKey]*lane
	bySSRC map[uint32][]*stream         // that have, or declared, it
	byAddr map[netip.AddrPort][]*stream // with a lane from there
	fresh  []*stream                    // that may latch to a new address
	all    map[*stream]struct{}

	// What is left of, and happened in, this tick.
	near, far int
	fails     [sourceBuckets]uint16 // by a hash of the source
}

func newTable() table {
	return table{
		lanes: make(map[laneKey]*lane), bySSRC: make(map[uint32][]*stream),
		byAddr: make(map[netip.AddrPort][]*stream), all: make(map[*stream]struct{}), near: nearPerTick, far: farPerTick,
	}
}

// refill begins a new tick.
func (t *table) refill() {
	t.near, t.far = nearPerTick, farPerTick
	clear(t.fails[:])
}

// bucket hashes a source. The port counts: an honest phone may share its
// address with a host that floods.
func bucket(a netip.AddrPort) int {
	h := uint32(2166136261)
	for _, x := range a.Addr().As16() {
		h = (h ^ uint32(x)) * 16777619 // FNV-1a
	}
	return int((h ^ uint32(a.Port())) * 16777619 % sourceBuckets)
}

// fromPhone takes a packet of the secure side. Nothing in it is to be
// believed before open has verified its tag.
func (w *worker) fromPhone(s *secureSocket, i int) {
	if w.batch.Truncated(i) {
		w.drop(nil, DropOversize)
		return
	}
	p := w.batch.Packet(i)
	if len(p) == 0 {
		w.drop(nil, DropMalformed)
		return
	}
	switch b := p[0]; { // RFC 7983 section 7
	case b >= 128 && b <= 191:
	case b <= 3:
		w.drop(nil, DropSTUN)
		return
	case b >= 20 && b <= 63:
		w.drop(nil, DropDTLS)
		return
	default:
		w.drop(nil, DropUnknown)
		return
	}
	kind, ssrc, ok := classify(p)
	if !ok {
		w.drop(nil, DropMalformed)
		return
	}
	key := laneKey{w.batch.Source(i), ssrc, kind}
	if l := w.table.lanes[key]; l != nil {
		w.known(l, p)
		return
	}
	w.search(s, key, p)
}

// known takes a packet of a source and SSRC that verified before.
func (w *worker) known(l *lane, p []byte) {
	st := l.stream
	if st.rx.old != nil {
		w.duringGrace(l, p)
		return
	}
	seq := sequence(p)
	out, why, ok := st.rx.open(st.rx.ctx, p, p, l.key.kind, &w.head)
	if !ok {
		w.drop(st, why)
		return
	}
	if l.newer(seq) {
		l.highest = seq
	}
	w.deliver(st, l.key.kind, out)
}

// duringGrace tries the new key, then the one it replaced. Both write to the
// spare buffer: GCM wipes what it could not verify.
func (w *worker) duringGrace(l *lane, p []byte) {
	st := l.stream
	if w.now > st.rx.oldUntil {
		st.rx.old = nil
		w.known(l, p)
		return
	}
	out, why, ok := st.rx.open(st.rx.ctx, w.spare, p, l.key.kind, &w.head)
	if !ok {
		out, _, ok = st.rx.open(st.rx.old, w.spare, p, l.key.kind, &w.head)
	}
	if !ok {
		w.drop(st, why)
		return
	}
	if seq := sequence(p); l.newer(seq) {
		l.highest = seq
	}
	w.deliver(st, l.key.kind, out)
}

// search finds whose packet this is by trying keys: of the streams at that
// address (a new SSRC), of those that have the SSRC (a phone that changed
// networks), then of those that may latch, where the ones whose signalling
// came from the same host stand first.
func (w *worker) search(s *secureSocket, key laneKey, p []byte) {
	t := &w.table
	for _, group := range [...][]*stream{t.byAddr[key.from], t.bySSRC[key.ssrc]} {
		for _, st := range group {
			if w.try(st, s, key, p, &t.near) {
				return
			}
		}
	}
	for _, st := range t.fresh {
		if st.expects(key.from.Addr()) && w.try(st, s, key, p, &t.near) {
			return
		}
	}
	from := bucket(key.from)
	if t.fails[from] >= failsPerTick || t.far <= 0 {
		w.drop(nil, DropBudget)
		return
	}
	for _, st := range t.fresh {
		if !st.expects(key.from.Addr()) && w.try(st, s, key, p, &t.far) {
			return
		}
	}
	t.fails[from]++
	w.drop(nil, DropNoStream)
}

// expects tells whether a stream's signalling came from that host.
func (st *stream) expects(host netip.Addr) bool { return st.peers[kindRTP].hint.Addr() == host }

// try verifies a packet under one stream's key, and takes it if it is the
// stream's. The packet itself stays as it came.
func (w *worker) try(st *stream, s *secureSocket, key laneKey, p []byte, budget *int) bool {
	if st.rx.ctx == nil || *budget <= 0 {
		return false
	}
	*budget--
	out, why, ok := st.rx.open(st.rx.ctx, w.spare, p, key.kind, &w.head)
	if !ok {
		// Most likely another stream's packet. The counter of this one is for
		// what comes from its own phone's host.
		if why == DropAuth && st.expects(key.from.Addr()) {
			w.drop(st, why)
		}
		return false
	}
	if !w.latch(st, s, key, p) {
		w.drop(st, DropSSRCLimit)
		return true
	}
	w.deliver(st, key.kind, out)
	return true
}

// latch notes where verified packets of a stream come from. It returns false
// if the stream has too many sources already.
//
// A stream follows a known SSRC to a new address only for a packet newer than
// all before. An attacker on the path can at most send a genuine packet on
// from his own address before it arrives itself; the next one, which he can't
// make, moves the stream back.
func (w *worker) latch(st *stream, s *secureSocket, key laneKey, p []byte) bool {
	l := st.lane(key.ssrc, key.kind)
	switch {
	case l == nil && len(st.lanes) >= maxLanes:
		return false
	case l == nil:
		l = &lane{stream: st, key: key, highest: sequence(p)}
		st.lanes = append(st.lanes, l)
		w.table.learn(st, key.ssrc)
	case key.kind == kindRTP && !l.newer(sequence(p)):
		return true
	case key.kind == kindRTCP && st.peers[kindRTP].latched.Addr() != key.from.Addr():
		return true // RTCP follows RTP, and does not lead it
	default:
		w.table.dropLane(l)
		l.key, l.highest = key, sequence(p)
	}
	w.table.addLane(l)
	w.setPeer(st, key.kind, key.from, s)
	if key.kind == kindRTP {
		w.table.settle(st)
	}
	return true
}

// setPeer sends a kind's packets to an address from now on.
func (w *worker) setPeer(st *stream, kind uint8, at netip.AddrPort, s *secureSocket) {
	peer := &st.peers[kind]
	if peer.latched == at {
		return
	}
	peer.latched, peer.to, peer.sock = at, packet.MakeAddr(at), s
	if kind == kindRTP {
		w.events.put(st.session, Event{Kind: Latched, Stream: st.index, Remote: at})
		w.guessRTCP(st)
	}
}

// guessRTCP says where RTCP goes until it was heard: where the description
// says if RTP comes from where it said, else one port above.
func (w *worker) guessRTCP(st *stream) {
	rtp, rtcp := &st.peers[kindRTP], &st.peers[kindRTCP]
	if rtcp.latched.IsValid() && rtcp.latched.Addr() == rtp.latched.Addr() {
		return
	}
	at := netip.AddrPortFrom(rtp.latched.Addr(), rtp.latched.Port()+1)
	if rtp.latched == rtp.hint && rtcp.hint.IsValid() {
		at = rtcp.hint
	}
	rtcp.latched = netip.AddrPort{}
	rtcp.to, rtcp.sock = packet.MakeAddr(at), w.socketFor(at.Addr(), kindRTCP)
}

// socketFor returns the shared socket that reaches an address.
func (w *worker) socketFor(a netip.Addr, kind uint8) *secureSocket {
	for _, s := range w.secure {
		if s.kind == kind && s.Local.Addr().Is4() == a.Is4() {
			return s
		}
	}
	return nil
}

func (t *table) add(st *stream) { t.all[st] = struct{}{} }

// freshen lets a stream latch to an address not seen before: it is new, or
// its phone said that something changes.
func (t *table) freshen(st *stream) {
	if !st.fresh {
		st.fresh = true
		t.fresh = append(t.fresh, st)
	}
}

func (t *table) settle(st *stream) {
	if st.fresh {
		st.fresh = false
		t.fresh = slices.DeleteFunc(t.fresh, func(o *stream) bool { return o == st })
	}
}

func (t *table) learn(st *stream, ssrc uint32) {
	if !slices.Contains(t.bySSRC[ssrc], st) {
		t.bySSRC[ssrc] = append(t.bySSRC[ssrc], st)
	}
}

func (t *table) addLane(l *lane) {
	t.lanes[l.key] = l
	if !slices.Contains(t.byAddr[l.key.from], l.stream) {
		t.byAddr[l.key.from] = append(t.byAddr[l.key.from], l.stream)
	}
}

// dropLane forgets a lane's address; its stream keeps the lane.
func (t *table) dropLane(l *lane) {
	if t.lanes[l.key] == l {
		delete(t.lanes, l.key)
	}
	for _, o := range l.stream.lanes {
		if o != l && o.key.from == l.key.from {
			return
		}
	}
	remove(t.byAddr, l.key.from, l.stream)
}

// drop forgets a stream.
func (t *table) drop(st *stream) {
	t.settle(st)
	delete(t.all, st)
	for _, l := range st.lanes {
		delete(t.lanes, l.key)
		remove(t.byAddr, l.key.from, st)
		remove(t.bySSRC, l.key.ssrc, st)
	}
	for _, ssrc := range st.declared {
		remove(t.bySSRC, ssrc, st)
	}
}

func remove[K comparable](m map[K][]*stream, key K, st *stream) {
	left := slices.DeleteFunc(m[key], func(o *stream) bool { return o == st })
	if len(left) == 0 {
		delete(m, key)
		return
	}
	m[key] = left
}
