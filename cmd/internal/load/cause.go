package load

import (
	"errors"
	"strings"

	"github.com/sallyport/sallyport/cmd/internal/load/media"
	"github.com/sallyport/sallyport/cmd/internal/load/phone"
	"github.com/sallyport/sallyport/cmd/internal/load/wire"
)

// What went wrong between phones.
var (
	errEarly  = errors.New("the other end hung up")
	errUnrung = errors.New("call: it was answered, and not by the phone that was called")
	errLeft   = errors.New("call: the other end was not hung up")
	errQuick  = errors.New("call: it was answered before it was given up")
)

// cause is why something failed, in words that are few enough to be counted by:
// in which step, and what.
func cause(err error) string {
	known := []error{
		phone.ErrTimeout, phone.ErrPassword, phone.ErrAuth, phone.ErrBusy, errEarly, errUnrung, errLeft, errQuick,
		phone.ErrDown, // why is told of the connection itself, as lost; here it depends on who hears of it first
		media.ErrNoAudio, media.ErrUnkeyed, media.ErrPath, media.ErrFingerprint, media.ErrHandshake, media.ErrEarly, media.ErrSilent, media.ErrWrong,
	}
	var refused *phone.Refused
	what := ""
	if errors.As(err, &refused) {
		what = refused.Error()
	}
	for _, k := range known {
		if what == "" && errors.Is(err, k) {
			what = k.Error()
		}
	}
	if what == "" {
		what = wire.Cause(err)
	}
	for _, step := range []string{"connect: ", "register: ", "call: ", "change: ", "hang up: ", "ask for options: "} {
		if strings.HasPrefix(err.Error(), step) && !strings.HasPrefix(what, step) {
			return step + what
		}
	}
	return what
}
