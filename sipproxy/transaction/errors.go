package transaction

import "errors"

var (
	// ErrTimeout ends a client transaction whose peer never answered
	// (timers B and F, RFC 3261 section 17.1), or that rang until timer C.
	ErrTimeout = errors.New("no answer in time")
	// ErrFlowClosed ends the transactions of a flow that is gone.
	ErrFlowClosed = errors.New("flow closed")
)
