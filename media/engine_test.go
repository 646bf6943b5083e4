package media

import (
	"context"
	"errors"
	"os"
	"testing"
)

// Sessions fill one worker before the next is woken for any.
func TestDeal(t *testing.T) {
	c := testConfig()
	c.Workers = 3
	e, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, w := range e.workers {
			w.close()
		}
	})
	dealt := func(n int) (counts [3]int) {
		t.Helper()
		for range n {
			s, err := e.Open(nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			for i, w := range e.workers {
				if s.worker == w {
					counts[i]++
				}
			}
		}
		return counts
	}
	const room = 1000 * enough / expected // sessions of which nothing is known yet
	if got := dealt(100); got != [3]int{100, 0, 0} {
		t.Errorf("the first sessions went to %v", got)
	}
	e.workers[0].load.busy.Store(enough)
	if got := dealt(100); got != [3]int{0, 100, 0} {
		t.Errorf("with the first worker busy they went to %v", got)
	}
	e.workers[0].load.busy.Store(0)
	if got := dealt(3*room - 200); got != [3]int{room + 1 - 100, room + 1 - 100, room - 2} {
		t.Errorf("many went to %v, want some %d on each", got, room)
	}
	for _, w := range e.workers {
		w.load.busy.Store(1000)
	}
	if got := dealt(4); got != [3]int{1, 0, 3} && got != [3]int{0, 1, 3} && got != [3]int{1, 1, 2} {
		t.Errorf("with all busy they went to %v, want those with the fewest", got)
	}
}

// A call may want a stream just when the engine has ended. It is refused, though
// more descriptors are open than media ever had.
func TestAddStreamAfterTheEnd(t *testing.T) {
	e, err := New(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := e.Run(ctx); err != nil {
		t.Fatal(err)
	}
	var others []*os.File // in the places of the descriptors that were closed
	for range len(e.workers[0].byFD) {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		others = append(others, f)
	}
	before := descriptors(t)
	if _, err := s.AddStream(); !errors.Is(err, ErrClosed) {
		t.Fatalf("adding a stream gave %v", err)
	}
	if after := descriptors(t); after > before { // what tests before this one had may go meanwhile
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	for _, f := range others {
		if _, err := f.Stat(); err != nil {
			t.Errorf("a descriptor of another was closed: %v", err)
		}
	}
}
