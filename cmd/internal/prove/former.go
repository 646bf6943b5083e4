package prove

import "time"

// former is the process before an upgrade, as the edge tells of it: its calls go on by
// the same sockets, and the process that is asked does not have their keys.
type former struct {
	is    bool      // as was told last
	since time.Time // when that was told first
	until time.Time // when it may have sent its last packet, once it is gone
}

func (f *former) learn(is bool, asked time.Time) {
	switch {
	case is && !f.is:
		f.since = asked
	case f.is && !is:
		f.until = asked.Add(patience) // it may have gone after the question
	}
	f.is = is
}

// spoke tells whether what was sent at a time may be of its calls.
func (f *former) spoke(at time.Time) bool { return f.is || !at.After(f.until) }

// keeps tells of which time it can have told keys itself, which are those of its calls
// until it is gone: of any before that.
func (f *former) keeps(now time.Time) time.Time {
	if f.is || now.Sub(f.until) <= keyLife {
		return f.since
	}
	return time.Time{}
}

// mayBeOfFormer tells whether what verifies under no key may be of a call of the process
// before. What comes in a stream that has a key of the edge's of now is not.
func (a *Account) mayBeOfFormer(h held, p []byte) bool {
	return a.former.spoke(h.at) && !a.ring.isOfNow(streamOf(h.src, h.dst, p, h.tcp, a.ends.isMedia(h.dst, h.tcp)))
}
