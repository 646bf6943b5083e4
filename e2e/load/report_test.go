package load

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// report is what was measured. It is also the file that is written.
type report struct {
	Machine string  `json:"machine"`
	Seconds float64 `json:"seconds_of_each_step"`
	Steps   []step  `json:"steps"`
}

// write prints the table, and leaves all figures and their drawing in a folder.
func (r *report) write(t testing.TB, folder string) {
	t.Helper()
	fmt.Printf("\n%s; %.0f s each\n\n%s", r.Machine, r.Seconds, r.table())
	if folder == "" {
		return
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "load.json"), append(b, '\n'), 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "load.svg"), []byte(r.draw()), 0o644)
	}
	if err != nil {
		t.Errorf("write the figures: %v", err)
	}
}

// table is in Markdown.
func (r *report) table() string {
	var b strings.Builder
	row := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	row("Calls/s: offered", "completed", "failed calls", "Setup p50 / p99, ms", "CPU, cores: sallyport", "Asterisk", "SIPp", "machine", "RSS, MB: sallyport", "Asterisk", "SIPp")
	row(slices.Repeat([]string{"---"}, 11)...)
	for _, s := range r.Steps {
		cells := []string{fmt.Sprintf("%.1f", s.Offered), fmt.Sprintf("%.1f", s.Completed), fmt.Sprint(s.Failed), fmt.Sprintf("%.1f / %.1f", s.P50, s.P99)}
		for _, u := range s.users() {
			cells = append(cells, fmt.Sprintf("%.2f", u.CPU))
		}
		cells = append(cells, fmt.Sprintf("%.2f", s.Machine))
		for _, u := range s.users() {
			cells = append(cells, fmt.Sprintf("%.0f", u.megabytes()))
		}
		row(cells...)
	}
	last := r.Steps[len(r.Steps)-1]
	if last.End == "" {
		last.End = "no higher rate was asked for"
	}
	fmt.Fprintf(&b, "\nAfter %d calls/s: %s\n", last.Rate, last.End)
	return b.String()
}

func (s step) users() []usage { return []usage{s.Edge, s.Asterisk, s.SIPp} }

func (u usage) megabytes() float64 { return float64(u.Memory) / (1 << 20) }
