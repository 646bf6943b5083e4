package peers

import (
	"bytes"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Hostile is a network in the hands of an enemy, who sees every packet, may
// keep it from coming, let it come late, or again, and sends what he likes in
// anybody's name. It is IP alone, and IPv4: each host on it has a TUN, and this
// process carries the packets between them. So nothing is offloaded, and
// checksums are whole.
type Hostile struct {
	lab     *Lab
	readers sync.WaitGroup
	carried atomic.Int64

	mu    sync.RWMutex // guards what follows; held for reading while a packet is dealt with
	legs  []*leg
	rules []*Rule
}

// leg is the way to one host.
type leg struct {
	host   *Host
	routes []netip.Prefix // of what it leads to
	tun    *os.File
}

// Fate is what becomes of a packet: it comes late by so much, or is Lost.
type Fate = time.Duration

// Lost is the fate of what never comes.
const Lost Fate = -1

// Rule is something that the enemy does to the packets of others.
type Rule struct {
	n  *Hostile
	do func(Packet) Fate
	mu sync.Mutex // do is called under it
}

// queue is how many packets wait for this process before the kernel throws any
// away: a second and more of the most that a test sends.
const queue = 32768

// Hostile adds such a network.
func (l *Lab) Hostile() *Hostile {
	n := &Hostile{lab: l}
	l.t.Cleanup(func() { // ends the goroutines of Join
		for _, g := range n.legs {
			_ = g.tun.Close()
		}
		n.readers.Wait()
	})
	return n
}

// Join plugs a host into the network, by a device named outside with an address,
// by which all goes for which the host knows no other way. Packets to that
// address, and to what lies behind the host, are brought to it. Who joins last
// has a prefix that several claim.
func (n *Hostile) Join(h *Host, addr netip.Prefix, behind ...netip.Prefix) {
	l := n.lab
	l.t.Helper()
	g := &leg{host: h, routes: append(behind, netip.PrefixFrom(addr.Addr(), addr.Addr().BitLen()))}
	err := h.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		req, err := unix.NewIfreq("outside")
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
		g.tun = os.NewFile(uintptr(fd), "outside of "+h.Name) // not before: it cannot be waited for without a device
		return err
	})
	if err != nil {
		l.t.Fatalf("make the device of %s: %v", h.Name, err)
	}
	h.Run(l.t, "sysctl", "-q", "-w", "net.ipv6.conf.outside.disable_ipv6=1") // nobody answers there
	l.ip(h, "addr add "+addr.String()+" dev outside", "link set outside txqueuelen "+strconv.Itoa(queue), "link set outside up", "route add default dev outside")
	n.mu.Lock()
	defer n.mu.Unlock()
	n.legs = append(n.legs, g)
	n.readers.Go(func() { n.read(g) }) // ends when the lab's end closes the device
}

func (n *Hostile) read(from *leg) {
	buf := make([]byte, 64<<10)
	for {
		size, err := from.tun.Read(buf)
		if err != nil {
			return
		}
		n.carry(Packet{At: time.Now(), Data: buf[:size]})
	}
}

// carry deals with a packet that came, which is borrowed.
func (n *Hostile) carry(p Packet) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	n.carried.Add(1)
	var late time.Duration
	for _, r := range n.rules {
		r.mu.Lock()
		fate := r.do(p)
		r.mu.Unlock()
		if fate == Lost {
			return
		}
		late += fate
	}
	if late > 0 {
		data := slices.Clone(p.Data)
		time.AfterFunc(late, func() { n.Send(Packet{Data: data}) })
		return
	}
	n.bringLocked(p)
}

// bringLocked hands a packet to whom it is for, if that is anybody.
func (n *Hostile) bringLocked(p Packet) {
	if len(p.Data) < ipHead || p.Data[0]>>4 != 4 {
		return
	}
	to := netip.AddrFrom4([4]byte(p.Data[16:]))
	for _, g := range slices.Backward(n.legs) {
		if slices.ContainsFunc(g.routes, func(r netip.Prefix) bool { return r.Contains(to) }) {
			_, _ = g.tun.Write(p.Data) // lost, as networks lose
			return
		}
	}
}

// Send brings packets as they are to whom they are for, whoever made them. No
// rule and no capture sees them.
func (n *Hostile) Send(packets ...Packet) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, p := range packets {
		n.bringLocked(p)
	}
}

// Meddle decides the fate of every packet from now on, until Stop. The packet is
// borrowed. do is called for one packet at a time, in the order in which they come from each
// host.
func (n *Hostile) Meddle(do func(Packet) Fate) *Rule {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := &Rule{n: n, do: do}
	n.rules = append(n.rules, r)
	return r
}

// Stop ends the meddling. After it, the rule sees no packet.
func (r *Rule) Stop() {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	r.n.rules = slices.DeleteFunc(r.n.rules, func(other *Rule) bool { return other == r })
}

// Drop keeps packets from coming.
func (n *Hostile) Drop(what func(Packet) bool) *Rule {
	return n.Delay(what, func() time.Duration { return Lost })
}

// Delay lets packets come late, each by as much as by says; so they change
// their order, if that is not always the same.
func (n *Hostile) Delay(what func(Packet) bool, by func() time.Duration) *Rule {
	return n.Meddle(func(p Packet) Fate {
		if what(p) {
			return by()
		}
		return 0
	})
}

// Recording is packets that the enemy has kept.
type Recording struct {
	rule    *Rule
	packets []Packet
}

// Record keeps the next packets, so many at most.
func (n *Hostile) Record(what func(Packet) bool, most int) *Recording {
	rec := &Recording{}
	rec.rule = n.Meddle(func(p Packet) Fate {
		if len(rec.packets) < most && what(p) {
			rec.packets = append(rec.packets, Packet{At: p.At, Data: slices.Clone(p.Data)})
		}
		return 0
	})
	return rec
}

// Packets are those that were kept so far.
func (r *Recording) Packets() []Packet {
	r.rule.mu.Lock()
	defer r.rule.mu.Unlock()
	return slices.Clone(r.packets)
}

// Stop keeps no more.
func (r *Recording) Stop() { r.rule.Stop() }

// Capture records what the hosts send, before anything happens to it.
func (n *Hostile) Capture(name string) *Capture {
	n.lab.t.Helper()
	c := n.lab.newCapture(name, linkIP)
	n.mu.Lock()
	defer n.mu.Unlock()
	rule := &Rule{n: n, do: func(p Packet) Fate {
		c.out.write(p.At, p.Data)
		return 0
	}}
	c.halt = rule.Stop
	n.rules = slices.Insert(n.rules, 0, rule)
	return c
}

// Carried counts the packets that came from all hosts.
func (n *Hostile) Carried() int { return int(n.carried.Load()) }

// Dropped counts the packets that were lost on their way to this process, or
// from it, without anybody's will.
func (n *Hostile) Dropped() int {
	n.lab.t.Helper()
	sum := 0
	for _, g := range n.legs {
		for _, count := range []string{"tx_dropped", "rx_dropped"} {
			text := g.host.Run(n.lab.t, "cat", "/sys/class/net/outside/statistics/"+count)
			k, err := strconv.Atoi(strings.TrimSpace(text))
			if err != nil {
				n.lab.t.Fatalf("count what %s lost: %v", g.host.Name, err)
			}
			sum += k
		}
	}
	return sum
}

// Carries tells whether a packet has those bytes.
func Carries(b []byte) func(Packet) bool {
	return func(p Packet) bool { return bytes.Contains(p.Data, b) }
}
