package load

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/load/media"
	"github.com/sallyport/sallyport/cmd/internal/load/wire"
)

// What phones do.
const (
	Register  measure.Operation = "register"  // a registration, or its refresh
	Reconnect measure.Operation = "reconnect" // a new connection, and a registration by it
	Call      measure.Operation = "call"      // a call
	Hold      measure.Operation = "hold"      // a call that is held and resumed
	Cancel    measure.Operation = "cancel"    // a call that is given up while it rings
	Options   measure.Operation = "options"   // OPTIONS to the server
	Ramp      measure.Operation = "ramp"      // the registrations before there are arrivals
	Storm     measure.Operation = "storm"     // all at once
	Refresh   measure.Operation = "refresh"   // a registration that would run out
	Lost      measure.Operation = "lost"      // a connection that the server ended; only ever failed
)

// Operations are those that a mix may have.
var Operations = []measure.Operation{Register, Reconnect, Call, Hold, Cancel, Options}

// Limits of a Plan: what is beyond was hardly meant.
const (
	MaxPhones   = 100_000
	MaxRate     = 50_000
	MaxDuration = 24 * time.Hour
)

// Plan is what a run is to do. Durations are as JSON in nanoseconds.
type Plan struct {
	Command   string                    `json:"command"`
	Target    string                    `json:"target"`
	Transport string                    `json:"transport"` // tls or wss
	Domain    string                    `json:"domain"`
	Media     media.Kind                `json:"media"`
	Suites    []string                  `json:"suites,omitempty"`
	Codecs    []string                  `json:"codecs,omitempty"`
	Phones    int                       `json:"phones"`
	Users     string                    `json:"users"`  // a pattern with the phone's number
	First     int                       `json:"first"`  // number
	AuthUsers string                    `json:"-"`      // likewise; empty: the users
	Password  string                    `json:"-"`      // %s in it is the user
	Callee    string                    `json:"callee"` // empty: phones call one another
	Hear      string                    `json:"hear"`   // see hear
	Early     float64                   `json:"early"`  // Hz that callers must hear before the answer; 0: whatever they do
	Mix       map[measure.Operation]int `json:"mix"`
	Rate      float64                   `json:"rate"` // arrivals a second
	Even      bool                      `json:"even"` // arrivals, instead of Poisson's
	Duration  time.Duration             `json:"duration"`
	Talk      time.Duration             `json:"talk"`    // from the 200 to the BYE
	Ring      time.Duration             `json:"ring"`    // from the 180 to the 200 of phones that answer
	RampRate  float64                   `json:"ramp"`    // registrations a second before
	Expires   time.Duration             `json:"expires"` // of registrations
	Timeout   time.Duration             `json:"timeout"` // of a request
	KeepAlive time.Duration             `json:"keepalive"`
	Resume    bool                      `json:"resume"` // TLS sessions
	Window    time.Duration             `json:"window"` // of a storm
	Cut       bool                      `json:"cut"`    // a storm of phones that were registered before
	Stay      time.Duration             `json:"stay"`   // of phones, after a storm
	Retry     Retry                     `json:"retry"`

	Connect *wire.Target `json:"-"`
}

// Retry is when a phone that failed comes back.
type Retry struct {
	Base time.Duration `json:"base"` // RFC 5626 section 4.5; 0: never
	Max  time.Duration `json:"max"`
}

// Default is what is not said.
func Default() Plan {
	return Plan{
		Media: media.None, Suites: media.Suites()[:2], Codecs: media.Codecs(), Phones: 20, Users: "load%04d", First: 1, Rate: 1,
		Mix: map[measure.Operation]int{Register: 1}, Duration: 10 * time.Second, Talk: 3 * time.Second, RampRate: 50, Expires: 10 * time.Minute, Timeout: 32 * time.Second,
		KeepAlive: 30 * time.Second, Retry: Retry{Max: 30 * time.Minute},
	}
}

