package peers

import (
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
