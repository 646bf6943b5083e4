package media

import "github.com/sallyport/sallyport/media/packet"

// plainBurst is how many packets of one plain socket are taken before it is
// the next one's turn.
const plainBurst = 8

// relay is the path of every packet: receive a batch, transform it in place,
// send it.
func (w *worker) relay(ready []int) {
	slot := 0
	for _, fd := range ready {
		e := w.byFD[fd]
		if e == nil { // closed by a command after it was reported
			continue
		}
		if slot+plainBurst > slots {
			w.flush()
			slot = 0
		}
		if e.secure != nil && e.secure.conn != nil {
			slot += w.fromConnection(e.secure, slot)
			continue
		}
		limit := plainBurst
		if e.secure != nil {
			limit = slots - slot
		}
		n, more := w.batch.Recv(fd, slot, limit)
		if more {
			w.poll.Again(fd)
		}
		for i := slot; i < slot+n; i++ {
			if e.seam && !w.batch.Unwrap(i) {
				w.drop(nil, DropUnknown)
			} else if e.secure != nil {
				w.fromPhone(e.secure, i)
			} else {
				w.fromPBX(e.stream, e.kind, i)
			}
		}
		slot += n
	}
	w.flush()
}

// flush sends what is queued on the secure sockets.
func (w *worker) flush() {
	for _, s := range w.secure {
		w.counts.drops[DropSend] += s.flush()
	}
	w.flushConnections()
}

// fromPBX takes a packet of the plain side to the phone. It is believed for
// its source address alone, as the plain side is the PBX's own network; its
// port may be any, and may be ours: a PBX that connects two of our streams
// directly makes one send to the other.
func (w *worker) fromPBX(st *stream, socket uint8, i int) {
	if w.batch.Truncated(i) {
		w.drop(st, DropOversize)
		return
	}
	if w.batch.Source(i).Addr() != st.plain[socket].from {
		w.drop(st, DropStranger)
		return
	}
	p := w.batch.Packet(i)
	kind, ssrc, ok := classify(p)
	if !ok || kind == kindRTP && socket == kindRTCP || !sound(p, kind) {
		w.drop(st, DropMalformed)
		return
	}
	st.heard[Outward] = w.now
	tx := &st.prot[kind].tx
	if tx.now == nil {
		w.drop(st, DropNotReady)
		return
	}
	to := st.target(kind)
	if to == nil {
		w.drop(st, DropNotLatched)
		return
	}
	if kind == kindRTCP {
		st.figures.readReports(p, Outward, w.now)
	}
	if st.splice.isOn() {
		if p = st.splice.all(p, kind, w.now, &st.figures); len(p) == 0 {
			w.drop(st, DropSource)
			return
		}
		ssrc = st.splice.own
	}
	out, why, ok := tx.seal(st, p, kind, ssrc, &w.scratch.headers)
	if !ok {
		w.drop(st, why)
		return
	}
	if kind == kindRTP { // whose header is in clear
		tx.last.reception.packet(p, w.now, &st.figures)
	}
	switch {
	case !to.sock.queue(out, &to.to):
		w.drop(st, to.sock.full())
	default:
		w.relayed(st, Outward, kind, len(p))
	}
}

// deliver sends a phone's decrypted packet to the PBX.
func (w *worker) deliver(l *lane, p []byte) {
	st, kind := l.stream, l.key.kind
	st.heard[Inward], l.last = w.now, w.now
	if !sound(p, kind) { // a phone's fault, but not the PBX's problem
		w.drop(st, DropMalformed)
		return
	}
	if kind == kindRTP {
		l.reception.packet(p, w.now, &st.figures)
	} else {
		st.figures.readReports(p, Inward, w.now)
		p = withoutFeedback(p)
		st.splice.told(p)
	}
	switch end := &st.plain[kind]; {
	case len(p) == 0:
		w.drop(st, DropFeedback)
	case end.to.IsZero():
		w.drop(st, DropNowhere)
	case !packet.Send(end.sock.FD, p, &end.to):
		w.drop(st, DropSend)
	default:
		w.relayed(st, Inward, kind, len(p))
	}
}

func (w *worker) relayed(st *stream, d Direction, kind uint8, n int) {
	st.counts.relayed(d, kind, n)
	w.counts.relayed(d, kind, n)
}

func (w *worker) drop(st *stream, why Drop) {
	w.counts.drops[why]++
	if st != nil {
		st.counts.drops[why]++
	}
}
