package bench

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/e2e/peers"
)

// trunkReport is what TestTrunk measured. It is also the file that is written.
type trunkReport struct {
	Machine string                `json:"machine"`
	Calls   int                   `json:"calls"`
	Rate    int                   `json:"packets_per_second"`
	Wire    []*onWire             `json:"wire"`
	Systems map[string]*trunkCost `json:"systems"`
}

// onWire is one way of framing.
type onWire struct {
	framing
	Bytes    int     `json:"bytes_per_packet"`
	Kbits    float64 `json:"kbit_per_second_each_way"`
	Over     float64 `json:"percent_over_plain"`
	Measured int     `json:"measured_bytes_per_packet,omitempty"` // 0: on paper only
}

// trunkCost is what one carrier cost. A packet is one that went from PBX to PBX,
// through both ends of the carrier.
type trunkCost struct {
	Whole   costs  `json:"whole"`                     // as measured
	Added   costs  `json:"added"`                     // beyond the baseline of its round
	End     figure `json:"process_us_per_packet_end"` // of one end's process, the mean of both
	SoftIRQ figure `json:"softirq_us_per_packet_by_ticks"`
	Bytes   figure `json:"wire_bytes_per_packet"` // all that crossed, for each packet of the media
	Kbits   figure `json:"wire_kbit_per_second_each_way"`
	Loss    figure `json:"loss"`
	Others  figure `json:"processor_share_of_others"`
}

func newTrunkReport() *trunkReport {
	r := &trunkReport{Machine: peers.Machine(), Calls: trunkCalls, Rate: ways * packetsPerSecond * trunkCalls, Systems: make(map[string]*trunkCost)}
	for _, f := range framings() {
		r.Wire = append(r.Wire, &onWire{framing: f, Bytes: f.bytes(), Kbits: kbits(float64(f.bytes())), Over: 100 * (float64(f.bytes())/plainLen - 1)})
	}
	for _, c := range carriers {
		r.Systems[c.name] = &trunkCost{}
	}
	return r
}

// saw notes the length of a carrier's packets on the wire.
func (r *trunkReport) saw(c carrier, bytes int) {
	i := slices.IndexFunc(r.Wire, func(w *onWire) bool { return w.Name == c.framing })
	r.Wire[i].Measured = bytes
}

func (r *trunkReport) add(t testing.TB, c carrier, m, base measured) {
	s := r.Systems[c.name]
	sent := m.sent[inward] + m.sent[outward]
	bytes := float64(m.wire.bytes) / float64(sent)
	s.Whole.add(m, measured{})
	s.Added.add(m, base)
	s.End.add(m.process / ways)
	s.SoftIRQ.add(m.softirq)
	s.Bytes.add(bytes)
	s.Kbits.add(float64(m.wire.bytes) * 8 / 1000 / m.length.Seconds() / trunkCalls / ways)
	s.Loss.add(m.loss())
	s.Others.add(m.foreign)
	t.Logf("%-12s %s; processes %5.2f µs, soft interrupts %5.2f µs, %.1f bytes on the wire", c.name, m, m.process, m.softirq, bytes)
}

// write prints the tables, and writes all figures where BENCH_JSON says.
func (r *trunkReport) write(t testing.TB) {
	fmt.Printf("\n%s\n\n%s", r.Machine, r.tables())
	writeJSON(t, r)
}

// tables are in Markdown.
func (r *trunkReport) tables() string {
	var b strings.Builder
	row := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	row("On the wire", "Header by header, bytes", "Bytes a packet", "kbit/s a call, each way", "Over plain", "Measured")
	row(slices.Repeat([]string{"---"}, 6)...)
	for _, w := range r.Wire {
		measured := "on paper"
		if w.Measured > 0 {
			measured = fmt.Sprint(w.Measured)
		}
		row(w.Name, w.breakdown(), fmt.Sprint(w.Bytes), fmt.Sprintf("%.1f", w.Kbits), fmt.Sprintf("%.0f %%", w.Over), measured)
	}
	fmt.Fprintln(&b)
	row("Between the PBXs", "CPU of both ends, µs a packet, beyond forwarding", "CPU of one end's process, µs a packet", "Added p50 / p99, µs", "Wire, kbit/s a call, each way", "Lost")
	row(slices.Repeat([]string{"---"}, 6)...)
	for _, c := range carriers {
		s := r.Systems[c.name]
		added, end, delay := "–", "–", "–"
		if c.name != nobody {
			added, end, delay = s.Added.CPU.show("%.1f", 1), s.End.show("%.1f", 1), s.Added.latency()
		}
		row(c.name, added, end, delay, s.Kbits.show("%.1f", 1), s.Loss.show("%.3f %%", 100))
	}
	return b.String()
}
