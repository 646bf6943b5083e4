package load

import (
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/cmd/internal/load/media"
)

// A storm is over well when all phones are registered and stay so: a server that lets
// them in and then drops them, or refuses to refresh what it granted, has not passed.
func TestStormStays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		does   func(l *link, r *sip.Request) bool
		passes bool
	}{
		{"stays", nil, true},
		{"is refreshed", func(l *link, r *sip.Request) bool {
			if r.Method == sip.REGISTER {
				l.say(r, 200, "OK", "", "Expires", "1")
			}
			return r.Method == sip.REGISTER
		}, true},
		{"is dropped", func(l *link, r *sip.Request) bool {
			l.well(r)
			l.conn.Close()
			return true
		}, false},
		{"is not refreshed", func(l *link, r *sip.Request) bool {
			if r.Method != sip.REGISTER {
				return false
			}
			if l.count(r) > 1 {
				l.say(r, 503, "Service Unavailable", "")
			} else {
				l.say(r, 200, "OK", "", "Expires", "1")
			}
			return true
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newFar(t, media.SDES, c.does)
			r := f.run(func(p *Plan) {
				p.Command, p.Mix, p.Duration, p.Stay = "storm", nil, 5*time.Second, 2500*time.Millisecond
			})
			if r.Passed != c.passes || c.passes && r.Storm.Registered != 2 {
				t.Errorf("it passed: %v, want %v; %+v, %+v", r.Passed, c.passes, r.Storm, r.Operations)
			}
		})
	}
}
