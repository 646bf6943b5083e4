package media

import (
	"cmp"
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

	"github.com/sallyport/sallyport/cmd/internal/sound"
)

// Kind is how sound is keyed.
type Kind string

// The kinds. None describes one of the others and sends nothing: a server must be
// offered something that it can answer.
const (
	None Kind = "none"
	SDES Kind = "sdes"
	DTLS Kind = "dtls"
)

// Config is what all sessions of an Engine share.
type Config struct {
	Kind     Kind
	Describe Kind     // with None: SDES, or DTLS, which browsers are known by
	Suites   []string // that are offered by SDES, best first
	Codecs   []string // that are spoken, best first
}

// Codecs are the names of all, the most common first.
func Codecs() (names []string) {
	for _, c := range sound.Codecs() {
		names = append(names, c.String())
	}
	return names
}

func readCodecs(names []string) (all []sound.Codec, err error) {
	for _, name := range names {
		c, ok := codecNamed(name)
		if !ok {
			return nil, fmt.Errorf("there is no codec %q: %s are", name, strings.Join(Codecs(), " and "))
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("sound needs a codec")
	}
	return all, nil
}

func codecNamed(name string) (sound.Codec, bool) {
	for _, c := range sound.Codecs() {
		if strings.EqualFold(c.String(), name) {
			return c, true
		}
	}
	return 0, false
}

// KnownCodec tells whether a codec is one of Codecs.
func KnownCodec(name string) bool {
	_, ok := codecNamed(name)
	return ok
}

// Engine makes the media of calls.
type Engine struct {
	config Config
	keyed  Kind // SDES or DTLS, as described
	codecs []sound.Codec
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
	codecs, err := readCodecs(c.Codecs)
	if err != nil {
		return nil, err
	}
	e := &Engine{config: c, keyed: c.Kind, codecs: codecs, stop: make(chan struct{}), sinks: make(map[netip.Addr]*net.UDPConn)}
	if c.Kind == None {
		e.keyed = cmp.Or(c.Describe, SDES)
	}
	if e.keyed == DTLS {
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
	e.print = "sha-256 " + fingerprint(sha256.New(), der)
	return nil
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
		s, err := listen(netip.AddrPortFrom(at, 0))
		if err != nil {
			return netip.AddrPort{}, err
		}
		_ = s.SetReadBuffer(4 << 10)
		e.sinks[at] = s
	}
	return port(e.sinks[at]), nil
}

func listen(at netip.AddrPort) (*net.UDPConn, error) {
	if !at.Addr().IsValid() {
		return nil, errors.New("open a port for media: the phone has no address") // its connection is gone
	}
	s, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("open a port for media: %w", err)
	}
	return s, nil
}

func port(s *net.UDPConn) netip.AddrPort {
	a := s.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
