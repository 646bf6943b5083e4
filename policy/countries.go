package policy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

const (
	// maxCountries bounds the file, in bytes. It is kept in memory, not mapped: one
	// that is overwritten in place would end the process.
	maxCountries = 512 << 20
	// countriesEvery is how often the file is looked at.
	countriesEvery = time.Minute
)

// countries says from where in the world a source is, by a file of MaxMind's form.
type countries struct {
	file        string // empty: nobody asks
	allow, deny []string
	db          atomic.Pointer[maxminddb.Reader]
	changed     time.Time // the file's; Run's alone after New
}

func newCountries(cfg Config) (*countries, error) {
	c := &countries{file: cfg.CountriesFile, allow: cfg.CountriesAllow, deny: cfg.CountriesDeny}
	if c.file == "" {
		return c, nil
	}
	if _, err := c.reload(); err != nil {
		return nil, fmt.Errorf("policy.countries_file: %w", err)
	}
	return c, nil
}

// CheckFiles tells what is wrong with the files that the Config names.
func (c Config) CheckFiles() error {
	_, err := newCountries(c)
	return err
}

// reload reads the file if it has changed, and tells so.
func (c *countries) reload() (changed bool, err error) {
	info, err := os.Stat(c.file)
	if err != nil {
		return false, err
	}
	if info.ModTime().Equal(c.changed) {
		return false, nil
	}
	if info.Size() > maxCountries {
		return false, fmt.Errorf("read %s: over %d bytes", c.file, maxCountries)
	}
	data, err := os.ReadFile(c.file)
	if err != nil {
		return false, err
	}
	db, err := maxminddb.OpenBytes(data)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", c.file, err)
	}
	c.changed = info.ModTime()
	c.db.Store(db)
	return true, nil
}

// run takes a file that is new until ctx ends. One at fault leaves the former.
func (c *countries) run(ctx context.Context, log *slog.Logger) {
	if c.file == "" {
		return
	}
	tick := time.NewTicker(countriesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch changed, err := c.reload(); {
		case err != nil:
			log.Warn("the former countries stay", "reason", err)
		case changed:
			log.Info("countries read anew", "file", c.file)
		}
	}
}

// of is a source's country as ISO 3166 has it; empty if the file does not know.
func (c *countries) of(a netip.Addr) string {
	var record struct {
		Country struct {
			ISOCode string `maxminddb:"iso_code"`
		} `maxminddb:"country"`
	}
	if err := c.db.Load().Lookup(a).Decode(&record); err != nil {
		return ""
	}
	return record.Country.ISOCode
}

// carriers is of providers' NATs and overlay networks: who shows such an address is
// within one that we are in too (RFC 6598).
var carriers = netip.MustParsePrefix("100.64.0.0/10")

// abroad keeps out who connects from where no phones are. Addresses that belong to
// no country are those of one's own networks.
func (p *Policy) abroad(e Event) (Verdict, bool) {
	c := p.countries
	if c.file == "" || e.Source.IsPrivate() || carriers.Contains(e.Source) || e.Source.IsLoopback() || e.Source.IsLinkLocalUnicast() {
		return Verdict{}, false
	}
	country := c.of(e.Source)
	if slices.Contains(c.deny, country) || len(c.allow) > 0 && !slices.Contains(c.allow, country) {
		if country == "" {
			country = "nowhere that policy.countries_file knows"
		}
		return Verdict{Reason: fmt.Sprintf("the source is in %s", country)}, true
	}
	return Verdict{}, false
}

// countryFaults are those of the lists.
func (c Config) countryFaults() error {
	var faults []error
	for key, list := range map[string][]string{"allow": c.CountriesAllow, "deny": c.CountriesDeny} {
		for _, code := range list {
			if len(code) != 2 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
				faults = append(faults, fmt.Errorf("policy.countries_%s: %q is no country; write it like \"DE\"", key, code))
			}
		}
		if len(list) > 0 && c.CountriesFile == "" {
			faults = append(faults, fmt.Errorf("policy.countries_%s: needs policy.countries_file, to know them by", key))
		}
	}
	return errors.Join(faults...)
}
