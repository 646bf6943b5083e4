package media

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/stun/v3"

	"github.com/sallyport/sallyport/media/packet"
)

const (
	// grace is how long packets under a key that was replaced are still
	// accepted once the phone uses the new one: those that were on their way.
	grace = 4 * time.Second
	// longGrace is how long they are at most: a phone that had no answer yet, or
	// waits for ours (see patience), still uses the key before.
	longGrace = time.Minute
	// replayWindow covers 1,024 packets: 20 s of one direction of audio.
	replayWindow = 1024
	// maxOldKeys bounds how many keys a phone may return to.
	maxOldKeys = 8
	// maxVerified bounds the SSRCs of one receiver in all, RTP and RTCP each
	// counted: as many as maxSources are the other way. The replay window of each
	// is kept for as long as its key, or what was seen of an SSRC that is gone could
	// be replayed. Only the call's own phone can make us spend them.
	maxVerified = 2 * maxSources
)

// scratch is what a worker reuses for each packet, so that nothing is allocated.
type scratch struct {
	headers headers
	spare   []byte       // for packets that more than one key is tried on
	request stun.Message // a check, and what it is answered with
	answer  stun.Message
}

func newScratch() scratch {
	return scratch{headers: newHeaders(), spare: make([]byte, packet.SlotSize)}
}

// headers are what packets are parsed into.
type headers struct {
	rtp  rtp.Header
	rtcp rtcp.Header
}

func newHeaders() headers {
	return headers{rtp: rtp.Header{CSRC: make([]uint32, 15), Extensions: make([]rtp.Extension, 0, 64)}}
}

// opener verifies and decrypts what one key protects. The zero opener opens
// nothing.
type opener struct {
	key     Key
	ctx     *srtp.Context
	since   int64 // when it came into force
	packets uint64
}

func newOpener(k Key) (opener, error) {
	ctx, err := k.context(srtp.SRTPReplayProtection(replayWindow), srtp.SRTCPReplayProtection(replayWindow))
	return opener{key: k, ctx: ctx}, err
}

// open verifies and decrypts p into dst, which may be p itself: GCM wipes
// what it could not verify. It tells why not by a Drop, and reports success.
//
// A failure may allocate an error, and for an SSRC not heard before the state
// that would have been kept; the budget of trials bounds that.
func (o *opener) open(dst, p []byte, kind uint8, h *headers) ([]byte, Drop, bool) {
	if o.ctx == nil {
		return nil, DropAuth, false
	}
	var out []byte
	var err error
	if kind == kindRTP {
		out, err = o.ctx.DecryptRTP(dst, p, &h.rtp)
	} else {
		if !o.encrypted(p) {
			return nil, DropMalformed, false
		}
		out, err = o.ctx.DecryptRTCP(dst, p, &h.rtcp)
	}
	switch {
	case err == nil:
		o.packets++
		return out, 0, true
	case errors.Is(err, srtp.ErrFailedToVerifyAuthTag), errors.Is(err, srtp.ErrMKINotFound):
		return nil, DropAuth, false
	case o.misshapen(p, kind, h):
		return nil, DropMalformed, false
	}
	return nil, DropReplay, false
}

// encrypted reads the E bit of an SRTCP packet, by which it may say of itself
// that it is not encrypted (RFC 3711 section 3.4). Nothing here may be.
func (o *opener) encrypted(p []byte) bool {
	behind := 4 + len(o.key.MKI) + o.key.Suite.info().rtcpTail
	return len(p) >= 8+behind && p[len(p)-behind]&0x80 != 0
}

// knows tells whether something of an SSRC was verified under the key.
func (o *opener) knows(ssrc uint32, kind uint8) (ok bool) {
	switch {
	case o.ctx == nil:
	case kind == kindRTP:
		_, ok = o.ctx.ROC(ssrc)
	default:
		_, ok = o.ctx.Index(ssrc)
	}
	return ok
}

// misshapen tells why a packet failed that has not failed by its tag. The
// path of a good packet does not come here.
func (o *opener) misshapen(p []byte, kind uint8, h *headers) bool {
	i := o.key.Suite.info()
	if kind == kindRTCP {
		return len(p) < 8+4+len(o.key.MKI)+i.rtcpTag
	}
	n, err := h.rtp.Unmarshal(p)
	return err != nil || cryptex(p) || len(p) < n+len(o.key.MKI)+i.rtpTag
}

// receiver holds the keys of a phone.
type receiver struct {
	now   opener
	old   opener // the key before, during the grace
	until int64  // end of the grace, on the worker's clock; nearer once now was heard
	epoch uint32 // counts changes of key
	spent []opener

	verified int // SSRCs, up to maxVerified
}

// set takes a new key. The same key keeps its context, and with it what was seen.
// So does a key that comes back: in a new context each of its packets could be
// replayed.
func (r *receiver) set(o opener, now int64) (changed bool) {
	if r.now.ctx != nil && r.now.key.Equal(o.key) {
		return false
	}
	if r.now.ctx != nil {
		r.old, r.until = r.now, now+int64(longGrace)
		r.spent = append(r.spent, r.now)
	}
	for i, s := range r.spent {
		if s.key.Equal(o.key) {
			o = s
			r.spent = append(r.spent[:i], r.spent[i+1:]...)
			break
		}
	}
	if len(r.spent) > maxOldKeys {
		r.spent = append(r.spent[:0], r.spent[1:]...)
	}
	o.since = now
	r.now = o
	r.epoch++
	return true
}

// confirm notes that the phone uses the key in force.
func (r *receiver) confirm(now int64) {
	if r.changing() {
		r.until = min(r.until, now+int64(grace))
	}
}

// open verifies and decrypts p into dst under the key in force. before is the
// packet index that its SSRC had reached under a key before, or negative.
//
// After a change of key the roll-over counter goes on (RFC 3711 section 3.3.1),
// and a new context has to be told where it was. Many begin again at zero all
// the same, as RFC 4568 section 7.1.4 has it where an address changes. So both
// are tried; each says what the tag was made with, and the window of what was
// seen is of whole indexes, so neither takes a packet a second time.
func (r *receiver) open(dst, p []byte, kind uint8, before int64, h *headers) ([]byte, Drop, bool) {
	if kind == kindRTP && before >= 0 && r.now.ctx != nil {
		ssrc := binary.BigEndian.Uint32(p[8:])
		if roc := indexOf(sequence(p), before) >> 16; roc > 0 {
			r.now.ctx.SetROC(ssrc, uint32(roc))
			if out, _, ok := r.now.open(dst, p, kind, h); ok {
				return out, 0, true
			}
		}
		r.now.ctx.SetROC(ssrc, 0)
	}
	return r.now.open(dst, p, kind, h)
}

// indexOf guesses a packet's index from the highest one before (RFC 3711 section
// 3.3.1). It is negative for none that can be.
func indexOf(seq uint16, highest int64) int64 { return highest + int64(int16(seq-uint16(highest))) }

// changing tells whether the key before is still accepted.
func (r *receiver) changing() bool { return r.old.ctx != nil }

// expired tells whether the time of the key before is over.
func (r *receiver) expired(now int64) bool { return r.changing() && now >= r.until }
