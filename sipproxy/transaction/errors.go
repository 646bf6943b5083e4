package transaction

import "errors"

var (
	// ErrTimeout ends a client transaction whose peer never answered
	// (timers B and F, RFC 3261 section 17.1), or that rang until timer C.
	ErrTimeout = errors.New("no answer in time")
	// ErrFlowClosed ends the transactions of a flow that is gone.
	ErrFlowClosed = errors.New("flow closed")
	// ErrTooMany is the fault of a request for which there is no room.
	ErrTooMany = errors.New("too many requests without an answer")
	// ErrMerged is the fault of a request that is here already, by another way
	// (RFC 3261 section 8.2.2.2).
	ErrMerged = errors.New("merged request")
)
