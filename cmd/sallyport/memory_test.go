package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"testing"
	"time"
)

func TestPercentFor(t *testing.T) {
	for _, c := range []struct {
		name       string
		live, made uint64
		took       time.Duration
		begun      int // connections
		want       int
	}{
		{"nothing in use, nothing made", 0, 0, time.Minute, 0, 200},
		{"little in use, much made", 8 << 20, 64 << 20, collectAfter, 0, 400},
		{"some in use, more made than is good", 64 << 20, 1 << 30, collectAfter, 0, 200},
		{"little in use, some made", 8 << 20, 16 << 20, collectAfter, 0, 200},
		{"much in use", 512 << 20, 1 << 30, time.Second, 0, 100},
		{"at once", 8 << 20, 1 << 20, 0, 0, 400},
		{"connections come", 8 << 20, 1 << 30, collectAfter, manyBegun, 100},
		{"as many are here", 128 << 20, 1 << 30, collectAfter, 10 * manyBegun, 25},
	} {
		if got := percentFor(c.live, c.made, c.took, c.begun); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// Memory is given back when nobody did much for a while: after work, and after many
// connections have ended, which is no work.
func TestQuietTimes(t *testing.T) {
	for _, c := range []struct {
		name     string
		made     func(second int) uint64 // allocated so far
		routines func(second int) int
		want     []int // seconds in which memory is given back
	}{
		{"nothing", func(int) uint64 { return 1 << 30 }, func(int) int { return 20 }, []int{6, 40}},
		{"work until 20", func(s int) uint64 { return 1<<30 + uint64(min(s, 20))<<21 }, func(int) int { return 20 }, []int{26, 60}},
		{"little work", func(s int) uint64 { return 1<<30 + uint64(s)<<10 }, func(int) int { return 20 }, []int{6, 40}},
		{"connections that end from 60 to 70", func(int) uint64 { return 1 << 30 }, func(s int) int { return 2000 - 100*min(max(s-60, 0), 10) }, []int{6, 40, 76, 110}},
		{"a few of them", func(int) uint64 { return 1 << 30 }, func(s int) int { return 2000 - min(s, manyEnded-1) }, []int{6, 40}},
		{"those that end and come", func(int) uint64 { return 1 << 30 }, func(s int) int { return 2000 + s%2*50 }, []int{6, 40}},
	} {
		begin := time.Now()
		q := quiet{since: begin, last: c.made(0)}
		var got []int
		for s := 1; s < 200; s++ {
			if q.over(begin.Add(time.Duration(s)*time.Second), c.made(s), c.routines(s)) {
				q.given = c.made(s)
				got = append(got, s)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: memory is given back after %v seconds, want %v", c.name, got, c.want)
		}
	}
}

// What a test of the whole program leaves must be as it was.
func TestMemoryLeavesTheCollector(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(77)
	defer debug.SetGCPercent(before)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- newMemory().Run(ctx) }()
	set := func() uint64 {
		sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	until(t, func() bool { return set() != 77 })                                   // it is 100 until the next collection
	for deadline := time.Now().Add(10 * time.Second); set() == 100; runtime.GC() { // as little is in use, it may grow by more
		if time.Now().After(deadline) {
			t.Fatal("a collection changed nothing")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for range 3 { // nothing is to come after it
		runtime.GC()
		if got := set(); got != 77 {
			t.Fatalf("the collector has %d %%, want 77", got)
		}
	}
}
