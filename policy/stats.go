package policy

// Stats is a snapshot for the operator.
type Stats struct {
	Connections int // open now
	Sources     int // remembered now
	Rules       []RuleStats
}

// RuleStats counts the verdicts one rule gave since the start.
type RuleStats struct {
	Rule    string // its configuration key; "none": no rule spoke
	Allowed uint64
	Refused uint64
}

// Stats returns the counts as they are now.
func (p *Policy) Stats() Stats {
	var s Stats
	for _, r := range p.rules {
		s.Rules = append(s.Rules, RuleStats{Rule: r.key, Allowed: r.allowed.Load(), Refused: r.refused.Load()})
	}
	s.Rules = append(s.Rules, RuleStats{Rule: "none", Allowed: p.silent.Load(), Refused: p.withoutSource.Load()})
	p.mu.Lock()
	defer p.mu.Unlock()
	s.Connections = p.connections
	s.Sources = len(p.sources.byPrefix)
	return s
}
