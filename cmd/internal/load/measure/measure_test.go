package measure

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestQuantiles(t *testing.T) {
	r := New(2)
	for i := 1; i <= 1000; i++ {
		r.Took(Register, i%2, time.Duration(i)*time.Millisecond)
	}
	r.Took(Register, 1, time.Hour) // beyond all that is told apart
	q := r.Report(nil, time.Second, name).Latency[Register]
	for what, pair := range map[string][2]float64{"p50": {q.P50, 501}, "p90": {q.P90, 901}, "p99": {q.P99, 991}, "max": {q.Max, 600_000}} {
		if got, want := pair[0], pair[1]; math.Abs(got-want) > want/500+1 {
			t.Errorf("%s is %v ms, want %v", what, got, want)
		}
	}
	if q.Count != 1001 {
		t.Errorf("%d were counted", q.Count)
	}
}

func name(i int) string { return string(rune('a' + i)) }

func TestWorst(t *testing.T) {
	r := New(20)
	for i := range 20 {
		r.Took(Answered, i, time.Duration(i)*time.Millisecond)
	}
	r.Failed("call", 3, "486 Busy Here", "call: 486 Busy Here")
	r.Failed("call", 3, "486 Busy Here", "call: 486 Busy Here, again")
	p := r.Report(nil, time.Second, name)
	for _, w := range p.Worst { // its quantiles are rough, and not above what it had
		if q := w.Latency[Answered]; q.P50 > q.Max || q.P999 > q.Max {
			t.Errorf("of phone %s: %+v", w.Phone, q)
		}
	}
	if len(p.Worst) != worstPhones || p.Worst[0].Phone != "d" || p.Worst[0].Failed != 2 || p.Worst[1].Phone != "t" || p.Worst[1].Latency[Answered].Max != 19 {
		t.Errorf("the worst are %+v", p.Worst[:2])
	}
	c := p.Operations["call"]
	if p.Passed || c.Failed != 2 || c.Causes["486 Busy Here"] != 2 || c.First != "call: 486 Busy Here" {
		t.Errorf("it passed: %v, with %+v", p.Passed, c)
	}
}

func TestCausesAreBounded(t *testing.T) {
	r := New(1)
	for i := range 1000 {
		r.Failed("call", 0, time.Duration(i).String(), "")
	}
	if n := len(r.Report(nil, 0, name).Operations["call"].Causes); n > maxCauses+1 {
		t.Errorf("%d causes are kept", n)
	}
}

func TestSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(1)
		r.Due("call")
		r.Due("call")
		r.Done("call")
		r.Took(Answered, 0, 30*time.Millisecond)
		time.Sleep(time.Second)
		p := r.Tick(State{Calls: 1})
		if p.Second != 1 || p.Due != 2 || p.Done != 1 || p.Calls != 1 || math.Abs(p.Latency[Answered].P50-30) > 1 {
			t.Errorf("the first second is %+v", p)
		}
		if p = r.Tick(State{}); p.Second != 2 || p.Due != 0 || len(p.Latency) != 0 {
			t.Errorf("the second one is %+v: it has what was before", p)
		}
	})
}

// What is done a second is told of all the time that it took, also behind the
// arrivals: who is due fifty times a second and does ten has done ten.
func TestDonePerSecond(t *testing.T) {
	for _, c := range []struct {
		name  string
		pause time.Duration // from one that is done to the next
		want  float64
	}{{"as fast as they come", 20 * time.Millisecond, 50}, {"a fifth as fast", 100 * time.Millisecond, 10}} {
		synctest.Test(t, func(t *testing.T) {
			r := New(1)
			for range 150 {
				r.Due("call")
			}
			for range 150 {
				time.Sleep(c.pause)
				r.Done("call")
			}
			if got := r.Report(nil, 3*time.Second, name).Operations["call"].PerSecond; math.Abs(got-c.want) > c.want/50 {
				t.Errorf("%s: %.1f done a second, want %.0f", c.name, got, c.want)
			}
		})
	}
}

// What fails and never was due, as a connection that is lost, is not given up.
func TestNeverDue(t *testing.T) {
	r := New(1)
	r.Failed("lost", 0, "connection closed", "")
	if c := r.Report(nil, time.Second, name).Operations["lost"]; c.Failed != 1 || c.GivenUp != 0 {
		t.Errorf("it is told as %+v", c)
	}
}

func TestSound(t *testing.T) {
	r := New(2)
	r.Heard(0, Sound{Sent: 50, Received: 49, Lost: 1, Verdict: Right, FirstPacket: 20 * time.Millisecond})
	if p := r.Report(nil, 0, name); !p.Passed || p.Media.LossPercent != 2 || p.Media.Right != 1 || p.Latency[FirstPacket].Count != 1 {
		t.Errorf("passed: %v, %+v", p.Passed, p.Media)
	}
	for _, v := range []Verdict{Wrong, Silent} {
		r := New(1)
		r.Heard(0, Sound{Verdict: v})
		if p := r.Report(nil, 0, name); p.Passed || p.Worst == nil && v == Wrong && p.Media.Wrong != 1 {
			t.Errorf("verdict %d passed: %+v", v, p.Media)
		}
	}
}
