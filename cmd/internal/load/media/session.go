package media

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
)

// Session is one end of a call.
type Session struct {
	engine *Engine
	at     netip.AddrPort

	mu      sync.Mutex // guards what follows
	version int        // of our descriptions
	held    bool       // by this end
	ours    []crypto   // what we offered, or answered with
}

// Session makes the media of a call at an address.
func (e *Engine) Session(at netip.Addr) (*Session, error) {
	s := &Session{engine: e}
	var err error
	s.at, err = e.sink(at)
	return s, err
}

// Hold sets what the next offer is to say.
func (s *Session) Hold(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = on
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
	if len(s.ours) == 0 {
		for i, name := range s.engine.config.Suites {
			s.ours = append(s.ours, crypto{fmt.Sprint(i + 1), name, suites[name].newKey()})
		}
	}
	return write(s.at, s.version, "RTP/SAVP", s.direction(), lines(s.ours), nil), nil
}

func lines(all []crypto) (list []string) {
	for _, c := range all {
		list = append(list, c.String())
	}
	return list
}

var errUnkeyed = errors.New("it offers no key that we can use")

// Answer takes an offer, and describes the session after it.
func (s *Session) Answer(offer string) (string, error) {
	d, err := parse(offer)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(d.crypto, func(c crypto) bool { return slices.Contains(s.engine.config.Suites, c.suite) })
	if i < 0 {
		return "", errUnkeyed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	theirs := d.crypto[i]
	if len(s.ours) != 1 || s.ours[0].suite != theirs.suite {
		s.ours = []crypto{{suite: theirs.suite, key: suites[theirs.suite].newKey()}}
	}
	s.ours[0].tag = theirs.tag
	return write(s.at, s.version, d.proto, mirrored[d.wants], lines(s.ours), d), nil
}

// Accept takes the answer to our offer.
func (s *Session) Accept(answer string) error {
	d, err := parse(answer)
	if err != nil {
		return err
	}
	if len(d.crypto) == 0 {
		return errUnkeyed
	}
	return nil
}

// Sound is what the session had.
func (s *Session) Sound() (measure.Sound, bool) { return measure.Sound{}, false }

// Close ends it.
func (s *Session) Close() {}
