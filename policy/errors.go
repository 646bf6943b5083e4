package policy

import "errors"

// ErrPrefix means: an allow or deny entry that is no proper prefix.
var ErrPrefix = errors.New("not a proper prefix")
