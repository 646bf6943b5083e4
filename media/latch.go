package media

import (
	"net/netip"
	"slices"
)

// fromPhone takes a packet of the secure side. Nothing in it is to be
// believed before open has verified its tag.
func (w *worker) fromPhone(s *secureSocket, i int) {
	if w.batch.Truncated(i) {
		w.drop(nil, DropOversize)
		return
	}
	p := w.batch.Packet(i)
	switch demux(p) {
	case protoRTP:
		w.fromSRTP(s, w.batch.Source(i), p)
	case protoSTUN:
		w.fromSTUN(s, w.batch.Source(i), p)
	case protoDTLS:
		w.fromDTLS(s, w.batch.Source(i), p)
	default:
		w.drop(nil, DropUnknown)
	}
}

// fromSRTP takes what may be SRTP or SRTCP.
func (w *worker) fromSRTP(s *secureSocket, from netip.AddrPort, p []byte) {
	kind, ssrc, ok := classify(p)
	if !ok || kind == kindRTP && s.kind == kindRTCP {
		w.drop(nil, DropMalformed)
		return
	}
	key := laneKey{s.origin(from), ssrc, kind}
	if l := w.table.lanes[key]; l != nil {
		w.known(l, s, p)
		return
	}
	w.search(s, key, p, nil, DropNoStream)
}

// known takes a packet of a source and SSRC that verified before.
func (w *worker) known(l *lane, s *secureSocket, p []byte) {
	st := l.stream
	prot := st.prot[l.key.kind]
	if l.failed >= doubtAfter || l.contested || prot.rx.changing() {
		w.doubt(l, s, p)
		return
	}
	seq := sequence(p)
	out, why, ok := prot.rx.now.open(p, p, l.key.kind, &w.scratch.headers)
	if !ok {
		l.failed++
		w.drop(st, why)
		return
	}
	w.heard(l, s, seq)
	w.deliver(l, out)
}

// doubt takes a packet of a lane whose key changes, or where nothing verified
// lately: then the lane's address and SSRC may have become another stream's.
// It opens into the spare buffer, as the packet may be tried again.
func (w *worker) doubt(l *lane, s *secureSocket, p []byte) {
	st, prot := l.stream, l.stream.prot[l.key.kind]
	seq, kind := sequence(p), l.key.kind
	behind := prot.rx.changing() && l.epoch != prot.rx.epoch // it still uses the old key, as far as is known
	if behind && w.late(l, p) {
		return
	}
	out, why, ok := prot.rx.open(w.scratch.spare, p, kind, l.before(prot.rx.epoch), &w.scratch.headers)
	if ok {
		w.heard(l, s, seq)
		w.deliver(l, out)
		return
	}
	if !behind && w.late(l, p) {
		return
	}
	if l.failed < doubtAfter {
		l.failed++
		if !l.contested {
			w.drop(st, why)
			return
		}
	}
	w.search(s, l.key, p, st, why)
}

// late takes a packet of a lane if it is under the key before. That moves nothing.
func (w *worker) late(l *lane, p []byte) bool {
	out, _, ok := l.stream.prot[l.key.kind].rx.old.open(w.scratch.spare, p, l.key.kind, &w.scratch.headers)
	if ok {
		l.reached(sequence(p))
		w.deliver(l, out)
	}
	return ok
}

// heard notes a packet that verified under the key in force, and lets its
// address be where we send to, if it is newer than all before on its lane.
//
// An attacker on the path can hold a genuine packet back and send it from his
// own address: it verifies, once. What undoes that is that the next packet
// from the phone, which he can't make, moves the stream back.
func (w *worker) heard(l *lane, s *secureSocket, seq uint16) {
	st := l.stream
	if prot := st.prot[l.key.kind]; l.epoch != prot.rx.epoch || l.failed > 0 {
		if l.epoch != prot.rx.epoch {
			l.rebase(&prot.rx.now, seq)
			prot.confirm(w.now)
		}
		l.failed, l.epoch = 0, prot.rx.epoch
		w.spoken(st, l.key.kind)
	}
	if l.key.kind == kindRTP && !l.reached(seq) {
		return
	}
	if st.peers[l.key.kind].latched != l.key.from.AddrPort {
		w.follow(l, s)
	}
	if st.fresh && l.key.kind == kindRTP && w.asHinted(st, l.key.from.AddrPort) {
		w.table.settle(st)
	}
}

// asHinted tells whether a stream's phone is where its signalling said. Until
// then another source may still be the better one: a late packet from a
// network that the phone has left must not end the search.
func (w *worker) asHinted(st *stream, at netip.AddrPort) bool {
	hint := st.peers[kindRTP].hint
	return !hint.IsValid() || hint.Addr() == at.Addr()
}

