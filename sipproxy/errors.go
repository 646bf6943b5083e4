package sipproxy

import (
	"errors"
	"fmt"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/policy"
)

// errNoPBX means: none is up, or not the one that a dialog is with.
var errNoPBX = errors.New("no PBX answers")

// refusal is why a request is answered by us: a status, and words that an
// operator and a phone's user can act on. They go out as a Warning header
// (RFC 3261 section 20.43), so they name nothing of the plain side.
type refusal struct {
	status int
	reason string // the status line's
	warn   int    // a Warning code: 399 unless section 20.43 has a better one
	text   string
	extra  []sip.Header // that the status asks for

	verdict *policy.Verdict // if policy refused; nil otherwise
	routine bool            // a question, which is no refusal
}

// rule is the configuration key behind a refusal, if it is policy's.
func (r *refusal) rule() string {
	if r.verdict == nil {
		return ""
	}
	return r.verdict.Rule
}

// why is the reason for the log: policy does not tell phones all.
func (r *refusal) why() string {
	if r.verdict == nil {
		return r.text
	}
	return r.verdict.Reason
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s: %s", r.status, r.reason, r.text) }

func refuse(status int, reason, format string, args ...any) *refusal {
	return &refusal{status: status, reason: reason, warn: 399, text: fmt.Sprintf(format, args...)}
}

// with adds a header that RFC 3261 wants beside the status.
func (r *refusal) with(name, value string) *refusal {
	r.extra = append(r.extra, sip.NewHeader(name, value))
	return r
}

// refuseMedia is a 488 with a Warning code of RFC 3261 section 20.43.
func refuseMedia(warn int, format string, args ...any) *refusal {
	return &refusal{status: sip.StatusNotAcceptableHere, reason: "Not Acceptable Here", warn: warn, text: fmt.Sprintf(format, args...)}
}
