package media

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"
)

// PortRange is a range of UDP ports, both ends included.
type PortRange struct{ First, Last uint16 }

// Config says where media flow.
type Config struct {
	SecureIPs  []netip.Addr  // what the secure sockets bind to
	PublicIPs  []netip.Addr  // the same as phones see them, behind 1:1 NAT; empty: as bound
	PlainIP    netip.Addr    // what the plain sockets bind to
	Port       uint16        // worker i has RTP on Port+2i and RTCP on the next; 0: any
	TCP        bool          // phones that do ICE may come by TCP, too (RFC 6544)
	TCPPort    uint16        // for all workers; 0: as Port
	PlainPorts PortRange     // pairs for the streams; First even
	Workers    int           // 0: one for each CPU
	Silence    time.Duration // without a packet from phone or PBX until the call is given up; 0: never
	DSCP       int           // of what is sent: 46 is expedited forwarding (RFC 3246)

	Inherit Inherit // nil: nothing is inherited

	Guard func(fd int) error // called for each plain socket before it is bound; nil: nothing
	// Admit is asked before a TCP connection is read. A nil error admits it;
	// release is called when it has ended. nil: all are admitted.
	Admit func(netip.Addr) (release func(), err error)
}

// Defaults returns a Config that lacks only its addresses.
func Defaults() Config {
	return Config{Port: 10000, TCP: true, PlainPorts: PortRange{20000, 29999}, Silence: time.Minute, DSCP: 46}
}

// Validate reports all faults at once.
func (c Config) Validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(len(c.SecureIPs) == 0, "edge.public_ip: missing; set the address that phones reach")
	fault(len(c.PublicIPs) > 0 && len(c.PublicIPs) != len(c.SecureIPs),
		"edge.listen_ip: %d addresses for %d in edge.public_ip", len(c.SecureIPs), len(c.PublicIPs))
	fault(!c.PlainIP.IsValid(), "edge.plain_ip: missing")
	fault(c.Port%2 != 0, "media.port: %d is odd; RTP ports are even (RFC 3550 section 11)", c.Port)
	fault(c.Port != 0 && int(c.Port)+2*c.workers() > 65536, "media.port: no room for %d workers above %d", c.workers(), c.Port)
	p := c.PlainPorts
	fault(p.First < 1024 || p.Last <= p.First, "media.plain_ports: %d-%d is no range above 1023", p.First, p.Last)
	fault(p.First%2 != 0, "media.plain_ports: begins at %d, which is odd; RTP ports are even (RFC 3550 section 11)", p.First)
	secureEnd := int(c.Port) + 2*c.workers()
	fault(c.Port != 0 && int(c.Port) <= int(p.Last) && secureEnd > int(p.First), "media.plain_ports: overlaps the secure ports from %d", c.Port)
	fault(c.Workers < 0 || c.Workers > 256, "media.workers: %d is not in 0 to 256", c.Workers)
	fault(c.Silence < 0, "media.timeout: negative; 0 turns it off")
	fault(c.DSCP < 0 || c.DSCP > 63, "media.dscp: %d is not in 0 to 63", c.DSCP)
	return errors.Join(faults...)
}

func (c Config) workers() int {
	if c.Workers == 0 {
		return runtime.NumCPU()
	}
	return c.Workers
}

func (c Config) tcpPort() uint16 {
	if c.TCPPort == 0 {
		return c.Port
	}
	return c.TCPPort
}

// TCPListen is where connections are accepted; nil: nowhere.
func (c Config) TCPListen() (list []netip.AddrPort) {
	for _, ip := range c.SecureIPs {
		if c.TCP {
			list = append(list, netip.AddrPortFrom(ip, c.tcpPort()))
		}
	}
	return list
}

// public returns the address that phones know a secure address by.
func (c Config) public(i int) netip.Addr {
	if len(c.PublicIPs) > i {
		return c.PublicIPs[i]
	}
	return c.SecureIPs[i]
}
