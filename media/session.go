package media

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/srtp/v3"

	"github.com/sallyport/sallyport/media/packet"
)

// Session is the media of one call, on one worker. Its methods may be called
// from any goroutine; they wait for the worker, which takes microseconds.
type Session struct {
	engine *Engine
	worker *worker
	notify Notify

	mu      sync.Mutex // guards what follows; held while waiting for the worker
	streams []*stream
	closed  bool
	last    SessionStats // once closed

	live   []*stream // the worker's: the streams again
	silent bool      // the worker's: Silence was told
}

// StreamAddrs are our addresses for one stream.
type StreamAddrs struct {
	Index  int
	Secure []netip.AddrPort // for RTP, one for each public address; RTCP is one port above
	Plain  netip.AddrPort   // for RTP; RTCP is one port above
}

// PlainParams is what the PBX said of a stream. A zero address means that it
// wants nothing sent.
type PlainParams struct {
	RTP, RTCP netip.AddrPort
}

// SecureParams is what phone and edge agreed on for a stream.
type SecureParams struct {
	Rx, Tx  Key // the phone's, ours; given away
	RTCPMux bool
	// Hint and RTCPHint are where the phone may be found before it was heard:
	// its signalling's address with the ports of its description. They order
	// the search, and are where we send first.
	Hint, RTCPHint netip.AddrPort
	SSRCs          []uint32 // that the phone declared
	Inactive       bool     // it may be silent
}

// AddStream opens a stream and its plain ports.
func (s *Session) AddStream() (StreamAddrs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return StreamAddrs{}, ErrClosed
	}
	pair, err := s.engine.ports.open()
	if err != nil {
		return StreamAddrs{}, err
	}
	st := &stream{session: s, index: len(s.streams)}
	for kind := range pair {
		st.plain[kind].sock = pair[kind]
	}
	s.worker.do(func() { err = s.worker.attach(st) })
	if err != nil {
		s.engine.ports.give(pair[kindRTP].Local.Port())
		return StreamAddrs{}, err
	}
	s.streams = append(s.streams, st)
	return StreamAddrs{Index: st.index, Secure: s.engine.secureAddrs(s.worker), Plain: pair[kindRTP].Local}, nil
}

// SetPlain says where the PBX's end of a stream is.
func (s *Session) SetPlain(index int, p PlainParams) error {
	return s.change(index, func(st *stream) {
		for kind, at := range [numKinds]netip.AddrPort{p.RTP, p.RTCP} {
			st.plain[kind].to = packet.MakeAddr(at)
			if at.IsValid() { // a held PBX may go on sending, music perhaps
				st.plain[kind].from = at.Addr()
			}
		}
	})
}

// SetSecure says how a stream is protected and where its phone may be. It may
// be called again: the same key goes on where it was, a new one replaces it,
// with a short grace for the phone's old one. Errors wrap ErrKey, ErrClosed or
// ErrStream.
func (s *Session) SetSecure(index int, p SecureParams) error {
	rx, err := p.Rx.context()
	if err != nil {
		return fmt.Errorf("set the phone's key: %w", err)
	}
	tx, err := p.Tx.context()
	if err != nil {
		return fmt.Errorf("set our key: %w", err)
	}
	return s.change(index, func(st *stream) { s.worker.protect(st, p, rx, tx) })
}

func (s *Session) change(index int, f func(*stream)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if index < 0 || index >= len(s.streams) {
		return fmt.Errorf("%w: %d", ErrStream, index)
	}
	st := s.streams[index]
	s.worker.do(func() { f(st) })
	return nil
}

// Stats returns a snapshot; of a closed session the last one.
func (s *Session) Stats() SessionStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.last
	}
	var stats SessionStats
	s.worker.do(func() { stats = s.worker.sessionStats(s.streams) })
	return stats
}

// Close ends the session and frees its ports, and returns its last figures.
// It may be called again.
func (s *Session) Close() SessionStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.last
	}
	s.closed = true
	s.worker.do(func() {
		s.last = s.worker.sessionStats(s.streams)
		for _, st := range s.streams {
			s.worker.detach(st)
		}
	})
	for _, st := range s.streams {
		s.engine.ports.give(st.plain[kindRTP].sock.Local.Port())
	}
	s.streams = nil
	s.engine.left(s)
	return s.last
}

// What follows runs on the worker.

func (w *worker) attach(st *stream) error {
	for kind := range st.plain {
		if err := w.watch(st.plain[kind].sock.FD, &endpoint{stream: st, kind: uint8(kind)}); err != nil {
			for k := range st.plain {
				w.unwatch(st.plain[k].sock)
			}
			return err
		}
	}
	st.lastHeard = w.now
	st.session.live = append(st.session.live, st)
	w.table.add(st)
	return nil
}

func (w *worker) detach(st *stream) {
	w.table.drop(st)
	for kind := range st.plain {
		w.unwatch(st.plain[kind].sock)
	}
}

// protect is SetSecure, on the worker.
func (w *worker) protect(st *stream, p SecureParams, rx, tx *srtp.Context) {
	if st.rx.set(p.Rx, rx, w.now) {
		w.table.freshen(st)
	}
	st.tx.set(p.Tx, tx)
	st.mux, st.inactive = p.RTCPMux, p.Inactive
	st.lastHeard = w.now
	st.session.silent = false
	for _, ssrc := range p.SSRCs {
		w.table.learn(st, ssrc)
		st.declared = append(st.declared, ssrc)
	}
	for kind, hint := range [numKinds]netip.AddrPort{p.Hint, p.RTCPHint} {
		peer := &st.peers[kind]
		if peer.hint == hint {
			continue
		}
		peer.hint = hint
		if kind == kindRTP && hint.IsValid() {
			w.table.freshen(st)
		}
		if !peer.latched.IsValid() && hint.IsValid() {
			peer.to, peer.sock = packet.MakeAddr(hint), w.socketFor(hint.Addr(), uint8(kind))
			if peer.sock == nil {
				peer.to = packet.Addr{}
			}
		}
	}
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
		if len(st.lanes) > 0 {
			out.LastHeard = w.began.Add(time.Duration(st.lastHeard))
		}
		s.Streams = append(s.Streams, out)
	}
	return s
}

// findSilent tells of sessions that nothing was heard of for too long, once
// each. A session is silent when all its streams are, and one must not be.
func (w *worker) findSilent() {
	if w.silence == 0 {
		return
	}
	for st := range w.table.all {
		quiet := w.now-st.lastHeard >= int64(w.silence)
		if quiet && !st.inactive && st.rx.ctx != nil && !st.session.silent && w.isSilent(st.session) {
			st.session.silent = true
			w.events.put(st.session, Event{Kind: Silence})
		}
	}
}

func (w *worker) isSilent(s *Session) bool {
	for _, st := range s.live {
		if w.now-st.lastHeard < int64(w.silence) {
			return false
		}
	}
	return true
}
