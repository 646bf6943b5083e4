package load

import (
	"bytes"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
)

// A cause of failure is told when it is first met, once, and stays; the line of a
// second is written over the one before on a terminal.
func TestProgress(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		var out bytes.Buffer
		r, p := measure.New(1), &Progress{Out: &out, Terminal: terminal}
		r.Failed("call", 0, "486 Busy Here", "1001: call: 486 Busy Here")
		r.Failed("call", 0, "486 Busy Here", "1001: call: 486 Busy Here")
		p.Second("load", r.Tick(measure.State{}))
		r.Failed("call", 0, "486 Busy Here", "1001: call: 486 Busy Here")
		r.Failed("call", 0, "no answer", "1001: call: no answer\nhang up: no answer")
		p.Second("load", r.Tick(measure.State{}))
		p.End()
		lines := strings.FieldsFunc(out.String(), func(r rune) bool { return r == '\n' })
		want := []string{"call failed: 1001: call: 486 Busy Here", "2 failed", "call failed: 1001: call: no answer; hang up: no answer", "2 failed"}
		if terminal { // the second's line is written over by what is new, and that by nothing
			want = []string{want[0], want[2], want[3]}
		}
		if len(lines) != len(want) {
			t.Fatalf("terminal %v: %q", terminal, lines)
		}
		for i, l := range lines {
			if last := l[strings.LastIndex(l, "\r")+1:]; !strings.Contains(last, want[i]) {
				t.Errorf("terminal %v: line %d is %q, want %q", terminal, i, l, want[i])
			}
		}
	}
}

// A storm of which not all came, or not half, says so, and not that it took no time.
func TestSummaryOfStorm(t *testing.T) {
	for want, storm := range map[string]*measure.Storm{
		"half after 1.500 s, all never": {HalfAfter: 1.5}, "half never, all never": {}, "half after 1.500 s, all after 2.000 s": {HalfAfter: 1.5, AllAfter: 2},
	} {
		var out strings.Builder
		Summarise(&out, &measure.Report{Storm: storm})
		if !strings.Contains(out.String(), want) {
			t.Errorf("%+v is told as %s; want %q", storm, out.String(), want)
		}
	}
}
