package sipproxy

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/media"
)

// Trunk is a peer on the secure side that is no phone: another edge with its PBX, or
// any PBX or provider that speaks TLS and SRTP.
type Trunk struct {
	Name string
	// Listen is our address on the plain side that stands for the trunk: what the
	// PBX sends there goes to it, and what it sends comes from there. Not valid: it
	// shares Config.PlainAddr with the phones, and Prefixes and Domains tell what goes
	// to it.
	Listen netip.AddrPort
	// Domain is what the far end calls itself in URIs.
	Domain string
	// Prefixes are how numbers begin that go to a trunk without a Listen; of several
	// the longest. Domains are whose URIs do.
	Prefixes []string
	Domains  []string
	// Suites we accept and offer, best first; none: those of the Config, GCM first.
	Suites  []media.Suite
	Rekey   Rekey
	Account Account
}

// Rekey is when the keys of a trunk's media are changed.
type Rekey struct {
	After   time.Duration // 0: never
	Packets uint64        // of one stream; 0: never
}

// Account is who we are at a provider.
type Account struct {
	User     string
	Password string `json:"-"` // never logged
	Register bool   // outwards
	Interval time.Duration
}

// String keeps the password out of logs.
func (a Account) String() string { return a.User }

// GoString does likewise.
func (a Account) GoString() string { return a.User }

// DefaultRekey is far from any limit of SRTP, which are 2^48 packets by one key, and 2^31
// of SRTCP (RFC 3711 section 9.2).
func DefaultRekey() Rekey { return Rekey{After: 12 * time.Hour, Packets: 1 << 30} }

// DefaultRegisterInterval is how often a registration outwards is refreshed.
const DefaultRegisterInterval = 10 * time.Minute

// IsTrunkName tells whether a trunk may be called so.
func IsTrunkName(s string) bool { return trunkName.MatchString(s) }

var (
	trunkName   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	trunkPrefix = regexp.MustCompile(`^\+?[0-9*#]+$`)
	dialled     = regexp.MustCompile(`^\+?[0-9*#().-]+(;.*)?$`)
)

// Validate reports all faults at once, each with the key that it is about.
func (t Trunk) Validate() error {
	var faults []error
	fault := func(bad bool, key, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("trunk %q: %s: %s", t.Name, key, fmt.Sprintf(format, args...)))
		}
	}
	fault(!trunkName.MatchString(t.Name), "name", "is no name of a trunk; give small letters, digits and hyphens, like \"branch-2\"")
	fault(t.Listen.IsValid() && (t.Listen.Addr().IsUnspecified() || t.Listen.Port() == 0), "listen", "%s is no address that the PBX can send to", t.Listen)
	fault(!t.Listen.IsValid() && len(t.Prefixes)+len(t.Domains) == 0, "listen",
		"missing, and nothing would ever go to the trunk; give an address on the plain side, or prefixes or domains that tell what does")
	fault(t.Domain == "" || strings.ContainsAny(t.Domain, " @/<>\";"), "domain", "%q is no name; give what the far end calls itself, like \"bar.example.com\"", t.Domain)
	for _, p := range t.Prefixes {
		fault(!trunkPrefix.MatchString(p), "prefixes", "%q is nothing that a number begins with; write it like \"2\" or \"+49\"", p)
	}
	for _, d := range t.Domains {
		fault(d == "" || strings.ContainsAny(d, " @/<>\";"), "domains", "%q is no name", d)
	}
	fault(t.Rekey.After < 0 || t.Rekey.After > 0 && t.Rekey.After < time.Minute, "rekey_after", "%s is not at least 1m; 0 is never", t.Rekey.After)
	fault(t.Rekey.Packets > 0 && t.Rekey.Packets < 1000, "rekey_packets", "%d is not at least 1000; 0 is never", t.Rekey.Packets)
	a := t.Account
	fault(strings.ContainsAny(a.User, " @<>\":;"), "user", "%q is no user of a URI", a.User)
	fault(a.Register && a.User == "", "user", "missing, and register is true; give the account")
	fault(a.Register && a.Password == "", "password_file", "missing, and register is true; name a file with the account's password")
	fault(!a.Register && a.User == "" && a.Password != "", "password_file", "is set, and user is not; give the account, too")
	fault(a.Register && (a.Interval < time.Minute || a.Interval > 24*time.Hour), "register_interval", "%s is not between 1m and 24h", a.Interval)
	return errors.Join(faults...)
}

// validateTrunks reports the faults of all, and of two that do not get along.
func validateTrunks(trunks []Trunk) error {
	var faults []error
	for i, t := range trunks {
		faults = append(faults, t.Validate())
		for _, other := range trunks[:i] {
			if other.Name == t.Name {
				faults = append(faults, fmt.Errorf("trunk %q: name: is another trunk's, too; give each its own", t.Name))
			}
			if t.Listen.IsValid() && other.Listen == t.Listen {
				faults = append(faults, fmt.Errorf("trunk %q: listen: %s is trunk %q's, too; give each its own", t.Name, t.Listen, other.Name))
			}
			if t.Listen.IsValid() || other.Listen.IsValid() {
				continue
			}
			for _, p := range t.Prefixes {
				if slices.Contains(other.Prefixes, p) {
					faults = append(faults, fmt.Errorf("trunk %q: prefixes: %q is trunk %q's, too; give each its own", t.Name, p, other.Name))
				}
			}
			for _, d := range t.Domains {
				if slices.ContainsFunc(other.Domains, func(s string) bool { return strings.EqualFold(s, d) }) {
					faults = append(faults, fmt.Errorf("trunk %q: domains: %q is trunk %q's, too; give each its own", t.Name, d, other.Name))
				}
			}
		}
	}
	return errors.Join(faults...)
}

// own tells whether the PBX knows the trunk by an address of its own.
func (t Trunk) own() bool { return t.Listen.IsValid() }
