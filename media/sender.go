package media

import (
	"time"

	"github.com/pion/srtp/v3"
)

const (
	// maxSources bounds the SSRCs of the PBX on one sender. Each transfer may
	// bring one, and an agent's call lasts a day.
	maxSources = 1024
	// patience is how long a new key of ours waits until the phone is known to
	// have it: 64*T1, after which whoever waits for an answer has it or has
	// given up (RFC 3261 section 17).
	patience = 32 * time.Second
)

// sealer encrypts under one key.
type sealer struct {
	key     Key
	ctx     *srtp.Context
	since   int64 // when it came into force
	packets uint64
}

func newSealer(k Key) (*sealer, error) {
	ctx, err := k.context()
	return &sealer{key: k, ctx: ctx}, err
}

// sender holds our key towards a phone, and what was sent to it.
type sender struct {
	now     *sealer
	next    *sealer // set, but not used before the phone is known to have it
	until   int64   // when next is used all the same
	proof   uint32  // the phone's key, by its count, that shows that it has next; 0: none does
	epoch   uint32  // counts changes of key
	sources map[uint32]*source
	last    *source
	retired []Key // that were in force before, the last few: see Keys
}

// source is one SSRC of the PBX. What is known of it is good for all keys: after
// a change of key, the roll-over counter and the SRTCP index go on (RFC 3711
// sections 3.3.1 and 3.4). So no key that comes back meets a nonce again: each
// packet's index is above all that were.
type source struct {
	ssrc    uint32
	stream  *stream // whose it is
	started bool
	newest  uint16           // sequence number as the PBX wrote it
	index   int64            // what it left under: the highest packet index so far (RFC 3711 section 3.3.1)
	seen    uint64           // bit n: index-n was sent
	reports uint32           // the SRTCP index, when the key changed last
	epochs  [numKinds]uint32 // of the key that knows of it

	reception reception
}

// set takes a new key, to be used at once or, if it waits, once the phone is
// known to have it. A first one never waits. It tells whether one was put in force.
func (s *sender) set(n *sealer, waits bool, now int64) bool {
	epoch := s.epoch
	switch {
	case s.now != nil && s.now.key.Equal(n.key):
		s.next = nil
	case s.next != nil && s.next.key.Equal(n.key):
		if !waits {
			s.use(s.next, now)
		}
	case waits && s.now != nil:
		s.next, s.until = n, now+int64(patience)
	default:
		s.use(n, now)
	}
	return s.epoch != epoch
}

// confirm uses the key that waits, if one does: the phone has it.
func (s *sender) confirm(now int64) {
	if s.next != nil {
		s.use(s.next, now)
	}
}

// tire uses the key that waits when it has waited long enough.
func (s *sender) tire(now int64) {
	if s.next != nil && now >= s.until {
		s.use(s.next, now)
	}
}

// use puts a key in force.
func (s *sender) use(n *sealer, now int64) {
	for ssrc, src := range s.sources {
		if i, ok := s.now.ctx.Index(ssrc); ok {
			src.reports = i
		}
	}
	s.retire()
	n.since = now
	s.now, s.next = n, nil
	s.epoch++
}

// restart has the counters begin again under the key in force, which no other
// call to this sender ever had and none will: that of a new DTLS association,
// whose contexts are new (RFC 5764 section 3).
func (s *sender) restart() {
	for _, src := range s.sources {
		src.started, src.reports = false, 0
	}
}

// seal encrypts a packet of a stream in place; behind it there is room for the
// tag. Of two streams with the same SSRC under one key, only the first's is
// encrypted: the other would use its nonces (RFC 3711 section 9.1).
func (s *sender) seal(st *stream, p []byte, kind uint8, ssrc uint32, h *headers) ([]byte, Drop, bool) {
	src := s.source(st, ssrc)
	if src == nil {
		return nil, DropSSRCLimit, false
	}
	var out []byte
	var err error
	if kind == kindRTP {
		index, ok := src.next(sequence(p))
		if !ok {
			return nil, DropRepeated, false
		}
		setSequence(p, uint16(index))
		if src.epochs[kind] != s.epoch {
			src.epochs[kind] = s.epoch
			s.now.ctx.SetROC(ssrc, uint32(index>>16))
		}
		out, err = s.now.ctx.EncryptRTP(p, p, &h.rtp)
	} else {
		if src.epochs[kind] != s.epoch {
			src.epochs[kind] = s.epoch
			s.now.ctx.SetIndex(ssrc, src.reports)
		}
		out, err = s.now.ctx.EncryptRTCP(p, p, &h.rtcp)
	}
	if err != nil {
		return nil, DropCrypto, false
	}
	s.now.packets++
	return out, 0, true
}

// source finds what was sent of a stream's SSRC; nil if there are too many, or
// it is another's. States are never given up: that would repeat nonces.
func (s *sender) source(st *stream, ssrc uint32) *source {
	if s.last != nil && s.last.ssrc == ssrc && s.last.stream == st {
		return s.last
	}
	src := s.sources[ssrc]
	if src == nil {
		if len(s.sources) >= maxSources {
			return nil
		}
		if s.sources == nil {
			s.sources = make(map[uint32]*source)
		}
		src = &source{ssrc: ssrc, stream: st}
		s.sources[ssrc] = src
	}
	if src.stream != st {
		return nil
	}
	s.last = src
	return src
}

// part keeps with a stream what was measured of its sources: it has another sender
// from now on.
func (s *sender) part(st *stream) {
	for _, src := range s.sources {
		if src.stream == st {
			st.figures.past[Outward].add(&src.reception)
			src.reception = reception{}
		}
	}
}

// next takes note of a sequence number, and returns the packet index to leave
// under; false for one that was used, or is too late to tell. A nonce must not be used
// twice, and what is refused here a phone's replay window would refuse as well.
//
// Numbers leave as they come, except where the PBX jumps under one SSRC (RFC
// 3550 appendix A.1): then they go on where they were. A phone that is to guess
// the roll-over counter from a jump may guess wrong, and be deaf from there on.
// chan_sip even mixes two sequences, of a phone that holds and still speaks and
// of the music that the held one shall hear.
func (s *source) next(seq uint16) (int64, bool) {
	if !s.started {
		s.started, s.newest, s.index, s.seen = true, seq, int64(seq), 1
		return s.index, true
	}
	ahead := int64(int16(seq - s.newest))
	if ahead > maxDropout || ahead < -maxMisorder {
		ahead = 1
	}
	switch {
	case ahead > 0:
		s.newest = seq
		s.index += ahead
		s.seen = s.seen<<uint64(ahead) | 1 // a shift of 64 and more leaves 0
		return s.index, true
	case ahead <= -64 || s.index+ahead < 0: // too old to tell, or before the first
		return 0, false
	case s.seen&(1<<uint64(-ahead)) != 0:
		return 0, false
	}
	s.seen |= 1 << uint64(-ahead)
	return s.index + ahead, true
}
