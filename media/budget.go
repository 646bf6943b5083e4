package media

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"time"
)

// Trials cost a verification each, and strangers can cause them. At some 2 µs
// a trial, these limits are below 5 % of a worker's time.
//
// Near are the trials of streams that the packet's source address or SSRC
// points to; far are those of all others that wait to be latched. They are
// apart so that a flood from anywhere takes nothing from a phone at the
// address its call was set up from.
const (
	trialTick     = 100 * time.Millisecond
	nearPerTick   = 2000
	farPerTick    = 250
	perPacket     = 64 // near, and far
	perHost       = 1000
	perPort       = 128
	budgetBuckets = 1024
)

// Handshakes that anybody can begin cost some 100 µs each: these limits are a
// fifth of a processor's time, for those of hosts that a phone is expected at,
// and a twentieth for those of all others.
const (
	nearHellosPerTick = 200
	farHellosPerTick  = 50
)

// budget counts what is left of a tick. It belongs to the worker.
type budget struct {
	near, far int
	hellos    [2]int // of all hosts, and of those that a phone is expected at
	hosts     [budgetBuckets]uint16
	ports     [budgetBuckets]uint16
	ends      int64
	seed      [2]uint64 // so that nobody can aim at another's bucket
}

func newBudget() budget {
	b := budget{seed: [2]uint64{rand.Uint64() | 1, rand.Uint64() | 1}}
	b.refill(0)
	return b
}

// refill begins a new tick if the last one is over.
func (b *budget) refill(now int64) {
	if now < b.ends {
		return
	}
	b.ends = now + int64(trialTick)
	b.near, b.far = nearPerTick, farPerTick
	b.hellos = [2]int{farHellosPerTick, nearHellosPerTick}
	clear(b.hosts[:])
	clear(b.ports[:])
}

// knock tells whether one more handshake may be begun.
func (b *budget) knock(near bool) bool {
	pot := &b.hellos[0]
	if near {
		pot = &b.hellos[1]
	}
	*pot--
	return *pot >= 0
}

// purse is the part of the budget that one source address may spend.
type purse struct {
	budget     *budget
	host, port *uint16
	left       int
}

// purse finds a source's. An attacker behind a phone's NAT can empty the
// host's, but at ten times a second the phone's next packet may be first.
func (b *budget) purse(from netip.AddrPort) purse {
	a := from.Addr().As16()
	h := mix(binary.LittleEndian.Uint64(a[:8])^b.seed[0], binary.LittleEndian.Uint64(a[8:])^b.seed[1])
	p := mix(h^b.seed[1], uint64(from.Port())^b.seed[0])
	return purse{budget: b, host: &b.hosts[h%budgetBuckets], port: &b.ports[p%budgetBuckets]}
}

// mix is the folded multiplication that wyhash and its kin are made of.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// open allows a packet a new round of trials.
func (p *purse) open() { p.left = perPacket }

// pay takes one trial, and tells whether there was one left.
func (p *purse) pay(near bool) bool {
	pot := &p.budget.far
	if near {
		pot = &p.budget.near
	}
	if p.left <= 0 || *pot <= 0 || *p.host >= perHost || *p.port >= perPort {
		return false
	}
	p.left--
	*pot--
	*p.host++
	*p.port++
	return true
}

// empty tells whether nothing can be tried in this tick.
func (p *purse) empty() bool {
	return *p.host >= perHost || *p.port >= perPort || p.budget.near <= 0 && p.budget.far <= 0
}
