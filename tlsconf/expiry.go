package tlsconf

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

const dayLong = 24 * time.Hour

// ending is the threshold that the time left is below, in days: 30, 14, 7, 1, or
// 0 when none is left. It is far if there is time. A certificate that lives for
// days is always near its end: no threshold is above half of its life.
func (d Description) ending(now time.Time) int {
	left, life := d.NotAfter.Sub(now), d.NotAfter.Sub(d.NotBefore)
	if left <= 0 {
		return 0
	}
	most := life / 2
	if d.ACME != "" { // is renewed after two thirds: before it should have come, there is nothing to tell
		most = life / 4
	}
	for _, days := range []int{1, 7, 14, 30} {
		if t := time.Duration(days) * dayLong; left <= t && t <= most {
			return days
		}
	}
	return far
}

const far = 1 << 30

// expiryWarning is what an operator must know of the time left, or still to come, or
// nothing.
func (d Description) expiryWarning(now time.Time) string {
	step, what, then := "renew it; the new files are taken without a restart", "the certificate", "phones that check it no longer connect"
	switch {
	case d.client != "":
		step, what, then = "put the CA's present one into "+d.File, d.client, "phones with certificates of it are refused when they connect"
	case d.ACME != "":
		step = "it should have been renewed; the log tells why the CA gave none"
	case d.SelfSigned:
		step = "run `sallyport cert self-signed` and give phones the new file"
	}
	if now.Before(d.NotBefore) {
		return fmt.Sprintf("%s is valid only from %s: check this machine's clock", what, d.NotBefore.UTC().Format(time.RFC3339))
	}
	switch d.ending(now) {
	case far:
		return ""
	case 0:
		return fmt.Sprintf("%s has expired, and %s: %s", what, then, step)
	}
	return fmt.Sprintf("%s expires in %s: %s", what, days(d.NotAfter.Sub(now)), step)
}

// days is a time in whole days, for a person.
func days(t time.Duration) string {
	switch n := int(t / dayLong); n {
	case 0:
		return "less than a day"
	case 1:
		return "1 day"
	default:
		return fmt.Sprintf("%d days", n)
	}
}

// announce tells that a certificate is in force, and what is to be known of it.
// The caller holds the lock.
func (s *Source) announce(d Description, now time.Time) {
	s.expiry[d.Fingerprint] = d.ending(now)
	s.log.Info("certificate in force", "certificate", d)
	for _, w := range d.Warnings {
		s.log.Warn("certificate needs attention", "file", d.File, "reason", w)
	}
}

// remind warns once at each threshold that a certificate in force has come below.
// The caller holds the lock.
func (s *Source) remind(now time.Time) {
	told := make(map[string]int) // without those that are no longer in force
	all := make([]Description, 0, 4)
	for _, p := range s.current.Load().pairs {
		all = append(all, p.desc)
	}
	if a := s.clients.Load(); a != nil {
		all = append(all, a.endings()...)
	}
	for _, d := range all {
		at, before := d.ending(now), far
		if t, ok := s.expiry[d.Fingerprint]; ok {
			before = t
		}
		told[d.Fingerprint] = min(at, before)
		if at >= before {
			continue
		}
		level := slog.LevelWarn
		if at <= 1 {
			level = slog.LevelError
		}
		s.log.Log(context.Background(), level, "certificate needs attention", "file", d.File, "reason", d.expiryWarning(now), "not_after", d.NotAfter)
	}
	s.expiry = told
}

// Stats are counts and times for metrics.
type Stats struct {
	Certificates []Lifetime // in the order of the Config
	Renewed      uint64     // certificates taken since the start
	Refused      uint64     // those that were not, and the former one stayed
	ACME         *ACMEStats // nil without
}

// Lifetime is one certificate in force.
type Lifetime struct {
	File string        // where it is
	Name string        // the first it carries
	Key  string        // kind and size
	Left time.Duration // negative once it has expired
}

// Stats returns a snapshot.
func (s *Source) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Stats{Renewed: s.renewed, Refused: s.refused}
	for _, p := range s.current.Load().pairs {
		d := p.desc
		out.Certificates = append(out.Certificates, Lifetime{File: d.File, Name: d.holderList()[0], Key: d.Key, Left: time.Until(d.NotAfter)})
	}
	if s.renewer != nil {
		out.ACME = s.renewer.stats()
	}
	return out
}
