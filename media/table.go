package media

import (
	"cmp"
	"net/netip"
	"slices"
)

// table finds the stream of a packet from the secure side. It belongs to the
// worker. Packets read it; only control and a verified tag write to it.
type table struct {
	lanes      map[laneKey]*lane
	bySSRC     map[uint32][]*stream         // that have, or declared, it
	byAddr     map[origin][]*stream         // with a lane from there
	byHint     map[netip.AddrPort][]*stream // fresh, with their hint just there
	byHost     map[netip.Addr][]*stream     // fresh, with their hint at the host
	fresh      []*stream                    // that may latch to an address not seen before
	own        map[uint32]struct{}          // the SSRCs that our descriptions may announce
	all        map[*stream]struct{}
	transports map[*transport]struct{}
	agents     map[string]agent        // by our user fragment
	byPath     map[origin][]*transport // with a valid check from there
	turn       int                     // where a search begins, so that each stream is tried in time
}

func newTable() table {
	return table{
		lanes: make(map[laneKey]*lane), bySSRC: make(map[uint32][]*stream),
		byAddr: make(map[origin][]*stream), byHost: make(map[netip.Addr][]*stream),
		byHint: make(map[netip.AddrPort][]*stream), own: make(map[uint32]struct{}),
		all: make(map[*stream]struct{}), transports: make(map[*transport]struct{}),
		agents: make(map[string]agent), byPath: make(map[origin][]*transport),
	}
}

// add takes a stream in, and gives it the SSRC that may be announced for it.
func (t *table) add(st *stream) {
	st.splice.ssrc = newSSRC(t.own)
	t.own[st.splice.ssrc] = struct{}{}
	t.all[st] = struct{}{}
}

// named finds the stream that an SSRC names: it alone has or declared it, or it
// alone is expected with it at the packet's address. There is nothing to search.
func (t *table) named(key laneKey) (one *stream) {
	list := t.bySSRC[key.ssrc]
	if len(list) == 1 {
		return list[0]
	}
	for _, st := range list {
		if at := key.from.AddrPort; at == st.peers[kindRTP].hint || key.kind == kindRTCP && at == st.peers[kindRTCP].hint {
			if one != nil {
				return nil
			}
			one = st
		}
	}
	return one
}

// isolate says whether a stream's packets are all named by their SSRC: then no
// other is ever tried on it.
func (t *table) isolate(st *stream, sole bool) {
	if st.sole == sole {
		return
	}
	t.settle(st)
	st.sole = sole
	for _, l := range st.lanes {
		switch {
		case sole:
			remove(t.byAddr, l.key.from, st)
		case l.key.from.IsValid():
			insert(t.byAddr, l.key.from, st)
		}
	}
	t.freshen(st)
}

// freshen lets a stream latch to an address not seen before, because it is
// new or its phone said that something changes. Its hint is set already.
func (t *table) freshen(st *stream) {
	if st.sole {
		return
	}
	if !st.fresh {
		st.fresh = true
		t.fresh = append(t.fresh, st)
	}
	if host := st.peers[kindRTP].hint.Addr(); host.IsValid() {
		insert(t.byHost, host, st)
		insert(t.byHint, st.peers[kindRTP].hint, st)
	}
}

// settle is the end of that.
func (t *table) settle(st *stream) {
	if !st.fresh {
		return
	}
	st.fresh = false
	t.fresh = slices.DeleteFunc(t.fresh, func(o *stream) bool { return o == st })
	remove(t.byHost, st.peers[kindRTP].hint.Addr(), st)
	remove(t.byHint, st.peers[kindRTP].hint, st)
}

// declare replaces the SSRCs that a phone announced.
func (t *table) declare(st *stream, ssrcs []uint32) {
	old := st.declared
	st.declared = slices.Clone(ssrcs[:min(len(ssrcs), maxDeclared)])
	for _, ssrc := range old {
		t.forget(st, ssrc)
	}
	for _, ssrc := range st.declared {
		insert(t.bySSRC, ssrc, st)
		t.contest(ssrc)
	}
}

// forget removes an SSRC unless the stream has it for another reason.
func (t *table) forget(st *stream, ssrc uint32) {
	if slices.Contains(st.declared, ssrc) || st.lane(ssrc, kindRTP) != nil || st.lane(ssrc, kindRTCP) != nil {
		return
	}
	remove(t.bySSRC, ssrc, st)
	t.contest(ssrc)
}

// newLane is one that was not heard yet. Where a stream has as many as it may, the
// one that was silent for longest makes room: a PBX takes another SSRC at each
// transfer, and leaves the one before for good.
func (t *table) newLane(st *stream, key laneKey, seq uint16) *lane {
	if len(st.lanes) >= maxLanes {
		silent := slices.MinFunc(st.lanes, func(a, b *lane) int { return cmp.Compare(a.last, b.last) })
		t.retire(st, func(l *lane) bool { return l != silent })
	}
	l := &lane{stream: st, key: laneKey{ssrc: key.ssrc, kind: key.kind}, index: int64(seq) - 1}
	st.lanes = append(st.lanes, l)
	delete(st.gone, key.ssrc)
	return l
}

// place makes a lane be found at an address.
func (t *table) place(l *lane, at laneKey) {
	l.key = at
	t.lanes[at] = l
	if !l.stream.sole {
		insert(t.byAddr, at.from, l.stream)
	}
	insert(t.bySSRC, at.ssrc, l.stream)
	t.contest(at.ssrc)
}

// contest notes on the lanes of an SSRC whether it is more than one stream's.
func (t *table) contest(ssrc uint32) {
	list := t.bySSRC[ssrc]
	for _, st := range list {
		for _, l := range st.lanes {
			if l.key.ssrc == ssrc {
				l.contested = len(list) > 1
			}
		}
	}
}

// unplace forgets a lane's address; its stream keeps the lane.
func (t *table) unplace(l *lane) {
	if t.lanes[l.key] == l { // and not another stream's that took it over
		delete(t.lanes, l.key)
	}
	from := l.key.from
	l.key.from = origin{} // it is nowhere until it is placed again
	if !l.stream.comesFrom(from) {
		remove(t.byAddr, from, l.stream)
	}
}

// unplaceAll forgets where a transport's lanes were that came from an origin
// which is no more.
func (t *table) unplaceAll(tr *transport, from origin) {
	for _, st := range tr.streams {
		for _, l := range st.lanes {
			if l.key.from == from {
				t.unplace(l)
			}
		}
	}
}

// retire forgets the lanes of a stream that keep says nothing for.
func (t *table) retire(st *stream, keep func(*lane) bool) {
	old := st.lanes
	st.lanes = nil
	for _, l := range old {
		if keep(l) {
			st.lanes = append(st.lanes, l)
		}
	}
	for _, l := range old {
		if !keep(l) {
			st.figures.past[Inward].add(&l.reception)
			st.leave(l)
			t.unplace(l)
			t.forget(st, l.key.ssrc)
		}
	}
}

// drop forgets a stream.
func (t *table) drop(st *stream) {
	t.settle(st)
	t.declare(st, nil)
	t.retire(st, func(*lane) bool { return false })
	delete(t.own, st.splice.ssrc)
	delete(t.all, st)
}

func insert[K, V comparable](m map[K][]V, key K, v V) {
	if !slices.Contains(m[key], v) {
		m[key] = append(m[key], v)
	}
}

func remove[K, V comparable](m map[K][]V, key K, v V) {
	left := slices.DeleteFunc(m[key], func(o V) bool { return o == v })
	if len(left) == 0 {
		delete(m, key)
		return
	}
	m[key] = left
}
