package load

import (
	"fmt"
	"io"
	"strings"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
)

// Progress writes a line each second: over the one before on a terminal, and
// below it elsewhere. Above it stays a line for each cause of failure, when it is
// first met: who sees what is wrong need not wait for the end. It is used by one goroutine at a time.
type Progress struct {
	Out      io.Writer
	Terminal bool
	wide     int
}

// Second writes the line.
func (p *Progress) Second(phase string, at measure.Point) {
	var b strings.Builder
	fmt.Fprintf(&b, "%4ds %-7s %5d phones %5d calls  %5d/s due %5d/s done %4d failed", at.Second, phase, at.Registered, at.Calls, at.Due, at.Done, at.Failed)
	for _, l := range []struct {
		m    measure.Metric
		name string
	}{
		{"ramp_register", "register"}, {measure.Register, "register"}, {measure.Answered, "INVITE→200"}, {measure.Wait, "wait"}, {measure.Lag, "lag"},
	} {
		if q, ok := at.Latency[l.m]; ok {
			fmt.Fprintf(&b, "  %s %.1f/%.1f ms", l.name, q.P50, q.P99)
		}
	}
	for _, news := range at.News {
		p.line(strings.ReplaceAll(news, "\n", "; "))
		if p.Terminal {
			p.End()
			p.wide = 0
		}
	}
	p.line(b.String())
}

func (p *Progress) line(line string) {
	if !p.Terminal {
		fmt.Fprintln(p.Out, line)
		return
	}
	fmt.Fprintf(p.Out, "\r%s%s", line, strings.Repeat(" ", max(0, p.wide-len(line))))
	p.wide = len(line)
}

// End leaves the terminal's line.
func (p *Progress) End() {
	if p.Terminal && p.wide > 0 {
		fmt.Fprintln(p.Out)
	}
}
