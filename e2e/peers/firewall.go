package peers

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// BlockUDP lets no UDP in or out of the host, by either IP version, but for
// its loopback.
func (h *Host) BlockUDP() {
	h.lab.t.Helper()
	for _, tables := range []string{"iptables", "ip6tables"} {
		h.Run(h.lab.t, tables, "-I", "INPUT", "-p", "udp", "!", "-i", "lo", "-j", "DROP")
		h.Run(h.lab.t, tables, "-I", "OUTPUT", "-p", "udp", "!", "-o", "lo", "-j", "DROP")
	}
}

// CutTCP ends the host's TCP connections, over IPv6 or over IPv4, with the next
// packet that comes on each; the host itself does not notice.
func (h *Host) CutTCP(six bool) {
	h.lab.t.Helper()
	tables := "iptables"
	if six {
		tables = "ip6tables"
	}
	h.Run(h.lab.t, tables, "-I", "INPUT", "-p", "tcp", "!", "-i", "lo", "-j", "REJECT", "--reject-with", "tcp-reset")
}

// LosePower has a host and all behind it forget their TCP connections, as a router
// does whose power was cut: nothing more comes by them in either direction, and nobody
// at the far end is told. Those that are made after it have ports of their own, so
// HavePower comes before, and it can be done once. back has the host's kernel answer
// again what comes by the old ones, with a reset.
func (h *Host) LosePower() (back func()) {
	h.lab.t.Helper()
	both := func(how string) {
		h.Run(h.lab.t, "iptables", how, "OUTPUT", "-p", "tcp", "--sport", "10000:29999", "-j", "DROP")
		h.Run(h.lab.t, "iptables", how, "INPUT", "-p", "tcp", "--dport", "10000:29999", "-j", "DROP")
	}
	both("-I")
	h.Run(h.lab.t, "sysctl", "-q", "-w", "net.ipv4.ip_local_port_range=30000 60999")
	return func() { both("-D") }
}

// HavePower readies a host for LosePower, before it has any connection.
func (h *Host) HavePower() {
	h.lab.t.Helper()
	h.Run(h.lab.t, "sysctl", "-q", "-w", "net.ipv4.ip_local_port_range=10000 29999")
}

// BlockedUDP counts the packets that BlockUDP kept from leaving.
func (h *Host) BlockedUDP() int {
	h.lab.t.Helper()
	blocked := 0
	for _, tables := range []string{"iptables", "ip6tables"} {
		for _, rule := range strings.Split(h.Run(h.lab.t, tables, "-nvxL", "OUTPUT"), "\n") {
			if f := strings.Fields(rule); len(f) > 3 && f[2] == "DROP" {
				n, _ := strconv.Atoi(f[0])
				blocked += n
			}
		}
	}
	return blocked
}

// Loss is SIP that the network loses on its way to a host.
type Loss struct {
	h    *Host
	rule []string
}

// Lose loses the next UDP messages that come to the host and begin with a word of
// four letters, by IPv4, so many of them at most, until Stop.
func (h *Host) Lose(word string, n int) *Loss {
	h.lab.t.Helper()
	l := &Loss{h, []string{"INPUT", "-p", "udp", "-m", "u32", "--u32", fmt.Sprintf("28=%#x", binary.BigEndian.Uint32([]byte(word))),
		"-m", "limit", "--limit", "1/hour", "--limit-burst", strconv.Itoa(n), "-j", "DROP"}}
	h.Run(h.lab.t, "iptables", append([]string{"-I"}, l.rule...)...)
	return l
}

// Count is how many were lost.
func (l *Loss) Count() int {
	l.h.lab.t.Helper()
	for _, rule := range strings.Split(l.h.Run(l.h.lab.t, "iptables", "-nvxL", "INPUT"), "\n") {
		if f := strings.Fields(rule); len(f) > 3 && f[2] == "DROP" && strings.Contains(rule, "u32") {
			n, _ := strconv.Atoi(f[0])
			return n
		}
	}
	return 0
}

// Stop loses no more.
func (l *Loss) Stop() {
	l.h.lab.t.Helper()
	l.h.Run(l.h.lab.t, "iptables", append([]string{"-D"}, l.rule...)...)
}
