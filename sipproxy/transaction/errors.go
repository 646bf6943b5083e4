package transaction

import (
	"errors"
	"fmt"
)

var (
	// ErrTimeout ends a client transaction whose peer never answered
	// (timers B and F, RFC 3261 section 17.1).
	ErrTimeout = errors.New("no answer in time")
	// ErrExpired, an ErrTimeout, ends one that rang until timer C.
	ErrExpired = fmt.Errorf("%w: it rang too long", ErrTimeout)
	// ErrFlowClosed ends the transactions of a flow that is gone.
	ErrFlowClosed = errors.New("flow closed")
	// ErrTooMany is the fault of a request for which there is no room.
	ErrTooMany = errors.New("too many requests without an answer")
	// ErrMerged is the fault of a request that is here already, by another way
	// (RFC 3261 section 8.2.2.2).
	ErrMerged = errors.New("merged request")
)
