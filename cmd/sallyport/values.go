package main

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// hostPort is the address of a peer: a host name or an address, and a port.
type hostPort struct {
	Host string
	Port uint16 // 0: not given
}

func (h *hostPort) UnmarshalText(text []byte) error {
	s := string(text)
	if addr, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil { // a bare IPv6 address has colons too
		*h = hostPort{Host: addr.String()}
		return nil
	}
	host, port, found := strings.Cut(s, ":")
	if strings.HasPrefix(s, "[") {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return hostPortFault(s)
		}
		found = true
	}
	h.Host, h.Port = host, 0
	if found {
		n, err := parsePort(port)
		if err != nil {
			return hostPortFault(s)
		}
		h.Port = n
	}
	if host == "" || strings.ContainsAny(host, " \t/@") {
		return hostPortFault(s)
	}
	return nil
}

func hostPortFault(s string) error {
	return fmt.Errorf("is %q, and must be a host and a port; write it like \"10.0.0.5:5060\" or \"pbx.internal:5060\"", s)
}

// String is the form UnmarshalText reads.
func (h hostPort) String() string { return net.JoinHostPort(h.Host, strconv.Itoa(int(h.Port))) }

// shown is it without a port that was not given.
func (h hostPort) shown() string {
	if h.Port == 0 {
		return h.Host
	}
	return h.String()
}

// listenAddr is where to listen: ":5061" leaves the address to a default.
type listenAddr struct {
	Addr netip.Addr // not valid: the default
	Port uint16
}

func (l *listenAddr) UnmarshalText(text []byte) error {
	fault := fmt.Errorf("is %q, and must be a port, with or without an address; write it like \":5061\" or \"192.0.2.1:5061\"", text)
	host, port, err := net.SplitHostPort(string(text))
	if err != nil {
		return fault
	}
	*l = listenAddr{}
	if l.Port, err = parsePort(port); err != nil {
		return fault
	}
	if host == "" {
		return nil
	}
	if l.Addr, err = netip.ParseAddr(host); err != nil {
		return fault
	}
	return nil
}

// on is the address to listen at, where def stands for the one not given.
func (l listenAddr) on(def netip.Addr) netip.AddrPort {
	if l.Addr.IsValid() {
		return netip.AddrPortFrom(l.Addr, l.Port)
	}
	return netip.AddrPortFrom(def, l.Port)
}

// optionalAddr is where to listen, or "" for nowhere.
type optionalAddr struct{ listenAddr }

func (o *optionalAddr) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*o = optionalAddr{}
		return nil
	}
	return o.listenAddr.UnmarshalText(text)
}

// tcpPort is a port on the addresses that phones reach: ":443", "same" for that
// of UDP, or "off" for none.
type tcpPort struct {
	On   bool
	Port uint16 // 0: that of UDP
}

func (t *tcpPort) UnmarshalText(text []byte) error {
	switch s := string(text); s {
	case "", "off":
		*t = tcpPort{}
	case "same":
		*t = tcpPort{On: true}
	default:
		host, port, err := net.SplitHostPort(s)
		n, fault := parsePort(port)
		if err != nil || fault != nil || host != "" {
			return fmt.Errorf("is %q, and must be a port, on the addresses of edge.public_ip; write it like \":443\", or \"same\", or \"off\"", s)
		}
		*t = tcpPort{On: true, Port: n}
	}
	return nil
}

// portRange is "first-last", both included.
type portRange struct{ First, Last uint16 }

func (r *portRange) UnmarshalText(text []byte) error {
	first, last, found := strings.Cut(string(text), "-")
	a, errA := parsePort(strings.TrimSpace(first))
	b, errB := parsePort(strings.TrimSpace(last))
	if !found || errA != nil || errB != nil || a > b {
		return fmt.Errorf("is %q, and must be a range of ports; write it like \"20000-29999\"", text)
	}
	*r = portRange{a, b}
	return nil
}

// String is the form UnmarshalText reads.
func (r portRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// prefix is a network; a lone address is the network of itself.
type prefix struct{ netip.Prefix }

func (p *prefix) UnmarshalText(text []byte) error {
	if a, err := netip.ParseAddr(string(text)); err == nil && a.Zone() == "" {
		p.Prefix = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	n, err := netip.ParsePrefix(string(text))
	if err != nil {
		return fmt.Errorf("is %q, and must be an address or a network; write it like \"192.0.2.0/24\"", text)
	}
	p.Prefix = n
	return nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port", s)
	}
	return uint16(n), nil
}
