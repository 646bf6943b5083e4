package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestPercentFor(t *testing.T) {
	for _, c := range []struct {
		name       string
		live, made uint64
		took       time.Duration
		want       int
	}{
		{"nothing in use, nothing made", 0, 0, time.Minute, 200},
		{"little in use, much made", 8 << 20, 64 << 20, 400 * time.Millisecond, 800},
		{"little in use, more made than is good", 8 << 20, 1 << 30, 400 * time.Millisecond, 800},
		{"little in use, some made", 8 << 20, 16 << 20, 400 * time.Millisecond, 200},
		{"much in use", 512 << 20, 1 << 30, time.Second, 100},
		{"at once", 8 << 20, 1 << 20, 0, 800},
	} {
		if got := percentFor(c.live, c.made, c.took); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
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
	for deadline := time.Now().Add(10 * time.Second); set() != 100; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the collector was left alone")
		}
	}
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
