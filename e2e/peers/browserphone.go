package peers

import (
	"encoding/base64"
	"encoding/binary"
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
	expression := fmt.Sprintf("(async () => await phone.%s(...%s))()", function, list)
	if result == nil { // it may be what JSON cannot say
		expression += ".then(() => null)"
	}
	var out struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	err = b.tools.call(b.session, "Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &out)
	switch {
	case err == nil && out.ExceptionDetails != nil:
		err = fmt.Errorf("%s %s", out.ExceptionDetails.Text, out.ExceptionDetails.Exception.Description)
	case err == nil && result != nil:
		err = json.Unmarshal(out.Result.Value, result)
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

// Heard is what the page's user heard in the last second, and when that ended
// by the page's own clock, in seconds of sound.
func (b *Browser) Heard() (samples []int16, at float64) {
	b.lab.t.Helper()
	var sound struct {
		At      float64
		Samples string
	}
	if err := b.evaluate("sound", &sound); err != nil {
		b.lab.t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(sound.Samples)
	if err != nil {
		b.lab.t.Fatalf("read what browser %s heard: %v", b.config.User, err)
	}
	samples = make([]int16, len(raw)/2)
	for i := range samples {
		samples[i] = int16(binary.LittleEndian.Uint16(raw[2*i:]))
	}
	return samples, sound.At
}

// Hears waits until the page's user has heard, from now on, a second of a tone
// of that frequency, within 1 %.
func (b *Browser) Hears(hz float64, timeout time.Duration) {
	b.lab.t.Helper()
	var got, share float64
	_, from := b.Heard()
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		samples, at := b.Heard()
		if at-from < float64(len(samples))/Rate {
			continue
		}
		if got, share = Tone(samples, Rate); Near(got, hz) && share > 0.8 {
			return
		}
	}
	b.lab.t.Fatalf("browser %s hears %.1f Hz (%.0f %% of the sound), want %.0f Hz", b.config.User, got, 100*share, hz)
}
