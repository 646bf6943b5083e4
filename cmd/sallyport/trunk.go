package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/admin"
	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/sipproxy"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/locate"
	"github.com/sallyport/sallyport/tlsconf"
)

// trunkConfig is one [[trunk]].
type trunkConfig struct {
	Name string `toml:"name"`

	Peer        hostPort `toml:"peer"` // empty: the peer dials
	Dial        bool     `toml:"dial"`
	Connections int      `toml:"connections"`

	Identity []string `toml:"identity"`
	CA       string   `toml:"ca"`
	CRL      string   `toml:"crl"`
	Pin      []string `toml:"pin"`

	Listen   optionalAddr `toml:"listen"`
	Prefixes []string     `toml:"prefixes"`
	Domains  []string     `toml:"domains"`
	Domain   string       `toml:"domain"`

	SRTP         []string      `toml:"srtp"` // empty: media.suites, GCM first
	RekeyAfter   time.Duration `toml:"rekey_after"`
	RekeyPackets int           `toml:"rekey_packets"`

	Register         bool          `toml:"register"`
	User             string        `toml:"user"`
	PasswordFile     string        `toml:"password_file"`
	RegisterInterval time.Duration `toml:"register_interval"`
}

// maxTrunkConnections bounds what one peer is dialled by.
const maxTrunkConnections = 16

// preset sets what has a default.
func (t *trunkConfig) preset() {
	rekey := sipproxy.DefaultRekey()
	*t = trunkConfig{
		Dial: true, Connections: 1,
		RekeyAfter: rekey.After, RekeyPackets: int(rekey.Packets),
		RegisterInterval: sipproxy.DefaultRegisterInterval,
	}
}

func (t trunkConfig) key(name string) string { return fmt.Sprintf("trunk %q: %s", t.Name, name) }

// isNamed tells whether there is a name by which faults can be told.
func (t trunkConfig) isNamed() bool { return isElementName(t.Name) }

func (c Config) validateTrunks(d *document) {
	for i, t := range c.Trunks {
		if !t.isNamed() {
			d.add(fmt.Sprintf("trunk[%d]: name", i+1), "is missing, or no name; give each trunk one, like \"branch-2\"")
			continue
		}
		if t.Connections < 1 || t.Connections > maxTrunkConnections {
			d.add(t.key("connections"), fmt.Sprintf("%d is not between 1 and %d", t.Connections, maxTrunkConnections))
		}
		if t.RekeyPackets < 0 {
			d.add(t.key("rekey_packets"), "is negative; 0 is never")
		}
		if t.Register && (!t.Dial || t.Peer.Host == "") {
			d.add(t.key("register"), "is true, and peer is not dialled; a registration outwards needs peer, and dial = true")
		}
	}
}

// known is how tlsconf knows the peer.
func (t trunkConfig) known() tlsconf.Trunk {
	return tlsconf.Trunk{Name: t.Name, Peer: t.Peer.Host, Identity: t.Identity, CA: t.CA, CRL: t.CRL, Pins: t.Pin}
}

// trunkPlan is what build needs of a trunk.
type trunkPlan struct {
	name        string
	peer        hostPort // empty: it is not dialled
	connections int
	listen      netip.AddrPort // not valid: it has no socket of its own
}

// planTrunks adds the trunks to the plan.
func (p *plan) planTrunks(c Config, d *document) {
	for _, t := range c.Trunks {
		if !t.isNamed() {
			continue // said already
		}
		plan := trunkPlan{name: t.Name, connections: t.Connections}
		if t.Dial {
			plan.peer = t.Peer
		}
		if t.Listen.Port != 0 {
			plan.listen = t.Listen.on(p.plain.Addr())
			p.keepListenApart(t, plan.listen, c.Media.PlainPorts, d)
		}
		p.trunks = append(p.trunks, plan)
		p.sip.Trunks = append(p.sip.Trunks, t.routed(plan.listen, p.sip.Suites, d))
	}
}

// keepListenApart finds what else wants a trunk's address.
func (p *plan) keepListenApart(t trunkConfig, at netip.AddrPort, ports portRange, d *document) {
	switch {
	case !isLocal(at.Addr()):
		d.add(t.key("listen"), fmt.Sprintf("%s is no address of this machine; give one that is, or a port alone", at.Addr()))
	case at == p.plain:
		d.add(t.key("listen"), fmt.Sprintf("%s is sip.plain_listen's; give another port", at))
	case at.Addr() == p.plain.Addr() && at.Port() >= ports.First && at.Port() <= ports.Last:
		d.add(t.key("listen"), fmt.Sprintf("port %d is one of media.plain_ports, %s; keep the two apart", at.Port(), ports))
	case slices.ContainsFunc(p.pbxs, func(s locate.Server) bool { return s.Addr == at }):
		d.add(t.key("listen"), fmt.Sprintf("%s is the PBX's own address; give another port", at))
	}
}

