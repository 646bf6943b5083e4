package sdp

import (
	"encoding/json"
	"fmt"
	"log/slog"
)

// What is secret in the model prints as a placeholder, whatever the verb and
// whichever way a logger asks: fmt.Formatter for fmt, LogValue for a value
// logged by itself, the marshallers for one inside a value that is logged.
//
// Whatever holds a secret is a Formatter too: of a pointer inside a struct,
// fmt prints all that is behind it without asking again, if the verb is wrong.
const redacted = "(not shown)"

// Format keeps the key out of logs and errors.
func (k InlineKey) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, redacted) }

// LogValue does the same for log/slog.
func (k InlineKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText does the same for encoders.
func (k InlineKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format shows a line by its tag and suite: a misplaced key could be among
// the parameters.
func (c Crypto) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "%d %s %s", c.Tag, c.Suite, redacted)
}

// LogValue does the same for log/slog.
func (c Crypto) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// MarshalText does the same for encoders.
func (c Crypto) MarshalText() ([]byte, error) { return fmt.Append(nil, c), nil }

// shownICE has the fields of ICE without its methods.
type shownICE ICE

func (i ICE) shown() shownICE {
	if i.Pwd != "" {
		i.Pwd = redacted
	}
	return shownICE(i)
}

// Format shows all but the password.
func (i ICE) Format(s fmt.State, _ rune) { _, _ = fmt.Fprintf(s, "%+v", i.shown()) }

// LogValue does the same for log/slog.
func (i ICE) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(i)) }

// MarshalJSON does the same for encoders.
func (i ICE) MarshalJSON() ([]byte, error) { return json.Marshal(i.shown()) }

// shownSession and shownMedia have the fields without the methods.
type (
	shownSession Session
	shownMedia   Media
)

// Format shows all but the secrets.
func (s Session) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "%+v", shownSession(s)) }

// Format shows all but the secrets.
func (m Media) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "%+v", shownMedia(m)) }
