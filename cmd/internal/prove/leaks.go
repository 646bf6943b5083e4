package prove

import (
	"net/netip"
	"time"
)

// maxLeaks bounds the list of leaks. The counts hold them all.
const maxLeaks = 1000

// Leak is what crossed in clear from one address to another, as one kind.
type Leak struct {
	Kind        string         `json:"kind"`
	Time        time.Time      `json:"time"` // of the first packet
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"`
	Direction   string         `json:"direction"`
	Transport   string         `json:"transport"`
	Length      int            `json:"length"` // of the first packet, in bytes, behind UDP or TCP
	First       string         `json:"first"`  // what it begins with, without content, numbers and users
	Packets     uint64         `json:"packets"`
	Bytes       uint64         `json:"bytes"`
}

type leakID struct {
	kind     Kind
	src, dst netip.AddrPort
}

// leaks are listed in the order of their first packets.
type leaks struct {
	list []*Leak
	by   map[leakID]*Leak
	more frames // that are not in the list
}

func newLeaks() leaks { return leaks{by: make(map[leakID]*Leak)} }

func (l *leaks) add(k Kind, dir Direction, p packet, first string) {
	id := leakID{k, p.src, p.dst}
	was := l.by[id]
	if was == nil {
		if len(l.list) >= maxLeaks {
			l.more.add(p.frames)
			return
		}
		was = &Leak{
			Kind: k.String(), Time: p.at, Source: p.src, Destination: p.dst, Direction: dir.String(), Transport: "udp", Length: p.length, First: first,
		}
		if p.tcp {
			was.Transport = "tcp"
		}
		l.list, l.by[id] = append(l.list, was), was
	}
	was.Packets += p.packets
	was.Bytes += p.bytes
}
