package prove

import (
	"slices"
	"time"
)

const (
	// maxFragmented bounds the packets that wait for their rest, maxParts the parts of
	// one, and maxHeldParts their bytes: a whole has 64 KB, if nothing comes twice.
	maxFragmented = 1024
	maxParts      = 512
	maxHeldParts  = 128 << 10
	// fragmentTime is for how long one waits (RFC 8200 section 4.5 has 60 s; what
	// comes later is no use to anybody).
	fragmentTime = 30 * time.Second
)

// fragments puts IP packets together.
type fragments struct{ open map[fragmentKey]*whole }

// whole is a packet of which parts have come.
type whole struct {
	began time.Time
	parts []part
	held  int // bytes of them
	size  int // of the whole; 0: not known yet
	proto uint8
	frames
}

type part struct {
	offset int
	data   []byte
}

// add takes a part, which is borrowed, and returns the packet when that was the
// last one missing.
func (f *fragments) add(at time.Time, d datagram, n frames) (*whole, bool) {
	w := f.open[d.fragment.key]
	if w == nil {
		if len(f.open) >= maxFragmented {
			return nil, false
		}
		w = &whole{began: at}
		f.open[d.fragment.key] = w
	}
	w.add(n)
	if len(w.parts) < maxParts && w.held+len(d.payload) <= maxHeldParts {
		w.held += len(d.payload)
		w.parts = append(w.parts, part{d.fragment.offset, slices.Clone(d.payload)})
	}
	if d.fragment.offset == 0 {
		w.proto = d.proto
	}
	if !d.fragment.more {
		w.size = d.fragment.offset + len(d.payload)
	}
	if b := w.contiguous(); w.size == 0 || len(b) < w.size {
		return nil, true
	}
	delete(f.open, d.fragment.key)
	return w, true
}

// contiguous is what is there from the beginning on, without a hole. What comes
// twice counts as it came first, as Linux drops what overlaps.
func (w *whole) contiguous() []byte {
	slices.SortStableFunc(w.parts, func(a, b part) int { return a.offset - b.offset })
	var b []byte
	for _, p := range w.parts {
		if p.offset > len(b) {
			break
		}
		if end := p.offset + len(p.data); end > len(b) {
			b = append(b, p.data[len(b)-p.offset:]...)
		}
	}
	return b
}

// expired takes out those that waited since before a time.
func (f *fragments) expired(before time.Time) (list []*whole, keys []fragmentKey) {
	for k, w := range f.open {
		if w.began.Before(before) {
			list, keys = append(list, w), append(keys, k)
			delete(f.open, k)
		}
	}
	return list, keys
}
