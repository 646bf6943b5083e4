package prove

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sallyport/sallyport/media"
)

const (
	// patience is how long after a packet the edge must have been asked for its
	// keys, at the earliest, for the packet to be under none of them: it learns them
	// from signalling that may be as long on its way.
	patience = 2 * time.Second
	// maxHeld bounds what is held until then, in bytes.
	maxHeld    = 64 << 20
	maxReasons = 20
	// maxFlows bounds each of the tables of who speaks to whom.
	maxFlows = 1 << 16
	// idle is after how long nothing is remembered of a flow.
	idle = 30 * time.Second
)

// Frame is what an interface carried.
type Frame struct {
	At     time.Time
	Data   []byte // from the link layer on; borrowed
	Kind   uint16 // what Data is, by its ether type, if not Ethernet; else 0
	Length int    // as the interface had it; more than Data if that was cut
	Each   int    // of a super-packet of UDP: the size of each datagram but the last; else 0
}

// Knowledge is what the running edge tells of itself.
type Knowledge struct {
	Listeners []netip.AddrPort // of SIP, which is TLS and nothing else
	Trunks    []netip.AddrPort // others' listeners, likewise, to which the edge connects
	Keys      media.Keys
	// Former means: calls of a process before an upgrade go on by the same sockets, and
	// Keys has none of theirs.
	Former bool
}

// Account is what became of every packet.
type Account struct {
	ends   ends
	former former
	strict bool

	ring      *ring
	total     frames
	counts    [numKinds][numDirections]frames
	leaks     leaks
	reasons   []string // why the proof is incomplete
	held      []held
	heldBytes int
	fragments fragments
	strangers map[pair]*stranger
	flows     map[flowID]*flow
	conns     map[pair]*conn
}

// packet is a datagram of UDP, or a segment of TCP.
type packet struct {
	at       time.Time
	src, dst netip.AddrPort
	tcp      bool
	payload  []byte
	length   int // of the payload
	frames
}

func newPacket(at time.Time, d datagram, n frames) packet {
	return packet{at, d.src, d.dst, d.proto == protoTCP, d.payload, len(d.payload), n}
}

// held is what waits for keys: datagrams, or the frames in a segment of TCP.
type held struct {
	packet   // without its payload
	dir      Direction
	payloads [][]byte
}

// NewAccount makes an account for an interface that has addresses. Strict has what
// strangers send count as leaks.
func NewAccount(local []netip.Addr, strict bool) *Account {
	return &Account{
		ends: newEnds(local), strict: strict, ring: newRing(), leaks: newLeaks(), fragments: fragments{open: make(map[fragmentKey]*whole)},
		strangers: make(map[pair]*stranger), flows: make(map[flowID]*flow), conns: make(map[pair]*conn),
	}
}

// Learn takes what the edge told, when it was asked at a time, and judges what was
// held for it.
func (a *Account) Learn(k Knowledge, asked time.Time) error {
	a.former.learn(k.Former, asked)
	a.ring.kept = a.former.keeps(asked)
	if err := a.ring.learn(k.Keys, asked); err != nil {
		a.Incomplete(err.Error())
		return err
	}
	a.ends.learn(k)
	a.review(asked.Add(-patience))
	a.sweep(asked)
	return nil
}

// Incomplete notes why nothing can be proved.
func (a *Account) Incomplete(why string) {
	if !slices.Contains(a.reasons, why) && len(a.reasons) < maxReasons {
		a.reasons = append(a.reasons, why)
	}
}

// Take accounts for a frame, which is borrowed.
func (a *Account) Take(f Frame) {
	var d datagram
	if f.Kind != 0 {
		d = network(f.Kind, f.Data, 0)
	} else {
		d = dissect(f.Data)
	}
	n := frames{1, uint64(f.Length)}
	a.total.add(n)
	if f.Length > len(f.Data) && (d.proto != 0 || d.fragment != nil || d.short) {
		a.Incomplete("packets were longer than what was read of them")
		a.count(Unproven, a.ends.direction(d.src, d.dst), n)
		return
	}
	a.datagram(f.At, d, n, f.Each)
}

func (a *Account) datagram(at time.Time, d datagram, n frames, each int) {
	switch {
	case d.fragment != nil:
		a.fragment(at, d, n)
	case d.proto == protoTCP:
		a.segment(at, d, n)
	case d.proto != protoUDP:
		a.count(Other, Past, n)
	default:
		for rest := d.payload; ; {
			p := newPacket(at, d, n)
			if p.payload = rest; each > 0 && len(rest) > each { // each of a super-packet is one packet
				p.payload = rest[:each]
				p.frames = frames{1, min(n.bytes, uint64(each))}
				n.bytes -= p.bytes
				a.total.packets++
			}
			p.length = len(p.payload)
			a.udp(p)
			if rest = rest[p.length:]; len(rest) == 0 {
				return
			}
		}
	}
}

