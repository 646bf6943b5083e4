package media

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"time"
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
	cert   tls.Certificate // of all DTLS, as that of one browser
	print  string          // its fingerprint
	pacers []*pacer
	turn   int // of the pacers; guarded by mu
	stop   chan struct{}
	done   sync.WaitGroup
	mu     sync.Mutex // guards what follows
	sinks  map[netip.Addr]*net.UDPConn
}

// New makes an Engine. Close must follow.
func New(c Config) (*Engine, error) {
	e := &Engine{config: c, stop: make(chan struct{}), sinks: make(map[netip.Addr]*net.UDPConn)}
	if c.Kind == DTLS {
		if err := e.certify(); err != nil {
			return nil, err
		}
	}
	if c.Kind != None {
		for range runtime.GOMAXPROCS(0) {
			p := &pacer{}
			e.pacers = append(e.pacers, p)
			e.done.Go(func() { p.run(e.stop) }) // ends with stop; Close waits for it
		}
	}
	return e, nil
}

// certify makes the certificate.
func (e *Engine) certify() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key for DTLS: %w", err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "sallyload"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return fmt.Errorf("make a certificate for DTLS: %w", err)
	}
	e.cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	e.print = fingerprint(der)
	return nil
}

// fingerprint is that of a certificate (RFC 8122 section 5).
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	var b strings.Builder
	for i, c := range sum {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02X", c)
	}
	return "sha-256 " + b.String()
}

// Close ends what sessions left.
func (e *Engine) Close() {
	close(e.stop)
	e.done.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.sinks {
		s.Close()
	}
	clear(e.sinks)
}

// pace chooses who sends a session's packets.
func (e *Engine) pace(s *Session) {
	e.mu.Lock()
	e.turn++
	p := e.pacers[e.turn%len(e.pacers)]
	e.mu.Unlock()
	p.add(s)
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
	if !at.IsValid() {
		return nil, errors.New("open a port for media: the phone has no address") // its connection is gone
	}
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
