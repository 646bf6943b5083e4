package peers

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// profiles are the suites by name, with the lengths of key and salt.
var profiles = map[string]struct {
	profile   srtp.ProtectionProfile
	key, salt int
}{
	"AES_CM_128_HMAC_SHA1_80": {srtp.ProtectionProfileAes128CmHmacSha1_80, 16, 14},
	"AES_CM_128_HMAC_SHA1_32": {srtp.ProtectionProfileAes128CmHmacSha1_32, 16, 14},
	"AES_256_CM_HMAC_SHA1_80": {srtp.ProtectionProfileAes256CmHmacSha1_80, 32, 14},
	"AEAD_AES_128_GCM":        {srtp.ProtectionProfileAeadAes128Gcm, 16, 12},
	"AEAD_AES_256_GCM":        {srtp.ProtectionProfileAeadAes256Gcm, 32, 12},
}

// Media is a Phone's sound: a tone sent as PCMU over SRTP, and what comes
// back, decoded.
type Media struct {
	p      *Phone
	conn   *net.UDPConn
	Suite  string
	Key    []byte // what the phone signals
	UseKey []byte // what it encrypts with; the same unless a test says otherwise

	mu    sync.Mutex // guards what follows
	heard []int16
	bad   int
	stop  chan struct{}
}

// NewMedia opens the phone's RTP port.
func (p *Phone) NewMedia(suite string) *Media {
	p.t.Helper()
	info := profiles[suite]
	m := &Media{p: p, Suite: suite, Key: make([]byte, info.key+info.salt), stop: make(chan struct{})}
	_, _ = rand.Read(m.Key)
	m.UseKey = m.Key
	err := p.Host.Do(func() (err error) {
		m.conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.Host.Addr, 0)))
		return err
	})
	if err != nil {
		p.t.Fatalf("open the phone's RTP port: %v", err)
	}
	p.t.Cleanup(m.Stop)
	return m
}

// Port is the phone's RTP port.
func (m *Media) Port() int { return m.conn.LocalAddr().(*net.UDPAddr).Port }

// Offer describes the media: the suite and key, PCMU and DTMF.
func (m *Media) Offer() string {
	return m.describe("RTP/SAVP", fmt.Sprintf("a=crypto:1 %s inline:%s\r\n", m.Suite, base64.StdEncoding.EncodeToString(m.Key)))
}

// PlainOffer describes the same without any encryption.
func (m *Media) PlainOffer() string { return m.describe("RTP/AVP", "") }

// Accept describes the media as the answer to an offer: with the tag of the
// crypto line of the suite.
func (m *Media) Accept(offer string) string {
	m.p.t.Helper()
	found := regexp.MustCompile(`a=crypto:(\d+) ` + m.Suite + ` `).FindStringSubmatch(offer)
	if found == nil {
		m.p.t.Fatalf("the offer has no %s:\n%s", m.Suite, offer)
	}
	return m.describe("RTP/SAVP", fmt.Sprintf("a=crypto:%s %s inline:%s\r\n", found[1], m.Suite, base64.StdEncoding.EncodeToString(m.Key)))
}

func (m *Media) describe(proto, crypto string) string {
	return fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %[1]s\r\ns=-\r\nc=IN IP4 %[1]s\r\nt=0 0\r\nm=audio %[2]d %[3]s 0 101\r\n"+
		"a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n%[4]sa=sendrecv\r\n",
		m.p.Host.Addr, m.Port(), proto, crypto)
}

// Start sends a tone to where a description says, and decodes what comes back
// under its key, until Stop.
func (m *Media) Start(remote string, hz float64) {
	m.p.t.Helper()
	to, key, suite := readRemote(remote)
	if suite != m.Suite {
		m.p.t.Fatalf("the edge chose %q, want %s", suite, m.Suite)
	}
	info := profiles[suite]
	seal, err := srtp.CreateContext(m.UseKey[:info.key], m.UseKey[info.key:], info.profile)
	if err != nil {
		m.p.t.Fatalf("make SRTP context: %v", err)
	}
	open, err := srtp.CreateContext(key[:info.key], key[info.key:], info.profile)
	if err != nil {
		m.p.t.Fatalf("make SRTP context: %v", err)
	}
	go m.send(to, seal, hz) // ends with Stop
	go m.receive(open)      // ends when Stop closes the socket
}

// readRemote reads address, key and suite of a description.
func readRemote(sdp string) (to netip.AddrPort, key []byte, suite string) {
	var addr netip.Addr
	port := 0
	for _, line := range strings.Split(sdp, "\r\n") {
		f := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "c=IN IP4 "):
			addr, _ = netip.ParseAddr(f[2])
		case strings.HasPrefix(line, "m=audio "):
			port, _ = strconv.Atoi(f[1])
		case strings.HasPrefix(line, "a=crypto:") && key == nil && len(f) > 2:
			suite = f[1]
			text, _, _ := strings.Cut(strings.TrimPrefix(f[2], "inline:"), "|")
			key, _ = base64.StdEncoding.DecodeString(text)
		}
	}
	return netip.AddrPortFrom(addr, uint16(port)), key, suite
}

func (m *Media) send(to netip.AddrPort, seal *srtp.Context, hz float64) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	tone := Sine(hz, 60)
	var b [4]byte
	_, _ = rand.Read(b[:])
	header := rtp.Header{Version: 2, SSRC: binary.BigEndian.Uint32(b[:]), SequenceNumber: 65000}
	for at := 0; at+160 <= len(tone); at += 160 {
		select {
		case <-m.stop:
			return
		case <-tick.C:
		}
		payload := make([]byte, 160)
		for i := range payload {
			payload[i] = MuLaw(tone[at+i])
		}
		plain, err := (&rtp.Packet{Header: header, Payload: payload}).Marshal()
		if err != nil {
			return
		}
		header.SequenceNumber++
		header.Timestamp += 160
		if sealed, err := seal.EncryptRTP(nil, plain, nil); err == nil {
			_, _ = m.conn.WriteToUDPAddrPort(sealed, to)
		}
	}
}

func (m *Media) receive(open *srtp.Context) {
	buf := make([]byte, 2048)
	for {
		n, err := m.conn.Read(buf)
		if err != nil {
			return
		}
		var h rtp.Header
		plain, err := open.DecryptRTP(nil, buf[:n], &h)
		m.mu.Lock()
		if err != nil {
			m.bad++
		} else if size, err := h.Unmarshal(plain); err == nil && h.PayloadType == 0 {
			for _, b := range plain[size:] {
				m.heard = append(m.heard, FromMuLaw(b))
			}
		}
		m.mu.Unlock()
	}
}

// Stop ends the sound.
func (m *Media) Stop() {
	select {
	case <-m.stop:
	default:
		close(m.stop)
		m.conn.Close()
	}
}

// Samples is what was heard so far.
func (m *Media) Samples() []int16 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]int16(nil), m.heard...)
}

// Hears waits until a second of a tone was heard, within 1 %.
func (m *Media) Hears(hz float64, timeout time.Duration) {
	m.p.t.Helper()
	var got, share float64
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if s := m.Samples(); len(s) > Rate {
			if got, share = Tone(s, Rate); Near(got, hz) && share > 0.8 {
				return
			}
		}
	}
	m.p.t.Fatalf("phone %s hears %.1f Hz (%.0f %% of the sound), want %.0f Hz", m.p.User, got, 100*share, hz)
}
