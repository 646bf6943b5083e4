package peers

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Samples are a figure, and when it was so, in seconds, in order.
type Samples struct {
	At    []float64 `json:"at"`
	Value []float64 `json:"value"`
}

// Add appends one.
func (s *Samples) Add(at, value float64) {
	s.At, s.Value = append(s.At, at), append(s.Value, value)
}

// After are those from a moment on.
func (s *Samples) After(at float64) Samples {
	i, _ := slices.BinarySearch(s.At, at)
	return Samples{s.At[i:], s.Value[i:]}
}

// Drift is how a figure goes, whatever it does meanwhile.
type Drift struct {
	Median float64 `json:"median"`
	Hourly float64 `json:"per_hour"` // by the Theil–Sen slope: the median of those between all pairs
	Growth float64 `json:"growth"`   // what that comes to over the samples' time
	Least  float64 `json:"growth_least"`
	Most   float64 `json:"growth_most"` // with 99 % of the slopes' chance between them (Sen 1968)
}

// fewest samples that a drift is told from.
const fewest = 30

// errFew is a check that could not fail.
var errFew = errors.New("too few samples to tell a drift from")

// Drift tells how the figure goes. A saw's teeth, as a collector of garbage makes
// them, and single outliers change it little: a mean's slope would follow them.
func (s *Samples) Drift() (Drift, error) {
	n := len(s.At)
	if n < fewest {
		return Drift{}, fmt.Errorf("%w: %d, want %d", errFew, n, fewest)
	}
	var slopes []float64
	for i := range n {
		for j := i + 1; j < n; j++ {
			if dt := s.At[j] - s.At[i]; dt > 0 {
				slopes = append(slopes, (s.Value[j]-s.Value[i])/dt)
			}
		}
	}
	slices.Sort(slopes)
	// The variance of Kendall's S, without ties, and two-sided 99 % of the normal
	// distribution. Samples that follow one another are alike, so that it is wider.
	sigma := math.Sqrt(float64(n*(n-1)*(2*n+5)) / 18)
	off := int(2.576 * sigma / 2)
	rank := func(i int) float64 { return slopes[min(max(i, 0), len(slopes)-1)] }
	middle, took := len(slopes)/2, s.At[n-1]-s.At[0]
	values := slices.Sorted(slices.Values(s.Value))
	slope := rank(middle)
	return Drift{Median: values[n/2], Hourly: slope * 3600, Growth: slope * took, Least: rank(middle-off) * took, Most: rank(middle+off) * took}, nil
}

// Bound is how much of a drift is none: what load that comes and goes makes of a figure.
type Bound struct {
	Part float64 // of its median
	Base float64 // beside that
}

// Allows tells whether a drift is none. One is that has grown by more than the bound;
// what shrinks is no leak.
func (b Bound) Allows(d Drift) bool { return d.Growth <= b.Part*math.Abs(d.Median)+b.Base }
