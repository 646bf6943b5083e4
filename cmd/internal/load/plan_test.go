package load

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/load/media"
	"github.com/sallyport/sallyport/cmd/internal/load/phone"
)

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*Plan)
		fault string // none: it is good
	}{
		{"default", func(*Plan) {}, ""},
		{"no phones", func(p *Plan) { p.Phones = 0 }, "--phones"},
		{"too many", func(p *Plan) { p.Phones = MaxPhones + 1 }, "--phones"},
		{"no rate", func(p *Plan) { p.Rate = 0 }, "--rate"},
		{"one name", func(p *Plan) { p.Users = "anna" }, "--users"},
		{"wrong pattern", func(p *Plan) { p.Users = "load%s" }, "--users"},
		{"alone", func(p *Plan) { p.Phones, p.Mix = 1, map[measure.Operation]int{Call: 1} }, "it takes two"},
		{"alone with an echo", func(p *Plan) { p.Phones, p.Callee, p.Mix = 1, "600", map[measure.Operation]int{Call: 1} }, ""},
		{"unknown operation", func(p *Plan) { p.Mix = map[measure.Operation]int{"fax": 1} }, "--mix"},
		{"an echo's peer", func(p *Plan) { p.Callee, p.Hear = "600", "peer" }, "--hear"},
		{"no tone", func(p *Plan) { p.Hear = "5000" }, "--hear"},
		{"a tone that is no number", func(p *Plan) { p.Hear = "NaN" }, "--hear"},
		{"a tone with more behind it", func(p *Plan) { p.Hear = "1000x" }, "--hear"},
		{"nothing to do", func(p *Plan) { p.Mix = nil }, "--mix"},
		{"wrong pattern of passwords", func(p *Plan) { p.AuthUsers = "auth%s" }, "--auth-users"},
		{"a window before now", func(p *Plan) { p.Window = -time.Second }, "--window"},
		{"no wait", func(p *Plan) { p.Retry = Retry{Base: time.Minute, Max: time.Second} }, "--retry-max"},
		{"pings without a rest", func(p *Plan) { p.KeepAlive = time.Millisecond }, "--keepalive"},
		{"suite", func(p *Plan) { p.Suites = []string{"NULL"} }, "--suites"},
		{"too short to hear", func(p *Plan) { p.Media, p.Talk = media.SDES, 0 }, "--talk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Default()
			c.spoil(&p)
			switch err := p.Validate(); {
			case c.fault == "" && err != nil:
				t.Error(err)
			case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
				t.Errorf("the fault is %v, want one of %s", err, c.fault)
			}
		})
	}
}

func TestAccount(t *testing.T) {
	p := Plan{Users: "1%03d", First: 5, AuthUsers: "auth%d", Password: "secret-%s"}
	if user, password := p.account(2); p.user(2) != "1007" || user != "auth7" || password != "secret-auth7" {
		t.Errorf("user %s, by %s with %s", p.user(2), user, password)
	}
}

// Whom passwords belong to may be one for all, without a number.
func TestAccountOfAll(t *testing.T) {
	p := Plan{Users: "1%03d", First: 5, AuthUsers: "everybody"}
	if user, _ := p.account(2); user != "everybody" {
		t.Errorf("the user is %q", user)
	}
}

func TestURI(t *testing.T) {
	p := Plan{Domain: "pbx.example.com"}
	for callee, want := range map[string]string{
		"600": "sip:600@pbx.example.com", "anna@example.org": "sip:anna@example.org", "sips:anna@example.org": "sips:anna@example.org", "tel:+491": "tel:+491",
	} {
		if got := p.uri(callee); got != want {
			t.Errorf("%s is called as %s, want %s", callee, got, want)
		}
	}
}

func TestParseMix(t *testing.T) {
	mix, err := ParseMix("register=5, call=3,hold")
	if err != nil || mix[Register] != 5 || mix[Call] != 3 || mix[Hold] != 1 {
		t.Errorf("%v, %v", mix, err)
	}
	for _, wrong := range []string{"call=many", "call=1x", "call=99999999999999999999"} {
		if _, err := ParseMix(wrong); err == nil || !strings.Contains(err.Error(), "--mix") {
			t.Errorf("%s: a weight that is none was taken: %v", wrong, err)
		}
	}
}

func TestCause(t *testing.T) {
	for want, err := range map[string]error{
		"call: 486 Busy Here":                                           fmt.Errorf("call: %w", &phone.Refused{Status: 486, Reason: "Busy Here"}),
		"register: no answer":                                           fmt.Errorf("register: %w", phone.ErrTimeout),
		"connect: connection closed":                                    fmt.Errorf("connect: %w", io.EOF),
		"change: the connection is gone":                                fmt.Errorf("change: %w: %w", phone.ErrDown, io.EOF),
		"hang up: the connection is gone":                               fmt.Errorf("hang up: %w", phone.ErrDown),
		"another sound was heard":                                       fmt.Errorf("%w: 1 Hz, by 1001", media.ErrWrong),
		"call: the description has no audio with a codec that we speak": fmt.Errorf("call: read description: %w: opus/48000/2", media.ErrNoAudio),
		"ICE found no path":                                             errors.Join(fmt.Errorf("%w of 400 Hz", media.ErrSilent), media.ErrPath),
		"call: it was answered, and not by the phone that was called":   errUnrung,
		"other": errors.New("who knows"),
	} {
		if got := cause(err); got != want {
			t.Errorf("the cause of %q is %q, want %q", err, got, want)
		}
	}
}

// No caller's tone is one of a callee's, and neighbours differ.
func TestTones(t *testing.T) {
	p := &Plan{Phones: 40, Mix: map[measure.Operation]int{Call: 1}}
	f := &fleet{plan: p}
	callers := make(map[float64]bool)
	for i := range 20 {
		callers[f.tone(&member{number: i})] = true
	}
	for i := 20; i < 40; i++ {
		if hz := f.tone(&member{number: i}); callers[hz] || hz > 3600 || hz == 2000 {
			t.Errorf("phone %d speaks %g Hz", i, hz)
		}
	}
	if len(callers) != 20 {
		t.Errorf("20 callers have %d tones", len(callers))
	}
}
