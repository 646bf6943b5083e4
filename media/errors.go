package media

import "errors"

var (
	// ErrClosed is returned for a session that was closed, and by an engine
	// that has ended.
	ErrClosed = errors.New("media session closed")
	// ErrNoPorts means that every plain port pair is in use.
	ErrNoPorts = errors.New("no plain port pair left; widen media.plain_ports")
	// ErrStream is returned for a stream that was not added.
	ErrStream = errors.New("no such stream")
	// ErrKey is a key that does not fit its suite.
	ErrKey = errors.New("key does not fit its suite")
	// ErrSuite means that keys by DTLS are for none of the suites.
	ErrSuite = errors.New("DTLS-SRTP has none of the suites")
	// ErrTooManyStreams ends the growth of a session.
	ErrTooManyStreams = errors.New("too many streams in one call")
)
