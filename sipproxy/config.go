package sipproxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/sipproxy/locate"
	"github.com/sallyport/sallyport/sipproxy/transaction"
	"github.com/sallyport/sallyport/sipproxy/users"
)

// Config is what the proxy must know of its two sides.
type Config struct {
	Domain     string         // the name that phones know us by
	PublicIPs  []netip.Addr   // our addresses on the secure side, as phones see them
	PublicPort uint16         // the TLS port, as phones see it
	WSSPort    uint16         // the port of secure WebSocket, as browsers see it; 0: none
	PlainAddr  netip.AddrPort // our SIP address on the plain side
	// PBXs are where requests of phones go. Locate finds them again, if they have
	// names; nil: they have none.
	PBXs   []locate.Server
	Locate func(context.Context) ([]locate.Server, error)

	// CheckInterval is how often each PBX is asked whether it is there; 0: never,
	// and it is taken to be.
	CheckInterval time.Duration

	Inside []string // further names and addresses of the plain side, which phones must not learn

	// PBXDomain is what the PBX calls the domain that phones call Domain; empty: the
	// same.
	PBXDomain string

	// Path gives the PBX the phones' own contacts and a Path to them (RFC 3327).
	Path bool

	// SourceHeader tells the PBX where a phone's request came from; empty: it is not told.
	SourceHeader string

	// Secret keys the tokens that stand for phones at the PBX. It must outlive
	// a restart, or every phone leaves a stale contact behind. 32 bytes.
	Secret []byte

	// Suites we accept and offer, best first.
	Suites []media.Suite

	// RefreshInterval is how often the PBX sees a registration refreshed, and
	// how long it is asked to keep one; 0: as the phones say.
	RefreshInterval time.Duration

	// FlowTimer is how often phones that know of it (RFC 5626) are to say
	// something on their connection; 0: they are not told.
	FlowTimer time.Duration

	// AnswerQualify has us answer the PBX's OPTIONS for a phone whose connection
	// is there, instead of the phone.
	AnswerQualify bool

	// Requests bounds what waits for its answer.
	Requests transaction.Limits

	// Accounts are the edge's own users; nil: there are none. AccountsRequired lets
	// nobody else in, AccountsFor nobody else of the names that match; nil: no name.
	Accounts         *users.Store
	AccountsRequired bool
	AccountsFor      *regexp.Regexp

	Inbound Inbound

	Trunks []Trunk

	// ShowUsers lets the PBX's answers tell which users there are.
	ShowUsers bool

	RingTimeout time.Duration // timer C: an INVITE that rings longer is given up; over 3 min (RFC 3261 section 16.6)
}

// Defaults returns a Config with everything set that has a default.
func Defaults() Config {
	return Config{
		PublicPort: 5061,
		Suites: []media.Suite{ // GCM first: it costs a fifth of AES_CM with HMAC, and is the stronger
			media.AEADAES128GCM, media.AEADAES256GCM,
			media.AESCM128HMACSHA180, media.AESCM256HMACSHA180,
			media.AESCM128HMACSHA132, media.AESCM256HMACSHA132,
		},
		FlowTimer:     2 * time.Minute,
		Requests:      transaction.DefaultLimits(),
		RingTimeout:   185 * time.Second,
		Inbound:       DefaultInbound(),
		CheckInterval: 10 * time.Second,
	}
}

// fitting tells what is wrong with the addresses of PBXs.
func (c Config) fitting(servers []locate.Server) error {
	if len(servers) == 0 {
		return errors.New("missing")
	}
	var faults []error
	for i, s := range servers {
		switch {
		case !s.Addr.IsValid() || s.Addr.Port() == 0:
			faults = append(faults, fmt.Errorf("%s has no address or no port", s.Addr))
		case c.PlainAddr.IsValid() && s.Addr.Addr().Is4() != c.PlainAddr.Addr().Is4():
			faults = append(faults, fmt.Errorf("%s and edge.plain_ip %s are not of one IP version", s.Addr, c.PlainAddr.Addr()))
		case slices.ContainsFunc(servers[:i], func(each locate.Server) bool { return each.Addr == s.Addr }):
			faults = append(faults, fmt.Errorf("%s is there twice", s.Addr))
		}
	}
	return errors.Join(faults...)
}

