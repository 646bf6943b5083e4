package bench

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/e2e/peers"
)

// The figures, as the file names them.
const (
	registrations   = "registrations_per_second"
	cpuRegistration = "cpu_us_per_registration"
	calls           = "calls_per_second"
	cpuCall         = "cpu_us_per_call"
	halfRate        = "half_load_calls_per_second"
	cpuHalf         = "half_load_cpu_us_per_call"
	setupP50        = "half_load_setup_p50_ms"
	setupP99        = "half_load_setup_p99_ms"
	connectionsMade = "new_connections_per_second"
	cpuConnection   = "cpu_us_per_new_connection"
	stormTime       = "storm_seconds"
	stormFailed     = "storm_failed_phones"
	idleTLS         = "idle_TLS_bytes"
	idleWSS         = "idle_WSS_bytes"
)

// sipReport collects what was measured. It is also the file that is written.
type sipReport struct {
	Machine string                        `json:"machine"`
	Figures map[string]map[string]*figure `json:"figures"` // by what is measured, then by system
	Crashes map[string][]string           `json:"crashes,omitempty"`
	Faults  map[string][]string           `json:"failures,omitempty"`
}

func newSIPReport() *sipReport {
	return &sipReport{
		Machine: peers.Machine(), Figures: make(map[string]map[string]*figure),
		Crashes: make(map[string][]string), Faults: make(map[string][]string),
	}
}

func (r *sipReport) add(t testing.TB, system, what string, v float64) {
	if r.Figures[what] == nil {
		r.Figures[what] = make(map[string]*figure)
	}
	if r.Figures[what][system] == nil {
		r.Figures[what][system] = &figure{}
	}
	r.Figures[what][system].add(v)
	t.Logf("%-10s %-32s %.1f", system, what, v)
}

func (r *sipReport) setup(t testing.TB, system string, of tally, rate float64) {
	if r.fault(t, system, setupP99, of.failed, of.first); of.failed > 0 {
		return
	}
	r.add(t, system, halfRate, rate)
	r.add(t, system, setupP50, of.at(50))
	r.add(t, system, setupP99, of.at(99))
}

// fault notes what failed. Of the edge nothing may.
func (r *sipReport) fault(t testing.TB, system, what string, n int, first error) {
	if n == 0 {
		return
	}
	said := fmt.Sprintf("%s: %d failed, the first with: %v", what, n, first)
	r.Faults[system] = append(r.Faults[system], said)
	if system == edgeName || system == nobody {
		t.Errorf("%s: %s", system, said)
		return
	}
	t.Logf("%s: %s", system, said)
}

// crash notes that another system did not survive.
func (r *sipReport) crash(t testing.TB, system, said string) {
	r.Crashes[system] = append(r.Crashes[system], said)
	t.Logf("%s crashed in %s", system, said)
}

// write prints the table, and writes all figures where BENCH_JSON says.
func (r *sipReport) write(t testing.TB) {
	fmt.Printf("\n%s\n\n%s", r.Machine, r.table())
	writeJSON(t, r)
}

// sipRows are the rows of the table.
var sipRows = []struct {
	title, what, format string
	scale               float64
	more                bool // is better
}{
	{"Registrations/s", registrations, "%.0f", 1, true},
	{"CPU, µs a registration", cpuRegistration, "%.0f", 1, false},
	{"Calls/s", calls, "%.0f", 1, true},
	{"CPU, µs a call", cpuCall, "%.0f", 1, false},
	{"Setup at half load p50, ms", setupP50, "%.1f", 1, false},
	{"Setup at half load p99, ms", setupP99, "%.1f", 1, false},
	{"CPU at half load, µs a call", cpuHalf, "%.0f", 1, false},
	{"New connections/s", connectionsMade, "%.0f", 1, true},
	{"CPU, µs a new connection", cpuConnection, "%.0f", 1, false},
	{"Storm: s until all are registered", stormTime, "%.2f", 1, false},
	{"Storm: phones that failed", stormFailed, "%.0f", 1, false},
	{"KB an idle TLS connection", idleTLS, "%.1f", 1.0 / 1024, false},
	{"KB an idle WSS connection", idleWSS, "%.1f", 1.0 / 1024, false},
}

// table is in Markdown: medians, with the least and the most of all rounds. The ratio
// is to the better of the others.
func (r *sipReport) table() string {
	var b strings.Builder
	row := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	head := []string{""}
	for _, sys := range sipSystems {
		head = append(head, sys.name)
	}
	row(append(head, "ratio", "the PBX itself")...)
	row(slices.Repeat([]string{"---"}, len(head)+2)...)
	for _, line := range sipRows {
		cells, best := []string{line.title}, 0.0
		for _, sys := range sipSystems {
			f := r.Figures[line.what][sys.name]
			cells = append(cells, shown(f, line.format, line.scale))
			if f != nil && sys.name != edgeName && (best == 0 || line.more == (f.Median > best)) {
				best = f.Median
			}
		}
		ratio := ""
		if us := r.Figures[line.what][edgeName]; us != nil && best > 0 {
			ratio = fmt.Sprintf("%.2f", us.Median/best)
		}
		row(append(cells, ratio, shown(r.Figures[line.what][nobody], line.format, line.scale))...)
	}
	for _, sys := range sipSystems {
		for _, said := range r.Crashes[sys.name] {
			fmt.Fprintf(&b, "\n- %s crashed in %s", sys.name, said)
		}
	}
	return b.String() + "\n"
}

func shown(f *figure, format string, scale float64) string {
	if f == nil {
		return ""
	}
	return f.show(format, scale)
}
