package media

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/srtp/v3"
	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/sound"
)

// Session is one end of a call.
type Session struct {
	engine *Engine
	at     netip.AddrPort
	conn   *net.UDPConn // nil: no sound
	done   sync.WaitGroup

	mu       sync.Mutex // guards what follows
	closed   bool
	err      error // of the handshake
	version  int   // of our descriptions
	held     bool  // by this end
	sends    bool  // the other end takes sound
	offerer  bool  // of the last description
	ours     []crypto
	out, in  *srtp.Context
	outKey   string // that out was made of; likewise inKey
	inKey    string
	to       netip.AddrPort
	ice      *agent
	dtls     *handshake
	header   [12]byte // of RTP
	payload  [sound.FrameSamples]byte
	sealed   []byte
	started  time.Time // when sound was first to come
	ear      *sound.Ear
	deaf     time.Time // until when nothing is judged
	resting  bool
	received received
	sent     int
}

// Tones is what a session speaks, and what it must hear; 0: nothing.
type Tones struct{ Speak, Hear float64 }

// Session makes the media of a call at an address. Close must follow.
func (e *Engine) Session(at netip.Addr, t Tones) (*Session, error) {
	s := &Session{engine: e}
	if e.config.Kind == None {
		var err error
		s.at, err = e.sink(at)
		return s, err
	}
	conn, err := listen(at)
	if err != nil {
		return nil, err
	}
	s.conn, s.at = conn, port(conn)
	if t.Hear > 0 {
		s.ear = &sound.Ear{Hertz: t.Hear}
	}
	(&sound.Tone{Hertz: t.Speak}).Frame(s.payload[:]) // the same in each packet: see sound.Ear
	_, _ = rand.Read(s.header[2:])                    // never fails (crypto/rand)
	s.header[0] = 0x80
	s.header[2] &= 0x7f // a sequence that does not wrap at once (RFC 3711 section 3.3.1)
	if e.config.Kind == DTLS {
		s.ice = newAgent()
	}
	s.done.Go(s.read) // ends when Close closes the socket, and is waited for there
	return s, nil
}

// Hold sets what the next offer is to say.
func (s *Session) Hold(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = on
}

// settle is how long after a rest sound may still be what it was.
const settle = 500 * time.Millisecond

// Rest has nothing judged until it is over: the call is held.
func (s *Session) Rest(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resting, s.deaf = on, time.Now().Add(settle)
	s.received.pause()
	if s.ear != nil {
		s.ear.Forget()
	}
}

func (s *Session) direction() string {
	if s.held {
		return "sendonly"
	}
	return "sendrecv"
}

// Offer describes the session.
func (s *Session) Offer() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.offerer = true
	if s.engine.config.Kind == DTLS {
		return write(s.at, s.version, "UDP/TLS/RTP/SAVPF", s.direction(), s.dtlsLines("actpass"), nil), nil
	}
	if len(s.ours) == 0 {
		for i, name := range s.engine.config.Suites {
			s.ours = append(s.ours, crypto{fmt.Sprint(i + 1), name, suites[name].newKey()})
		}
	}
	return write(s.at, s.version, "RTP/SAVP", s.direction(), cryptoLines(s.ours), nil), nil
}

func cryptoLines(all []crypto) (list []string) {
	for _, c := range all {
		list = append(list, c.String())
	}
	return append(list, "rtcp-mux")
}

func (s *Session) dtlsLines(setup string) []string {
	source := fmt.Sprintf("ssrc:%d cname:%s", binary.BigEndian.Uint32(s.header[8:]), s.ice.ufrag) // RFC 5576
	return append(s.ice.lines(s.at), "fingerprint:"+s.engine.print, "setup:"+setup, "rtcp-mux", source)
}

var errUnkeyed = errors.New("it has no key that we can use")

// Answer takes an offer, and describes the session after it.
func (s *Session) Answer(offer string) (string, error) {
	d, err := parse(offer)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.offerer = false
	s.begin()
	if s.engine.config.Kind == DTLS {
		setup := "active"
		if d.setup == "active" {
			setup = "passive"
		}
		if err := s.secure(d, setup == "active"); err != nil {
			return "", err
		}
		s.direct(d)
		return write(s.at, s.version, d.proto, mirrored[d.wants], s.dtlsLines(setup), d), nil
	}
	i := slices.IndexFunc(d.crypto, func(c crypto) bool { return slices.Contains(s.engine.config.Suites, c.suite) })
	if i < 0 {
		return "", errUnkeyed
	}
	theirs := d.crypto[i]
	if j := slices.IndexFunc(s.ours, func(c crypto) bool { return c.suite == theirs.suite }); j >= 0 {
		s.ours = s.ours[j : j+1]
	} else {
		s.ours = []crypto{{suite: theirs.suite, key: suites[theirs.suite].newKey()}}
	}
	s.ours[0].tag = theirs.tag
	if err := s.key(s.ours[0], theirs); err != nil {
		return "", err
	}
	s.direct(d)
	return write(s.at, s.version, d.proto, mirrored[d.wants], cryptoLines(s.ours), d), nil
}