// trial is one packet's search for its stream.
type trial struct {
	sock  *secureSocket
	key   laneKey
	p     []byte
	purse purse
	not   *stream        // has been tried already
	named *stream        // so has this
	tried netip.AddrPort // and so have those that wait for a phone just there
	blame *stream        // whose packet it seems to be
	why   Drop           // it is no stream's
}

// search finds whose packet this is. If its SSRC names one stream, that is it, and
// one verification tells: as on a lane, it takes nothing from the budget, however
// many calls begin at once. Else keys are tried: of the streams that have
// its SSRC (a phone that changed networks, or announced it), of those that
// wait for a phone just there, or from this host, of those that have this address (a new
// SSRC), then of all others that wait. All but the last are where honest
// packets end, in the order of how few there are to try.
//
// A packet of a known lane comes here if that is in doubt: then not is the
// lane's stream, and why what was wrong.
func (w *worker) search(s *secureSocket, key laneKey, p []byte, not *stream, why Drop) {
	t := &w.table
	x := trial{sock: s, key: key, p: p, purse: w.budget.purse(key.from.AddrPort), not: not, blame: not, why: why}
	if st := t.named(key); st != nil && key.from.conn == 0 && w.eligible(st, &x) {
		if w.try(st, &x) {
			return
		}
		x.named = st
	}
	if x.purse.empty() {
		x.excuse(DropBudget)
		w.strange(s, key.from.AddrPort, p, x.blame, x.why)
		return
	}
	t.turn++
	x.purse.open()
	if key.from.conn != 0 { // of its own transport's streams, or of none
		if !w.tryEach(&x, t.byAddr[key.from], true) {
			w.drop(x.blame, x.why)
		}
		return
	}
	if w.tryEach(&x, t.bySSRC[key.ssrc], true) ||
		w.tryHinted(&x) ||
		w.tryEach(&x, t.byHost[key.from.Addr()], true) ||
		w.tryEach(&x, t.byAddr[key.from], true) {
		return
	}
	x.purse.open()
	if !w.tryEach(&x, t.fresh, false) {
		w.strange(s, key.from.AddrPort, p, x.blame, x.why)
	}
}

// tryEach tries a packet on streams until it is one's.
func (w *worker) tryEach(x *trial, list []*stream, near bool) bool {
	for i := range list {
		st := list[(i+w.table.turn)%len(list)]
		switch {
		case !near && st.peers[kindRTP].hint.Addr() == x.key.from.Addr(): // tried as near
			continue
		case !w.eligible(st, x):
			continue
		case !x.purse.pay(near):
			x.excuse(DropBudget)
			return false
		}
		if w.try(st, x) {
			return true
		}
	}
	return false
}

// eligible tells whether a packet may be tried on a stream.
func (w *worker) eligible(st *stream, x *trial) bool {
	prot := st.prot[x.key.kind]
	switch {
	case st == x.not || st == x.named || !prot.ready(), x.tried.IsValid() && st.fresh && st.peers[kindRTP].hint == x.tried:
		return false
	case prot.rx.verified >= maxVerified && !prot.rx.now.knows(x.key.ssrc, x.key.kind):
		x.excuse(DropSSRCLimit) // before its context would make a state for the SSRC
		return false
	}
	return st.transport.carries(st, x.key.ssrc, x.key.kind, x.p[1]&0x7f)
}

// tryHinted tries a packet on the streams that wait for a phone just where it
// comes from.
func (w *worker) tryHinted(x *trial) bool {
	at := x.expected()
	if w.tryEach(x, w.table.byHint[at], true) {
		return true
	}
	x.tried = at
	return false
}

// expected is where a phone's RTP comes from if the packet is its: RTCP comes
// from one port above, unless it comes to the socket of RTP.
func (x *trial) expected() netip.AddrPort {
	at := x.key.from.AddrPort
	if x.sock.kind == kindRTCP && at.Port() > 0 {
		return netip.AddrPortFrom(at.Addr(), at.Port()-1)
	}
	return at
}

// try verifies a packet under one stream's key, and takes it if it is the
// stream's. The packet itself stays as it came.
func (w *worker) try(st *stream, x *trial) bool {
	rx := &st.prot[x.key.kind].rx
	known := rx.now.knows(x.key.ssrc, x.key.kind)
	out, why, ok := rx.open(w.scratch.spare, x.p, x.key.kind, st.before(x.key.ssrc, x.key.kind, rx.epoch), &w.scratch.headers)
	if ok {
		if !known {
			rx.verified++
		}
		w.deliver(w.latch(st, x), out)
		return true
	}
	if rx.changing() && st.lane(x.key.ssrc, x.key.kind) == nil && slices.Contains(st.declared, x.key.ssrc) {
		if out, _, ok = rx.old.open(w.scratch.spare, x.p, x.key.kind, &w.scratch.headers); ok { // it is the first, and still on its way
			l := w.table.newLane(st, x.key, sequence(x.p))
			l.rebase(&rx.old, sequence(x.p))
			w.table.place(l, x.key)
			w.deliver(l, out)
			return true
		}
	}
	x.accuse(st, why)
	return false
}

