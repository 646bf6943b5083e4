package media

import "errors"

var (
	// ErrClosed is returned for a session that was closed.
	ErrClosed = errors.New("media session closed")
	// ErrNoPorts means that every plain port pair is in use.
	ErrNoPorts = errors.New("no plain port pair left; widen media.plain_ports")
	// ErrStream is returned for a stream that was not added.
	ErrStream = errors.New("no such stream")
	// ErrKey is a key that does not fit its suite.
	ErrKey = errors.New("key does not fit its suite")
)
