package flow

import (
	"math/rand/v2"
	"sync"
	"time"
)

// On a stream CRLF CRLF asks, and CRLF answers (RFC 5626 section 4.4.1).
const (
	ping = "\r\n\r\n"
	pong = "\r\n"
)

// pongTimeout is how long an answer to a ping may take (RFC 5626 section 4.4.1).
const pongTimeout = 10 * time.Second

// vigil watches over the connection of a trunk. Nothing else ends one that is
// quiet: calls between two branches may be hours apart. It pings whether or not
// something was sent, as only an answer tells that the way is there. A peer that
// never answered a ping was not built to, and TCP's own keep-alive is left then.
type vigil struct {
	f     *Flow
	every time.Duration
	wait  time.Duration // for an answer

	mu       sync.Mutex // guards what follows
	timer    *time.Timer
	stopped  bool
	pinged   bool // and the time for the answer is not over
	due      bool // the answer has not come yet
	answered bool // one ever was
	since    bool // something came since the last ping
}

// startVigil begins to watch; stop ends it. Without sip.keepalive it sends nothing.
func (c *conn) startVigil(f *Flow) *vigil {
	v := &vigil{f: f, every: c.limits.KeepAlive, wait: pongTimeout}
	if v.every == 0 {
		return v
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.timer = time.AfterFunc(v.pause(), v.turn) // ends with stop
	return v
}

// pause is the time to the next ping: 80 to 100 percent of what is set, so that
// many connections that began together do not stay together (RFC 5626 section 4.4).
func (v *vigil) pause() time.Duration {
	return v.every - rand.N(v.every/5+1) // no secret
}

// turn pings, and comes back for the answer.
func (v *vigil) turn() {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.stopped:
	case !v.due && v.pinged:
		v.rest()
	case v.due && v.answered && !v.since:
		v.f.Close(ErrNoPong)
	case v.due: // never answered, or something else came instead
		v.due = false
		v.rest()
	default:
		v.pinged, v.due, v.since = true, true, false
		_ = v.f.write([]byte(ping)) // what is wrong with the flow ends it
		v.timer.Reset(v.wait)
	}
}

// rest is the time between the last answer's and the next ping. The caller holds the
// lock.
func (v *vigil) rest() {
	v.pinged = false
	v.timer.Reset(max(v.pause()-v.wait, v.every/4))
}

// pongDue takes an answer, if one is due.
func (v *vigil) pongDue() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.due {
		return false
	}
	v.due, v.answered, v.since = false, true, true
	return true
}

// heard notes that something came: who speaks is there.
func (v *vigil) heard() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.since = true
}

func (v *vigil) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stopped = true
	if v.timer != nil {
		v.timer.Stop()
	}
}
