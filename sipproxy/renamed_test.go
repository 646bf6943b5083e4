package sipproxy

import (
	"regexp"
	"strings"
	"testing"
)

// What renamed finds is what an expression would, made for each account.
func TestRenamed(t *testing.T) {
	words := []string{"sip:", "SIPS:", "sip", "100", "1001", "@", "@pbx", " ", "<", ">;", "x", "_", ":", "sips:100@a", "é"}
	own := regexp.MustCompile(`(?i)(\bsips?:)` + regexp.QuoteMeta("100") + `(@)`)
	found := 0
	for n := range len(words) * len(words) * len(words) * len(words) {
		var text strings.Builder
		for range 4 {
			text.WriteString(words[n%len(words)])
			n /= len(words)
		}
		want := own.ReplaceAllString(text.String(), "${1}anna${2}")
		if want != text.String() {
			found++
		}
		if got := renamed(text.String(), "100", "anna"); got != want {
			t.Fatalf("%q became %q, want %q", text.String(), got, want)
		}
	}
	if found == 0 {
		t.Error("nothing was there to be found")
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		patterns, name string
		want           bool
	}{
		{"Diversion", "dIVERSION", true},
		{"Diversion", "Diversion2", false},
		{"X-*", "x-Anything", true},
		{"X-*", "X", false},
		{"X-*", "P-X-Y", false},
		{"*-Identity", "P-Asserted-Identity", true},
		{"application/*", "application/sdp", true},
		{"application/*", "application/a/b", false},
		{"P-[A-B]*", "p-asserted", true},
		{"P-?", "P-ab", false},
		{"*", "whatever", true},
		{"A B X-*", "X-Y", true},
	} {
		if got := newPatterns(strings.Fields(c.patterns)).like(c.name); got != c.want {
			t.Errorf("%s like one of %s: %v", c.name, c.patterns, got)
		}
	}
}