// Accept takes the answer to our offer.
func (s *Session) Accept(answer string) error {
	d, err := parse(answer)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin()
	if s.engine.config.Kind == DTLS {
		if err := s.secure(d, d.setup == "passive"); err != nil {
			return err
		}
		s.direct(d)
		return nil
	}
	if len(d.crypto) == 0 {
		return errUnkeyed
	}
	theirs := d.crypto[0]
	i := slices.IndexFunc(s.ours, func(c crypto) bool { return c.tag == theirs.tag && c.suite == theirs.suite })
	if i < 0 {
		return errUnkeyed
	}
	s.ours = []crypto{s.ours[i]}
	if err := s.key(s.ours[0], theirs); err != nil {
		return err
	}
	s.direct(d)
	return nil
}

// begin notes when sound was first to come, and has packets sent from now on. s.mu
// is held.
func (s *Session) begin() {
	if !s.started.IsZero() {
		return
	}
	s.started = time.Now()
	s.deaf = s.started.Add(settle)
	if s.conn != nil {
		s.engine.pace(s)
	}
}

// direct takes where sound goes, and whether it does. s.mu is held.
func (s *Session) direct(d *description) {
	s.sends = d.wants == "sendrecv" || d.wants == "recvonly"
	if d.addr.Addr().IsValid() && (s.ice == nil || !s.ice.begun) {
		s.to = d.addr
	}
}

// key puts keys of SDES in force. One that stays goes on where it was. s.mu is
// held.
func (s *Session) key(ours, theirs crypto) error {
	if s.conn == nil {
		return nil
	}
	var err error
	if k := ours.suite + string(ours.key); k != s.outKey {
		if s.out, err = suites[ours.suite].context(ours.key); err != nil {
			return err
		}
		s.outKey = k
	}
	if k := theirs.suite + string(theirs.key); k != s.inKey {
		if s.in, err = suites[theirs.suite].context(theirs.key); err != nil {
			return err
		}
		s.inKey = k
	}
	return nil
}

// Close ends the session; it may be called again.
func (s *Session) Close() {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
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
	return s.closed
}

// beat sends what is due at the session's place in a frame; false: it is closed.
func (s *Session) beat() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if s.ice != nil {
		s.ice.beat(s)
	}
	seq, stamp := binary.BigEndian.Uint16(s.header[2:]), binary.BigEndian.Uint32(s.header[4:])
	binary.BigEndian.PutUint32(s.header[4:], stamp+sound.FrameSamples) // its clock runs on
	if s.out == nil || s.held || !s.sends || !s.to.IsValid() || s.to.Addr().IsUnspecified() {
		return true
	}
	binary.BigEndian.PutUint16(s.header[2:], seq+1)
	var plain [12 + sound.FrameSamples]byte
	copy(plain[:], s.header[:])
	copy(plain[12:], s.payload[:])
	sealed, err := s.out.EncryptRTP(s.sealed[:0], plain[:], nil)
	if err != nil {
		return true // it shows as loss at the other end
	}
	s.sealed = sealed
	if _, err := s.conn.WriteToUDPAddrPort(sealed, s.to); err == nil {
		s.sent++
	}
	return true
}

// What may be wrong with what was heard.
var (
	ErrSilent = errors.New("nothing was heard")
	ErrWrong  = errors.New("another sound was heard")
)

// Sound is what the session had, and what was wrong with what it heard.
func (s *Session) Sound() (measure.Sound, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.received
	m := measure.Sound{Sent: s.sent, Received: r.packets, Lost: r.lost(), Bad: r.bad, Jitter: r.delay()}
	if !r.first.IsZero() {
		m.FirstPacket = r.first.Sub(s.started)
	}
	switch {
	case s.conn == nil, s.ear == nil:
		return m, s.err
	case s.ear.Heard():
		m.Verdict = measure.Right
		return m, nil
	case s.ear.Nothing():
		m.Verdict = measure.Silent
		return m, errors.Join(fmt.Errorf("%w of %g Hz, %d packets came, %d did not verify", ErrSilent, s.ear.Hertz, s.received.packets, s.received.bad), s.err)
	}
	m.Verdict = measure.Wrong
	return m, fmt.Errorf("%w: %g Hz was to be heard, %.0f Hz was (%d tenths of a second right, %d wrong, %d blurred, %d silent; of %d packets %d were lost, %d did not verify)",
		ErrWrong, s.ear.Hertz, s.ear.Other.Hertz, s.ear.Right, s.ear.Wrong, s.ear.Blurred, s.ear.Silent, r.packets, r.lost(), r.bad)
}
