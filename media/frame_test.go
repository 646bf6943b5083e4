package media

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// deframed is what a deframer makes of a stream that comes in pieces of some
// lengths, repeated. A frame that is too long leaves a nil.
func deframed(t *testing.T, stream []byte, pieces []byte) (frames [][]byte) {
	t.Helper()
	var d deframer
	for i := 0; len(stream) > 0; i++ {
		room := d.room()
		if len(room) < frameHeader+maxFrame && len(room) < len(stream) || d.tail-d.head >= frameHeader+maxFrame {
			t.Fatalf("room for %d bytes beside %d", len(room), d.tail-d.head)
		}
		n := len(stream)
		if len(pieces) > 0 {
			n = 1 + int(pieces[i%len(pieces)])
		}
		n = copy(room[:min(n, len(room))], stream)
		d.filled(n)
		stream = stream[n:]
		for {
			frame, long, ok := d.next()
			if !ok {
				break
			}
			if long {
				frames = append(frames, nil)
			} else {
				frames = append(frames, append([]byte{}, frame...))
			}
		}
	}
	return frames
}

// reference reads a whole stream in the plainest way.
func reference(stream []byte) (frames [][]byte) {
	for len(stream) >= frameHeader {
		n := int(binary.BigEndian.Uint16(stream))
		stream = stream[frameHeader:]
		switch {
		case n > maxFrame:
			frames = append(frames, nil)
		case n <= len(stream):
			frames = append(frames, append([]byte{}, stream[:n]...))
		}
		stream = stream[min(n, len(stream)):]
	}
	return frames
}

// FuzzDeframer gives a stream in arbitrary pieces: what comes out does not
// depend on them, and is what stands in it.
func FuzzDeframer(f *testing.F) {
	f.Add([]byte{0, 1, 'a', 0, 0, 0, 2, 'b', 'c'}, []byte{0})
	f.Add([]byte{0xff, 0xff, 0, 1, 'x'}, []byte{1, 7})
	f.Add(append(framed(make([]byte, maxFrame+1)), 0, 1, 'x'), []byte{3, 200}) // short seeds: long ones are minimized for ever
	f.Fuzz(func(t *testing.T, stream, pieces []byte) {
		want, got := reference(stream), deframed(t, stream, pieces)
		if len(got) != len(want) {
			t.Fatalf("%d frames, want %d", len(got), len(want))
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) || (got[i] == nil) != (want[i] == nil) {
				t.Fatalf("frame %d is %x, want %x", i, got[i], want[i])
			}
		}
	})
}

// The longest frames there can be, one of them too long.
func TestDeframerLongest(t *testing.T) {
	stream := append(append(framed(make([]byte, maxFrame)), framed(make([]byte, 65535))...), framed(random(maxFrame))...)
	for _, pieces := range [][]byte{nil, {0}, {255}, {9, 200}} {
		want, got := reference(stream), deframed(t, stream, pieces)
		if len(got) != 3 || got[1] != nil || !bytes.Equal(got[2], want[2]) {
			t.Errorf("in pieces of %v: %d frames", pieces, len(got))
		}
	}
}

// However little is taken at a time, what leaves are whole frames, those that
// had room.
func TestFramer(t *testing.T) {
	f := framer{buf: make([]byte, 2000)}
	var sent []byte
	var want [][]byte
	refused := 0
	for i := range 1000 {
		p := random(i * 7 % 500)
		if f.add(p) {
			want = append(want, p)
		} else {
			refused++
		}
		n := min(len(f.waiting()), i*13%300)
		sent = append(sent, f.waiting()[:n]...)
		f.written(n)
	}
	sent = append(sent, f.waiting()...)
	f.written(len(f.waiting()))
	got := reference(sent)
	if refused == 0 || len(got) != len(want) {
		t.Fatalf("%d frames, want %d; %d had no room", len(got), len(want), refused)
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("frame %d differs", i)
		}
	}
	if !f.add(make([]byte, 1998)) || f.add(nil) {
		t.Error("an empty buffer has room for what fits, and a full one for nothing")
	}
}
