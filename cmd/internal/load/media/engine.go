package media

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// Kind is how sound is keyed.
type Kind string

// The kinds. None describes SDES and sends nothing: a server must be offered
// something that it can answer.
const (
	None Kind = "none"
	SDES Kind = "sdes"
	DTLS Kind = "dtls"
)

// Config is what all sessions of an Engine share.
type Config struct {
	Kind   Kind
	Suites []string // that are offered by SDES, best first
}

// Engine makes the media of calls.
type Engine struct {
	config Config
	mu     sync.Mutex // guards what follows
	sinks  map[netip.Addr]*net.UDPConn
}

// New makes an Engine. Close must follow.
func New(c Config) (*Engine, error) {
	return &Engine{config: c, sinks: make(map[netip.Addr]*net.UDPConn)}, nil
}

// Close ends what sessions left.
func (e *Engine) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.sinks {
		s.Close()
	}
	clear(e.sinks)
}

// sink is the port that all calls without sound name, one for each address. What
// comes to it is never read.
func (e *Engine) sink(at netip.Addr) (netip.AddrPort, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sinks[at] == nil {
		s, err := listen(at)
		if err != nil {
			return netip.AddrPort{}, err
		}
		_ = s.SetReadBuffer(4 << 10)
		e.sinks[at] = s
	}
	return port(e.sinks[at]), nil
}

func listen(at netip.Addr) (*net.UDPConn, error) {
	s, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, 0)))
	if err != nil {
		return nil, fmt.Errorf("open a port for media: %w", err)
	}
	return s, nil
}

func port(s *net.UDPConn) netip.AddrPort {
	a := s.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
