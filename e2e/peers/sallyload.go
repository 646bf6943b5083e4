package peers

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Load is what a run of sallyload reports, of what tests look at.
type Load struct {
	Exit       int
	Started    time.Time
	Passed     bool `json:"passed"`
	Operations map[string]struct {
		Due, Done, Failed int
		Causes            map[string]int
		First             string `json:"first_failure"`
	} `json:"operations"`
	Latency map[string]struct {
		Count    int
		P50, P99 float64
	} `json:"latency_ms"`
	Media struct {
		Ends     int
		Sent     int `json:"packets_sent"`
		Received int `json:"packets_received"`
		Lost     int `json:"packets_lost"`
		Bad      int `json:"packets_unverified"`
		Right    int `json:"content_right"`
		Wrong    int `json:"content_wrong"`
		Silent   int `json:"content_silent"`
		Early    struct {
			Ends  int
			Right int `json:"content_right"`
			Wrong int `json:"content_wrong"`
		} `json:"early"`
		RTCP struct {
			Sent, Received int
			Bad            int                 `json:"unverified"`
			Told           int                 `json:"ends_told"`
			Lost           int                 `json:"packets_lost"`
			RoundTrip      struct{ Count int } `json:"round_trip_ms"`
		} `json:"rtcp"`
	} `json:"media"`
	Storm struct {
		Registered, Attempts int
		HalfAfter            float64 `json:"half_after_seconds"`
		AllAfter             float64 `json:"all_after_seconds"`
	} `json:"storm"`
	Generator struct {
		CPU float64 `json:"cpu_seconds"`
	}
	Series []struct{ Second, Due, Done, Failed, Calls int }
}

// Sallyload is a run of it.
type Sallyload struct {
	*Process
	lab    *Lab
	report string
}

// StartSallyload runs a command of it on a host.
func StartSallyload(h *Host, args ...string) *Sallyload {
	l := h.lab
	l.t.Helper()
	s := &Sallyload{lab: l, report: filepath.Join(l.Dir, fmt.Sprintf("load-%d.json", len(l.processes())))}
	s.Process = l.start("sallyload", h.Command(built(l.t, "SALLYLOAD_BIN", "sallyload"), append(args, "--json", s.report)...))
	return s
}

// Result waits for the run to end by itself, and reads its report.
func (s *Sallyload) Result(timeout time.Duration) Load {
	s.lab.t.Helper()
	var r Load
	exit, err := s.Wait(timeout)
	if err != nil {
		s.lab.t.Fatal(err)
	}
	b, err := os.ReadFile(s.report)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		said, _ := os.ReadFile(s.Log)
		s.lab.t.Fatalf("read sallyload's report: %v; it ended with %d and said\n%s", err, exit, said)
	}
	r.Exit = exit
	return r
}
