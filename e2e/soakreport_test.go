package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/e2e/peers"
)

// soakReport is what a soak measured, and the file that is written.
type soakReport struct {
	Seconds   float64      `json:"seconds"` // of arrivals
	AtATime   int          `json:"calls_at_a_time"`
	Passed    bool         `json:"passed"`
	Cores     float64      `json:"edge_cores"`
	LoadCores float64      `json:"load_cores"` // that sallyload used for the calls
	Calls     []soakCalls  `json:"calls"`
	Restart   soakRestart  `json:"pbx_restart"`
	Renewals  int          `json:"certificates_renewed"`
	Visits    int          `json:"visits"` // of twenty phones each
	Figures   []soakFigure `json:"figures"`
}

type soakCalls struct {
	Name    string `json:"name"`
	Calls   int    `json:"calls"` // without a fault
	Right   int    `json:"heard_right"`
	Wrong   int    `json:"heard_wrong"`
	Silent  int    `json:"heard_nothing"`
	Sent    int    `json:"packets_sent"`
	Packets int    `json:"packets_received"`
	Lost    int    `json:"packets_lost"`
	Taken   int    `json:"failed_by_restart"`
}

// soakRestart is when the PBX restarted, in seconds, and until when that may be told,
// and the operations that it took.
type soakRestart struct {
	From, To float64
	Taken    int
}

// soakFigure is one of those that are watched.
type soakFigure struct {
	Name, Unit string
	peers.Samples
	Drift peers.Drift `json:"second_half"`
	Flat  bool        `json:"flat"`
}

func (r *soakReport) figure(i int) *soakFigure {
	for len(r.Figures) <= i {
		w := watched[len(r.Figures)]
		r.Figures = append(r.Figures, soakFigure{Name: w.name, Unit: w.unit})
	}
	return &r.Figures[i]
}

// write leaves the report where SOAK_OUT says, if it does.
func (s *soak) write() {
	s.t.Helper()
	r := &s.report
	r.Seconds, r.AtATime, r.Passed = s.arrivals, s.calls, !s.t.Failed()
	b, err := json.Marshal(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("%d visits, %d certificates, the restart took %d operations, the edge used %.2f cores, and the calls %.2f", r.Visits, r.Renewals, r.Restart.Taken, r.Cores, r.LoadCores)
	folder := os.Getenv("SOAK_OUT")
	if folder == "" {
		return
	}
	for name, text := range map[string]string{"soak.json": string(b) + "\n", "soak.svg": r.draw(), "soak.md": r.tell()} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			s.t.Errorf("write the report: %v", err)
		}
	}
}

// tell is the report for people.
func (r *soakReport) tell() string {
	var b strings.Builder
	verdict := "It passed."
	if !r.Passed {
		verdict = "**It failed.**"
	}
	fmt.Fprintf(&b, "# Soak\n\n`make soak`: %d calls at a time for %.0f minutes, beside phones that come, refresh, reconnect and go. %s\n\n", r.AtATime, r.Seconds/60, verdict)
	fmt.Fprintf(&b, "- %d certificates were renewed, and %d times twenty phones came at once and went.\n", r.Renewals, r.Visits)
	fmt.Fprintf(&b, "- The PBX was killed and came back: that took %d operations, and nothing else failed any.\n", r.Restart.Taken)
	fmt.Fprintf(&b, "- The edge used %.2f cores.\n\n", r.Cores)
	fmt.Fprint(&b, "| Calls | without a fault | ends that heard their tone | another, or nothing | packets sent | came back | gaps |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for _, c := range r.Calls {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d |\n", c.Name, c.Calls, c.Right, c.Wrong+c.Silent, c.Sent, c.Packets, c.Lost)
	}
	fmt.Fprint(&b, "\nCalls that the restart met go on to speak to nobody until their end: hence what did not come back. A gap is a number that is missing\nbetween packets that came.\n")
	fmt.Fprint(&b, "\n| Second half of the run | Median | Growth in it (99 %) | an hour | |\n| --- | --- | --- | --- | --- |\n")
	for i, f := range r.Figures {
		flat := ""
		if watched[i].checked {
			flat = "flat"
			if !f.Flat {
				flat = "**grows**"
			}
		}
		d := f.Drift
		fmt.Fprintf(&b, "| %s | %.1f %s | %+.2f (%+.2f to %+.2f) | %+.2f | %s |\n", f.Name, d.Median, f.Unit, d.Growth, d.Least, d.Most, d.Hourly, flat)
	}
	fmt.Fprint(&b, "\nGrowth is by the Theil–Sen slope.\n\n![What the edge held](soak.svg)\n")
	return b.String()
}

// The drawing's measures, in pixels.
const (
	soakWide, soakHigh = 720, 110
	soakLeft, soakEach = 64, 160
)

// draw is an SVG of all figures over the run; the restart is shaded.
func (r *soakReport) draw() string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n"+`<rect width="100%%" height="100%%" fill="white"/>`+"\n",
		soakLeft+soakWide+30, len(r.Figures)*soakEach+20)
	for i, f := range r.Figures {
		x := func(at float64) float64 { return soakLeft + at/r.Seconds*soakWide }
		top, highest := float64(i*soakEach+30), 1.05*slices.Max(f.Value)
		fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%d" fill="#f3d9b1"/>`+"\n", x(r.Restart.From), top, x(r.Restart.To)-x(r.Restart.From), soakHigh)
		for _, part := range []float64{0, 0.5, 1} {
			y := top + soakHigh*(1-part)
			fmt.Fprintf(&b, `<path d="M%d %.1fh%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end" fill="#333">%.4g</text>`+"\n", soakLeft, y, soakWide, soakLeft-6, y+4, part*highest)
		}
		for quarter := range 5 {
			at := r.Seconds * float64(quarter) / 4
			fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle" fill="#333">%.1f min</text>`+"\n", x(at), top+soakHigh+16, at/60)
		}
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" fill="#333">%s</text>`+"\n", soakLeft, top-8, strings.TrimSpace(f.Name+" "+f.Unit))
		var line strings.Builder
		for j, v := range f.Value {
			fmt.Fprintf(&line, "%.1f,%.1f ", x(f.At[j]), top+soakHigh*(1-v/max(highest, 1e-9)))
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="#1b6ca8" stroke-width="1.3"/>`+"\n", strings.TrimSpace(line.String()))
	}
	return b.String() + "</svg>\n"
}
