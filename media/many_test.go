package media

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// traffic is calls that take turns, by what distinguishes their packets.
type traffic struct {
	name      string
	addresses int
	rekeyed   bool
	mki       []byte

	all     []*hot
	from    []netip.AddrPort
	packets [][]byte
	sent    int
	best    time.Duration // of all rounds, for one packet
}

// make sets the calls up, and n packets of them. What they relay goes nowhere: a
// system call would hide the rest.
func (c *traffic) make(b *testing.B, calls, n int) {
	b.Helper()
	c.all, c.from, c.sent = crowd(b, calls), make([]netip.AddrPort, calls), 0
	for i, h := range c.all {
		h.l.rx.MKI = c.mki
		p := newPhone(b, h.l.rx, h.l.tx, h.l.phone.ssrc)
		p.conn.Close()
		h.l.phone, c.from[i] = p, addr(9, uint16(10000+i%c.addresses))
		h.edge(b, c.from[i])
		if err := h.l.s.SetPlain(0, PlainParams{}); err != nil {
			b.Fatal(err)
		}
	}
	c.packets = make([][]byte, 0, n+calls)
	for len(c.packets) < cap(c.packets) {
		c.packets = append(c.packets, c.all[len(c.packets)%calls].l.phone.sealed(string(make([]byte, 160))))
	}
	c.relay(calls)
	for i, h := range c.all {
		if c.rekeyed {
			h.l.rx = newKey(b, AEADAES256GCM)
			h.edge(b, c.from[i])
		}
	}
}

func (c *traffic) relay(n int) {
	calls, began := len(c.all), time.Now()
	for range n {
		c.all[0].from(c.from[c.sent%calls], c.packets[c.sent])
		c.sent++
	}
	if took := time.Since(began) / time.Duration(n); c.best == 0 || took < c.best {
		c.best = took
	}
}

// BenchmarkManyCalls has two hundred calls take turns: all of one edge, at one
// address; the same during a change of keys, by the old ones; and with an MKI, which
// edges do without. The ratio is what a packet takes of what it does where each call
// has an address of its own, by the best of rounds that take turns too.
func BenchmarkManyCalls(b *testing.B) {
	const calls, rounds = 200, 500
	for _, c := range []*traffic{
		{name: "of 1 address", addresses: 1}, {name: "old keys", addresses: 1, rekeyed: true}, {name: "MKI", addresses: 1, mki: []byte{1}},
	} {
		b.Run(c.name, func(b *testing.B) {
			each, base := b.N/rounds+1, &traffic{addresses: calls}
			kinds := []*traffic{base, c}
			for _, k := range kinds {
				k.make(b, calls, rounds*each)
				k.best = 0
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range rounds {
				for _, k := range kinds {
					k.relay(each)
				}
			}
			b.StopTimer()
			for _, k := range kinds {
				if n := k.all[0].w.counts.drops[DropNowhere]; n != uint64(k.sent) {
					b.Fatalf("verified %d of %d: %v", n, k.sent, k.all[0].w.counts.drops)
				}
			}
			b.ReportMetric(float64(c.best)/float64(base.best), "ratio")
			b.ReportMetric(float64(c.best), "best-ns")
		})
	}
}

// Nor do many calls of one address allocate, in a change of their keys either, after
// each one's first packet.
func TestManyCallsAllocateNothing(t *testing.T) {
	const calls, runs = 50, 400
	all := crowd(t, calls)
	for _, h := range all {
		h.edge(t, addr(9, 10000))
	}
	packets := func() (list [][]byte) {
		for i := range calls + runs + 10 {
			list = append(list, all[i%calls].l.phone.sealed(string(make([]byte, 160))))
		}
		return list
	}
	relay := func(what string, list [][]byte) {
		t.Helper()
		before, i := all[0].w.counts.dir[Inward].RTP, 0
		next := func() { all[0].from(addr(9, 10000), list[i]); i++ }
		for range calls {
			next()
		}
		if n := testing.AllocsPerRun(runs, next); n != 0 {
			t.Errorf("%s: %v allocations a packet", what, n)
		}
		if n := all[0].w.counts.dir[Inward].RTP - before; n != uint64(i) {
			t.Fatalf("%s: relayed %d of %d: %v", what, n, i, all[0].w.counts.drops)
		}
	}
	relay("first keys", packets())
	late := packets()
	for _, h := range all {
		h.l.rx, h.l.tx = newKey(t, AEADAES256GCM), newKey(t, AEADAES256GCM)
		h.edge(t, addr(9, 10000))
	}
	relay("old keys", late)
	for i, h := range all {
		p := newPhone(t, h.l.rx, h.l.tx, uint32(0x10000+i))
		p.seq = h.l.phone.seq
		h.l.phone = p
	}
	relay("new keys", packets())
	plain := make([][]byte, calls)
	for i := range plain {
		plain[i] = rtpPacket(7, 1, fmt.Sprint("call ", i))
	}
	i := 0
	next := func() {
		h := all[i%calls]
		p := plain[i%calls]
		setSequence(p, sequence(p)+1)
		h.fromPBX(p)
		i++
	}
	for range calls {
		next()
	}
	if n := testing.AllocsPerRun(runs, next); n != 0 {
		t.Errorf("from the PBX: %v allocations a packet", n)
	}
}
