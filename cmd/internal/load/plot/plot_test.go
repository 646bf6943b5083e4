package plot

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
)

// A drawing is XML without a number that is none, however little or much there is.
func TestDraw(t *testing.T) {
	for name, seconds := range map[string]int{"nothing": 0, "one second": 1, "two hours": 7200} {
		r := &measure.Report{Latency: map[measure.Metric]measure.Quantiles{measure.Answered: {}}}
		for i := range seconds {
			r.Series = append(r.Series, measure.Point{
				Second: i + 1, Due: 1, State: measure.State{Calls: i}, Latency: map[measure.Metric]measure.Quantiles{measure.Answered: {P50: float64(i)}},
			})
		}
		svg := Draw(r)
		d := xml.NewDecoder(strings.NewReader(svg))
		lines := 0
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "path" {
				lines++
			}
		}
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") || len(svg) > 1<<20 {
			t.Errorf("%s: the drawing has %d bytes", name, len(svg))
		}
		if !strings.Contains(svg, "invite_200, ms") || seconds > 0 && lines < 10 {
			t.Errorf("%s: %d lines are drawn", name, lines)
		}
	}
}

func TestDivision(t *testing.T) {
	for top, want := range map[float64]float64{0: 1, 1: 0.2, 5: 1, 10: 2, 30: 5, 59: 10, 1000: 200} {
		if got := division(top); math.Abs(got-want) > want/1e6 {
			t.Errorf("up to %g it is divided by %g, want %g", top, got, want)
		}
	}
}
