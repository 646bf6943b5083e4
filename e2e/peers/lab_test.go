package peers

import (
	"os"
	"runtime"
	"strings"
	"testing"
)

// What the lab looks for in the log of an edge is what an edge writes there.
func TestFaultLine(t *testing.T) {
	b, err := os.ReadFile("../../sipproxy/fault.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), `"`+faultLine) {
		t.Errorf("the edge does not write %q", faultLine)
	}
}

// stopped is a test that only tells whether it was ended.
type stopped struct {
	testing.TB
	ends  []func()
	ended bool
}

func (s *stopped) Cleanup(f func()) { s.ends = append(s.ends, f) }
func (s *stopped) Helper()          {}
func (s *stopped) FailNow()         { s.ended = true; runtime.Goexit() }

// Who waits for what is done meanwhile gets its result, or ends with it.
func TestMeanwhile(t *testing.T) {
	if got := Meanwhile(t, func() int { return 7 })(); got != 7 {
		t.Errorf("got %d, want 7", got)
	}
	s, went, done := &stopped{}, false, make(chan struct{})
	go func() { // ends with the test that it stands for
		defer close(done)
		Meanwhile(s, func() int { s.FailNow(); return 7 })()
		went = true
	}()
	<-done
	for _, end := range s.ends {
		end()
	}
	if !s.ended || went {
		t.Error("it goes on when what it waits for has ended the test")
	}
}
