package peers

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// figure makes samples of ten minutes, one each two seconds.
func figure(of func(at float64) float64) *Samples {
	s := new(Samples)
	for at := 0.0; at < 600; at += 2 {
		s.Add(at, of(at))
	}
	return s
}

// What an edge under even load shows is no drift, and each leak is one, whatever the
// noise about it.
func TestDrift(t *testing.T) {
	bound := Bound{Part: 0.05, Base: 2}
	for seed := range uint64(15) {
		random := rand.New(rand.NewPCG(seed, 7))
		noise := func(sd float64) float64 { return sd * random.NormFloat64() }
		saw := func(at, period, height float64) float64 { return height * math.Mod(at+float64(seed), period) / period }
		walk := 0.0
		for _, c := range []struct {
			name string
			of   func(at float64) float64
			flat bool
		}{
			{"nothing happens", func(float64) float64 { return 100 }, true},
			{"noise", func(float64) float64 { return 100 + noise(5) }, true},
			{"a collector's saw", func(at float64) float64 { return 80 + saw(at, 23, 30) + noise(1) }, true},
			{"a slow saw", func(at float64) float64 { return 80 + saw(at, 61, 15) + noise(1) }, true},
			{"bursts", func(at float64) float64 {
				if math.Mod(at, 40) < 6 {
					return 160
				}
				return 100 + noise(2)
			}, true},
			{"calls that come and go", func(float64) float64 { walk = 0.9*walk + noise(1); return 100 + walk }, true},
			{"memory that is given back", func(at float64) float64 { return 150 - at/10 + noise(2) }, true},
			{"a leak", func(at float64) float64 { return 100 + at/40 + noise(2) }, false},
			{"a leak below a saw", func(at float64) float64 { return 80 + at/30 + saw(at, 23, 30) + noise(1) }, false},
			{"a leak in steps", func(at float64) float64 { return 100 + 3*math.Floor(at/60) + noise(1) }, false},
			{"a leak behind bursts", func(at float64) float64 {
				if math.Mod(at, 40) < 6 {
					return 160 + noise(20)
				}
				return 100 + at/40 + noise(2)
			}, false},
		} {
			d, err := figure(c.of).Drift()
			if err != nil {
				t.Fatal(err)
			}
			if bound.Allows(d) != c.flat {
				t.Errorf("%s, seed %d: flat is %v, want %v: %+v", c.name, seed, !c.flat, c.flat, d)
			}
			if !(d.Least <= d.Growth && d.Growth <= d.Most) {
				t.Errorf("%s, seed %d: the growth is not within its bounds: %+v", c.name, seed, d)
			}
		}
	}
}

// A slope is told as it is, and with it what it comes to.
func TestDriftFigures(t *testing.T) {
	d, err := figure(func(at float64) float64 { return 10 + at/60 }).Drift()
	if err != nil || math.Abs(d.Hourly-60) > 1e-6 || math.Abs(d.Growth-598.0/60) > 1e-6 || math.Abs(d.Median-15) > 0.1 {
		t.Errorf("%+v, %v", d, err)
	}
	late := figure(func(at float64) float64 { return at }).After(300)
	if late.At[0] != 300 || len(late.At) != 150 {
		t.Errorf("after 300 s there are %d samples, from %v on", len(late.At), late.At[0])
	}
	few := Samples{At: []float64{1, 2, 3}, Value: []float64{1, 2, 3}}
	if _, err := few.Drift(); !errors.Is(err, errFew) {
		t.Errorf("three samples: %v", err)
	}
}
