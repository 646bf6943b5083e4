package media

import (
	"bytes"
	"fmt"
	"net/netip"
	"sync"
)

// maxStreams bounds the streams of one call, and the ports that it takes.
const maxStreams = 16

// Session is the media of one call, on one worker. Its methods may be called
// from any goroutine; they wait for the worker, which takes microseconds.
type Session struct {
	engine *Engine
	worker *worker
	notify Notify

	mu         sync.Mutex // guards what follows; held while waiting for the worker
	streams    []*stream
	transports []*transport
	closed     bool
	last       SessionStats // once closed

	live   []*stream // the worker's: the streams again
	silent bool      // the worker's: Silence was told
}

// StreamAddrs are our addresses for one stream.
type StreamAddrs struct {
	Index  int
	Secure []netip.AddrPort // for RTP, one for each public address; RTCP is one port above
	TCP    []netip.AddrPort // likewise, for connections that begin with ICE (RFC 6544); nil: not offered
	Plain  netip.AddrPort   // for RTP; RTCP is one port above
	SSRC   uint32           // that a description may announce as ours: no other stream on these ports has it
}

// PlainParams is what the PBX said of a stream. A zero address means that it
// wants nothing sent. Packets are accepted from the addresses it named last,
// whatever their port.
type PlainParams struct {
	RTP, RTCP netip.AddrPort
}

// SecureParams is what phone and edge agreed on for a stream.
type SecureParams struct {
	Rx, Tx    Key        // the phone's, ours; given away, and never the same
	Transport *Transport // instead of keys, hints and RTCPMux
	RTCPMux   bool
	// Hint and RTCPHint are where the phone may be found before it was heard:
	// its signalling's address with the ports of its description. They order
	// the search, and are where we send first.
	Hint, RTCPHint netip.AddrPort
	SSRCs          []uint32 // that the phone declared; the first 16 count
	// Sole tells that the phone sends by SSRCs alone, and Fixed that it is at the host
	// of the hints, though a NAT may have given it another port. So does another edge, whose calls all come from one address: its
	// packets are never tried on calls that they do not name, and what is sent
	// follows nobody elsewhere. They count where keys come by SDES.
	Sole, Fixed bool
	// CNAME, if not empty, has all that the PBX sends leave as one source of that
	// name (at most 255 bytes): StreamAddrs.SSRC if that was Announced (RFC 5576
	// section 6.1), else the PBX's first. Without it the PBX's sources stay as they
	// are.
	CNAME     string
	Announced bool
	Inactive  bool // it may be silent
	// Await has a new Tx wait until the phone is known to have it: until a packet
	// under a new Rx verifies, Confirm, or half a minute. So does who answers an
	// offer, as the answer is on its way still; who has the answer does not.
	Await   bool
	Formats []Format // what may be sent, for the figures; the first counts most
}

// AddStream opens a stream and its plain ports.
func (s *Session) AddStream() (StreamAddrs, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return StreamAddrs{}, ErrClosed
	}
	if len(s.streams) >= maxStreams {
		return StreamAddrs{}, ErrTooManyStreams
	}
	pair, err := s.engine.ports.open()
	if err != nil {
		return StreamAddrs{}, err
	}
	st := &stream{session: s, index: len(s.streams)}
	st.prot = [numKinds]*protection{&st.own, &st.own}
	for kind := range pair {
		st.plain[kind].sock = pair[kind]
	}
	s.worker.do(func() { err = s.worker.attach(st) })
	if err != nil {
		s.engine.ports.give(pair[kindRTP].Local.Port())
		return StreamAddrs{}, err
	}
	s.streams = append(s.streams, st)
	return StreamAddrs{
		Index: st.index, Secure: s.engine.secureAddrs(s.worker), TCP: s.engine.lobby.addrs(s.engine.config),
		Plain: pair[kindRTP].Local, SSRC: st.splice.ssrc,
	}, nil
}

// SetPlain says where the PBX's end of a stream is. Errors wrap ErrClosed or
// ErrStream.
func (s *Session) SetPlain(index int, p PlainParams) error {
	return s.change(index, func(st *stream) error {
		s.worker.direct(st, p)
		return nil
	})
}

// SetSecure says how a stream is protected and where its phone may be. It may
// be called again: the same key goes on where it was, a new one replaces it, and
// the phone's old one is good until it uses the new one, and a short while after
// it. Errors wrap ErrKey, ErrClosed or ErrStream, and leave the stream as it was.
func (s *Session) SetSecure(index int, p SecureParams) error {
	if len(p.CNAME) > 255 {
		return fmt.Errorf("%w: its CNAME has %d bytes, more than 255", ErrStream, len(p.CNAME))
	}
	if p.Transport != nil {
		return s.change(index, func(st *stream) error { return s.worker.join(st, p) })
	}
	rx, err := newOpener(p.Rx)
	if err != nil {
		return fmt.Errorf("set the phone's key: %w", err)
	}
	tx, err := newSealer(p.Tx)
	if err != nil {
		return fmt.Errorf("set our key: %w", err)
	}
	if bytes.Equal(p.Rx.KeySalt, p.Tx.KeySalt) {
		// Both directions would use the same nonces (RFC 3711 section 9.1),
		// and our packets could be sent back to us as the phone's.
		return fmt.Errorf("set keys: %w: the phone's is ours", ErrKey)
	}
	return s.change(index, func(st *stream) error { return s.worker.protect(st, p, rx, tx) })
}

// change runs f for a stream, between two batches.
func (s *Session) change(index int, f func(*stream) error) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if index < 0 || index >= len(s.streams) {
		return fmt.Errorf("%w: %d", ErrStream, index)
	}
	st := s.streams[index]
	s.worker.do(func() { err = f(st) })
	return err
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
		s.worker.remember(s.streams, s.transports)
		for _, st := range s.streams {
			s.worker.detach(st)
		}
		for _, t := range s.transports {
			s.worker.dismiss(t)
		}
	})
	for _, st := range s.streams {
		s.engine.ports.give(st.plain[kindRTP].sock.Local.Port())
	}
	s.streams, s.transports = nil, nil
	s.engine.left(s)
	return s.last
}
