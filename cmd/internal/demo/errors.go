package demo

import "errors"

// ErrFailed means: a step of the demo did not show what it should. The table tells
// which.
var ErrFailed = errors.New("the demo failed")
