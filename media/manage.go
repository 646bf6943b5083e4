package media

import (
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/media/packet"
)

// This file is what control does on the worker, between two batches.

// attach takes a stream in. It closes the stream's sockets if it can't.
func (w *worker) attach(st *stream) (err error) {
	if w.control.ended { // only the caller is left to write to it
		err = ErrClosed
	}
	for kind := range st.plain {
		if err == nil {
			err = w.watch(st.plain[kind].sock.FD, &endpoint{stream: st, kind: uint8(kind)})
		}
	}
	if err != nil {
		for kind := range st.plain {
			w.unwatch(st.plain[kind].sock)
		}
		return err
	}
	st.heard = [2]int64{w.now, w.now}
	st.session.live = append(st.session.live, st)
	w.table.add(st)
	return nil
}

// detach lets a stream go. It may be called again.
func (w *worker) detach(st *stream) {
	if _, ok := w.table.all[st]; !ok {
		return
	}
	w.part(st)
	w.table.drop(st)
	for kind := range st.plain {
		w.unwatch(st.plain[kind].sock)
	}
}

// direct is SetPlain.
func (w *worker) direct(st *stream, p PlainParams) {
	for kind, at := range [numKinds]netip.AddrPort{p.RTP, p.RTCP} {
		at = canonical(at)
		st.plain[kind].to = packet.MakeAddr(at)
		if at.IsValid() { // a held PBX may go on sending, music perhaps
			st.plain[kind].from = at.Addr()
		}
	}
}

// protect is SetSecure.
func (w *worker) protect(st *stream, p SecureParams, rx opener, tx *sealer) error {
	if _, ok := w.table.all[st]; !ok { // the engine has ended
		return ErrClosed
	}
	hints := [numKinds]netip.AddrPort{canonical(p.Hint), canonical(p.RTCPHint)}
	w.part(st)
	changed := st.own.set(rx, tx, p.Await, w.now)
	st.mux = p.RTCPMux
	w.describe(st, p)
	w.table.isolate(st, p.Sole && len(st.declared) > 0)
	rtp := &st.peers[kindRTP]
	st.fixed = p.Fixed && hints[kindRTP].IsValid()
	if st.fixed && (hints[kindRTP] != rtp.hint || hints[kindRTP].Addr() != rtp.latched.Addr()) { // it is believed before it was heard there
		rtp.latched, st.peers[kindRTCP].latched = netip.AddrPort{}, netip.AddrPort{}
	}
	if changed || hints[kindRTP] != st.peers[kindRTP].hint {
		w.table.settle(st) // before the hint changes, which it is found by
		st.peers[kindRTP].hint = hints[kindRTP]
		w.table.freshen(st)
	}
	st.peers[kindRTCP].hint = hints[kindRTCP]
	w.aim(st)
	return nil
}

// describe takes what SetSecure says of a stream, whatever its keys come by.
func (w *worker) describe(st *stream, p SecureParams) {
	st.inactive = p.Inactive
	st.figures.formats = slices.Clone(p.Formats)
	st.heard = [2]int64{w.now, w.now}
	w.table.declare(st, p.SSRCs)
	if p.CNAME != "" {
		st.splice.begin(p.CNAME, p.Announced)
	}
}

// canonical is how the sockets report an address: an IPv4 address is no
// mapped IPv6 one, and none has a zone.
func canonical(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// sweep ends what has had its time.
func (w *worker) sweep() {
	for st := range w.table.all {
		for kind, p := range st.prot {
			if p.rx.expired(w.now) {
				w.endGrace(st, uint8(kind))
			}
			p.tx.tire(w.now)
		}
		if w.silence > 0 {
			w.tellSilence(st)
		}
	}
	for st := range w.table.all { // when all that share one have had their turn
		for _, p := range st.prot {
			if p.rx.expired(w.now) {
				p.rx.old = opener{}
			}
		}
	}
	w.prover.forget(w.now)
	w.sweepTransports()
}

// endGrace forgets the sources that used only the key before.
func (w *worker) endGrace(st *stream, kind uint8) {
	epoch := st.prot[kind].rx.epoch
	w.table.retire(st, func(l *lane) bool { return l.key.kind != kind || l.epoch == epoch })
	if st.peers[kindRTP].latched.IsValid() && len(st.lanes) > 0 {
		w.table.settle(st)
	}
}

// tellSilence tells of a session whose phone was not heard for too long, once
// until it is. All of its streams must be silent, and one of them must be
// meant to be heard. That the PBX still sends says nothing: music and echoes
// play to nobody for ever.
func (w *worker) tellSilence(st *stream) {
	s := st.session
	if !w.isSilent(s) {
		s.silent = false
		return
	}
	if !s.silent && !st.inactive && st.prot[kindRTP].ready() {
		s.silent = true
		w.events.put(s, Event{Kind: Silence})
	}
}

func (w *worker) isSilent(s *Session) bool {
	for _, st := range s.live {
		if w.now-st.heard[Inward] < int64(w.silence) {
			return false
		}
	}
	return true
}

func (w *worker) sessionStats(streams []*stream) SessionStats {
	var s SessionStats
	for _, st := range streams {
		out := StreamStats{Inward: st.counts.dir[Inward], Outward: st.counts.dir[Outward], Drops: make(map[string]uint64)}
		for d, n := range st.counts.drops {
			if n > 0 {
				out.Drops[Drop(d).String()] = n
			}
		}
		if rx := &st.prot[kindRTP].rx.now; rx.ctx != nil {
			out.Keying, out.Suite = st.keying(), rx.key.Suite
		}
		for d := range out.Quality {
			out.Quality[d] = st.quality(Direction(d))
		}
		if out.Inward.any() || out.Drops[DropNowhere.String()] > 0 {
			out.LastHeard = w.at(st.heard[Inward])
		}
		if out.Outward.any() {
			out.LastPlain = w.at(st.heard[Outward])
		}
		s.Streams = append(s.Streams, out)
	}
	return s
}
