package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/e2e/peers"
)

// report collects what was measured. It is also the file that is written.
type report struct {
	Machine string  `json:"machine"`
	Loads   []*load `json:"loads"`
	Cores   []*core `json:"cores"`
}

// load is a fixed rate of packets.
type load struct {
	Suite    string           `json:"suite"`
	Calls    int              `json:"calls"`
	Rate     int              `json:"packets_per_second"`
	Baseline costs            `json:"baseline"` // nobody relays
	Systems  map[string]*cost `json:"systems"`
}

// cost is what one system costs.
type cost struct {
	Whole  costs  `json:"whole"` // as measured
	Added  costs  `json:"added"` // beyond the baseline of its round
	Memory figure `json:"rss_bytes_per_call"`
	Loss   figure `json:"loss"`
	Others figure `json:"processor_share_of_others"`
}

type costs struct {
	CPU figure `json:"cpu_us_per_packet"`
	P50 figure `json:"latency_p50_us"`
	P99 figure `json:"latency_p99_us"`
}

// core is what one processor holds.
type core struct {
	Suite   string             `json:"suite"`
	Calls   int                `json:"calls"`
	Rate    map[string]*figure `json:"lossless_packets_per_second"`
	Limited map[string]bool    `json:"limited_by_the_generator"` // it may be more
}

// figure is one value of all rounds.
type figure struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"`
}

func (f *figure) add(v float64) {
	f.Rounds = append(f.Rounds, v)
	sorted := slices.Sorted(slices.Values(f.Rounds))
	n := len(sorted)
	f.Min, f.Max, f.Median = sorted[0], sorted[n-1], (sorted[(n-1)/2]+sorted[n/2])/2
}

// show is the median with the least and the most.
func (f *figure) show(format string, scale float64) string {
	if len(f.Rounds) == 1 {
		return fmt.Sprintf(format, f.Median*scale)
	}
	return fmt.Sprintf(format+" ("+format+"–"+format+")", f.Median*scale, f.Min*scale, f.Max*scale)
}

func newReport(p plan) *report {
	r := &report{Machine: peers.Machine()}
	for _, s := range p.suites {
		for _, n := range p.calls {
			l := &load{Suite: s.name, Calls: n, Rate: fixedRate(n), Systems: make(map[string]*cost)}
			for _, sys := range systems {
				l.Systems[sys.name] = &cost{}
			}
			r.Loads = append(r.Loads, l)
		}
		c := &core{Suite: s.name, Calls: p.searchCalls, Rate: make(map[string]*figure), Limited: make(map[string]bool)}
		for _, sys := range systems {
			c.Rate[sys.name] = &figure{}
		}
		r.Cores = append(r.Cores, c)
	}
	return r
}

func (r *report) load(s suite, calls int) *load {
	return r.Loads[slices.IndexFunc(r.Loads, func(l *load) bool { return l.Suite == s.name && l.Calls == calls })]
}

func (r *report) baseline(t testing.TB, s suite, calls int, m measured) {
	l := r.load(s, calls)
	l.Baseline.add(m, measured{})
	t.Logf("%-24s %5d calls  %-10s %s", s.name, calls, nobody, m)
}

func (r *report) row(t testing.TB, s suite, calls int, name string, m, base measured) {
	c := r.load(s, calls).Systems[name]
	c.Whole.add(m, measured{})
	c.Added.add(m, base)
	c.Memory.add(m.memory)
	c.Loss.add(m.loss())
	c.Others.add(m.foreign)
	t.Logf("%-24s %5d calls  %-10s %s", s.name, calls, name, m)
}

func (c *costs) add(m, base measured) {
	c.CPU.add(m.cpu - base.cpu)
	c.P50.add(micros(m.p50 - base.p50))
	c.P99.add(micros(m.p99 - base.p99))
}

func (r *report) core(t testing.TB, s suite, name string, rate int, limited bool) {
	c := r.Cores[slices.IndexFunc(r.Cores, func(c *core) bool { return c.Suite == s.name })]
	c.Rate[name].add(float64(rate))
	c.Limited[name] = c.Limited[name] || limited
	t.Logf("%-24s %5d calls  %-10s %7d packets/s on one core", s.name, c.Calls, name, rate)
}

// write prints the tables, and writes all figures where BENCH_JSON says.
func (r *report) write(t testing.TB) {
	fmt.Printf("\n%s\n\n%s", r.Machine, r.tables())
	writeJSON(t, r)
}

func writeJSON(t testing.TB, figures any) {
	path := os.Getenv("BENCH_JSON")
	if path == "" {
		return
	}
	b, err := json.MarshalIndent(figures, "", "  ")
	if err == nil {
		err = os.WriteFile(path, append(b, '\n'), 0o644)
	}
	if err != nil {
		t.Errorf("write the figures: %v", err)
	}
}

// tables are in Markdown: medians, with the least and the most of all rounds.
func (r *report) tables() string {
	var b strings.Builder
	row := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	row("Suite", "Calls", "Packets/s", "CPU, µs a packet: sallyport", "rtpengine", "ratio", "Added p50 / p99, µs: sallyport", "rtpengine", "RSS, KB a call: sallyport", "rtpengine")
	row(slices.Repeat([]string{"---"}, 10)...)
	for _, l := range r.Loads {
		us, them := l.Systems[systems[0].name], l.Systems[systems[1].name]
		row(l.Suite, fmt.Sprint(l.Calls), fmt.Sprint(l.Rate), us.Added.CPU.show("%.1f", 1), them.Added.CPU.show("%.1f", 1),
			fmt.Sprintf("%.2f", us.Added.CPU.Median/them.Added.CPU.Median),
			us.Added.latency(), them.Added.latency(), us.Memory.show("%.1f", 1.0/1024), them.Memory.show("%.1f", 1.0/1024))
	}
	fmt.Fprintln(&b)
	row("Suite", "Lossless packets/s on one core: sallyport", "rtpengine", "ratio")
	row(slices.Repeat([]string{"---"}, 4)...)
	for _, c := range r.Cores {
		us, them := c.Rate[systems[0].name], c.Rate[systems[1].name]
		more := ""
		if c.Limited[systems[0].name] {
			more = ", the generator's limit"
		}
		row(c.Suite, us.show("%.0f", 1)+more, them.show("%.0f", 1), fmt.Sprintf("%.2f", us.Median/them.Median))
	}
	return b.String()
}

func (c *costs) latency() string { return c.P50.show("%.0f", 1) + " / " + c.P99.show("%.0f", 1) }
