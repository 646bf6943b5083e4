package policy

import (
	"errors"
	"fmt"
	"net/netip"
)

// Config is the operator's rules.
type Config struct {
	Allow []netip.Prefix // never refused
	Deny  []netip.Prefix // always refused, unless in Allow

	MaxConnections           int     // in all; those of Allow count too, but are not refused
	MaxConnectionsPerAddress int     // at once from one source; 0: no limit
	NewConnectionsPerSecond  float64 // from one source, sustained; 0: no limit
	NewConnectionsBurst      int     // from one source, after a quiet time
}

// Defaults suit an office of several hundred phones behind one address, all of
// which come back at once when its line does.
func Defaults() Config {
	return Config{
		MaxConnections:           20_000,
		MaxConnectionsPerAddress: 1_000,
		NewConnectionsPerSecond:  50,
		NewConnectionsBurst:      500,
	}
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	faults := []error{
		prefixFaults("policy.allow", c.Allow),
		prefixFaults("policy.deny", c.Deny),
	}
	if c.MaxConnections < 1 {
		faults = append(faults, fmt.Errorf("policy.max_connections: is %d; give at least 1", c.MaxConnections))
	}
	if c.MaxConnectionsPerAddress < 0 {
		faults = append(faults, fmt.Errorf("policy.max_connections_per_address: is %d; give 1 or more, or 0 for no limit", c.MaxConnectionsPerAddress))
	}
	if !(c.NewConnectionsPerSecond >= 0 && c.NewConnectionsPerSecond <= 1e6) { // NaN fails too
		faults = append(faults, fmt.Errorf("policy.new_connections_per_second: is %v; give 0 (no limit) to 1000000", c.NewConnectionsPerSecond))
	}
	if c.NewConnectionsBurst < 1 {
		faults = append(faults, fmt.Errorf("policy.new_connections_burst: is %d; give at least 1", c.NewConnectionsBurst))
	}
	return errors.Join(faults...)
}

func prefixFaults(key string, prefixes []netip.Prefix) error {
	var faults []error
	for _, p := range prefixes {
		switch {
		case !p.IsValid():
			faults = append(faults, fmt.Errorf("%s: %w; write addresses as 192.0.2.0/24 or 2001:db8::/32", key, ErrPrefix))
		case p.Addr().Is4In6():
			faults = append(faults, fmt.Errorf("%s: %s is %w; write it as IPv4", key, p, ErrPrefix))
		case p != p.Masked():
			faults = append(faults, fmt.Errorf("%s: %s is %w, it has bits beyond its length; write %s, or %s/%d for the one address",
				key, p, ErrPrefix, p.Masked(), p.Addr(), p.Addr().BitLen()))
		}
	}
	return errors.Join(faults...)
}
