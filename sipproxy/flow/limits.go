package flow

import (
	"errors"
	"fmt"
	"time"
)

// Limits bound what one peer, or all together, can cost.
type Limits struct {
	MaxHead int // bytes of a start line and headers
	MaxBody int // bytes of a body

	HandshakeTimeout    time.Duration // for TLS, and again for the upgrade to WebSocket
	FirstMessageTimeout time.Duration // from the handshake or upgrade to the first complete message
	MessageTimeout      time.Duration // from a message's first byte to its last
	IdleTimeout         time.Duration // without a byte from the peer
	WriteTimeout        time.Duration // for what is queued to leave
	KeepAlive           time.Duration // a ping after so long without a write, or on WebSocket without a byte from the peer, which must answer one of three; 0: none

	WriteQueue    int // bytes that wait for a slow reader
	MaxFlows      int // connections at a time
	MaxHandshakes int // handshakes being computed at a time; those that wait for their peer do not count
}

// DefaultLimits fit phones on the Internet.
func DefaultLimits() Limits {
	return Limits{
		MaxHead: 16 << 10, MaxBody: 32 << 10,
		HandshakeTimeout: 10 * time.Second, FirstMessageTimeout: 20 * time.Second,
		MessageTimeout: 10 * time.Second, IdleTimeout: 2 * time.Hour,
		WriteTimeout: 10 * time.Second, KeepAlive: 30 * time.Second,
		WriteQueue: 256 << 10, MaxFlows: 20000, MaxHandshakes: 256,
	}
}

// Validate reports all faults at once.
func (l Limits) Validate() error {
	var faults []error
	fault := func(bad bool, key, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("sip."+key+": "+format, args...))
		}
	}
	for _, n := range []struct {
		key          string
		value, least int
	}{
		{"max_head", l.MaxHead, 4 << 10}, {"max_body", l.MaxBody, 4 << 10}, {"write_queue", l.WriteQueue, 16 << 10}, // or phones could not call
		{"max_flows", l.MaxFlows, 1}, {"max_handshakes", l.MaxHandshakes, 1},
	} {
		fault(n.value < n.least, n.key, "is %d; give %d or more", n.value, n.least)
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{
		{"handshake_timeout", l.HandshakeTimeout}, {"first_message_timeout", l.FirstMessageTimeout}, {"message_timeout", l.MessageTimeout},
		{"idle_timeout", l.IdleTimeout}, {"write_timeout", l.WriteTimeout},
	} {
		fault(d.value <= 0, d.key, "%s is not above 0", d.value)
	}
	fault(l.KeepAlive != 0 && l.KeepAlive < time.Second, "keepalive", "%s is not 1s or more; 0 turns it off", l.KeepAlive)
	return errors.Join(faults...)
}
