package peers

import (
	"net"
	"net/netip"
	"sync"
)

// tappedPort is where Asterisk listens behind a Tap.
const tappedPort = 5062

// tapInner is where Asterisk sees the edge behind a Tap.
const tapInner = PBXAddr + ":5063"

// Tap stands in the PBX's place and hands each datagram on, both ways, in
// order; what the edge sent is kept, and what it says again is kept once.
type Tap struct {
	outer, inner *net.UDPConn
	change       func([]byte) []byte // of what goes on to the PBX; nil is nothing

	mu   sync.Mutex // guards what follows
	edge netip.AddrPort
	got  []string
	came map[string]bool
}

// StartTap listens in the PBX's place. change may replace what goes on.
func StartTap(l *Lab, change func([]byte) []byte) *Tap {
	l.t.Helper()
	p := &Tap{change: change, came: make(map[string]bool)}
	err := l.PBX.Do(func() (err error) {
		if p.outer, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(PBXAddr+":5060"))); err != nil {
			return err
		}
		p.inner, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(tapInner)))
		return err
	})
	if err != nil {
		l.t.Fatalf("listen in the PBX's place: %v", err)
	}
	var both sync.WaitGroup
	both.Go(p.inwards) // both end when the test closes the sockets; waited for there
	both.Go(p.outwards)
	l.t.Cleanup(func() { p.outer.Close(); p.inner.Close(); both.Wait() })
	return p
}

func (p *Tap) inwards() {
	pbx := netip.AddrPortFrom(netip.MustParseAddr(PBXAddr), tappedPort)
	buf := make([]byte, 64<<10)
	for {
		n, from, err := p.outer.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.edge = from
		if text := string(buf[:n]); !p.came[text] {
			p.came[text] = true
			p.got = append(p.got, text)
		}
		p.mu.Unlock()
		b := buf[:n]
		if p.change != nil {
			b = p.change(b)
		}
		_, _ = p.inner.WriteToUDPAddrPort(b, pbx) // lost, it is sent again
	}
}

func (p *Tap) outwards() {
	buf := make([]byte, 64<<10)
	for {
		n, _, err := p.inner.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		edge := p.edge
		p.mu.Unlock()
		_, _ = p.outer.WriteToUDPAddrPort(buf[:n], edge)
	}
}

// Take returns what the edge sent since the last call, in order.
func (p *Tap) Take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	return got
}