// fragment takes a part of an IP packet. Until the rest has come, nobody knows.
func (a *Account) fragment(at time.Time, d datagram, n frames) {
	dir := a.ends.direction(d.src, d.dst)
	a.count(Unproven, dir, n)
	w, ok := a.fragments.add(at, d, n)
	if !ok {
		a.Incomplete("too many packets were fragmented at a time")
	}
	if w == nil {
		return
	}
	a.uncount(Unproven, dir, w.frames)
	whole := transport(w.proto, d.src.Addr(), d.dst.Addr(), w.contiguous(), 0)
	a.datagram(at, whole, w.frames, 0)
}

// udp takes a datagram.
func (a *Account) udp(p packet) {
	dir := a.ends.direction(p.src, p.dst)
	if !a.ends.udp[p.src] && !a.ends.udp[p.dst] {
		a.elsewhere(p, dir)
		return
	}
	switch kind, settled := a.media(p.src, p.dst, p.payload, false); {
	case settled:
		a.settle(kind, dir, p)
	default:
		a.hold(held{p, dir, [][]byte{slices.Clone(p.payload)}})
	}
}

// settle counts a datagram as what it is.
func (a *Account) settle(k Kind, dir Direction, p packet) {
	if k == LeakSIP || k == StrangeSIP {
		a.sip(p, dir, describe(p.payload))
		return
	}
	if k.Group() == Leaked {
		a.leak(k, dir, p, describe(p.payload))
		return
	}
	a.count(k, dir, p.frames)
}

// leak counts a packet as one, and lists it.
func (a *Account) leak(k Kind, dir Direction, p packet, first string) {
	a.count(k, dir, p.frames)
	a.leaks.add(k, dir, p, first)
}

// media tells what a datagram, or a frame, of a media port of the edge is. Where
// that is not settled, it may be verified with keys that are not known yet.
func (a *Account) media(src, dst netip.AddrPort, p []byte, tcp bool) (k Kind, settled bool) {
	inward := a.ends.isMedia(dst, tcp)
	if k, settled = a.mediaOf(src, dst, p, tcp, inward); !settled && inward && a.ends.isMedia(src, tcp) {
		if other, ok := a.mediaOf(src, dst, p, tcp, false); ok { // one of the edge's ports to another
			return other, true
		}
	}
	return k, settled
}

func (a *Account) mediaOf(src, dst netip.AddrPort, p []byte, tcp, inward bool) (Kind, bool) {
	id := streamOf(src, dst, p, tcp, inward)
	switch id.kind {
	case isSTUN:
		switch a.ring.stun(p) {
		case verified:
			return STUN, true
		case unknown:
			return a.stunWithout(inward), false
		}
		return a.stunWithout(inward), true
	case isDTLS:
		if dtlsRecords(p) {
			return DTLS, true
		}
		return a.junk(inward), true
	case isRTP, isRTCP:
		good, bad := SRTP, LeakRTP
		if id.kind == isRTCP {
			good, bad = SRTCP, LeakRTCP
		}
		if a.ring.verify(id, p) {
			return good, true
		}
		return a.blame(bad, id.remote.Addr(), inward), false
	}
	if _, ok := sipOf(p); ok {
		return LeakSIP, true
	}
	return a.junk(inward), true
}

// junk is what no protocol of a media port is: coming in it is dropped, and says
// nothing, like what even a call's phone keeps its NAT open by.
func (a *Account) junk(inward bool) Kind {
	if inward && !a.strict {
		return StrangeOther
	}
	return LeakOther
}

// stunWithout is what STUN is that nothing authenticates: it says no more than
// addresses, and the edge answers none (RFC 8445 section 11 has phones keep their
// paths open by it).
func (a *Account) stunWithout(inward bool) Kind {
	if inward {
		return StrangeSTUN
	}
	return LeakOther
}

// blame tells a leak from what a stranger sends in.
func (a *Account) blame(k Kind, from netip.Addr, inward bool) Kind {
	if _, ours := a.ring.hosts[from]; !inward || ours || a.strict {
		return k
	}
	return k.strange()
}

// hold keeps what may be verified later.
func (a *Account) hold(h held) {
	h.payload = nil // it is borrowed
	a.count(Unproven, h.dir, h.frames)
	for _, p := range h.payloads {
		a.heldBytes += len(p)
	}
	if a.heldBytes > maxHeld {
		a.Incomplete("more packets came than can be held until their keys are known")
		for _, p := range h.payloads {
			a.heldBytes -= len(p)
		}
		return
	}
	a.held = append(a.held, h)
}