// Validate reports all faults at once, each with the key that it is about.
func (c Config) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(c.Domain == "", "edge.domain: missing; set the name that phones register at")
	fault(len(c.PublicIPs) == 0, "edge.public_ip: missing; set the address that phones reach")
	for _, ip := range c.PublicIPs {
		fault(!ip.IsValid() || ip.IsUnspecified(), "edge.public_ip: %s is no address that a phone can reach", ip)
	}
	fault(c.PublicPort == 0, "sip.tls_listen: port missing")
	fault(!c.PlainAddr.IsValid() || c.PlainAddr.Addr().IsUnspecified() || c.PlainAddr.Port() == 0,
		"sip.plain_listen: %s is no address that the PBX can answer to", c.PlainAddr)
	if err := c.fitting(c.PBXs); err != nil {
		faults = append(faults, fmt.Errorf("pbx.address: %w", err))
	}
	fault(c.CheckInterval != 0 && (c.CheckInterval < patience || c.CheckInterval > time.Hour),
		"pbx.check_interval: %s is not between %s and 1h; 0 is never", c.CheckInterval, patience)
	for _, name := range c.Inside {
		fault(strings.Trim(name, "[]") == "" || strings.ContainsAny(name, " @/<>\""), "pbx.names: %q is no name or address", name)
		fault(strings.EqualFold(name, c.Domain), "pbx.names: %s is edge.domain, by which phones know us", name)
		ip, err := netip.ParseAddr(strings.Trim(name, "[]"))
		fault(err == nil && slices.Contains(c.PublicIPs, ip), "pbx.names: %s is an edge.public_ip, by which phones know us", name)
	}
	fault(strings.ContainsAny(c.PBXDomain, " @/<>\"[]:;"), "pbx.domain: %q is no name", c.PBXDomain)
	fault(c.SourceHeader != "" && !isHeaderName(c.SourceHeader), "pbx.source_header: %q is no name that begins with X-", c.SourceHeader)
	fault(len(c.Secret) < 32, "edge.state_dir: the token secret has %d bytes, not 32", len(c.Secret))
	fault(len(c.Suites) == 0, "media.suites: empty; name at least one SRTP suite")
	for i, s := range c.Suites {
		fault(slices.Contains(c.Suites[:i], s), "media.suites: %s is there twice; name it where it is preferred", s)
	}
	fault(c.WSSPort != 0 && len(c.Suites) > 0 && !slices.ContainsFunc(c.Suites, media.Suite.DTLS),
		"media.suites: has none that browsers know; add AEAD_AES_128_GCM or AES_CM_128_HMAC_SHA1_80, or leave out sip.wss_listen")
	fault(c.RefreshInterval != 0 && (c.RefreshInterval < time.Minute || c.RefreshInterval > maxGranted*time.Second),
		"sip.refresh_interval: %s is not between 1m and 24h; 0 lets each refresh through", c.RefreshInterval)
	fault(c.FlowTimer != 0 && (c.FlowTimer < 20*time.Second || c.FlowTimer > time.Hour),
		"sip.flow_timer: %s is not between 20s and 1h; 0 names none to phones", c.FlowTimer)
	fault(c.Requests.PerFlow <= 0, "sip.max_requests: %d is not above 0", c.Requests.PerFlow)
	fault(c.Requests.Total <= 0, "sip.max_requests_in_all: %d is not above 0", c.Requests.Total)
	c.Inbound.faults(fault)
	faults = append(faults, validateTrunks(c.Trunks))
	fault(c.RingTimeout <= 3*time.Minute, "sip.ring_timeout: %s is not over 3m (RFC 3261 section 16.6)", c.RingTimeout)
	return errors.Join(faults...)
}
