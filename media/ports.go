package media

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"

	"github.com/sallyport/sallyport/media/packet"
)

// ports hands out plain port pairs. A pair that was freed rests until all
// others were used, so that a late packet of the call before finds nobody.
type ports struct {
	ip      netip.Addr
	options packet.Options

	mu   sync.Mutex // guards free
	free []uint16   // even ports, first out at the front
}

// plainBuffer holds a second of one call and more.
const plainBuffer = 128 << 10

func newPorts(c Config) *ports {
	p := &ports{ip: c.PlainIP, options: packet.Options{Buffer: plainBuffer, DSCP: c.DSCP, Guard: c.Guard}}
	for port := int(c.PlainPorts.First); port+1 <= int(c.PlainPorts.Last); port += 2 {
		p.free = append(p.free, uint16(port))
	}
	// Not in order: who can see one call's port must not know the next one's.
	rand.Shuffle(len(p.free), func(i, j int) { p.free[i], p.free[j] = p.free[j], p.free[i] })
	return p
}

// open binds the sockets of one pair: RTP, RTCP.
func (p *ports) open() (pair [2]packet.Socket, err error) {
	p.mu.Lock()
	tries := len(p.free)
	p.mu.Unlock()
	for range tries {
		port, ok := p.take()
		if !ok {
			break
		}
		pair, err = p.bind(port)
		if err == nil {
			return pair, nil
		}
		p.give(port)
		if !packet.InUse(err) {
			return pair, err
		}
	}
	return pair, ErrNoPorts
}

func (p *ports) bind(port uint16) (pair [2]packet.Socket, err error) {
	for i := range pair {
		pair[i], err = packet.Listen(netip.AddrPortFrom(p.ip, port+uint16(i)), p.options)
		if err != nil {
			if i == 1 {
				_ = pair[0].Close()
			}
			return pair, fmt.Errorf("open plain port: %w", err)
		}
	}
	return pair, nil
}

func (p *ports) take() (uint16, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		return 0, false
	}
	port := p.free[0]
	p.free = p.free[1:]
	return port, true
}

func (p *ports) give(port uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, port)
}