// accuse notes whose packet one that failed seems to be: a repeated one has
// an SSRC of the stream; one that does not verify is most likely another
// stream's, unless it comes from where this one's phone is expected.
func (x *trial) accuse(st *stream, why Drop) {
	hint, none := st.peers[kindRTP].hint, x.blame == nil
	if why == DropReplay && x.why != DropReplay || none && hint.Addr() == x.key.from.Addr() || hint == x.key.from.AddrPort && x.why == DropAuth {
		x.blame, x.why = st, why
	}
}

// excuse notes why a packet was not tried, where nothing else is known.
func (x *trial) excuse(why Drop) {
	if x.blame == nil {
		x.why = why
	}
}

// latch notes where a verified packet of a stream comes from, and returns its
// lane. A lane that is
// known from elsewhere moves only for a packet newer than all before: one
// that was held back, or overtaken, must not lead the stream astray.
func (w *worker) latch(st *stream, x *trial) *lane {
	seq := sequence(x.p)
	l := st.lane(x.key.ssrc, x.key.kind)
	switch {
	case l == nil:
		l = w.table.newLane(st, x.key, seq)
	case x.key.kind == kindRTP && !l.newer(seq):
		return l
	default:
		w.table.unplace(l)
	}
	w.table.place(l, x.key)
	w.heard(l, x.sock, seq)
	return l
}

// follow sends to where a lane's packets come from, from now on. RTCP follows
// RTP, and does not lead it to another host; but where it has RTP's port, it leads as
// long as there is no RTP, as of who only listens. With ICE, the phone nominates.
func (w *worker) follow(l *lane, s *secureSocket) {
	st, at := l.stream, l.key.from.AddrPort
	if st.transport != nil && st.transport.params.ICE || l.key.from.conn != 0 {
		return
	}
	rtp, peer := &st.peers[kindRTP], &st.peers[l.key.kind]
	switch {
	case l.key.kind == kindRTP:
	case st.mux:
		if s.kind != kindRTP || rtp.latched == at || st.speaks() {
			return
		}
		peer = rtp
	case rtp.latched.IsValid() && rtp.latched.Addr() != at.Addr():
		return
	}
	if st.fixed && at.Addr() != peer.hint.Addr() {
		return
	}
	peer.latched = at
	peer.reach(at, s)
	if peer == rtp {
		w.events.put(st.session, Event{Kind: Latched, Stream: st.index, Remote: at})
		w.guessRTCP(st)
	}
}

// aim says where packets go until the phone was heard: to its hint. The
// host of that is the one its own signalling comes from, so this can be aimed
// at nobody else.
func (w *worker) aim(st *stream) {
	rtp := &st.peers[kindRTP]
	if !rtp.latched.IsValid() {
		rtp.reach(rtp.hint, w.socketFor(rtp.hint.Addr(), kindRTP))
	}
	w.guessRTCP(st)
}

// guessRTCP says where RTCP goes until it was heard: where the description
// says if RTP comes from where it said, else one port above.
func (w *worker) guessRTCP(st *stream) {
	rtp, rtcp := &st.peers[kindRTP], &st.peers[kindRTCP]
	if rtcp.latched.IsValid() && (!rtp.latched.IsValid() || rtcp.latched.Addr() == rtp.latched.Addr()) {
		return
	}
	base := rtp.latched
	if !base.IsValid() {
		base = rtp.hint
	}
	var at netip.AddrPort
	switch {
	case base == rtp.hint && rtcp.hint.IsValid():
		at = rtcp.hint
	case base.IsValid() && base.Port() < 65535:
		at = netip.AddrPortFrom(base.Addr(), base.Port()+1)
	}
	rtcp.latched = netip.AddrPort{}
	rtcp.reach(at, w.socketFor(at.Addr(), kindRTCP))
}

// socketFor returns the shared socket that reaches an address.
func (w *worker) socketFor(a netip.Addr, kind uint8) *secureSocket {
	for _, s := range w.secure {
		if a.IsValid() && s.kind == kind && s.Local.Addr().Is4() == a.Is4() {
			return s
		}
	}
	return nil
}
