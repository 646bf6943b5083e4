package prove

import (
	"bytes"
	"net/netip"
	"slices"
	"time"
)

// conn is a TCP connection.
type conn struct {
	at     time.Time
	role   role
	halves [2]half // from the lesser address, and back
	over   bool    // an end has hung up
	sip    bool    // of others: it speaks SIP in clear
	what   string
	quiet  stranger // what came in of it while nothing was answered
}

// role is what a connection should carry.
type role uint8

const (
	ofOthers role = iota
	ofSIP         // TLS
	ofMedia       // frames of RFC 4571
)

func (a *Account) role(src, dst netip.AddrPort) role {
	e := &a.ends
	switch {
	case e.tcp[src] || e.tcp[dst]:
		return ofMedia
	case e.tls[src] || e.tls[dst]:
		return ofSIP
	case e.trunks[dst] && e.hosts[src.Addr()] || e.trunks[src] && e.hosts[dst.Addr()]:
		return ofSIP
	}
	return ofOthers
}

// proved is what a connection's segments are if they are as they should be.
func (r role) proved() Kind { return [...]Kind{Other, TLS, MediaTCP}[r] }

// segment takes a segment of TCP.
func (a *Account) segment(at time.Time, d datagram, n frames) {
	id, swapped := pairOf(d.src, d.dst)
	dir, p := a.ends.direction(d.src, d.dst), newPacket(at, d, n)
	c := a.conns[id]
	if c == nil {
		r := a.role(d.src, d.dst)
		if r == ofOthers && len(d.payload) == 0 || len(a.conns) >= maxFlows {
			a.alone(p, r, dir)
			return
		}
		c = &conn{role: r}
		a.conns[id] = c
	}
	c.at = at
	h, other := &c.halves[0], &c.halves[1]
	if swapped {
		h, other = other, h
	}
	if d.tcp.flags&(tcpFIN|tcpRST) != 0 {
		c.over = true
	}
	if d.tcp.flags&tcpACK != 0 {
		other.acked, other.hasAck = d.tcp.ack, true
	}
	seq := d.tcp.seq
	if d.tcp.flags&tcpSYN != 0 {
		if seq++; !h.started || h.next != seq { // and not the same again
			a.abandon(h)
			h.begin(seq, false)
			if d.tcp.flags&tcpACK == 0 {
				c.sip, c.over, c.quiet = false, false, stranger{}
			}
		}
	}
	if len(d.payload) == 0 || d.tcp.flags&tcpRST != 0 && !contains(d.payload) {
		a.count(c.role.proved(), dir, n)
		return
	}
	if c.role == ofOthers {
		a.ofOthers(c, h, other, seq, p, dir)
		return
	}
	if !h.started {
		h.begin(seq, true)
	}
	list, again := h.order(seq, p)
	switch {
	case again && contains(d.payload): // other bytes than the first time
		a.leak(LeakSIP, dir, p, describe(d.payload))
	case again:
		a.count(c.role.proved(), dir, n)
	case list == nil:
		a.count(Unproven, dir, n) // until it is its turn
	default:
		a.follow(c, h, other, list[0], dir)
		a.followed(c, h, other, list[1:], dir)
	}
	if h.holed(at) {
		a.skip(c, h, other, dir)
	}
}

// contains tells whether bytes can be a part of a SIP message in clear: encrypted
// ones have its version in them once in 2^56.
func contains(p []byte) bool { return bytes.Contains(p, sipVersion) }

// followed takes what had waited for its turn.
func (a *Account) followed(c *conn, h, other *half, list []packet, dir Direction) {
	for _, p := range list {
		a.uncount(Unproven, dir, p.frames)
		a.follow(c, h, other, p, dir)
	}
}

// skip gives up on bytes that did not come.
func (a *Account) skip(c *conn, h, other *half, dir Direction) {
	a.Incomplete("bytes of TCP streams were not seen")
	a.followed(c, h, other, h.skip(), dir)
}

// follow takes the next bytes of a stream of the edge's.
func (a *Account) follow(c *conn, h, other *half, p packet, dir Direction) {
	switch {
	case len(p.payload) == 0: // came twice
		a.count(c.role.proved(), dir, p.frames)
	case c.role == ofMedia:
		a.frames(h, p, dir)
	case contains(p.payload):
		h.bad = true
		a.leakTCP(c, h, other, LeakSIP, p, dir)
	case h.bad:
		a.leakTCP(c, h, other, LeakTCP, p, dir)
	case h.lost:
		a.find(c, h, other, p, dir)
	case !h.records.feed(p.payload):
		h.bad = true
		a.leakTCP(c, h, other, LeakTCP, p, dir)
	default:
		h.said = true
		a.count(TLS, dir, p.frames)
	}
}

// find looks for the beginning of a record at that of a segment. What comes before
// it is the end of one that began before the watch did, if it is no longer than
// one is.
func (a *Account) find(c *conn, h, other *half, p packet, dir Direction) {
	r := records{}
	if r.feed(p.payload) && r.count > 0 {
		h.records, h.lost, h.said = r, false, true
		a.uncount(Unproven, dir, h.unknown)
		h.unknown.add(p.frames)
		a.count(TLS, dir, h.unknown)
		h.unknown, h.missing = frames{}, 0
		return
	}
	h.missing += len(p.payload)
	if h.missing <= maxRecord {
		h.unknown.add(p.frames)
		a.count(Unproven, dir, p.frames)
		return
	}
	a.uncount(Unproven, dir, h.unknown)
	p.add(h.unknown)
	h.unknown, h.bad = frames{}, true
	a.leakTCP(c, h, other, LeakTCP, p, dir)
}

