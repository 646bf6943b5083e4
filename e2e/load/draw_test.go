package load

import (
	"fmt"
	"math"
	"strings"
)

// The drawing's measures, in pixels.
const (
	plotWidth, plotHeight = 560, 180
	plotLeft, plotTop     = 64, 40
	plotEach              = plotTop + plotHeight + 50 // from one plot to the next
)

var colours = []string{"#1b6ca8", "#d1495b", "#6a994e"}

// line is one figure of each step.
type line struct {
	name string
	of   func(step) float64
}

// draw is an SVG of the steps: three plots over the rate that was offered.
func (r *report) draw() string {
	by := func(of func(usage) float64) []line {
		var all []line
		for i, name := range []string{"sallyport", "Asterisk", "SIPp"} {
			all = append(all, line{name, func(s step) float64 { return of(s.users()[i]) }})
		}
		return all
	}
	plots := []struct {
		title string
		lines []line
	}{
		{"Setup, ms", []line{{"p50", func(s step) float64 { return s.P50 }}, {"p99", func(s step) float64 { return s.P99 }}}},
		{"Processor, cores", by(func(u usage) float64 { return u.CPU })},
		{"Resident memory, MB", by(usage.megabytes)},
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n"+
		`<rect width="100%%" height="100%%" fill="white"/>`+"\n", plotLeft+plotWidth+30, len(plots)*plotEach)
	for i, p := range plots {
		fmt.Fprintf(&b, `<g transform="translate(%d %d)">`+"\n", plotLeft, plotTop+i*plotEach)
		r.plot(&b, p.title, p.lines)
		fmt.Fprintln(&b, "</g>")
	}
	fmt.Fprintln(&b, "</svg>")
	return b.String()
}

// plot draws one, from the origin on.
func (r *report) plot(b *strings.Builder, title string, lines []line) {
	var right, top float64
	for _, s := range r.Steps {
		right = max(right, s.Offered)
		for _, l := range lines {
			top = max(top, l.of(s))
		}
	}
	xStep, yStep := division(right), division(top)
	right, top = xStep*math.Ceil(right/xStep), yStep*math.Ceil(top/yStep)
	x := func(v float64) float64 { return v / right * plotWidth }
	y := func(v float64) float64 { return plotHeight - v/top*plotHeight }
	text := func(x, y float64, anchor, colour, s string) {
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, colour, s)
	}
	rule := func(x1, y1, x2, y2 float64) {
		fmt.Fprintf(b, `<path d="M%.1f %.1fL%.1f %.1f" stroke="#ddd"/>`+"\n", x1, y1, x2, y2)
	}
	for v := 0.0; v <= top+yStep/2; v += yStep {
		rule(0, y(v), plotWidth, y(v))
		text(-6, y(v)+4, "end", "#333", fmt.Sprintf("%.4g", v))
	}
	for v := 0.0; v <= right+xStep/2; v += xStep {
		rule(x(v), 0, x(v), plotHeight)
		text(x(v), plotHeight+16, "middle", "#333", fmt.Sprintf("%.4g", v))
	}
	text(0, -14, "start", "#333", title)
	text(plotWidth, plotHeight+32, "end", "#333", "calls/s offered")
	for i, l := range lines {
		var points strings.Builder
		for _, s := range r.Steps {
			fmt.Fprintf(&points, "%.1f,%.1f ", x(s.Offered), y(l.of(s)))
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s"/>`+"\n", x(s.Offered), y(l.of(s)), colours[i])
		}
		fmt.Fprintf(b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", strings.TrimSpace(points.String()), colours[i])
		text(float64(plotWidth-80*(len(lines)-1-i)), -14, "end", colours[i], l.name)
	}
}

// division is a round distance between an axis's marks, for some five of them.
func division(top float64) float64 {
	if top <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(top/5)))
	for _, of := range []float64{1, 2, 5} {
		if top/(of*power) <= 6 {
			return of * power
		}
	}
	return 10 * power
}
