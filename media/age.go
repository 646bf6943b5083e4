package media

import "time"

// KeyAge is for how long a key is in force, and what went by it.
type KeyAge struct {
	Since   time.Time // zero: there is none
	Packets uint64    // RTP and RTCP
}

// KeyAges are those of one stream.
type KeyAges struct {
	Rx, Tx  KeyAge
	Waiting bool // a new key of ours waits until the phone is known to have it
	Old     bool // the phone's key before is still accepted
}

// KeyAges tells of the keys of a stream's RTP, by which one decides when to
// change them. Those of DTLS are told likewise. Errors wrap ErrClosed or ErrStream.
func (s *Session) KeyAges(index int) (a KeyAges, err error) {
	err = s.change(index, func(st *stream) error {
		p := st.prot[kindRTP]
		if p.ready() {
			a.Rx = KeyAge{s.worker.began.Add(time.Duration(p.rx.now.since)), p.rx.now.packets}
		}
		if p.tx.now != nil {
			a.Tx = KeyAge{s.worker.began.Add(time.Duration(p.tx.now.since)), p.tx.now.packets}
		}
		a.Waiting, a.Old = p.tx.next != nil, p.rx.changing()
		return nil
	})
	return a, err
}

// Confirm tells that the phone has our newest key, as the ACK of an answer does:
// if it waits (see SecureParams.Await) it is used from now on. Errors wrap
// ErrClosed or ErrStream.
func (s *Session) Confirm(index int) error {
	return s.change(index, func(st *stream) error {
		st.own.tx.confirm(s.worker.now)
		return nil
	})
}
