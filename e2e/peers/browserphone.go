package peers

import (
	"encoding/json"
	"fmt"
	"time"
)

// Do calls a function of the page's phone and waits for what it promised.
func (b *Browser) Do(function string, args ...any) {
	b.lab.t.Helper()
	if err := b.evaluate(function, nil, args...); err != nil {
		b.lab.t.Fatal(err)
	}
}

// evaluate calls a function of the page's phone and reads what it returned, if
// that is wanted.
func (b *Browser) evaluate(function string, result any, args ...any) error {
	list, err := json.Marshal(append([]any{}, args...))
	if err != nil {
		return err
	}
	call := fmt.Sprintf("await tested.%s(...%s)", function, list)
	if result != nil { // or it may be what JSON cannot say
		call = "return JSON.stringify(" + call + ")"
	}
	text, err := b.tab.evaluate("(async () => { " + call + " })()")
	if err == nil && result != nil {
		err = json.Unmarshal([]byte(text), result)
	}
	if err != nil {
		return fmt.Errorf("browser %s: %s: %w", b.config.User, function, err)
	}
	return nil
}

// User is who the phone is registered as.
func (b *Browser) User() string { return b.config.User }

// ToneHz is what the browser's microphone hears.
func (b *Browser) ToneHz() float64 { return b.config.ToneHz }

// Dial calls a number.
func (b *Browser) Dial(number string) {
	b.lab.t.Helper()
	b.Do("call", number)
}

// DialVideo calls a number with sound and a picture.
func (b *Browser) DialVideo(number string) {
	b.lab.t.Helper()
	b.Do("call", number, true)
}

// Accept answers the call that rings.
func (b *Browser) Accept() {
	b.lab.t.Helper()
	b.Do("answer")
}

// Hangup ends, refuses or cancels the call.
func (b *Browser) Hangup() {
	b.lab.t.Helper()
	b.Do("hangUp")
}

// Hold holds the call, and returns when that is agreed.
func (b *Browser) Hold() {
	b.lab.t.Helper()
	b.Do("hold")
}

// Resume ends Hold.
func (b *Browser) Resume() {
	b.lab.t.Helper()
	b.Do("resume")
}

// Mute takes the microphone off the call, or puts it back: a browser sends
// nothing then, not even silence.
func (b *Browser) Mute(on bool) {
	b.lab.t.Helper()
	b.Do("mute", on)
}

// RestartICE begins ICE again in the call (RFC 8445 section 9), and returns
// when that is agreed.
func (b *Browser) RestartICE() {
	b.lab.t.Helper()
	b.Do("restartICE")
}

// Digits sends digits as telephone events (RFC 4733).
func (b *Browser) Digits(digits string) {
	b.lab.t.Helper()
	b.Do("dtmf", digits)
}

// Event waits for an event that was not waited for before, and returns it;
// earlier events are passed over.
func (b *Browser) Event(kind string, timeout time.Duration) BrowserEvent {
	b.lab.t.Helper()
	var found BrowserEvent
	Until(b.lab.t, timeout, fmt.Sprintf("%q of browser %s", kind, b.config.User), func() bool {
		if !b.Running() {
			b.lab.t.Fatalf("browser %s ended: %v", b.config.User, b.err)
		}
		var ok bool
		found, ok = b.take(kind)
		return ok
	})
	return found
}

// Quiet checks that an event did not happen that nobody waited for.
func (b *Browser) Quiet(kind string) {
	b.lab.t.Helper()
	if e, happened := b.take(kind); happened {
		b.lab.t.Fatalf("browser %s told %q (%s)", b.config.User, kind, e.Detail)
	}
}

func (b *Browser) take(kind string) (BrowserEvent, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, e := range b.events {
		if e.Event == kind {
			b.events = b.events[i+1:]
			return e, true
		}
	}
	return BrowserEvent{}, false
}
