package peers

import (
	"fmt"
	"net/netip"
	"strconv"
)

// NAT is a router of the outside segment that hides hosts behind its address.
type NAT struct {
	*Host
	phones int
}

// NAT adds a router that maps ports and addresses (RFC 4787: it keeps a port
// where it can, and filters by the far end's address and port).
func (l *Lab) NAT(name string) *NAT {
	l.t.Helper()
	n := &NAT{Host: l.Phone(name)}
	l.ip(n.Host, "link add lan type bridge", "addr add 192.168.77.1/24 dev lan", "link set lan up")
	n.masquerade()
	return n
}

// masquerade hides all that the host forwards to the outside behind its address.
func (h *Host) masquerade() {
	h.lab.t.Helper()
	h.forward()
	h.Run(h.lab.t, "iptables", "-t", "nat", "-A", "POSTROUTING", "-o", "outside", "-j", "MASQUERADE")
}

// forward has the host's kernel hand on packets for others.
func (h *Host) forward() {
	h.lab.t.Helper()
	h.Run(h.lab.t, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
}

// Phone adds a host behind the router.
func (n *NAT) Phone(name string) *Host {
	l := n.lab
	l.t.Helper()
	n.phones++
	addr := netip.AddrFrom4([4]byte{192, 168, 77, byte(10 + n.phones)})
	h := l.host(name, addr, "lan")
	port := "p" + strconv.Itoa(n.phones)
	run(l.t, "ip", "link", "add", "lan", "netns", h.Name, "type", "veth", "peer", "name", port, "netns", n.Name)
	l.ip(n.Host, "link set "+port+" master lan", "link set "+port+" up")
	l.ip(h, fmt.Sprintf("addr add %s/24 dev lan", addr), "link set lan up", "route add default via 192.168.77.1")
	return h
}
