package media

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/sound"
)

// Session is one end of a call.
type Session struct {
	engine *Engine
	at     netip.AddrPort
	conn   *net.UDPConn // nil: no sound
	done   sync.WaitGroup

	mu      sync.Mutex // guards what follows
	state   state
	keys    keys
	to      netip.AddrPort
	ice     *agent
	dtls    *handshake
	speech  speech
	ear     ear
	early   *ear // before the answer; nil: nothing came then, and nothing was to
	control control
}

// state is what descriptions have made of a session.
type state struct {
	refused error // an offer that was not taken
	closed  bool
	err     error // of ICE or DTLS
	version int   // of our descriptions
	held    bool  // by this end
	sends   bool  // the other end takes sound
	offerer bool  // of the last description
	early   bool  // the last answer may be followed by another one
}

// Tones is what a session speaks, and what it must hear; 0: nothing.
type Tones struct{ Speak, Hear float64 }

// Session makes the media of a call at an address. Close must follow.
func (e *Engine) Session(at netip.Addr, t Tones) (*Session, error) {
	s := &Session{engine: e}
	if e.keyed == DTLS {
		s.ice = newAgent()
	}
	if e.config.Kind == None {
		var err error
		s.at, err = e.sink(at)
		return s, err
	}
	conn, err := listen(netip.AddrPortFrom(at, 0))
	if err != nil {
		return nil, err
	}
	s.conn, s.at = conn, port(conn)
	s.speech, s.ear = newSpeech(t.Speak, e.codecs[0]), newEar(t.Hear, e.codecs)
	s.done.Go(s.read) // ends when Close closes the socket, and is waited for there
	return s, nil
}

// Early has a tone be heard before the answer, in Hz, beside whatever else there is:
// many tones that ring are two at once, with pauses.
func (s *Session) Early(hertz float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := newEar(hertz, s.engine.codecs)
	s.early = &e
}

// Hold sets what the next offer is to say.
func (s *Session) Hold(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.held = on
}

// Rest has nothing judged until it is over: the call is held.
func (s *Session) Rest(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ear.rest(on, time.Now())
}

func (s *Session) direction() string {
	if s.state.held {
		return "sendonly"
	}
	return "sendrecv"
}

// Offer describes the session.
func (s *Session) Offer() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.version++
	s.state.offerer = true
	w := written{at: s.at, version: s.state.version, direction: s.direction(), codecs: s.engine.codecs}
	if s.engine.keyed == DTLS {
		w.proto, w.lines = "UDP/TLS/RTP/SAVPF", s.dtlsLines("actpass")
		return w.write(), nil
	}
	s.keys.offer(s.engine.config.Suites)
	w.proto, w.lines = "RTP/SAVP", append(s.keys.lines(), s.controlLines(true)...)
	return w.write(), nil
}

func (s *Session) dtlsLines(setup string) []string {
	lines := append(s.ice.lines(s.at), "fingerprint:"+s.engine.print, "setup:"+setup, "rtcp-mux")
	if s.conn == nil {
		return lines
	}
	return append(lines, fmt.Sprintf("ssrc:%d cname:%s", s.speech.ssrc(), s.control.name())) // RFC 5576
}

// Answer takes an offer, and describes the session after it.
func (s *Session) Answer(offer string) (string, error) {
	text, err := s.answer(offer)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.state.refused = err
	}
	return text, err
}

// Refused is why the last offer that was not taken was not; nil: all were.
func (s *Session) Refused() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.refused
}

func (s *Session) answer(offer string) (string, error) {
	d, err := parse(offer)
	if err != nil {
		return "", err
	}
	codec, err := d.choose(s.engine.codecs)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.version++
	s.state.offerer = false
	s.begin(true)
	w := written{at: s.at, version: s.state.version, proto: d.proto, direction: mirrored[d.wants], codecs: []sound.Codec{codec}, offer: d}
	if s.engine.keyed == DTLS {
		setup := "active"
		if d.setup == "active" {
			setup = "passive"
		}
		if err := s.secure(d, setup == "active"); err != nil {
			return "", err
		}
		w.lines = s.dtlsLines(setup)
	} else {
		if err := s.keys.answer(d.crypto, s.engine.config.Suites, s.conn != nil); err != nil {
			return "", err
		}
		w.lines = append(s.keys.lines(), s.controlLines(d.mux)...)
	}
	s.direct(d, codec)
	return w.write(), nil
}

// Accept takes the answer to our offer. One that is not final may be followed by
// another, of somebody else who is called too; what is heard until then is early media.
func (s *Session) Accept(answer string, final bool) error {
	d, err := parse(answer)
	if err != nil {
		return err
	}
	codec, err := d.choose(s.engine.codecs)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.engine.keyed == DTLS {
		err = s.secure(d, d.setup == "passive")
	} else {
		err = s.keys.accept(d.crypto, s.conn != nil, final)
	}
	if err != nil {
		return err
	}
	s.begin(final)
	s.direct(d, codec)
	return nil
}

// begin notes when sound was first to come, before the answer and with it, and has
// packets sent from then on. s.mu is held.
func (s *Session) begin(final bool) {
	if !s.ear.started.IsZero() {
		return
	}
	s.state.early = !final
	now, begun := time.Now(), s.early != nil && !s.early.started.IsZero()
	switch {
	case final:
		if s.ear.begin(now); begun {
			s.ear.follow(s.early)
		}
	case s.early == nil:
		e := newEar(0, s.engine.codecs)
		s.early = &e
		fallthrough
	case !begun:
		s.early.started = now
	}
	if !begun && s.conn != nil {
		s.control.begin(now)
		s.engine.pace(s)
	}
}

// hearing is what listens now. s.mu is held.
func (s *Session) hearing() *ear {
	if s.state.early {
		return s.early
	}
	return &s.ear
}

// direct takes where sound and reports go, and by which codec, and whether it does.
// s.mu is held.
func (s *Session) direct(d *description, codec sound.Codec) {
	s.state.sends = d.wants == "sendrecv" || d.wants == "recvonly"
	if d.addr.Addr().IsValid() && (s.ice == nil || !s.ice.begun) {
		s.to = d.addr
	}
	if s.conn == nil {
		return
	}
	if s.speech.codec != codec {
		s.speech.speak(codec)
	}
	s.control.direct(d, s.ice == nil, s.state.early)
}

// Close ends the session; it may be called again.
func (s *Session) Close() {
	s.mu.Lock()
	closed := s.state.closed
	if !closed && s.conn != nil {
		s.report(time.Now(), true)
		s.control.close()
		s.ear.end(time.Now())
	}
	s.state.closed = true
	h := s.dtls
	s.mu.Unlock()
	if closed || s.conn == nil {
		return
	}
	if h != nil {
		h.close()
	}
	s.conn.Close()
	s.done.Wait()
}

func (s *Session) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.closed
}

// usable tells whether an address can be sent to.
func usable(to netip.AddrPort) bool {
	return to.IsValid() && !to.Addr().IsUnspecified() && to.Port() != 0
}

// Sound is what the session had, and what was wrong with what it heard.
func (s *Session) Sound() (measure.Sound, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := measure.Sound{Sent: s.speech.packets, Control: s.control.heard}
	if s.conn == nil {
		return m, s.state.err
	}
	err := s.ear.judge(&m)
	if m.Verdict != measure.Right {
		err = errors.Join(err, s.state.err)
	}
	if s.early != nil {
		var before error
		if m.Early, before = s.early.judgeEarly(); err == nil {
			err = before
		}
	}
	return m, err
}
