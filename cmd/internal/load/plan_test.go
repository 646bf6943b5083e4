package load

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

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

func TestParseMix(t *testing.T) {
	mix, err := ParseMix("register=5, call=3,hold")
	if err != nil || mix[Register] != 5 || mix[Call] != 3 || mix[Hold] != 1 {
		t.Errorf("%v, %v", mix, err)
	}
	if _, err := ParseMix("call=many"); err == nil {
		t.Error("a weight that is none was taken")
	}
}

func TestCause(t *testing.T) {
	for want, err := range map[string]error{
		"call: 486 Busy Here":                                         fmt.Errorf("call: %w", &phone.Refused{Status: 486, Reason: "Busy Here"}),
		"register: no answer":                                         fmt.Errorf("register: %w", phone.ErrTimeout),
		"hang up: connection closed":                                  fmt.Errorf("hang up: %w: %w", phone.ErrDown, io.EOF),
		"hang up: the connection is gone":                             fmt.Errorf("hang up: %w", phone.ErrDown),
		"another sound was heard":                                     fmt.Errorf("%w: 1 Hz, by 1001", media.ErrWrong),
		"call: it was answered, and not by the phone that was called": errUnrung,
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
		if hz := f.tone(&member{number: i}); callers[hz] || hz > 3600 {
			t.Errorf("phone %d speaks %g Hz", i, hz)
		}
	}
	if len(callers) != 20 {
		t.Errorf("20 callers have %d tones", len(callers))
	}
}
