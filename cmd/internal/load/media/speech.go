package media

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/sound"
)

// speech is what a session says: a tone, by one codec at a time. Its session's
// mutex guards it.
type speech struct {
	header  [12]byte // of RTP
	hertz   float64
	codec   sound.Codec
	payload [sound.FrameSamples]byte // the same in each packet: see sound.Ear
	sealed  []byte
	packets int
}

func newSpeech(hertz float64, codec sound.Codec) speech {
	s := speech{hertz: hertz}
	_, _ = rand.Read(s.header[2:]) // never fails (crypto/rand)
	s.header[0] = 0x80
	s.header[2] &= 0x7f // a sequence that does not wrap at once (RFC 3711 section 3.3.1)
	s.speak(codec)
	return s
}

// speak goes on by a codec.
func (s *speech) speak(c sound.Codec) {
	s.codec, s.header[1] = c, byte(c)
	(&sound.Tone{Hertz: s.hertz, Codec: c}).Frame(s.payload[:])
}

func (s *speech) ssrc() uint32  { return binary.BigEndian.Uint32(s.header[8:]) }
func (s *speech) stamp() uint32 { return binary.BigEndian.Uint32(s.header[4:]) }

// beat sends what is due at the session's place in a frame; false: it is closed.
func (s *Session) beat(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.closed {
		return false
	}
	if s.ice != nil {
		s.ice.beat(s)
	}
	s.utter()
	if s.control.isDue(now) {
		s.report(now, false)
	}
	return true
}

// utter sends the next packet. s.mu is held.
func (s *Session) utter() {
	sp := &s.speech
	binary.BigEndian.PutUint32(sp.header[4:], sp.stamp()+sound.FrameSamples) // its clock runs on
	if s.keys.out == nil || s.state.held || !s.state.sends || !usable(s.to) {
		return
	}
	binary.BigEndian.PutUint16(sp.header[2:], binary.BigEndian.Uint16(sp.header[2:])+1)
	var plain [12 + sound.FrameSamples]byte
	copy(plain[:], sp.header[:])
	copy(plain[12:], sp.payload[:])
	sealed, err := s.keys.out.EncryptRTP(sp.sealed[:0], plain[:], nil)
	if err != nil {
		return // it shows as loss at the other end
	}
	sp.sealed = sealed
	if _, err := s.conn.WriteToUDPAddrPort(sealed, s.to); err == nil {
		sp.packets++
	}
}
