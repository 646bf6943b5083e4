package sdp

import (
	"errors"
	"fmt"
)

var (
	// ErrSyntax is a description outside of the grammar.
	ErrSyntax = errors.New("bad session description")
	// ErrLimit is a description larger than any phone's.
	ErrLimit = errors.New("session description too large")
	// ErrCrypto is why a crypto line can't be used.
	ErrCrypto = errors.New("crypto line not usable")
)

// The reasons never quote the sender at length: they end up in logs, and a
// line cut at the wrong place may hold a key.

func syntax(line int, format string, args ...any) error {
	return fmt.Errorf("%w: line %d: %s", ErrSyntax, line, fmt.Sprintf(format, args...))
}

func limit(line int, format string, args ...any) error {
	return fmt.Errorf("%w: line %d: %s", ErrLimit, line, fmt.Sprintf(format, args...))
}
