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
	positive := func(key string, v int64) {
		if v <= 0 {
			faults = append(faults, fmt.Errorf("sip.%s: %d is not above 0", key, v))
		}
	}
	positive("max_head", int64(l.MaxHead))
	positive("max_body", int64(l.MaxBody))
	positive("handshake_timeout", int64(l.HandshakeTimeout))
	positive("first_message_timeout", int64(l.FirstMessageTimeout))
	positive("message_timeout", int64(l.MessageTimeout))
	positive("idle_timeout", int64(l.IdleTimeout))
	positive("write_timeout", int64(l.WriteTimeout))
	positive("write_queue", int64(l.WriteQueue))
	positive("max_flows", int64(l.MaxFlows))
	positive("max_handshakes", int64(l.MaxHandshakes))
	if l.KeepAlive < 0 {
		faults = append(faults, errors.New("sip.keepalive: negative; 0 turns it off"))
	}
	return errors.Join(faults...)
}
