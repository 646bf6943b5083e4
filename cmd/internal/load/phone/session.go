package phone

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// keepAlive takes a Session-Expires that was agreed on, and refreshes the session
// if that is this end's to do: uac where it asked, uas where it answers (RFC 4028
// section 10). The phone's mutex is held.
func (c *Call) keepAlive(value, role string) {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	text, params, _ := strings.Cut(value, ";")
	seconds, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil || seconds < 2 || seconds > 24*3600 || !strings.Contains(params, "refresher="+role) {
		return
	}
	c.timer = time.AfterFunc(time.Duration(seconds)*time.Second/2, func() { // ends with the exchange
		ctx, done := context.WithTimeout(context.Background(), c.phone.config.Timeout)
		defer done()
		_ = c.Change(ctx) // what ends the call shows there
	})
}

// sessionExpires answers a request's Session-Expires: who asked refreshes, unless
// he wants this end to (RFC 4028 section 9). Empty: there is none to answer.
func sessionExpires(asked string) string {
	text, params, _ := strings.Cut(asked, ";")
	if text = strings.TrimSpace(text); text == "" {
		return ""
	}
	if strings.Contains(params, "refresher=uas") {
		return text + ";refresher=uas"
	}
	return text + ";refresher=uac"
}
