package prove

import "errors"

var (
	errKey = errors.New("the edge told a key that fits no suite")

	// ErrPermission means: packets of the interface may not be read.
	ErrPermission = errors.New("reading an interface's packets needs root, or CAP_NET_RAW: run it by sudo")
	// ErrTold means that the edge did not tell its keys. Nothing can be proved then.
	ErrTold = errors.New("the edge did not tell the keys of its calls")
)
