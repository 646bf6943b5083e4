// Package plot draws a run: what came and went each second, and how long it took,
// as an SVG of its own, which needs nothing else to be seen.
package plot

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
)

// The drawing's measures, in pixels.
const (
	width, height = 720, 170
	left, top     = 64, 40
	each          = top + height + 46 // from one plot to the next
	thin          = 1200              // points of a line at most
)

var colours = []string{"#1b6ca8", "#d1495b", "#6a994e", "#8a5a9e"}

// line is one figure of each second.
type line struct {
	name string
	of   func(measure.Point) (float64, bool)
}

type graph struct {
	title string
	lines []line
}

// Draw draws what a report has.
func Draw(r *measure.Report) string {
	graphs := []graph{
		{"A second", []line{
			{"due", count(func(p measure.Point) int { return p.Due })},
			{"done", count(func(p measure.Point) int { return p.Done })},
			{"failed", count(func(p measure.Point) int { return p.Failed })},
		}},
		{"At a time", []line{
			{"connections", count(func(p measure.Point) int { return p.Connected })},
			{"registered", count(func(p measure.Point) int { return p.Registered })},
			{"calls", count(func(p measure.Point) int { return p.Calls })},
		}},
	}
	for _, m := range []measure.Metric{measure.Connect, measure.Register, measure.Answered, measure.Hangup, measure.Wait, measure.Lag} {
		if _, measured := r.Latency[m]; measured {
			graphs = append(graphs, graph{string(m) + ", ms", []line{
				{"p50", latency(m, func(q measure.Quantiles) float64 { return q.P50 })},
				{"p99", latency(m, func(q measure.Quantiles) float64 { return q.P99 })},
				{"max", latency(m, func(q measure.Quantiles) float64 { return q.Max })},
			}})
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n"+
		`<rect width="100%%" height="100%%" fill="white"/>`+"\n", left+width+30, len(graphs)*each)
	for i, g := range graphs {
		fmt.Fprintf(&b, `<g transform="translate(%d %d)">`+"\n", left, top+i*each)
		g.draw(&b, r.Series)
		fmt.Fprintln(&b, "</g>")
	}
	fmt.Fprintln(&b, "</svg>")
	return b.String()
}

func count(of func(measure.Point) int) func(measure.Point) (float64, bool) {
	return func(p measure.Point) (float64, bool) { return float64(of(p)), true }
}

func latency(m measure.Metric, of func(measure.Quantiles) float64) func(measure.Point) (float64, bool) {
	return func(p measure.Point) (float64, bool) {
		q, ok := p.Latency[m]
		return of(q), ok
	}
}

func (g graph) draw(b io.Writer, series []measure.Point) {
	right, highest := 1.0, 0.0
	for _, p := range series {
		right = max(right, float64(p.Second))
		for _, l := range g.lines {
			if v, ok := l.of(p); ok {
				highest = max(highest, v)
			}
		}
	}
	yStep, xStep := division(highest), division(right)
	highest = yStep * max(1, math.Ceil(highest/yStep))
	x := func(v float64) float64 { return v / right * width }
	y := func(v float64) float64 { return height - v/highest*height }
	text := func(x, y float64, anchor, colour, s string) {
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, colour, s)
	}
	for v := 0.0; v <= highest+yStep/2; v += yStep {
		fmt.Fprintf(b, `<path d="M0 %.1fH%d" stroke="#ddd"/>`+"\n", y(v), width)
		text(-6, y(v)+4, "end", "#333", fmt.Sprintf("%.4g", v))
	}
	for v := 0.0; v <= right; v += xStep {
		text(x(v), height+16, "middle", "#333", fmt.Sprintf("%.4g", v))
	}
	text(0, -14, "start", "#333", g.title)
	text(width, height+30, "end", "#333", "seconds")
	for i, l := range g.lines {
		var path strings.Builder
		for _, p := range thinned(series, l) {
			v, _ := l.of(p)
			command := "L"
			if path.Len() == 0 {
				command = "M"
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", command, x(float64(p.Second)), y(v))
		}
		if path.Len() > 0 {
			fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", path.String(), colours[i])
		}
		text(float64(width-90*(len(g.lines)-1-i)), -14, "end", colours[i], l.name)
	}
}

// thinned are the seconds in which a line has a value; of a long run those with
// the highest of some.
func thinned(series []measure.Point, l line) (points []measure.Point) {
	all := slices.DeleteFunc(slices.Clone(series), func(p measure.Point) bool {
		_, ok := l.of(p)
		return !ok
	})
	step := (len(all) + thin - 1) / thin
	for at := 0; at < len(all); at += step {
		points = append(points, slices.MaxFunc(all[at:min(at+step, len(all))], func(p, q measure.Point) int {
			a, _ := l.of(p)
			b, _ := l.of(q)
			switch {
			case a < b:
				return -1
			case a > b:
				return 1
			}
			return 0
		}))
	}
	return points
}

// division is a round distance between an axis's marks, for some five of them.
func division(highest float64) float64 {
	if highest <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(highest/5)))
	for _, of := range []float64{1, 2, 5} {
		if highest/(of*power) <= 6 {
			return of * power
		}
	}
	return 10 * power
}
