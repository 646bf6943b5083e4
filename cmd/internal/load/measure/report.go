package measure

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Report is all of a run. It is also the file that is written.
type Report struct {
	Run        any                   `json:"run"` // what was asked for
	Started    time.Time             `json:"started"`
	Seconds    float64               `json:"seconds"`
	Arrivals   float64               `json:"arrival_seconds"` // of which there were arrivals
	Ended      bool                  `json:"ended"`           // before its time
	Passed     bool                  `json:"passed"`          // no operation and no sound failed, and some were done
	Operations map[Operation]*Counts `json:"operations"`
	Latency    map[Metric]Quantiles  `json:"latency_ms"`
	Media      *Media                `json:"media,omitempty"`
	Storm      *Storm                `json:"storm,omitempty"`
	Worst      []Worst               `json:"worst_phones,omitempty"`
	Generator  Generator             `json:"generator"`
	Series     []Point               `json:"series"`
}

// Media is the sound of all calls, each end of one counted.
type Media struct {
	Ends        int        `json:"ends"`
	Sent        int        `json:"packets_sent"`
	Received    int        `json:"packets_received"`
	Lost        int        `json:"packets_lost"`
	LossPercent float64    `json:"loss_percent"`
	Bad         int        `json:"packets_unverified"`
	Jitter      Quantiles  `json:"jitter_ms"`
	Right       int        `json:"content_right"`
	Wrong       int        `json:"content_wrong"`
	Silent      int        `json:"content_silent"`
	Unjudged    int        `json:"content_unjudged"`
	Early       EarlyMedia `json:"early"`
	Reports     Reports    `json:"rtcp"`
}

// EarlyMedia is what callers heard before the answer, of calls that were answered. It
// counts here alone.
type EarlyMedia struct {
	Ends     int `json:"ends"` // of calls with a description before the answer, or where some sound was to be
	Received int `json:"packets_received"`
	Lost     int `json:"packets_lost"`
	Bad      int `json:"packets_unverified"`
	Right    int `json:"content_right"`
	Wrong    int `json:"content_wrong"`
	Silent   int `json:"content_silent"`
	Unjudged int `json:"content_unjudged"`
}

// Reports are RTCP's of all calls: what the other ends tell of what they hear.
type Reports struct {
	Sent      int       `json:"sent"`
	Received  int       `json:"received"`
	Bad       int       `json:"unverified"`
	Told      int       `json:"ends_told"` // ends of calls that were told of their own sound
	Lost      int       `json:"packets_lost"`
	Jitter    Quantiles `json:"jitter_ms"`
	RoundTrip Quantiles `json:"round_trip_ms"`
}

// Storm is how the phones came in all at once.
type Storm struct {
	Registered int     `json:"registered"`
	Attempts   int     `json:"attempts"`
	HalfAfter  float64 `json:"half_after_seconds"` // 0: never
	AllAfter   float64 `json:"all_after_seconds"`  // 0: not all were
}

// Worst is a phone that had it worse than others.
type Worst struct {
	Phone   string               `json:"phone"`
	Failed  int                  `json:"failed"`
	Unheard int                  `json:"content_failed"`
	Latency map[Metric]Quantiles `json:"latency_ms"`
}

// Generator is what the run cost this process.
type Generator struct {
	CPUSeconds    float64 `json:"cpu_seconds"`
	PeakRSS       int64   `json:"peak_rss_bytes"`
	BytesPerPhone int64   `json:"bytes_per_phone"` // registered and idle, of resident memory; 0: not measured
	Goroutines    int     `json:"peak_goroutines"`
}

// Report tells what was measured so far; arrivals is how long there were any, and
// name gives each phone its name.
func (r *Recorder) Report(run any, arrivals time.Duration, name func(int) string) *Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &Report{
		Run: run, Started: r.start, Seconds: time.Since(r.start).Seconds(), Arrivals: arrivals.Seconds(), Passed: true,
		Operations: make(map[Operation]*Counts), Latency: make(map[Metric]Quantiles), Series: slices.Clone(r.series),
	}
	for op, c := range r.counts {
		own := *c
		own.Causes = maps.Clone(c.Causes)
		own.GivenUp = max(0, c.Due-c.Done-c.Failed) // a lost connection fails, and never was due
		if while := max(arrivals, c.last.Sub(c.first)); while > 0 {
			own.PerSecond = float64(c.Done) / while.Seconds()
		}
		p.Operations[op] = &own
		p.Passed = p.Passed && c.Failed == 0
	}
	for m, h := range r.total {
		p.Latency[m] = quantiles(h, unit)
	}
	if t := r.sound; t.calls > 0 {
		p.Media = &Media{
			Ends: t.calls, Sent: t.sent, Received: t.received, Lost: t.lost, Bad: t.bad, Jitter: quantiles(t.jitter, unit),
			Right: t.verdicts[Right], Wrong: t.verdicts[Wrong], Silent: t.verdicts[Silent], Unjudged: t.verdicts[Unjudged],
			Early: t.early, Reports: t.control.report(),
		}
		if all := t.received + t.lost; all > 0 {
			p.Media.LossPercent = 100 * float64(t.lost) / float64(all)
		}
		p.Passed = p.Passed && p.Media.Wrong+p.Media.Silent+t.early.Wrong+t.early.Silent == 0
	}
	p.Worst = r.worst(name)
	return p
}

const worstPhones = 10 // that are listed

// worst lists the phones with the most failures, and among equals those with the
// longest wait. r.mu is held.
func (r *Recorder) worst(name func(int) string) (list []Worst) {
	type of struct {
		phone int
		max   time.Duration
	}
	var all []of
	for i, p := range r.phones {
		o := of{phone: i}
		for _, t := range p.took {
			o.max = max(o.max, t.max)
		}
		if len(p.took) > 0 || p.failed > 0 {
			all = append(all, o)
		}
	}
	bad := func(o of) int { return r.phones[o.phone].failed + r.phones[o.phone].silent }
	slices.SortFunc(all, func(a, b of) int { return cmp.Or(cmp.Compare(bad(b), bad(a)), cmp.Compare(b.max, a.max)) })
	for _, o := range all[:min(len(all), worstPhones)] {
		p := r.phones[o.phone]
		w := Worst{Phone: name(o.phone), Failed: p.failed, Unheard: p.silent, Latency: make(map[Metric]Quantiles)}
		for m, t := range p.took {
			q := quantiles(t.h, roughUnit)
			q.Max = Milliseconds(t.max)
			q.P50, q.P90, q.P99, q.P999 = min(q.P50, q.Max), min(q.P90, q.Max), min(q.P99, q.Max), min(q.P999, q.Max) // those are rough
			w.Latency[m] = q
		}
		list = append(list, w)
	}
	return list
}
