package media

import "github.com/pion/srtp/v3"

const (
	// maxSources bounds the SSRCs of the PBX under one key. Each transfer may
	// bring one, and an agent's call lasts a day.
	maxSources = 1024
	// maxSpentKeys bounds our own keys for one stream.
	maxSpentKeys = 32
)

// sealer encrypts under one key.
type sealer struct {
	key     Key
	ctx     *srtp.Context
	sources map[uint32]*source
	last    *source
}

// source is one SSRC of the PBX.
type source struct {
	ssrc    uint32
	stream  *stream // whose it is
	started bool
	newest  uint16 // sequence number as the PBX wrote it
	index   int64  // what it left under: the highest packet index so far (RFC 3711 section 3.3.1)
	seen    uint64 // bit n: index-n was sent

	reception reception
}

func newSealer(k Key) (*sealer, error) {
	ctx, err := k.context()
	return &sealer{key: k, ctx: ctx, sources: make(map[uint32]*source)}, err
}

// sender holds our keys towards a phone.
type sender struct {
	now   *sealer
	spent []*sealer
}

// has tells whether a key can be set.
func (s *sender) has(k Key) bool {
	return len(s.spent) < maxSpentKeys || s.now == nil || s.now.key.Equal(k) || s.recall(k) != nil
}

// set takes a new key. One that was ever used here must keep its context: a
// new one would begin again at packet 0 and use each nonce a second time with
// other contents, which gives both away and, with GCM, the key that
// authenticates (RFC 3711 section 9.1, RFC 7714 section 11).
func (s *sender) set(n *sealer) {
	if s.now != nil && s.now.key.Equal(n.key) {
		return
	}
	if old := s.recall(n.key); old != nil {
		n = old
	}
	if s.now != nil && s.recall(s.now.key) == nil {
		s.spent = append(s.spent, s.now)
	}
	s.now = n
}

// each calls f for every source, those under keys of before too.
func (s *sender) each(f func(*source)) {
	keys := s.spent
	if s.now != nil && s.recall(s.now.key) == nil {
		keys = append(keys[:len(keys):len(keys)], s.now)
	}
	for _, k := range keys {
		for _, src := range k.sources {
			f(src)
		}
	}
}

func (s *sender) recall(k Key) *sealer {
	for _, old := range s.spent {
		if old.key.Equal(k) {
			return old
		}
	}
	return nil
}

// seal encrypts a packet of a stream in place; behind it there is room for the
// tag. Of two streams with the same SSRC under one key, only the first's is
// encrypted: the other would use its nonces (RFC 3711 section 9.1).
func (s *sealer) seal(st *stream, p []byte, kind uint8, ssrc uint32, h *headers) ([]byte, Drop, bool) {
	src := s.source(st, ssrc)
	if src == nil {
		return nil, DropSSRCLimit, false
	}
	var out []byte
	var err error
	if kind == kindRTP {
		seq, ok := src.next(sequence(p))
		if !ok {
			return nil, DropRepeated, false
		}
		setSequence(p, seq)
		out, err = s.ctx.EncryptRTP(p, p, &h.rtp)
	} else {
		out, err = s.ctx.EncryptRTCP(p, p, &h.rtcp)
	}
	if err != nil {
		return nil, DropCrypto, false
	}
	return out, 0, true
}

// source finds what was sent of a stream's SSRC; nil if there are too many, or
// it is another's. States are never given up while their key lives: that, too, would repeat nonces.
func (s *sealer) source(st *stream, ssrc uint32) *source {
	if s.last != nil && s.last.ssrc == ssrc && s.last.stream == st {
		return s.last
	}
	src := s.sources[ssrc]
	if src == nil {
		if len(s.sources) >= maxSources {
			return nil
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

// next takes note of a sequence number, and returns the one to leave under;
// false for one that was used, or is too late to tell. A nonce must not be used
// twice, and what is refused here a phone's replay window would refuse as well.
//
// Numbers leave as they come, except where the PBX jumps under one SSRC (RFC
// 3550 appendix A.1): then they go on where they were. A phone that is to guess
// the roll-over counter from a jump may guess wrong, and be deaf from there on.
// chan_sip even mixes two sequences, of a phone that holds and still speaks and
// of the music that the held one shall hear.
func (s *source) next(seq uint16) (uint16, bool) {
	if !s.started {
		s.started, s.newest, s.index, s.seen = true, seq, int64(seq), 1
		return seq, true
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
		return uint16(s.index), true
	case ahead <= -64 || s.index+ahead < 0: // too old to tell, or before the first
		return 0, false
	case s.seen&(1<<uint64(-ahead)) != 0:
		return 0, false
	}
	s.seen |= 1 << uint64(-ahead)
	return uint16(s.index + ahead), true
}
