package bench

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/pion/srtp/v3"
)

// suite is an SRTP crypto suite; lengths in bytes.
type suite struct {
	name           string
	key, salt, tag int
	profile        srtp.ProtectionProfile
}

var suites = []suite{
	{"AES_CM_128_HMAC_SHA1_80", 16, 14, 10, srtp.ProtectionProfileAes128CmHmacSha1_80},
	{"AEAD_AES_128_GCM", 16, 12, 16, srtp.ProtectionProfileAeadAes128Gcm},
}

func (s suite) context(keySalt []byte) (*srtp.Context, error) {
	if len(keySalt) != s.key+s.salt {
		return nil, fmt.Errorf("use key: %d bytes for %s", len(keySalt), s.name)
	}
	return srtp.CreateContext(keySalt[:s.key], keySalt[s.key:], s.profile)
}

// The two ways of a call's packets.
const (
	inward  = iota // from the phone to the PBX
	outward        // from the PBX to the phone
	ways
)

// firstPort is the RTP port of call 0, at its phone and at the PBX.
const firstPort = 20000

// call is one call as the generator knows it.
type call struct {
	suite  suite
	number int
	phone  netip.AddrPort
	pbx    netip.AddrPort
	entry  [ways]netip.AddrPort // where the relay takes packets of that way
	key    []byte               // the phone's master key and salt
	ssrc   [ways]uint32
	next   [ways]uint16  // sequence number
	seal   *srtp.Context // of what the phone sends
	open   *srtp.Context // of what the relay sends to the phone

	renamed bool // the relay has an SSRC of its own, which it announced
}

// plain tells whether both ends of the call speak RTP.
func (c *call) plain() bool { return c.seal == nil }

// newCalls makes calls from phones, which share an address, to a PBX. Those of
// no suite are plain at both ends.
func newCalls(n int, s suite, phone, pbx netip.Addr) ([]*call, error) {
	calls := make([]*call, n)
	for i := range calls {
		port := uint16(firstPort + 2*i)
		c := &call{
			suite: s, number: i, key: make([]byte, s.key+s.salt),
			phone: netip.AddrPortFrom(phone, port), pbx: netip.AddrPortFrom(pbx, port),
		}
		_, _ = rand.Read(c.key)
		var b [4 * ways]byte
		_, _ = rand.Read(b[:])
		for way := range ways {
			c.ssrc[way] = binary.BigEndian.Uint32(b[4*way:])
			c.next[way] = uint16(i * 7)
		}
		calls[i] = c
		if s == (suite{}) {
			continue
		}
		var err error
		if c.seal, err = s.context(c.key); err != nil {
			return nil, err
		}
	}
	return calls, nil
}

// offer is the phone's description. It declares its SSRC (RFC 5576), as it
// shares its host with all other phones of the bench.
func (c *call) offer() string {
	return describe(c.phone, "RTP/SAVP", fmt.Sprintf("a=crypto:1 %s inline:%s\r\na=ssrc:%d cname:%d@bench\r\n",
		c.suite.name, base64.StdEncoding.EncodeToString(c.key), c.ssrc[inward], c.number))
}

// answer is the PBX's description.
func (c *call) answer() string { return describe(c.pbx, "RTP/AVP", "") }

func describe(at netip.AddrPort, proto, more string) string {
	return fmt.Sprintf("v=0\r\no=- 1 1 IN IP4 %[1]s\r\ns=-\r\nc=IN IP4 %[1]s\r\nt=0 0\r\nm=audio %[2]d %[3]s 0\r\n"+
		"a=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n%[4]sa=sendrecv\r\n", at.Addr(), at.Port(), proto, more)
}

var (
	sdpAddr   = regexp.MustCompile(`(?m)^c=IN IP4 (\S+)`)
	sdpPort   = regexp.MustCompile(`(?m)^m=audio (\d+) `)
	sdpCrypto = regexp.MustCompile(`(?m)^a=crypto:\d+ (\S+) inline:([A-Za-z0-9+/]+)`)
)

// takeOffer reads the relay's description for the PBX.
func (c *call) takeOffer(sdp string) (err error) {
	c.entry[outward], err = audioAddr(sdp)
	return err
}

// takeAnswer reads the relay's description for the phone.
func (c *call) takeAnswer(sdp string) (err error) {
	if c.entry[inward], err = audioAddr(sdp); err != nil {
		return err
	}
	crypto := sdpCrypto.FindStringSubmatch(sdp)
	if crypto == nil || crypto[1] != c.suite.name {
		return fmt.Errorf("read the relay's answer: no %s in %q", c.suite.name, sdp)
	}
	key, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(crypto[2], "="))
	if err != nil {
		return fmt.Errorf("read the relay's key: %w", err)
	}
	c.open, err = c.suite.context(key)
	return err
}

func audioAddr(sdp string) (netip.AddrPort, error) {
	addr, port := sdpAddr.FindStringSubmatch(sdp), sdpPort.FindStringSubmatch(sdp)
	if addr == nil || port == nil {
		return netip.AddrPort{}, fmt.Errorf("read description: no audio in %q", sdp)
	}
	a, err := netip.ParseAddr(addr[1])
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("read description: %w", err)
	}
	n, err := strconv.ParseUint(port[1], 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("read description: %w", err)
	}
	return netip.AddrPortFrom(a, uint16(n)), nil
}
