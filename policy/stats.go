package policy

// Stats is a snapshot for the operator.
type Stats struct {
	Connections int // open now
	Sources     int // remembered now
	Rules       []RuleStats

	Bans     int               // that hold now
	Banned   uint64            // since the start
	Watched  map[string]int    // connections, sources, users and devices remembered now
	Outcomes map[string]uint64 // what became of what was allowed
}

// RuleStats counts the verdicts one rule gave since the start.
type RuleStats struct {
	Rule    string // its configuration key; "none": no rule spoke
	Allowed uint64
	Refused uint64
	Spared  uint64 // what a dry run would have refused
}

// Stats returns the counts as they are now.
func (p *Policy) Stats() Stats {
	var s Stats
	for _, r := range p.rules {
		s.Rules = append(s.Rules, RuleStats{Rule: r.key, Allowed: r.allowed.Load(), Refused: r.refused.Load(), Spared: r.spared.Load()})
	}
	s.Rules = append(s.Rules, RuleStats{Rule: "none", Allowed: p.silent.Load(), Refused: p.withoutSource.Load()})
	s.Bans, s.Banned = p.bans.active(p.now())
	s.Watched, s.Outcomes = p.watch.stats()
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Connections = p.connections
	s.Sources = len(p.sources.byPrefix)
	return s
}

func (w *watch) stats() (watched map[string]int, outcomes map[string]uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	watched = map[string]int{"connections": len(w.flows), "sources": w.sources.len(), "users": w.users.len(), "devices": w.devices.len()}
	outcomes = make(map[string]uint64, whats)
	for what, n := range w.outcomes {
		outcomes[What(what).String()] = n
	}
	return watched, outcomes
}