// routed is how sipproxy has the trunk.
func (t trunkConfig) routed(listen netip.AddrPort, suites []media.Suite, d *document) sipproxy.Trunk {
	out := sipproxy.Trunk{
		Name: t.Name, Listen: listen, Prefixes: t.Prefixes, Domains: t.Domains,
		Rekey:   sipproxy.Rekey{After: t.RekeyAfter, Packets: uint64(max(t.RekeyPackets, 0))},
		Account: sipproxy.Account{User: t.User, Register: t.Register, Interval: t.RegisterInterval},
	}
	out.Domain = t.Domain
	if out.Domain == "" && len(t.Identity) > 0 {
		out.Domain = t.Identity[0]
	}
	out.Domain = cmp.Or(out.Domain, t.Peer.Host, t.Name)
	for _, name := range t.SRTP {
		suite, ok := media.ParseSuite(name)
		if !ok {
			d.add(t.key("srtp"), fmt.Sprintf("%q is no suite we speak; see `sallyport help config` for those", name))
			continue
		}
		out.Suites = append(out.Suites, suite)
	}
	if len(t.SRTP) == 0 {
		out.Suites = gcmFirst(suites)
	}
	if t.PasswordFile != "" {
		var err error
		if out.Account.Password, err = trunkPassword(t.PasswordFile); err != nil {
			d.add(t.key("password_file"), err.Error())
			out.Account.Password = "unread" // what follows from it is said already
		}
	}
	return out
}

// gcmFirst puts the suites that cost least before the others.
func gcmFirst(suites []media.Suite) []media.Suite {
	out := slices.Clone(suites)
	slices.SortStableFunc(out, func(a, b media.Suite) int {
		return cmp.Compare(rankOfSuite(a), rankOfSuite(b))
	})
	return out
}

func rankOfSuite(s media.Suite) int {
	if strings.HasPrefix(s.String(), "AEAD_") {
		return 0
	}
	return 1
}

// trunkPassword is the first line of a file that nobody else may read.
func trunkPassword(file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", fmt.Errorf("read %s: %w; put the account's password into its first line", file, rootCause(err))
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return "", fmt.Errorf("%s has mode %04o, open to other users; type: chmod 600 %s", file, mode, file)
	}
	return passwordIn(file)
}

// locate looks a trunk's peer up. Those of one SRV record come in a new order each time,
// by their weights (RFC 2782).
func (t trunkPlan) locate(ctx context.Context) ([]flow.Target, error) {
	found, err := locate.LookupTLS(ctx, net.DefaultResolver, t.peer.Host, t.peer.Port)
	if err != nil {
		return nil, err
	}
	var out []flow.Target
	for _, s := range found {
		out = append(out, flow.Target{Addr: s.Addr})
	}
	return out, nil
}

// buildTrunks makes the trunks and binds their sockets, each of which is told to bound.
func (e *edge) buildTrunks(p plan, bound func(run func(context.Context) error)) error {
	for _, t := range p.trunks {
		cfg := flow.TrunkConfig{
			Name: t.name, Connections: t.connections,
			TLS:        e.certificate.DialConfig(t.name),
			ServerName: func() string { return e.certificate.ServerName(t.name) },
			Withdrawn:  e.certificate.TrunkWithdrawn(t.name),
			OnUp:       e.proxy.Connected,
		}
		if t.peer.Host != "" {
			cfg.Locate = t.locate
		}
		secure := flow.NewTrunk(cfg, p.limits, e.proxy, e.log)
		e.trunks = append(e.trunks, secure)
		if !t.listen.IsValid() {
			e.proxy.AttachTrunk(t.name, secure, nil)
			continue
		}
		plain, err := t.bind(p, e.proxy, e.log)
		if err != nil {
			return err
		}
		bound(plain.Run)
		e.trunkPlain = append(e.trunkPlain, plain)
		e.proxy.AttachTrunk(t.name, secure, plain)
	}
	return nil
}

func (t trunkPlan) bind(p plan, to flow.Handler, log *slog.Logger) (*flow.PlainSocket, error) {
	fault := func(err error) error { return fmt.Errorf("trunk %q: listen: %w", t.name, err) }
	keepOff, err := guard(p.media.SecureIPs, t.listen.Addr())
	if err != nil {
		return nil, fault(err)
	}
	plain, err := p.listenPlain(t.listen, keepOff, to, log)
	if err != nil {
		return nil, fault(err)
	}
	return plain, nil
}

// trunkSummary tells what would run of trunks.
func (p plan) trunkSummary(row func(name, format string, args ...any)) {
	for i, t := range p.trunks {
		way := "connects to us"
		if t.peer.Host != "" {
			way = "at " + t.peer.shown()
		}
		known, err := tlsconf.KnownBy(p.tls, p.tls.Trunks[i])
		if err != nil {
			continue // is a fault, which was told
		}
		row([]string{"trunks", ""}[min(i, 1)], "%s %s, known by %s", t.name, way, known)
		if t.listen.IsValid() {
			row("", "the PBX's side of it is %s", t.listen)
		}
	}
}

// recheck closes connections whose certificates are not good any longer.
func (e *edge) recheck() {
	for _, l := range e.listeners {
		l.Recheck()
	}
	for _, t := range e.trunks {
		t.Recheck()
	}
}

func (e *edge) trunkStates() []admin.TrunkState {
	out := make([]admin.TrunkState, 0, len(e.trunks))
	for _, t := range e.trunks {
		out = append(out, admin.TrunkState{Name: t.Name(), TrunkState: t.State()})
	}
	return out
}
