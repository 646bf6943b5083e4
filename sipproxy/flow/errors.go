package flow

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed is returned by Send on a flow that is gone.
	ErrClosed = errors.New("flow closed")
	// ErrSlow closes a flow whose peer does not read what it is sent.
	ErrSlow = errors.New("peer does not read: write queue full")
	// ErrTooLarge is a message that no datagram can carry.
	ErrTooLarge = errors.New("message exceeds a UDP datagram")
	// ErrSilent closes a new connection that says nothing in time.
	ErrSilent = errors.New("no message in time")
	// ErrStalled closes a connection in the middle of a message.
	ErrStalled = errors.New("message not complete in time")
	// ErrIdle closes a connection that has said nothing for very long.
	ErrIdle = errors.New("idle")
	// ErrQuiet closes a connection whose phone pinged, and stopped doing so.
	ErrQuiet = errors.New("the phone's pings have stopped")
	// ErrNoPong closes a trunk's connection whose peer answers pings no longer.
	ErrNoPong = errors.New("the peer's answers to our pings have stopped")
	// ErrDone closes the flows of a listener, or of a trunk, that ends.
	ErrDone = errors.New("listener closed")

	// errPeerClosed is a WebSocket that its peer closed in good order.
	errPeerClosed = errors.New("closed by the peer")
)

// Malformed is a message that is refused before anything reads it. Its text
// names the header and the fault, never the value.
type Malformed struct {
	Code   int // the status to answer with
	Header string
	Fault  string
}

func (m *Malformed) Error() string {
	if m.Header == "" {
		return fmt.Sprintf("malformed message: %s", m.Fault)
	}
	return fmt.Sprintf("malformed message: %s: %s", m.Header, m.Fault)
}

func malformed(header, fault string) *Malformed {
	return &Malformed{Code: 400, Header: header, Fault: fault}
}

// reason is the phrase for a status line.
func (m *Malformed) reason() string {
	switch m.Code {
	case 413:
		return "Request Entity Too Large"
	case 414:
		return "Request-URI Too Long"
	case 416:
		return "Unsupported URI Scheme"
	case 505:
		return "Version Not Supported"
	case 513:
		return "Message Too Large"
	}
	return "Bad Request"
}
