package media

import (
	"encoding/binary"

	"github.com/sallyport/sallyport/media/packet"
)

// This file is framing: packets in a TCP connection, each behind its length (RFC
// 4571 section 2).

const (
	frameHeader = 2
	// maxFrame is as long as a datagram may be.
	maxFrame = packet.SlotSize - packet.TagRoom
	// outBuffer is what waits for a connection that takes nothing, beside what
	// its kernel keeps: some whole pictures of video, or seconds of audio. What
	// is beyond is dropped.
	outBuffer = 32 << 10
)

// deframer takes what was read from a connection apart into frames. It holds
// one that is not complete, and never more.
type deframer struct {
	buf        [2 * packet.SlotSize]byte
	head, tail int // of what waits in buf
	skip       int // what is still to come of a frame that is too long
}

// room is where to read to, when next has nothing more. It is never empty.
func (d *deframer) room() []byte {
	switch {
	case d.head == d.tail:
		d.head, d.tail = 0, 0
	case len(d.buf)-d.tail < frameHeader+maxFrame: // less than that is left to keep
		d.tail = copy(d.buf[:], d.buf[d.head:d.tail])
		d.head = 0
	}
	return d.buf[d.tail:]
}

// filled takes note of what was read to room.
func (d *deframer) filled(n int) { d.tail += n }

// next takes a frame out. It is valid until room is called, and may be empty;
// of one that is too long there is nothing but that. Without one that is
// complete, it is not ok.
func (d *deframer) next() (frame []byte, long, ok bool) {
	skipped := min(d.skip, d.tail-d.head)
	d.head, d.skip = d.head+skipped, d.skip-skipped
	waiting := d.buf[d.head:d.tail]
	if len(waiting) < frameHeader {
		return nil, false, false
	}
	n := int(binary.BigEndian.Uint16(waiting))
	switch {
	case n > maxFrame:
		d.head, d.skip = d.head+frameHeader, n
		return nil, true, true
	case len(waiting) < frameHeader+n:
		return nil, false, false
	}
	d.head += frameHeader + n
	return waiting[frameHeader : frameHeader+n], false, true
}

// framer holds the frames that wait to be written. One that was begun is always
// finished: the far end would be lost otherwise.
type framer struct {
	buf        []byte
	head, tail int // of what waits in buf
}

// add puts a packet behind the others, and tells whether there was room.
func (f *framer) add(p []byte) bool {
	n := frameHeader + len(p)
	if len(f.buf)-f.tail < n {
		f.tail = copy(f.buf, f.waiting())
		f.head = 0
	}
	if len(f.buf)-f.tail < n || len(p) > maxFrame+packet.TagRoom {
		return false
	}
	binary.BigEndian.PutUint16(f.buf[f.tail:], uint16(len(p)))
	f.tail += frameHeader + copy(f.buf[f.tail+frameHeader:], p)
	return true
}

func (f *framer) waiting() []byte { return f.buf[f.head:f.tail] }

// written takes note of what was written of what waits.
func (f *framer) written(n int) {
	if f.head += n; f.head == f.tail {
		f.head, f.tail = 0, 0
	}
}
