package load

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/sallyport/sallyport/cmd/internal/load/measure"
)

// Summarise writes a report for people to read.
func Summarise(out io.Writer, r *measure.Report) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	if r.Ended {
		fmt.Fprintf(out, "\nended before its time, after %.1f s\n", r.Seconds)
	}
	fmt.Fprintf(w, "\noperation\tdue\tdone\tfailed\tgiven up\tdone/s\t\n")
	for _, op := range slices.Sorted(maps.Keys(r.Operations)) {
		c := r.Operations[op]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%.1f\t\n", op, c.Due, c.Done, c.Failed, c.GivenUp, c.PerSecond)
	}
	fmt.Fprintf(w, "\nlatency, ms\tcount\tp50\tp90\tp99\tp99.9\tmax\t\n")
	for _, m := range slices.Sorted(maps.Keys(r.Latency)) {
		q := r.Latency[m]
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t\n", m, q.Count, q.P50, q.P90, q.P99, q.P999, q.Max)
	}
	_ = w.Flush() // what cannot be printed cannot be told either
	for _, op := range slices.Sorted(maps.Keys(r.Operations)) {
		for _, cause := range slices.Sorted(maps.Keys(r.Operations[op].Causes)) {
			fmt.Fprintf(out, "\n%s failed %d times: %s", op, r.Operations[op].Causes[cause], cause)
		}
	}
	fmt.Fprintln(out)
	if m := r.Media; m != nil {
		fmt.Fprintf(out, "media, %d ends: %d packets sent, %d received, %d lost (%.2f %%), %d unverified; jitter p99 %.1f ms\n", m.Ends, m.Sent, m.Received, m.Lost, m.LossPercent, m.Bad, m.Jitter.P99)
		if e := m.Early; e.Ends > 0 {
			fmt.Fprintf(out, "before the answer, %d ends: %d packets received, %d lost, %d unverified; content: %d right, %d wrong, %d silent, %d with nothing to expect\n",
				e.Ends, e.Received, e.Lost, e.Bad, e.Right, e.Wrong, e.Silent, e.Unjudged)
		}
		if r := m.Reports; r.Sent+r.Received > 0 {
			fmt.Fprintf(out, "RTCP: %d sent, %d received, %d unverified; %d ends are told of %d lost; jitter p99 %.1f ms, round trip p50 %.1f ms, p99 %.1f ms\n",
				r.Sent, r.Received, r.Bad, r.Told, r.Lost, r.Jitter.P99, r.RoundTrip.P50, r.RoundTrip.P99)
		}
		fmt.Fprintf(out, "content: %d right, %d wrong, %d silent, %d with nothing to expect\n", m.Right, m.Wrong, m.Silent, m.Unjudged)
	}
	if s := r.Storm; s != nil {
		fmt.Fprintf(out, "storm: %d registered in %d attempts; half %s, all %s\n", s.Registered, s.Attempts, after(s.HalfAfter), after(s.AllAfter))
	}
	for i, p := range r.Worst {
		if i == 3 || p.Failed+p.Unheard == 0 && r.Passed {
			break
		}
		fmt.Fprintf(out, "worst phone: %s, %d failed, %d times the wrong sound or none\n", p.Phone, p.Failed, p.Unheard)
	}
	g := r.Generator
	fmt.Fprintf(out, "generator: %.1f s of processor, %d MB at most, %d KB a phone, %d goroutines at most\n", g.CPUSeconds, g.PeakRSS>>20, g.BytesPerPhone>>10, g.Goroutines)
}

// after is when phones had come, in seconds; 0: never.
func after(seconds float64) string {
	if seconds == 0 {
		return "never"
	}
	return fmt.Sprintf("after %.3f s", seconds)
}
