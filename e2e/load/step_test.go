package load

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

const (
	callLength = 2300 * time.Millisecond // of echo.xml, once it is answered
	shortest   = 4 * time.Second         // that a step offers calls: some with all of them up
	patience   = 20 * time.Second        // beyond it, for the calls of a step to end
	tooSlow    = 500 * time.Millisecond  // T1
	wholeShare = 0.95                    // of the packets that must come back, and of the calls that must be offered
)

// step is one rate, and what came of it.
type step struct {
	Rate      int                `json:"calls_per_second_wanted"`
	Offered   float64            `json:"calls_per_second_offered"`
	Completed float64            `json:"calls_per_second_completed"`
	Calls     int                `json:"calls_completed"`
	Failed    int                `json:"calls_failed"`
	Causes    map[string]int     `json:"causes,omitempty"`
	P50       float64            `json:"setup_p50_ms"`
	P99       float64            `json:"setup_p99_ms"`
	Edge      usage              `json:"sallyport"`
	Asterisk  usage              `json:"asterisk"`
	SIPp      usage              `json:"sipp"`
	Machine   float64            `json:"machine_cpu_cores"` // with the kernel, and with what else ran
	Packets   map[string]float64 `json:"packets"`
	End       string             `json:"end,omitempty"` // why nothing was climbed after it
	fault     string             // the same, if calls or their sound failed
}

// usage is what one process used.
type usage struct {
	CPU    float64 `json:"cpu_cores"` // while calls were offered, and as many ended as began
	Memory int     `json:"rss_peak_bytes"`
}

func (s step) String() string {
	return fmt.Sprintf("%3d calls/s: %5.1f offered, %5.1f completed, %d failed, setup %.1f / %.1f ms %s", s.Rate, s.Offered, s.Completed, s.Failed, s.P50, s.P99, s.End)
}

// step offers calls at a rate.
func (x *ladder) step(rate int, length time.Duration) step {
	x.t.Helper()
	before, calls := x.counts(), rate*int(length/time.Second)
	bound := length + callLength + patience
	began := time.Now()
	run := x.echo("-r", strconv.Itoa(rate), "-m", strconv.Itoa(calls), "-l", strconv.Itoa(calls), "-timeout", fmt.Sprintf("%.0fs", bound.Seconds()),
		"-trace_rtt", "-rtt_freq", "1")
	w := x.watch(run, began)
	result := run.Result(bound + patience)
	took := time.Since(began)
	<-w.done
	settled := x.settles()
	s := step{Rate: rate, Calls: result.Successful, Failed: result.Failed, Causes: result.Causes, Packets: make(map[string]float64)}
	for what, n := range run.Unexpected() {
		s.Causes[what] = n
	}
	if n := calls - result.Successful - result.Failed; n > 0 {
		s.Causes["not ended when SIPp's time was over"] = n
	}
	for name, n := range x.counts() {
		n -= before[name]
		switch {
		case n == 0:
		case strings.HasPrefix(name, refused):
			s.Causes[name] = int(n)
		default:
			s.Packets[name] = n
		}
	}
	// All calls take as long, so their ends come as their beginnings did.
	offering := max(length, took-callLength).Seconds()
	s.Offered, s.Completed = float64(result.Successful+result.Failed)/offering, float64(result.Successful)/offering
	s.P50, s.P99 = percentile(run.Answers(), 50), percentile(run.Answers(), 99)
	from, to := began.Add(callLength), began.Add(length)
	s.Edge, s.Asterisk, s.SIPp = w.usage(0, from, to), w.usage(1, from, to), w.usage(2, from, to)
	s.Machine = w.machine(from, to)
	s.fault = s.faulty(calls, settled)
	s.End = cmp.Or(s.fault, s.strained())
	return s
}

// faulty tells what went wrong in a step, or nothing.
func (s step) faulty(calls int, settled bool) string {
	in, out, back := s.Packets[inward], s.Packets[outward], s.Packets[taken]
	switch {
	case s.Failed > 0 || s.Calls < calls:
		return fmt.Sprintf("%d of %d calls were completed: %s", s.Calls, calls, causes(s.Causes))
	case !settled:
		return "calls were left"
	case in < 50*float64(s.Calls) || out < wholeShare*in || back < wholeShare*in:
		return fmt.Sprintf("the edge verified %.0f packets and sent %.0f back, of which SIPp took %.0f", in, out, back)
	}
	return ""
}

// strained tells why a step is the last in which all went well, or nothing.
func (s step) strained() string {
	switch {
	case s.P99 > ms(tooSlow):
		return fmt.Sprintf("one call in a hundred took over %v to be answered", tooSlow)
	case s.Offered < wholeShare*float64(s.Rate):
		return "SIPp offered no more"
	}
	return ""
}

func causes(of map[string]int) string {
	var all []string
	for _, name := range slices.SortedFunc(maps.Keys(of), func(a, b string) int { return cmp.Or(of[b]-of[a], strings.Compare(a, b)) }) {
		all = append(all, fmt.Sprintf("%d × %s", of[name], name))
	}
	return strings.Join(all, ", ")
}

// percentile is in milliseconds, by the nearest rank.
func percentile(all []time.Duration, p int) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return ms(sorted[(len(sorted)*p+99)/100-1])
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// watcher reads what processes use until SIPp has ended.
type watcher struct {
	of   [3]*peers.Process
	seen []reading
	done chan struct{} // closed when seen is complete
}

type reading struct {
	at     time.Time
	idle   time.Duration // of the machine
	busy   [3]time.Duration
	memory [3]int
}

func (x *ladder) watch(run *peers.SIPp, began time.Time) *watcher {
	w := &watcher{of: [3]*peers.Process{x.edge.Process, x.pbx.Process, run.Process}, done: make(chan struct{})}
	go func() { // ends with SIPp; the step waits for done
		defer close(w.done)
		for run.Running() {
			r := reading{at: time.Now()}
			var err error
			if r.idle, err = peers.Idle(); err != nil {
				return
			}
			for i, p := range w.of {
				if r.busy[i], err = p.Busy(); err != nil {
					return
				}
				if r.memory[i], err = p.Resident(); err != nil { // it ended just now
					return
				}
			}
			w.seen = append(w.seen, r)
			time.Sleep(100 * time.Millisecond)
		}
	}()
	return w
}

// window are the first and the last reading in it.
func (w *watcher) window(from, to time.Time) (first, last reading) {
	for _, r := range w.seen {
		if r.at.Before(from) || r.at.After(to) {
			continue
		}
		if last = r; first.at.IsZero() {
			first = r
		}
	}
	return first, last
}

// usage is that of one process: its processors in a window, and its most memory
// in all.
func (w *watcher) usage(i int, from, to time.Time) (u usage) {
	for _, r := range w.seen {
		u.Memory = max(u.Memory, r.memory[i])
	}
	if first, last := w.window(from, to); last.at.After(first.at) {
		u.CPU = (last.busy[i] - first.busy[i]).Seconds() / last.at.Sub(first.at).Seconds()
	}
	return u
}

// machine is how many processors were busy in a window.
func (w *watcher) machine(from, to time.Time) float64 {
	first, last := w.window(from, to)
	if !last.at.After(first.at) {
		return 0
	}
	return float64(runtime.NumCPU()) - (last.idle-first.idle).Seconds()/last.at.Sub(first.at).Seconds()
}
