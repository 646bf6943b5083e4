package admin

import "errors"

// ErrNotLoopback means: admin would be open to the network.
var ErrNotLoopback = errors.New("not a loopback address")
