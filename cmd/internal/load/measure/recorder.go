package measure

import (
	"cmp"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Metric names a latency.
type Metric string

// The latencies. All but Connect, Resumed, Cancelled and FirstPacket begin when the request
// was due.
const (
	Connect     Metric = "connect"         // from the start of TCP to the end of TLS, or of the WebSocket's upgrade
	Resumed     Metric = "connect_resumed" // those of Connect that resumed a TLS session
	Register    Metric = "register"        // to the 200, a challenge and a connection included
	Ringing     Metric = "invite_180"      // to the first 180 or 183
	Answered    Metric = "invite_200"      // to the 200, a challenge included
	Hangup      Metric = "bye_200"         // to the 200
	Change      Metric = "reinvite_200"    // to the 200 that holds or resumes
	Options     Metric = "options_200"
	Cancelled   Metric = "cancel_487"   // from the CANCEL to the 487 of the INVITE
	FirstPacket Metric = "first_packet" // from the 200, or from the answer to it, to the first packet that decrypts
	Lag         Metric = "lag"          // from due until the generator came to it: its own
	Wait        Metric = "wait"         // from due until a phone was free for it; they are busy with talk, or with a server that is slow
)

// Operation names what a phone was to do.
type Operation string

// Counts are of one operation.
type Counts struct {
	Due       int            `json:"due"`
	Done      int            `json:"done"`
	Failed    int            `json:"failed"`
	GivenUp   int            `json:"given_up"`        // with the run, before they were either
	PerSecond float64        `json:"done_per_second"` // while there were arrivals, or from the first to the last that was done if that took longer
	Causes    map[string]int `json:"causes,omitempty"`
	First     string         `json:"first_failure,omitempty"` // at full length

	first, last time.Time // that was done
}

// Recorder takes all that is measured.
type Recorder struct {
	start  time.Time
	phones []phone
	mu     sync.Mutex // guards what follows, and phones
	total  map[Metric]*hdrhistogram.Histogram
	second map[Metric]*hdrhistogram.Histogram // of the current second
	counts map[Operation]*Counts
	now    Point // of the current second
	series []Point
	sound  soundTotals
}

// phone is what one of them saw.
type phone struct {
	took           map[Metric]*rough
	failed, silent int
}

// New makes a Recorder for some phones; the clock starts.
func New(phones int) *Recorder {
	return &Recorder{
		start: time.Now(), phones: make([]phone, phones), counts: make(map[Operation]*Counts),
		total: make(map[Metric]*hdrhistogram.Histogram), second: make(map[Metric]*hdrhistogram.Histogram),
		sound: newSoundTotals(),
	}
}

// of are an operation's counts. r.mu is held.
func (r *Recorder) of(op Operation) *Counts {
	c := r.counts[op]
	if c == nil {
		c = &Counts{Causes: make(map[string]int)}
		r.counts[op] = c
	}
	return c
}

// Due counts one that is to happen.
func (r *Recorder) Due(op Operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(op).Due++
	r.now.Due++
}

// Done counts one that went well.
func (r *Recorder) Done(op Operation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.of(op)
	c.Done++
	r.now.Done++
	if c.last = time.Now(); c.Done == 1 {
		c.first = c.last
	}
}

// Failed counts one that did not, of a phone, by its cause and at full length; -1
// is no phone in particular.
func (r *Recorder) Failed(op Operation, phone int, cause, full string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.of(op)
	c.Failed++
	r.now.Failed++
	c.First = cmp.Or(c.First, full)
	if _, known := c.Causes[cause]; !known && len(c.Causes) >= maxCauses {
		cause = "other"
	}
	if c.Causes[cause]++; c.Causes[cause] == 1 {
		r.now.News = append(r.now.News, string(op)+" failed: "+cmp.Or(full, cause))
	}
	if phone >= 0 {
		r.phones[phone].failed++
	}
}

const maxCauses = 64 // distinct ones of an operation

// Took takes a latency of a phone; -1 is none in particular.
func (r *Recorder) Took(m Metric, phone int, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	total, second := r.total[m], r.second[m]
	if total == nil {
		total, second = fine(), swift()
		r.total[m], r.second[m] = total, second
	}
	record(total, d)
	record(second, d)
	if phone < 0 {
		return
	}
	p := &r.phones[phone]
	if p.took == nil {
		p.took = make(map[Metric]*rough)
	}
	if p.took[m] == nil {
		p.took[m] = new(rough)
	}
	p.took[m].record(d)
}

// State is what there is at a moment.
type State struct {
	Connected  int `json:"connected"`
	Registered int `json:"registered"`
	Calls      int `json:"calls"`
}

// Point is one second of a run.
type Point struct {
	Second  int                  `json:"second"` // at whose end it is; the last one may be cut short
	Due     int                  `json:"due"`
	Done    int                  `json:"done"`
	Failed  int                  `json:"failed"`
	News    []string             `json:"-"` // the first failure of each cause, at full length
	State                        // at its end
	Latency map[Metric]Quantiles `json:"latency_ms,omitempty"`
}

// Pending tells whether anything happened in the second that has begun.
func (r *Recorder) Pending() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.second {
		if h.TotalCount() > 0 {
			return true
		}
	}
	return r.now.Due+r.now.Done+r.now.Failed > 0
}

// Tick ends a second, and returns it.
func (r *Recorder) Tick(s State) Point {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.now
	p.State, p.Latency = s, make(map[Metric]Quantiles)
	for m, h := range r.second {
		if h.TotalCount() > 0 {
			p.Latency[m] = quantiles(h, unit)
			h.Reset()
		}
	}
	p.Second = len(r.series) + 1
	if len(r.series) < maxPoints {
		r.series = append(r.series, p)
		r.series[len(r.series)-1].News = nil // they are among the causes
	}
	r.now = Point{}
	return p
}

const maxPoints = 24 * 3600
