package admin

import "errors"

// ErrNotLoopback: admin would be open to the network.
var ErrNotLoopback = errors.New("not a loopback address")