// review judges what is held. What came before a time has had its time.
func (a *Account) review(before time.Time) {
	was := a.held
	a.held, a.heldBytes = nil, 0
	for _, h := range was {
		kind, payload, settled := a.verdict(h)
		if !settled && h.at.After(before) {
			a.held = append(a.held, h)
			for _, p := range h.payloads {
				a.heldBytes += len(p)
			}
			continue
		}
		if kind == Unproven {
			a.Incomplete("calls of the process before the upgrade go on, whose keys the edge does not have")
		}
		a.uncount(Unproven, h.dir, h.frames)
		h.payload = payload
		a.settle(kind, h.dir, h.packet)
	}
}

// verdict is what held packets are: of several, what is worst. A leak is, of whatever it is
// not to be told what it is.
func (a *Account) verdict(h held) (worst Kind, payload []byte, settled bool) {
	worst, settled = SRTP, true
	if h.tcp {
		worst = MediaTCP
	}
	unproven := false
	for i, p := range h.payloads {
		k, ok := a.media(h.src, h.dst, p, h.tcp)
		settled = settled && ok
		if !ok && a.mayBeOfFormer(h, p) {
			unproven = true
			continue
		}
		if i == 0 && !h.tcp || k.Group() > worst.Group() {
			worst, payload = k, p
		}
	}
	if unproven && worst.Group() != Leaked {
		worst = Unproven
	}
	return worst, payload, settled
}

func (a *Account) count(k Kind, dir Direction, n frames) { a.counts[k][dir].add(n) }

func (a *Account) uncount(k Kind, dir Direction, n frames) { a.counts[k][dir].sub(n) }

// sweep forgets what is over.
func (a *Account) sweep(now time.Time) {
	a.loseFragments(now.Add(-fragmentTime))
	for id, f := range a.flows {
		if now.Sub(f.at) > idle {
			delete(a.flows, id)
		}
	}
	for id, s := range a.strangers {
		if now.Sub(s.at) > idle {
			delete(a.strangers, id)
		}
	}
	a.sweepConns(now)
}

// loseFragments judges what has waited for its rest since before a time by what is
// there of it.
func (a *Account) loseFragments(before time.Time) {
	lost, keys := a.fragments.expired(before)
	for i, w := range lost {
		src, dst := netip.AddrPortFrom(keys[i].src, 0), netip.AddrPortFrom(keys[i].dst, 0)
		dir := a.ends.direction(src, dst)
		d := transport(w.proto, keys[i].src, keys[i].dst, w.contiguous(), 0)
		what, ok := sipOf(d.payload)
		for _, p := range w.parts {
			if !ok {
				what, ok = sipInside(p.data)
			}
		}
		if !ok {
			a.Incomplete("fragments of packets came without their rest")
			continue
		}
		if d.proto == 0 {
			d.src, d.dst = src, dst
		}
		a.uncount(Unproven, dir, w.frames)
		a.sip(newPacket(w.began, d, w.frames), dir, "SIP "+what)
	}
}

// Finish judges what is left, when the watch is over and the edge was asked for
// the last time.
func (a *Account) Finish() {
	end := time.Unix(1<<40, 0)
	a.finishConns()
	a.loseFragments(end)
	a.review(end)
	for k := range a.counts[Unproven] {
		if a.counts[Unproven][k].packets > 0 && len(a.reasons) == 0 {
			a.Incomplete("of some packets it is not to be told what they are")
		}
	}
}

// describe says what a packet is, by its first bytes, and no more: no content, no
// number and no user.
func describe(p []byte) string {
	if what, ok := sipOf(p); ok {
		return "SIP " + what
	}
	switch kind := demux(p); kind {
	case isRTP:
		return fmt.Sprintf("RTP v2 PT %d ssrc 0x%08x", p[1]&0x7f, ssrcOf(p, kind))
	case isRTCP:
		return fmt.Sprintf("RTCP v2 PT %d ssrc 0x%08x", p[1], ssrcOf(p, kind))
	case isSTUN:
		return fmt.Sprintf("STUN type 0x%04x", int(p[0])<<8|int(p[1]))
	}
	if len(p) == 0 {
		return "nothing"
	}
	return fmt.Sprintf("first byte 0x%02x", p[0])
}

// sipOf finds a SIP message at the beginning of bytes, or in them.
func sipOf(p []byte) (string, bool) {
	if what, ok := sipStart(p); ok {
		return what, true
	}
	return sipInside(p)
}
