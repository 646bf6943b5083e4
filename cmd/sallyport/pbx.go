package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/sipproxy/locate"
)

const lookupTimeout = 5 * time.Second

type pbxConfig struct {
	Address       []pbxAddress  `toml:"address"`
	CheckInterval time.Duration `toml:"check_interval"`
	Names         []string      `toml:"names"`
	Domain        string        `toml:"domain"`
	SourceHeader  string        `toml:"source_header"`
	Path          bool          `toml:"path"`
}

// pbxAddress is one PBX, or what one name stands for: "10.0.0.5:5060", which may be
// followed by " priority=1 weight=10".
type pbxAddress struct {
	hostPort
	Priority int // -1: its place in the list
	Weight   int
}

func (a *pbxAddress) UnmarshalText(text []byte) error {
	fields := strings.Fields(string(text))
	if len(fields) == 0 {
		return hostPortFault("")
	}
	fresh := pbxAddress{Priority: -1, Weight: 1}
	if err := fresh.hostPort.UnmarshalText([]byte(fields[0])); err != nil {
		return err
	}
	for _, f := range fields[1:] {
		key, value, _ := strings.Cut(f, "=")
		n, err := strconv.ParseUint(value, 10, 16)
		into := map[string]*int{"priority": &fresh.Priority, "weight": &fresh.Weight}[key]
		if err != nil || into == nil {
			return fmt.Errorf("is %q, where %q is not understood; write it like \"10.0.0.5:5060 priority=1 weight=10\", with numbers up to 65535", text, f)
		}
		*into = int(n)
	}
	*a = fresh
	return nil
}

// locate looks all PBXs up, and returns them best first. Those of one address in the
// list are told apart by their SRV records, and come before those of later priority.
func (c pbxConfig) locate(ctx context.Context, names locate.Resolver) ([]locate.Server, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	type ranked struct {
		locate.Server
		given int
	}
	var list []ranked
	var faults []error
	for i, a := range c.Address {
		found, err := locate.Lookup(ctx, names, a.Host, a.Port)
		if err != nil {
			faults = append(faults, fmt.Errorf("%w; give a name this machine can resolve, or the address", err))
		}
		given := i
		if a.Priority >= 0 {
			given = a.Priority
		}
		for _, s := range found {
			list = append(list, ranked{locate.Server{Addr: s.Addr, Priority: s.Priority, Weight: cmp.Or(s.Weight, a.Weight)}, given})
		}
	}
	byRank := func(a, b ranked) int {
		return cmp.Or(cmp.Compare(a.given, b.given), cmp.Compare(a.Priority, b.Priority))
	}
	slices.SortStableFunc(list, byRank)
	servers := make([]locate.Server, len(list))
	for i, r := range list {
		servers[i] = r.Server
		servers[i].Priority = 0
		if i > 0 {
			servers[i].Priority = servers[i-1].Priority + max(0, byRank(r, list[i-1]))
		}
	}
	return servers, errors.Join(faults...)
}

// hasNames tells whether there is anything to look up again.
func (c pbxConfig) hasNames() bool {
	return slices.ContainsFunc(c.Address, func(a pbxAddress) bool { return !isAddress(a.Host) })
}

// names are what phones must not learn beside the addresses: how the PBXs are
// called, and what the operator adds to that.
func (c pbxConfig) names(domain string) []string {
	var names []string
	for _, a := range c.Address {
		if a.Host != "" && !isAddress(a.Host) && !strings.EqualFold(a.Host, domain) {
			names = append(names, a.Host)
		}
	}
	return append(names, c.Names...)
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// plainSide is our address towards the PBXs, and theirs. When they are not to be
// found it says so, and stands in loopback for the checks that follow.
func (c Config) plainSide(ctx context.Context, names locate.Resolver, d *document) (plain netip.AddrPort, pbxs []locate.Server) {
	standIn := netip.AddrPortFrom(loopback, c.SIP.PlainListen.Port)
	nobody := []locate.Server{{Addr: netip.AddrPortFrom(loopback, 9)}} // the discard port
	if len(c.PBX.Address) == 0 {
		return standIn, nobody // said already
	}
	pbxs, err := c.PBX.locate(ctx, names)
	if err != nil {
		d.add("pbx.address", err.Error())
		return standIn, nobody
	}
	ip, err := c.plainIP(pbxs[0].Addr)
	if err != nil {
		d.addError(err)
		return standIn, nobody
	}
	if !c.Edge.PlainIP.IsValid() && c.PBX.hasNames() { // a name may have addresses of both versions
		pbxs = slices.DeleteFunc(pbxs, func(s locate.Server) bool { return s.Addr.Addr().Is4() != ip.Is4() })
	}
	plain = c.SIP.PlainListen.on(ip)
	if slices.ContainsFunc(pbxs, func(s locate.Server) bool { return s.Addr == plain }) {
		d.add("sip.plain_listen", fmt.Sprintf("%s is the PBX's own address; with both on one machine give another port, like \":5070\"", plain))
	}
	return plain, pbxs
}

// plainIP is our address towards the PBX. Connecting a UDP socket sends nothing:
// it asks the kernel for the route.
func (c Config) plainIP(pbx netip.AddrPort) (netip.Addr, error) {
	if a := c.SIP.PlainListen.Addr; a.IsValid() && !a.IsUnspecified() {
		return a, nil
	}
	if c.Edge.PlainIP.IsValid() {
		return c.Edge.PlainIP, nil
	}
	s, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(pbx))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("pbx.address: find a route to %s: %w; check this machine's network, or set edge.plain_ip", pbx, err)
	}
	defer s.Close()
	return s.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}