// leakTCP takes what is no TLS where nothing else should be. A stranger's first
// words, in a connection in which the edge said nothing in clear, are not ours.
func (a *Account) leakTCP(c *conn, h, other *half, k Kind, p packet, dir Direction) {
	if dir == In && !h.said && !other.bad {
		k = a.blame(k, p.src.Addr(), true)
	}
	if k.Group() == Stranger {
		a.count(k, dir, p.frames)
		return
	}
	a.leak(k, dir, p, describe(p.payload))
}

// frames takes media by TCP.
func (a *Account) frames(h *half, p packet, dir Direction) {
	if h.lost {
		if !wholeFrames(p.payload) {
			a.count(Unproven, dir, p.frames)
			a.Incomplete("media by TCP began before the watch, and where its frames begin was not to be told")
			return
		}
		h.lost = false
	}
	h.buf = append(h.buf, p.payload...)
	all := held{packet: p, dir: dir}
	left := h.buf
	for {
		one, rest, ok := frame(left)
		if !ok {
			break
		}
		if len(one) > 0 {
			all.payloads = append(all.payloads, slices.Clone(one))
		}
		left = rest
	}
	h.buf = h.buf[:copy(h.buf, left)]
	if len(all.payloads) == 0 { // a part of a frame: it is judged with what ends it
		a.count(Unproven, dir, p.frames)
		h.unknown.add(p.frames)
		return
	}
	a.uncount(Unproven, dir, h.unknown)
	all.add(h.unknown)
	h.unknown = frames{}
	if kind, payload, settled := a.verdict(all); settled {
		all.payload = payload
		a.settle(kind, dir, all.packet)
		return
	}
	a.hold(all)
}

// ofOthers takes a segment of a connection that is not the edge's: SIP in clear is
// looked for, also where segments part it.
func (a *Account) ofOthers(c *conn, h, other *half, seq uint32, p packet, dir Direction) {
	window := p.payload
	if h.started && seq == h.next {
		window = append(h.buf, p.payload...)
	}
	h.started, h.said, h.next = true, true, seq+uint32(len(p.payload))
	if !c.sip {
		if webSocketSIP(window) {
			c.sip, c.what = true, "SIP over WebSocket"
		} else if what, ok := sipOf(window); ok {
			c.sip, c.what = true, "SIP "+what
		}
	}
	const carried = 64
	h.buf = append(h.buf[:0:0], window[max(0, len(window)-carried):]...)
	switch {
	case !c.sip:
		a.count(Other, dir, p.frames)
	case dir == In && !other.said && a.blame(LeakSIP, p.src.Addr(), true) == StrangeSIP:
		a.count(StrangeSIP, dir, p.frames)
		if c.quiet.leak = p; c.quiet.packets == 0 {
			c.quiet.what = c.what
		}
		c.quiet.leak.payload = nil
		c.quiet.add(p.frames)
	default:
		if n := c.quiet.frames; n.packets > 0 { // it is answered
			a.uncount(StrangeSIP, In, n)
			c.quiet.leak.frames = n
			a.leak(LeakSIP, In, c.quiet.leak, c.quiet.what)
			c.quiet = stranger{}
		}
		what := c.what
		if now, ok := sipOf(p.payload); ok {
			what = "SIP " + now
		}
		a.leak(LeakSIP, dir, p, what)
	}
}

// alone takes a segment of a connection that nothing is remembered of: others' while
// they say nothing, or one too many.
func (a *Account) alone(p packet, r role, dir Direction) {
	what, ok := sipOf(p.payload)
	switch {
	case ok:
		a.leak(LeakSIP, dir, p, "SIP "+what)
	case r == ofOthers && p.length == 0:
		a.count(Other, dir, p.frames)
	default:
		a.Incomplete("too many connections at a time")
		a.count(Unproven, dir, p.frames)
	}
}

// abandon judges what waits of a stream that begins anew, or is over.
func (a *Account) abandon(h *half) {
	if len(h.waiting) == 0 {
		return
	}
	a.Incomplete("bytes of TCP streams were not seen")
	h.waiting, h.bytes = nil, 0
}

// sweepConns forgets connections that are silent, and gives up on what they wait
// for. Those of the edge are kept much longer: they are silent between calls.
func (a *Account) sweepConns(now time.Time) {
	for id, c := range a.conns {
		if r := a.role(id.a, id.b); r != c.role && c.role == ofOthers { // a trunk's, which nobody had told of
			delete(a.conns, id)
			continue
		}
		a.skipHoles(id, c, now)
		said := c.halves[0].said || c.halves[1].said || len(c.halves[0].buf)+len(c.halves[1].buf) > 0
		if silent := now.Sub(c.at); silent > time.Hour || silent > idle && (c.role == ofOthers || c.over || !said) {
			delete(a.conns, id)
		}
	}
}

func (a *Account) skipHoles(id pair, c *conn, now time.Time) {
	for i, ends := range [2]pair{id, {id.b, id.a}} {
		if c.role != ofOthers && len(c.halves[i].waiting) == 0 && c.halves[i].unseen() > 1 { // a FIN has a number too
			a.Incomplete("bytes of TCP streams were not seen")
		}
		h, other := &c.halves[i], &c.halves[1-i]
		for range maxWaiting {
			if !h.holed(now) {
				break
			}
			a.skip(c, h, other, a.ends.direction(ends.a, ends.b))
		}
	}
}

// finishConns takes what waits for an earlier segment, when nothing more comes.
func (a *Account) finishConns() {
	for id, c := range a.conns {
		a.skipHoles(id, c, c.at.Add(2*lateness))
	}
}
