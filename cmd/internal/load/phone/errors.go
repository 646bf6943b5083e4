package phone

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/emiago/sipgo/sip"
	"github.com/sallyport/sallyport/cmd/internal/load/message"
)

// Why something failed before any answer.
var (
	ErrTimeout  = errors.New("no answer")
	ErrDown     = errors.New("the connection is gone")
	ErrPassword = errors.New("the password is not accepted")
	ErrAuth     = errors.New("the challenge cannot be answered")
	ErrBusy     = errors.New("the phone has a call")
)

// Refused is a final answer that is none of success.
type Refused struct {
	Status     int
	Reason     string
	RetryAfter time.Duration // that the server asks for; 0 if it does not
}

// Error tells the answer.
func (r *Refused) Error() string { return fmt.Sprintf("%d %s", r.Status, r.Reason) }

func refused(r *sip.Response) error {
	after, _, _ := strings.Cut(message.Get(r, "Retry-After"), ";")
	after, _, _ = strings.Cut(after, "(")
	seconds, err := strconv.Atoi(strings.TrimSpace(after))
	if err != nil || seconds < 0 {
		seconds = 0
	}
	return &Refused{Status: r.StatusCode, Reason: r.Reason, RetryAfter: time.Duration(min(seconds, 24*3600)) * time.Second}
}
