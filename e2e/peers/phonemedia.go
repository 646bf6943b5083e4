package peers

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/pion/rtp"
)

// Media is a Phone's sound: a tone sent as PCMU over SRTP, and what comes
// back, decoded. What is set before Offer, Accept or Start shows in them.
type Media struct {
	p         *Phone
	engine    *engine // what it speaks through; see Through
	DTLS      *DTLS   // what keys it; nil: its descriptions do
	Stack     Stack   // what encrypts: Pion unless a test says otherwise
	Suite     string
	Key       []byte // what the phone signals
	UseKey    []byte // what it encrypts with; the same unless a test says otherwise
	Lifetime  string // of the key, as signalled, "2^20"; nothing if empty
	MKI       []byte // signalled, and in each packet, if not nil
	CNAME     string // what its reports name it
	Direction string // of its descriptions
	Mux       bool   // RTCP on the RTP port
	Zero      bool   // its descriptions name an address of zeros
	Session   int    // version of its descriptions
	SSRC      uint32
	Payload   uint8 // the type of its packets: 0 is PCMU, 8 PCMA; see Speaks
	Plain     bool  // no SRTP: the phone stands in the place of the PBX

	listens sync.Once
	mu      sync.Mutex // guards what follows
	conn    *net.UDPConn
	rtcp    *net.UDPConn
	to      netip.AddrPort
	seal    cipher
	open    cipher
	header  rtp.Header
	tone    []int16
	at      int
	counts  bool // see Count
	count   int
	silent  bool
	sent    int // RTP packets, of send
	heard   []int16
	bad     int
	early   int            // packets before there were keys
	ssrcs   map[uint32]int // RTP packets by their source
	reports [2]int         // RTCP packets, on the RTP port and on the next
	stop    chan struct{}
}

// cipher is one direction's protection, and the key that it was made with.
type cipher struct {
	guard Guard
	key   string
}

// NewMedia opens the phone's RTP port, an even one, and the next for RTCP.
func (p *Phone) NewMedia(suite string) *Media { return p.NewMediaOn(suite, 0) }

// NewMediaOn opens an RTP port of the test's choice.
func (p *Phone) NewMediaOn(suite string, port int) *Media {
	p.t.Helper()
	m := &Media{
		p: p, Stack: Pion, Suite: suite, CNAME: "phone-" + Random(8), Direction: "sendrecv", Session: 1,
		ssrcs: make(map[uint32]int), stop: make(chan struct{}),
	}
	m.SSRC = binary.BigEndian.Uint32(random(4))
	m.header = rtp.Header{Version: 2, SequenceNumber: 65000}
	m.NewKey()
	m.conn, m.rtcp = m.sockets(p.Host, port)
	p.t.Cleanup(m.Stop)
	return m
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// NewKey makes the key that the next description signals. It is used from the
// next Apply on.
func (m *Media) NewKey() {
	m.Key = RandomKey(m.Suite)
	m.UseKey = m.Key
}

// sockets opens a pair of ports on a host; 0 takes any.
func (m *Media) sockets(h *Host, port int) (conn, rtcp *net.UDPConn) {
	m.p.t.Helper()
	err := h.Do(func() (err error) {
		for range 100 {
			if conn, err = listenUDP(m.p.addrOn(h), port); err != nil {
				return err
			}
			if at := conn.LocalAddr().(*net.UDPAddr).Port; at%2 == 0 {
				if rtcp, err = listenUDP(m.p.addrOn(h), at+1); err == nil {
					return nil
				}
			}
			conn.Close()
		}
		return fmt.Errorf("no pair of ports: %w", err)
	})
	if err != nil {
		m.p.t.Fatalf("open the phone's RTP port: %v", err)
	}
	return conn, rtcp
}

func listenUDP(a netip.Addr, port int) (*net.UDPConn, error) {
	return net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, uint16(port))))
}

// Addr is the phone's RTP address.
func (m *Media) Addr() netip.AddrPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// RemoteKey is what the edge encrypts with.
func (m *Media) RemoteKey() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open.key
}

// Remote is where the phone sends to.
func (m *Media) Remote() netip.AddrPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.to
}

// Offer describes the media: the suite and key, PCMU and DTMF.
func (m *Media) Offer() string {
	m.p.t.Helper()
	if m.Plain {
		return m.PlainOffer()
	}
	if m.engine != nil {
		return m.engine.offer(m)
	}
	if m.DTLS != nil {
		return m.DTLS.offer()
	}
	return m.Describe(m.CryptoLine(1))
}

// PlainOffer describes the same without any encryption.
func (m *Media) PlainOffer() string { return m.describe("RTP/AVP", "", "") }

// Accept describes the media as the answer to an offer: with the tag of the
// crypto line of the suite.
func (m *Media) Accept(offer string) string {
	m.p.t.Helper()
	if m.Plain {
		return m.PlainOffer()
	}
	if m.DTLS != nil {
		return m.DTLS.accept(offer)
	}
	found := regexp.MustCompile(`a=crypto:(\d+) ` + m.Suite + ` `).FindStringSubmatch(offer)
	if found == nil {
		m.p.t.Fatalf("the offer has no %s:\n%s", m.Suite, offer)
	}
	if m.engine != nil {
		return m.engine.accept(m, offer)
	}
	tag, _ := strconv.Atoi(found[1])
	return m.Describe(m.CryptoLine(tag))
}

