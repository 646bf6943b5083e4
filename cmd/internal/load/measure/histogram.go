package measure

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The range of all latencies. What is longer counts as the longest.
const (
	unit    = time.Microsecond
	longest = 10 * time.Minute
)

// fine has an error below 0.1 %; swift, of a second, below 1 %; rough, of a
// phone, below 10 % and a hundredth of the size.
func fine() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(longest/unit), 3) }
func swift() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(longest/unit), 2)
}

// rough counts in tenths of a millisecond.
type rough struct {
	h   *hdrhistogram.Histogram
	max time.Duration
}

const roughUnit = 100 * time.Microsecond

func (r *rough) record(d time.Duration) {
	if r.h == nil {
		r.h = hdrhistogram.New(1, int64(longest/roughUnit), 1)
	}
	r.max = max(r.max, d)
	_ = r.h.RecordValue(clamp(d, roughUnit)) // clamped: it is in range
}

func clamp(d, unit time.Duration) int64 { return int64(min(max(d, 0), longest) / unit) }

func record(h *hdrhistogram.Histogram, d time.Duration) { _ = h.RecordValue(clamp(d, unit)) } // likewise

// Quantiles are of latencies, in milliseconds.
type Quantiles struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p99_9"`
	Max   float64 `json:"max"`
}

func quantiles(h *hdrhistogram.Histogram, unit time.Duration) Quantiles {
	ms := func(v int64) float64 { return Milliseconds(time.Duration(v) * unit) }
	return Quantiles{
		Count: h.TotalCount(), Mean: Milliseconds(time.Duration(h.Mean() * float64(unit))),
		P50: ms(h.ValueAtQuantile(50)), P90: ms(h.ValueAtQuantile(90)), P99: ms(h.ValueAtQuantile(99)),
		P999: ms(h.ValueAtQuantile(99.9)), Max: ms(h.Max()),
	}
}

// Milliseconds are those of a duration, to the microsecond.
func Milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}
