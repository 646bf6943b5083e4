package prove

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/stun/v3"

	"github.com/sallyport/sallyport/media"
)

const (
	// keyLife is for how long a key is kept that the edge tells of no more.
	keyLife = 2 * time.Minute
	// maxStreams bounds the sources whose key is known, and the checks whose answer
	// is awaited.
	maxStreams = 1 << 16
	// maxFailed is on how many packets of one source all keys are tried for nothing.
	maxFailed = 32
)

// ring is all the keys that the edge has told.
type ring struct {
	keys      []*liveKey // in the order that they came
	asked     time.Time  // the edge was, last
	kept      time.Time  // keys that the edge told of last before are kept
	byName    map[string]*liveKey
	bySource  map[source][]*liveKey
	found     map[streamID]*liveKey // that verified last
	failed    map[streamID]int      // packets that all keys were tried on for nothing, since the last time that keys were told
	passwords map[string]string     // by user fragment
	checks    map[[stun.TransactionIDSize]byte]string
	hosts     map[netip.Addr]struct{} // of calls
	scratch   stun.Message
}

type liveKey struct {
	*verifier
	name   string
	inward bool
	ports  []uint16
	index  map[uint32]uint64 // by SSRC: of the newest packet that verified
	told   map[uint32]uint64 // and what the edge said
	at     time.Time         // when the edge said it last
}

// source is an SSRC of one direction.
type source struct {
	inward bool
	ssrc   uint32
}

// streamID is who sends what to whom.
type streamID struct {
	local, remote netip.AddrPort
	source
	kind protocol
}

// streamOf tells whose a datagram, or a frame, of media is.
func streamOf(src, dst netip.AddrPort, p []byte, tcp, inward bool) streamID {
	id := streamID{local: src, remote: dst, kind: demux(p)}
	if inward {
		id.local, id.remote = dst, src
	}
	if tcp { // keys belong to ports of UDP
		id.local = netip.AddrPortFrom(id.local.Addr(), 0)
	}
	if id.kind == isRTP || id.kind == isRTCP {
		id.source = source{inward, ssrcOf(p, id.kind)}
	}
	return id
}

func newRing() *ring {
	return &ring{
		byName: make(map[string]*liveKey), bySource: make(map[source][]*liveKey), found: make(map[streamID]*liveKey),
		failed: make(map[streamID]int), passwords: make(map[string]string), checks: make(map[[stun.TransactionIDSize]byte]string),
		hosts: make(map[netip.Addr]struct{}),
	}
}

// learn takes what the edge tells.
func (r *ring) learn(k media.Keys, now time.Time) error {
	for _, l := range k.SRTP {
		if err := r.learnKey(l, now); err != nil {
			return err
		}
	}
	if len(r.passwords) > maxStreams {
		clear(r.passwords)
	}
	for _, p := range k.ICE {
		r.passwords[p.Ufrag] = p.Password
	}
	for _, h := range k.Hosts {
		r.hosts[h.Unmap()] = struct{}{}
	}
	if len(r.checks) > maxStreams {
		clear(r.checks)
	}
	if len(r.found) > maxStreams {
		clear(r.found)
	}
	clear(r.failed)
	r.asked = now
	r.expire(now)
	return nil
}

func (r *ring) learnKey(l media.LiveKey, now time.Time) error {
	name := string([]byte{map[bool]byte{true: 'i', false: 'o'}[l.Inward]}) + l.Suite + "\x00" + string(l.KeySalt) + "\x00" + string(l.MKI)
	k := r.byName[name]
	if k == nil {
		v, err := newVerifier(l.Suite, l.KeySalt, l.MKI)
		if err != nil {
			return err
		}
		k = &liveKey{verifier: v, name: name, inward: l.Inward, index: make(map[uint32]uint64), told: make(map[uint32]uint64)}
		r.keys, r.byName[name] = append(r.keys, k), k
	}
	k.at, k.ports = now, l.Ports
	for _, s := range l.Sources {
		if _, known := k.told[s.SSRC]; !known {
			k.of(r, s.SSRC)
		}
		k.told[s.SSRC] = s.Index
	}
	return nil
}

// of notes that a source is one of the key's.
func (k *liveKey) of(r *ring, ssrc uint32) {
	if of := (source{k.inward, ssrc}); !slices.Contains(r.bySource[of], k) {
		r.bySource[of] = append(r.bySource[of], k)
	}
}