// Describe describes the media with crypto lines of the test's choice.
func (m *Media) Describe(crypto ...string) string {
	return m.describe("RTP/SAVP", "", strings.Join(crypto, "\r\n")+"\r\n")
}

// CryptoLine is the phone's own line under a tag.
func (m *Media) CryptoLine(tag int) string {
	line := CryptoLine(tag, m.Suite, m.Key)
	if m.Lifetime != "" {
		line += "|" + m.Lifetime
	}
	if m.MKI != nil {
		line += fmt.Sprintf("|%d:%d", new(big.Int).SetBytes(m.MKI), len(m.MKI))
	}
	return line
}

// describe writes a description with lines about its keys: above the m-line,
// and in it.
func (m *Media) describe(proto, above, keys string) string {
	at := m.Addr()
	host := "IP4 " + at.Addr().String()
	if at.Addr().Is6() {
		host = "IP6 " + at.Addr().String()
	}
	if m.Zero {
		host = "IP4 0.0.0.0"
	}
	if m.Mux {
		keys += "a=rtcp-mux\r\n"
	}
	codec := "0 PCMU"
	if m.Payload == pcma {
		codec = "8 PCMA"
	}
	return fmt.Sprintf("v=0\r\no=- 1 %d IN %[2]s\r\ns=-\r\nc=IN %[2]s\r\nt=0 0\r\n%[7]sm=audio %[3]d %[4]s %.1[8]s 101\r\n"+
		"a=rtpmap:%[8]s/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n%[5]sa=%[6]s\r\n",
		m.Session, host, at.Port(), proto, keys, m.Direction, above, codec)
}

// Start sends a tone to where a description says, and decodes what comes back
// under its key, until Stop.
func (m *Media) Start(remote string, hz float64) {
	m.p.t.Helper()
	m.Apply(remote)
	m.Speak(hz)
	go m.send() // ends with Stop
	m.Listen()
}

// Listen takes what comes to the phone's ports from now on. Start does it too.
func (m *Media) Listen() {
	m.listens.Do(func() {
		go m.receive(m.conn)     // ends when Stop closes the socket
		go m.receiveRTCP(m.rtcp) // likewise
	})
}

// Apply takes the address and keys of a description into use. A key that stays
// goes on where it was.
func (m *Media) Apply(remote string) {
	m.p.t.Helper()
	if m.DTLS != nil {
		m.DTLS.apply(remote)
		return
	}
	to, key, suite := readRemote(remote)
	stack := m.Stack
	switch none := func(*Phone, Key) (Guard, error) { return unguarded, nil }; {
	case m.Plain:
		stack = none
	case suite != m.Suite:
		m.p.t.Fatalf("the edge chose %q, want %s", suite, m.Suite)
	case m.engine != nil:
		to, _, _ = readRemote(m.engine.remote(remote))
		stack = none
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.to = to
	m.header.SSRC, m.header.PayloadType = m.SSRC, m.Payload
	err := m.keyLocked(stack, Key{Suite: suite, KeySalt: m.UseKey, MKI: m.MKI, Seals: true}, Key{Suite: suite, KeySalt: key})
	if err != nil {
		m.p.t.Fatal(err)
	}
}

// keyLocked puts keys in force, the phone's and the edge's.
func (m *Media) keyLocked(stack Stack, ours, edges Key) error {
	for c, k := range map[*cipher]Key{&m.seal: ours, &m.open: edges} {
		if c.guard != nil && c.key == k.Suite+string(k.KeySalt) {
			continue
		}
		guard, err := stack(m.p, k)
		if err != nil {
			return err
		}
		*c = cipher{guard, k.Suite + string(k.KeySalt)}
	}
	return nil
}

// readRemote reads address, key and suite of a description.
func readRemote(sdp string) (to netip.AddrPort, key []byte, suite string) {
	var addr netip.Addr
	port := 0
	for _, line := range strings.Split(sdp, "\r\n") {
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "c=IN IP"):
			addr, _ = netip.ParseAddr(f[2])
		case strings.HasPrefix(line, "m="):
			port, _ = strconv.Atoi(f[1])
		case strings.HasPrefix(line, "a=crypto:") && key == nil && len(f) > 2:
			suite = f[1]
			text, _, _ := strings.Cut(strings.TrimPrefix(f[2], "inline:"), "|")
			key, _ = base64.StdEncoding.DecodeString(text)
		}
	}
	return netip.AddrPortFrom(addr, uint16(port)), key, suite
}

// Stop ends the sound.
func (m *Media) Stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.stop:
	default:
		close(m.stop)
		m.conn.Close()
		m.rtcp.Close()
		if m.DTLS != nil && m.DTLS.current != nil {
			m.DTLS.current.in.Close()
		}
	}
}
