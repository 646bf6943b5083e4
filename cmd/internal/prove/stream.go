package prove

import (
	"slices"
	"time"
)

// This file puts the segments of a TCP stream in order.

const (
	// maxWaiting and maxWaitingBytes bound what waits for an earlier segment.
	maxWaiting      = 1024
	maxWaitingBytes = 1 << 20
	// lateness is for how long, and soon for how long if the other end has it.
	lateness = 30 * time.Second
	soon     = time.Second
)

// half is one direction of a connection.
type half struct {
	started bool
	lost    bool // where a record or a frame begins is not known
	next    uint32
	acked   uint32 // by the other end
	hasAck  bool
	waiting []packetAt
	bytes   int // that wait

	said    bool // it carried anything
	bad     bool // it is not what it should be
	records records
	buf     []byte // of frames: a part of one; of others: the last bytes
	unknown frames // counted as unproven until it is known where a record begins
	missing int    // bytes in them
}

type packetAt struct {
	seq uint32
	packet
}

// begin takes the number that the first byte will have.
func (h *half) begin(seq uint32, lost bool) {
	*h = half{started: true, lost: lost, next: seq, acked: h.acked, hasAck: h.hasAck}
	h.records.first, h.records.proxy = !lost, !lost
}

// order takes a segment and returns what is the next of the stream: that, and what
// waited for it. Its payload is borrowed. again is true for one that came before.
func (h *half) order(seq uint32, p packet) (list []packet, again bool) {
	switch ahead := int32(seq - h.next); {
	case ahead > 0:
		h.wait(seq, p)
		return nil, false
	case ahead < 0:
		if -int64(ahead) >= int64(len(p.payload)) {
			return nil, true
		}
		p.payload = p.payload[-ahead:]
	}
	h.next += uint32(len(p.payload))
	return append([]packet{p}, h.ready()...), false
}

// wait keeps a segment that came too early.
func (h *half) wait(seq uint32, p packet) {
	p.payload = slices.Clone(p.payload)
	h.waiting = append(h.waiting, packetAt{seq, p})
	h.bytes += len(p.payload)
}

// ready takes out what waited and is next. What came twice has its turn with
// nothing left of it.
func (h *half) ready() (list []packet) {
	for {
		i := slices.IndexFunc(h.waiting, func(w packetAt) bool { return int32(w.seq-h.next) <= 0 })
		if i < 0 {
			return list
		}
		w := h.waiting[i]
		h.waiting = slices.Delete(h.waiting, i, i+1)
		h.bytes -= len(w.payload)
		behind := min(int(h.next-w.seq), len(w.payload))
		w.payload = w.payload[behind:]
		h.next += uint32(len(w.payload))
		list = append(list, w.packet)
	}
}

// skip goes on behind a hole, and returns what is ready there.
func (h *half) skip() []packet {
	if len(h.waiting) == 0 {
		return nil
	}
	first := slices.MinFunc(h.waiting, func(a, b packetAt) int { return int(int32(a.seq - b.seq)) })
	h.next, h.lost = first.seq, true
	return h.ready()
}

// holed tells whether the stream goes on behind bytes that were not seen: too much
// waits, or for too long, or the other end has acknowledged them.
func (h *half) holed(now time.Time) bool {
	if len(h.waiting) == 0 {
		return false
	}
	waits := now.Sub(h.waiting[0].at)
	return len(h.waiting) > maxWaiting || h.bytes > maxWaitingBytes || waits > lateness || waits > soon && h.unseen() > 0
}

// unseen is how much the other end has acknowledged that was not seen, in bytes.
func (h *half) unseen() int {
	if !h.started || !h.hasAck {
		return 0
	}
	return max(0, int(int32(h.acked-h.next)))
}