// expire gives up the keys that the edge tells of no more.
func (r *ring) expire(now time.Time) {
	gone := make(map[*liveKey]bool)
	for _, k := range r.keys {
		if now.Sub(k.at) > keyLife && !k.at.Before(r.kept) {
			gone[k] = true
			delete(r.byName, k.name)
		}
	}
	if len(gone) == 0 {
		return
	}
	drop := func(k *liveKey) bool { return gone[k] }
	r.keys = slices.DeleteFunc(r.keys, drop)
	for of, list := range r.bySource {
		if list = slices.DeleteFunc(list, drop); len(list) == 0 {
			delete(r.bySource, of)
		} else {
			r.bySource[of] = list
		}
	}
	clear(r.found)
}

// verify tells whether a packet of media verifies under a key of its port and
// direction: the one of before, those of its source, then all others. Those are not
// tried on every packet of somebody who sends nothing else.
func (r *ring) verify(id streamID, p []byte) bool {
	last := r.found[id]
	if last != nil && last.verifies(id, p) {
		return true
	}
	of := r.bySource[id.source]
	for _, k := range of {
		if k != last && k.serves(id) && k.verifies(id, p) {
			r.found[id] = k
			return true
		}
	}
	if r.failed[id] >= maxFailed {
		return false
	}
	for _, k := range r.keys {
		if k.inward == id.inward && k.serves(id) && !slices.Contains(of, k) && k.verifies(id, p) {
			r.found[id] = k
			k.of(r, id.ssrc)
			return true
		}
	}
	r.failed[id]++
	return false
}

// isOfNow tells whether a stream verified last under a key that the edge told when it was
// asked last.
func (r *ring) isOfNow(id streamID) bool {
	k := r.found[id]
	return k != nil && k.at.Equal(r.asked)
}

func (k *liveKey) serves(id streamID) bool {
	return len(k.ports) == 0 || slices.Contains(k.ports, id.local.Port()) || id.local.Port() == 0
}

// verifies tries one key, with the roll-over counters that a packet can have: the
// one that is guessed from its source's newest (RFC 3711 section 3.3.1) and those
// beside it; or, of a source that nobody has seen yet, the first.
func (k *liveKey) verifies(id streamID, p []byte) bool {
	if id.kind == isRTCP {
		return k.rtcp(p)
	}
	seq := uint64(p[2])<<8 | uint64(p[3])
	newest, known := k.index[id.ssrc]
	told, isTold := k.told[id.ssrc]
	tries := make([]uint64, 0, 8)
	for _, from := range []struct {
		index uint64
		is    bool
	}{{newest, known}, {told, isTold}} {
		if from.is {
			i := guess(from.index, seq)
			tries = append(tries, i, i+1<<16, i-1<<16)
		}
	}
	// A new key may begin again at zero (RFC 4568 section 7.1.4), whatever its source
	// had reached under the one before.
	tries = append(tries, seq, seq+1<<16)
	for n, i := range tries {
		if i >= 1<<48 || slices.Contains(tries[:n], i) || !k.rtp(p, uint32(i>>16)) {
			continue
		}
		if i > newest || !known || n >= 3 { // what is guessed from ours comes first
			k.index[id.ssrc] = i
		}
		return true
	}
	return false
}

// guess is the index nearest to the newest with a sequence number. It may be below
// 0, and is too large then.
func guess(newest, seq uint64) uint64 {
	ahead := int16(uint16(seq) - uint16(newest))
	return newest + uint64(int64(ahead))
}

// integrity is what is known of a STUN message's.
type integrity uint8

const (
	verified integrity = iota
	unknown            // it has one, of nobody that is known
	absent             // or it does not verify
)

// stun tells whether a STUN message is authenticated by a call's password (RFC
// 8489 section 9.1). p is borrowed.
func (r *ring) stun(p []byte) integrity {
	m := &r.scratch
	m.Raw = append(m.Raw[:0], p...)
	if m.Decode() != nil || !m.Contains(stun.AttrMessageIntegrity) {
		return absent
	}
	if m.Type.Class == stun.ClassRequest || m.Type.Class == stun.ClassIndication {
		name, err := m.Get(stun.AttrUsername)
		if err != nil {
			return absent
		}
		ours, _, _ := bytes.Cut(name, []byte{':'})
		password, ok := r.passwords[string(ours)]
		switch {
		case !ok:
			return unknown
		case stun.NewShortTermIntegrity(password).Check(m) != nil:
			return absent
		}
		r.checks[m.TransactionID] = password
		return verified
	}
	if password, ok := r.checks[m.TransactionID]; ok && stun.NewShortTermIntegrity(password).Check(m) == nil {
		return verified
	}
	return unknown // the check that it answers may wait for its password
}
