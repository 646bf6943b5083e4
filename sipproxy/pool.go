package sipproxy

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/locate"
)

// PlainSide is the socket towards the PBXs.
type PlainSide interface {
	// Flow returns the way to one address.
	Flow(netip.AddrPort) *flow.Flow
	// Expect tells the addresses from which anything is taken at all.
	Expect([]netip.Addr)
}

// pool is the PBXs, one or several, by the way of one of our addresses. Whoever is in a call or a subscription stays
// with the one that it is at; a user's new requests go to the best that is up,
// always the same one while nothing changes: a challenge is answered where it
// came from, and a phone calls from where it is registered.
type pool struct {
	log    *slog.Logger
	health health

	addr  netip.AddrPort         // ours: by which the PBXs know who is behind us
	plain PlainSide              // the socket on it
	list  atomic.Pointer[[]*pbx] // replaced, never changed
	known []netip.Addr           // that PBXs have or had, the newest first; set's alone, of which one runs at a time

	lookups lookups
}

// maxFormer bounds how many addresses PBXs can have had.
const maxFormer = 64

// pbx is one of them.
type pbx struct {
	locate.Server
	flow *flow.Flow
	*condition
}

// condition is what is known of who is at an address.
type condition struct {
	heard atomic.Int64 // when something came from it, Unix nanoseconds

	mu     sync.Mutex // guards what follows
	checks checks
}

func newPool(at netip.AddrPort, h health, log *slog.Logger) *pool {
	l := &pool{addr: at, log: log, health: h}
	l.list.Store(&[]*pbx{})
	return l
}

// set replaces the list, and tells whether it is another. A PBX that was there
// before is as healthy as it was, whatever its priority and weight are now.
func (l *pool) set(servers []locate.Server) (changed bool) {
	before := l.all()
	list := make([]*pbx, len(servers))
	addrs := make([]netip.Addr, len(servers))
	for i, s := range servers {
		addrs[i] = s.Addr.Addr()
		at := slices.IndexFunc(before, func(b *pbx) bool { return b.Addr == s.Addr })
		switch {
		case at < 0:
			list[i] = &pbx{s, l.plain.Flow(s.Addr), new(condition)}
		case before[at].Server == s:
			list[i] = before[at]
			continue
		default:
			list[i] = &pbx{s, before[at].flow, before[at].condition}
		}
		changed = true
	}
	former := slices.DeleteFunc(l.known, func(a netip.Addr) bool { return slices.Contains(addrs, a) })
	l.known = append(addrs, former[:min(len(former), maxFormer)]...) // their calls go on
	l.plain.Expect(l.known)
	l.list.Store(&list)
	return changed || len(list) != len(before)
}

func (l *pool) all() []*pbx { return *l.list.Load() }

// at returns the PBX that a flow leads to, or nil.
func (l *pool) at(f *flow.Flow) *pbx {
	for _, each := range l.all() {
		if each.flow == f {
			return each
		}
	}
	return nil
}

// rank returns those that are up, in the order to try them for a user: first the
// one that he is at, unless that is nil or down. Those that owe an answer come
// last: a caller must not wait twice, for the challenge and with his credentials.
func (l *pool) rank(user string, at *flow.Flow) []*pbx {
	type candidate struct {
		*pbx
		suspect, away bool
		share         float64
	}
	all := l.all()
	if len(all) == 1 { // as most have it
		if all[0].isDown() {
			return nil
		}
		return all
	}
	var up []candidate
	for _, b := range all {
		if down, suspect := b.state(); !down {
			up = append(up, candidate{b, suspect, b.flow != at, b.share(user)})
		}
	}
	slices.SortStableFunc(up, func(a, b candidate) int {
		return cmp.Or(compareBool(a.suspect, b.suspect), compareBool(a.away, b.away), cmp.Compare(a.Priority, b.Priority), cmp.Compare(b.share, a.share))
	})
	list := make([]*pbx, len(up))
	for i, c := range up {
		list[i] = c.pbx
	}
	return list
}

// compareBool puts what is false first.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// isFirst tells whether a PBX is the one that a user's requests go to.
func (l *pool) isFirst(f *flow.Flow, user string) bool {
	up := l.rank(user, nil)
	return len(up) > 0 && up[0].flow == f
}

// isMute tells whether a flow leads to a PBX that says nothing.
func (l *pool) isMute(f *flow.Flow) bool {
	at := l.at(f)
	return at != nil && at.isMute()
}

func (l *pool) anyUp() bool {
	return slices.ContainsFunc(l.all(), func(b *pbx) bool { return !b.isDown() })
}

func (l *pool) anyDown() bool { return slices.ContainsFunc(l.all(), (*pbx).isDown) }

// anyUnwell tells whether one is down, or owes an answer.
func (l *pool) anyUnwell() bool {
	return slices.ContainsFunc(l.all(), func(b *pbx) bool {
		down, suspect := b.state()
		return down || suspect
	})
}

// share draws a number for a user by which he is dealt to one of several PBXs:
// the highest takes him, which falls out in proportion to the weights, and when
// one goes down only its own users move (rendezvous hashing). Weight 0 is a very
// small chance (RFC 2782).
func (b *pbx) share(user string) float64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s", b.Addr, user)
	x := h.Sum64()
	x ^= x >> 33 // FNV alone mixes the last bytes too little
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	uniform := (float64(x>>11) + 0.5) / (1 << 53)
	return max(float64(b.Weight), 1e-3) / -math.Log(uniform)
}

// hear notes that something came from the plain side.
func (l *pool) hear(f *flow.Flow, now time.Time) {
	if b := l.at(f); b != nil {
		b.heard.Store(now.UnixNano())
	}
}
