package phone

import "time"

// The timers of RFC 3261 section 17.1.1.1.
const (
	t1 = 500 * time.Millisecond
	t2 = 4 * time.Second
)

// repeating is a 200 to an INVITE that awaits its ACK, or a 180 that awaits its PRACK.
// Whatever the transport is, it is sent again and again: it may have been lost behind the
// next hop (RFC 3261 section 13.3.1.4, RFC 3262 section 3). The phone's mutex guards it.
type repeating struct {
	number uint32 // of the INVITE, or of the 180
	timer  *time.Timer
}

// repeat sends it again after a while, then after twice that, and gives up after
// 64*T1. The phone's mutex is held.
func repeat(p *Phone, b []byte, number uint32, lost func()) *repeating {
	r := &repeating{number: number}
	begun, wait := time.Now(), t1
	r.timer = time.AfterFunc(t1, func() { // ends with the write
		if time.Since(begun) > 64*t1 {
			lost()
			return
		}
		_ = p.send(b) // the reader hears of a connection that is gone
		wait = min(2*wait, t2)
		p.mu.Lock()
		defer p.mu.Unlock()
		if r.timer != nil {
			r.timer.Reset(wait)
		}
	})
	return r
}

// stop ends it, and tells whether it went on until now.
func (r *repeating) stop() bool {
	if r.timer == nil {
		return false
	}
	r.timer.Stop()
	r.timer = nil
	return true
}