// Validate tells every fault at once.
func (p *Plan) Validate() error {
	var all []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			all = append(all, fmt.Errorf(format, args...))
		}
	}
	check(p.Phones >= 1 && p.Phones <= MaxPhones, "--phones %d: from 1 to %d", p.Phones, MaxPhones)
	check(p.Rate > 0 && p.Rate <= MaxRate, "--rate %g: above 0, to %d a second", p.Rate, MaxRate)
	check(p.RampRate > 0 && p.RampRate <= MaxRate, "--ramp %g: above 0, to %d a second", p.RampRate, MaxRate)
	check(p.Duration > 0 && p.Duration <= MaxDuration, "--duration %s: above 0, to %s", p.Duration, MaxDuration)
	check(p.Talk >= 0 && p.Talk <= MaxDuration, "--talk %s: from 0 to %s", p.Talk, MaxDuration)
	check(p.Talk >= time.Second || p.Media == media.None, "--talk %s: from 1s on, or no tone can be told from another", p.Talk)
	check(p.Stay >= 0 && p.Stay <= MaxDuration, "--stay %s: from 0 to %s", p.Stay, MaxDuration)
	check(p.Ring >= 0 && p.Ring <= time.Minute, "--ring %s: from 0 to 1m", p.Ring)
	check(p.Window >= 0 && p.Window <= MaxDuration, "--window %s: from 0 to %s", p.Window, MaxDuration)
	check(p.Retry.Base >= 0 && (p.Retry.Base == 0 || p.Retry.Max >= p.Retry.Base), "--retry %s and --retry-max %s: the first from 0 on, the second not below it", p.Retry.Base, p.Retry.Max)
	check(p.KeepAlive == 0 || p.KeepAlive >= time.Second, "--keepalive %s: 0 for none, or from 1s on", p.KeepAlive)
	check(p.Expires >= 10*time.Second && p.Expires <= 7*MaxDuration, "--expires %s: from 10s to a week", p.Expires)
	check(p.Timeout >= 100*time.Millisecond && p.Timeout <= 5*time.Minute, "--timeout %s: from 100ms to 5m", p.Timeout)
	check(p.Media == media.None || p.Media == media.SDES || p.Media == media.DTLS, "--media %s: none, sdes or dtls", p.Media)
	for _, name := range p.Suites {
		check(media.Known(name), "--suites %s: there are %s", name, strings.Join(media.Suites(), ", "))
	}
	check(len(p.Codecs) > 0, "--codecs: there are %s", strings.Join(media.Codecs(), ", "))
	for _, name := range p.Codecs {
		check(media.KnownCodec(name), "--codecs %s: there are %s", name, strings.Join(media.Codecs(), ", "))
	}
	first, last := p.user(0), p.user(p.Phones-1)
	check(!strings.Contains(first, "%!") && (p.Phones == 1 || first != last),
		"--users %s: it must have one place for a number, like %s", p.Users, "load%04d")
	check(p.AuthUsers == "" || !strings.Contains(pattern(p.AuthUsers, p.First), "%!"), "--auth-users %s: one place for a number at most, like %s", p.AuthUsers, "load%04d")
	check(p.Early == 0 || audible(p.Early), "--early %g: a frequency from 100 to 3800 Hz", p.Early)
	_, err := p.hear()
	check(err == nil, "--hear %s: %v", p.Hear, err)
	check(p.Command == "storm" || len(p.Mix) > 0, "--mix: it names nothing; an operation is one of %v", Operations)
	calls := 0
	for op, weight := range p.Mix {
		known := false
		for _, o := range Operations {
			known = known || o == op
		}
		check(known && weight > 0, "--mix %s=%d: a weight above 0 for one of %v", op, weight, Operations)
		if op == Call || op == Hold || op == Cancel {
			calls += weight
		}
	}
	check(calls == 0 || p.Callee != "" || p.Phones >= 2, "--phones %d: it takes two to call one another; or say whom with --callee", p.Phones)
	return errors.Join(all...)
}

// user is that of a phone, by its place from 0 on.
func (p *Plan) user(i int) string { return pattern(p.Users, p.First+i) }

// pattern puts a number in its place, if there is one.
func pattern(text string, number int) string {
	if !strings.Contains(text, "%") {
		return text
	}
	return fmt.Sprintf(text, number)
}

// uri is that of a user or number, or of one that is a URI already.
func (p *Plan) uri(number string) string {
	scheme, rest, ok := strings.Cut(number, ":")
	switch {
	case ok && (strings.EqualFold(scheme, "sip") || strings.EqualFold(scheme, "sips") || strings.EqualFold(scheme, "tel")) && rest != "":
		return number
	case strings.Contains(number, "@"):
		return "sip:" + number
	}
	return "sip:" + number + "@" + p.Domain
}

// account is what a phone authenticates with.
func (p *Plan) account(i int) (user, password string) {
	user = p.user(i)
	if p.AuthUsers != "" {
		user = pattern(p.AuthUsers, p.First+i)
	}
	return user, strings.ReplaceAll(p.Password, "%s", user)
}

// hearing is what callers expect of those who answer.
type hearing struct {
	peer  bool    // the tone of the phone that they called
	own   bool    // their own tone, from an echo
	hertz float64 // or one; 0: nothing is expected
}

func (p *Plan) hear() (h hearing, err error) {
	byDefault := "own"
	if p.Callee == "" {
		byDefault = "peer"
	}
	switch word := cmp.Or(p.Hear, byDefault); word {
	case "peer":
		h.peer = true
	case "own":
		h.own = true
	case "anything":
	default:
		if h.hertz, err = strconv.ParseFloat(word, 64); err != nil || !audible(h.hertz) {
			return h, errors.New("own (an echo), peer, anything, or a frequency from 100 to 3800 Hz")
		}
	}
	if h.peer && p.Callee != "" {
		return h, errors.New("only phones of this process have tones that it knows")
	}
	return h, nil
}

// audible tells whether a frequency can be listened for. NaN cannot.
func audible(hertz float64) bool { return hertz >= 100 && hertz <= 3800 }

const maxWeight = 1_000_000 // of an operation in a mix

// ParseMix reads weights: register=5,call=3.
func ParseMix(text string) (map[measure.Operation]int, error) {
	mix := make(map[measure.Operation]int)
	for _, part := range strings.Split(text, ",") {
		name, weight, ok := strings.Cut(strings.TrimSpace(part), "=")
		n := 1
		if ok {
			var err error
			if n, err = strconv.Atoi(weight); err != nil || n > maxWeight {
				return nil, fmt.Errorf("--mix %s: %q is no weight: a whole number up to %d", text, weight, maxWeight)
			}
		}
		mix[measure.Operation(name)] += n
	}
	return mix, nil
}
