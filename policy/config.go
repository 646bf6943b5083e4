package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Config is the operator's rules.
type Config struct {
	Allow []netip.Prefix // never refused
	Deny  []netip.Prefix // always refused, unless in Allow

	MaxConnections           int     // in all; those of Allow count too, but are not refused
	MaxConnectionsPerAddress int     // at once from one source; 0: no limit
	NewConnectionsPerSecond  float64 // from one source, sustained; 0: no limit
	NewConnectionsBurst      int     // from one source, after a quiet time

	CountriesFile                 string   // of MaxMind's form; empty: countries are not looked at
	CountriesAllow, CountriesDeny []string // as ISO 3166 has them; none allowed: all but those denied

	DryRun bool // log what would be refused, and refuse nothing but what MaxConnections does

	AuthFailures              int           // of one source within AuthWindow, that ban it; 0: nothing is watched
	AuthWindow                time.Duration // in which so many are forgiven
	AuthFailuresPerConnection int           // that close it
	Sweep                     int           // users that one connection may ask for without being any
	BanTime, BanTimeMax       time.Duration // of a first ban, and of the longest; each is twice as long as that before

	Scanners []string // what scanners call themselves, or a part of it
	Calls    Calls

	OtherCallers bool           // requests may say that they are of another than the user of their credentials
	Trusted      []netip.Prefix // sources that may say who somebody is
	TrustedUsers []string       // users that may; one that ends in * is all that begin so

	Tarpit time.Duration // how long a scanner's connection is held without an answer; 0: it is closed at once
}

// Defaults suit an office of several hundred phones behind one address, all of
// which come back at once when its line does.
func Defaults() Config {
	return Config{
		MaxConnections:           20_000,
		MaxConnectionsPerAddress: 1_000,
		NewConnectionsPerSecond:  50,
		NewConnectionsBurst:      500,

		Calls: DefaultCalls(),

		AuthFailures: 10, AuthWindow: 10 * time.Minute, AuthFailuresPerConnection: 3, Sweep: 32,
		BanTime: 10 * time.Minute, BanTimeMax: 24 * time.Hour,
		Scanners: []string{"friendly-scanner", "sipvicious", "sipcli", "pplsip", "VaxSIPUserAgent", "sundayddr", "sip-scan"},
	}
}

// Validate reports every fault at once.
func (c Config) Validate() error {
	faults := []error{
		prefixFaults("policy.allow", c.Allow),
		prefixFaults("policy.deny", c.Deny),
		prefixFaults("policy.trusted", c.Trusted),
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
	return errors.Join(append(append(faults, c.watchFaults()...), c.Calls.Validate(), c.countryFaults())...)
}

// watchFaults are those of bans and scanners.
func (c Config) watchFaults() (faults []error) {
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(c.AuthFailures < 0 || c.AuthFailures > 1e6, "policy.auth_failures: is %d; give 1 to 1000000, or 0 to watch nothing", c.AuthFailures)
	fault(c.AuthWindow < time.Second || c.AuthWindow > 24*time.Hour, "policy.auth_window: is %s; give 1s to 24h", c.AuthWindow)
	fault(c.AuthFailuresPerConnection < 1, "policy.auth_failures_per_connection: is %d; give at least 1", c.AuthFailuresPerConnection)
	fault(c.Sweep < 2, "policy.sweep: is %d; give at least 2", c.Sweep)
	fault(c.BanTime < time.Second, "policy.ban_time: is %s; give at least 1s", c.BanTime)
	fault(c.BanTimeMax < c.BanTime, "policy.ban_time_max: is %s, less than policy.ban_time; give at least %s", c.BanTimeMax, c.BanTime)
	fault(c.Tarpit < 0 || c.Tarpit > 10*time.Minute, "policy.tarpit: is %s; give up to 10m, or 0s to close at once", c.Tarpit)
	for _, mark := range c.Scanners {
		fault(len(strings.TrimSpace(mark)) < 3, "policy.scanners: %q would fit any phone; give at least 3 letters", mark)
	}
	return faults
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
