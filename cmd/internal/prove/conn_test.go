package prove

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/media"
)

// tlsRecord is one of TLS, whose body says nothing.
func tlsRecord(kind byte, n int) []byte {
	b := append([]byte{kind, 3, 3, byte(n >> 8), byte(n)}, bytes.Repeat([]byte{0xa7}, n)...)
	return b
}

// talk is a TCP connection that a test writes.
type talk struct {
	*ledger
	a, b   netip.AddrPort
	sa, sb uint32
	after  time.Duration
}

func (l *ledger) connect(a, b netip.AddrPort) *talk {
	c := &talk{ledger: l, a: a, b: b, sa: 0xfffffff0, sb: 77} // over the end of the numbers
	c.raw(a, b, c.sa, 0, tcpSYN, nil)
	c.raw(b, a, c.sb, c.sa+1, tcpSYN|tcpACK, nil)
	c.sa, c.sb = c.sa+1, c.sb+1
	return c
}

func (c *talk) raw(from, to netip.AddrPort, seq, ack uint32, flags byte, p []byte) {
	c.Take(frameAt(c.after, ether(etherIPv4, ip4(protoTCP, from.Addr(), to.Addr(), nil, 1, 0, tcpOf(from, to, seq, ack, flags, p)))))
}

// says sends bytes of the first end, in segments of a size.
func (c *talk) says(p []byte, each int) {
	for part := range slices.Chunk(p, each) {
		c.raw(c.a, c.b, c.sa, c.sb, tcpACK, part)
		c.sa += uint32(len(part))
	}
}

// answers sends bytes of the other.
func (c *talk) answers(p []byte) {
	c.raw(c.b, c.a, c.sb, c.sa, tcpACK, p)
	c.sb += uint32(len(p))
}

var (
	hello   = tlsRecord(22, 300)
	request = append(tlsRecord(23, 700), tlsRecord(23, 20)...)
)

// Records are followed through the stream, however it is cut into segments, and in
// whatever order they come.
func TestTLSIsFollowed(t *testing.T) {
	k := knows(hmacSuite, nil)
	for _, each := range []int{1, 3, 5, 100, 1448, 1 << 15} {
		t.Run(fmt.Sprint(each), func(t *testing.T) {
			l := newLedger(t, &k)
			c := l.connect(phonePort, tlsPort)
			c.says(hello, each)
			c.answers(hello)
			c.says(append(request, tlsRecord(23, 16000)...), each)
			c.raw(c.a, c.b, c.sa, c.sb, tcpACK|tcpFIN, nil)
			l.end(Clean, map[Kind]uint64{TLS: l.total.packets})
		})
	}
	t.Run("out of order, and again", func(t *testing.T) {
		l := newLedger(t, &k)
		c := l.connect(phonePort, tlsPort)
		all := append(slices.Clone(hello), request...)
		segment := func(i int) { c.raw(c.a, c.b, c.sa+uint32(100*i), c.sb, tcpACK, all[100*i:min(100*i+100, len(all))]) }
		for _, i := range []int{0, 3, 2, 1, 1, 4, 6, 6, 5, 7, 8, 9, 10} {
			segment(i)
		}
		c.raw(c.a, c.b, c.sa+50, c.sb, tcpACK, all[50:400]) // cut in another way
		l.end(Clean, map[Kind]uint64{TLS: l.total.packets})
	})
	t.Run("began before the watch", func(t *testing.T) {
		l := newLedger(t, &k)
		c := &talk{ledger: l, a: phonePort, b: tlsPort, sa: 9}
		c.says(bytes.Repeat([]byte{0xa7}, 900), 300) // the end of a record
		c.says(request, 400)
		c.answers(request)
		l.end(Clean, map[Kind]uint64{TLS: l.total.packets})
	})
	t.Run("behind a balancer", func(t *testing.T) {
		l := newLedger(t, &k)
		c := l.connect(phonePort, tlsPort)
		head := append(slices.Clone(proxyHead), 0x21, 0x11, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
		c.says(append(head, hello...), 11)
		l.end(Clean, map[Kind]uint64{TLS: l.total.packets})
	})
	t.Run("a trunk", func(t *testing.T) {
		k := knows(hmacSuite, func(k *Knowledge) { k.Trunks = []netip.AddrPort{at(farIP, 5061)} })
		l := newLedger(t, &k)
		l.connect(at(edgeIP, 33333), at(farIP, 5061)).says(hello, 100)
		c := l.connect(at(edgeIP, 33334), at(farIP, 5061))
		c.says([]byte("no TLS at all"), 100)
		l.end(Leaks, map[Kind]uint64{TLS: l.total.packets - 1, LeakTCP: 1})
	})
}

// What is no record is a leak, from its first segment on.
func TestNoTLS(t *testing.T) {
	k := knows(hmacSuite, nil)
	for name, c := range map[string]struct {
		says, answers []byte
		want          map[Kind]uint64 // beside what is TLS
	}{
		"a phone's SIP":               {[]byte(invite), nil, map[Kind]uint64{LeakSIP: 1}},
		"anything of a phone":         {[]byte("GET / HTTP/1.1\r\n\r\n"), nil, map[Kind]uint64{LeakTCP: 1}},
		"SIP behind TLS":              {append(slices.Clone(hello), invite...), hello, map[Kind]uint64{LeakSIP: 1}},
		"SIP in a record":             {append(append([]byte{22, 3, 3, 0, byte(len(invite))}, invite...), hello...), nil, map[Kind]uint64{LeakSIP: 1}},
		"bytes behind TLS":            {append(slices.Clone(hello), "plain"...), hello, map[Kind]uint64{LeakTCP: 1}},
		"the edge's":                  {hello, []byte("HTTP/1.0 400 Bad Request\r\n\r\n"), map[Kind]uint64{LeakTCP: 1}},
		"data before any handshake":   {tlsRecord(23, 50), nil, map[Kind]uint64{LeakTCP: 1}},
		"a record longer than one is": {[]byte{22, 3, 3, 0xff, 0xff, 0}, nil, map[Kind]uint64{LeakTCP: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, &k)
			talk := l.connect(phonePort, tlsPort)
			if c.answers != nil && name != "the edge's" {
				talk.says(hello, 1<<15)
				talk.answers(c.answers)
				c.answers = nil
			}
			talk.says(c.says, 1<<15)
			if c.answers != nil {
				talk.answers(c.answers)
			}
			want := map[Kind]uint64{TLS: l.total.packets - 1}
			for kind, n := range c.want {
				want[kind] = n
			}
			l.end(Leaks, want)
		})
	}
	t.Run("a stranger's", func(t *testing.T) {
		l := newLedger(t, &k)
		c := l.connect(at(farIP, 999), tlsPort)
		c.says([]byte(invite), 1<<15)
		c.raw(c.b, c.a, c.sb, c.sa, tcpACK|tcpFIN, nil)
		c.says([]byte("GET / HTTP/1.1\r\n\r\n"), 1<<15)
		l.end(Clean, map[Kind]uint64{TLS: 3, StrangeSIP: 1, StrangeTCP: 1})
	})
	t.Run("again with other bytes", func(t *testing.T) {
		l := newLedger(t, &k)
		c := l.connect(phonePort, tlsPort)
		c.says(hello, 1<<15)
		c.raw(c.a, c.b, c.sa-uint32(len(invite)), c.sb, tcpACK, []byte(invite))
		l.end(Leaks, map[Kind]uint64{TLS: 3, LeakSIP: 1})
	})
	t.Run("bytes are missing", func(t *testing.T) {
		l := newLedger(t, &k)
		c := l.connect(phonePort, tlsPort)
		c.says(hello, 1<<15)
		c.sa += 500 // the other end has them, and we have not
		c.says(request, 1<<15)
		c.after = 3 * time.Second
		c.answers(hello)
		c.says(request, 1<<15)
		l.end(Incomplete, map[Kind]uint64{TLS: l.total.packets})
	})
	t.Run("bytes are missing, and nothing follows", func(t *testing.T) {
		l := newLedger(t, &k)
		c := l.connect(phonePort, tlsPort)
		c.says(hello, 1<<15)
		c.sa += 500
		c.answers(hello)
		l.end(Incomplete, map[Kind]uint64{TLS: 4})
	})
}

// Media by TCP is verified frame by frame, however segments cut them.
func TestMediaByTCP(t *testing.T) {
	k := knows(gcmSuite, func(k *Knowledge) {
		k.Keys.ICE = []media.LivePassword{{Ufrag: "ours", Password: "a password of 22 chars"}}
	})
	check := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("ours:theirs"), stun.NewShortTermIntegrity("a password of 22 chars"), stun.Fingerprint)
	framed := func(packets ...[]byte) (b []byte) {
		for _, p := range packets {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
		}
		return b
	}
	for _, each := range []int{1, 7, 200, 1 << 15} {
		t.Run(fmt.Sprint(each), func(t *testing.T) {
			l := newLedger(t, &k)
			phone := sealer(t, gcmSuite, phoneKey(gcmSuite), nil)
			c := l.connect(phonePort, tcpMedia)
			c.says(framed(check.Raw, sealed(t, phone, 5, 1), must[[]byte](t)(phone.EncryptRTCP(nil, report(5), nil)), nil, sealed(t, phone, 5, 2)), each)
			l.end(Clean, map[Kind]uint64{MediaTCP: l.total.packets})
		})
	}
	t.Run("in clear", func(t *testing.T) {
		l := newLedger(t, &k)
		phone := sealer(t, gcmSuite, phoneKey(gcmSuite), nil)
		c := l.connect(phonePort, tcpMedia)
		c.says(framed(check.Raw, sealed(t, phone, 5, 1), rtpPacket(5, 2, "in clear")), 1<<15)
		l.end(Leaks, map[Kind]uint64{MediaTCP: 2, LeakRTP: 1})
	})
	t.Run("in clear behind a hole, at the end", func(t *testing.T) {
		l := newLedger(t, &k)
		c := l.connect(phonePort, tcpMedia)
		c.sa += 100 // they were not seen
		c.says(framed(rtpPacket(5, 2, "in clear")), 1<<15)
		l.end(Leaks, map[Kind]uint64{MediaTCP: 2, LeakRTP: 1})
	})
	t.Run("the key comes later", func(t *testing.T) {
		none := knows(gcmSuite, func(k *Knowledge) { k.Keys.SRTP = nil })
		l := newLedger(t, &none)
		phone := sealer(t, gcmSuite, phoneKey(gcmSuite), nil)
		c := l.connect(phonePort, tcpMedia)
		c.says(framed(sealed(t, phone, 5, 1)), 100)
		l.learn(k, time.Second)
		l.end(Clean, map[Kind]uint64{MediaTCP: l.total.packets})
	})
}

// SIP in clear by TCP is found between whomever, in whatever segments, and by
// WebSocket, whose frames of one way cannot be read.
func TestPlainTCP(t *testing.T) {
	k := knows(hmacSuite, nil)
	for _, each := range []int{1, 10, 1 << 15} {
		l := newLedger(t, &k)
		c := l.connect(at(phoneIP, 1234), at(farIP, 8080))
		c.says([]byte(invite+strings.Repeat("and a body ", 20)), each)
		c.answers([]byte("SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP x\r\n\r\n"))
		c.says([]byte("more of it"), each)
		l.Finish()
		r := l.Report(0)
		if r.Verdict != Leaks || len(r.Leaks) != 2 || !strings.HasPrefix(r.Leaks[0].First, "SIP ") || r.Leaks[0].Transport != "tcp" {
			t.Errorf("in segments of %d: %+v", each, r)
		}
		checkSum(t, l.Account)
	}
	l := newLedger(t, &k)
	c := l.connect(at(phoneIP, 1234), at(farIP, 80))
	c.says([]byte("GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat, sip\r\n\r\n"), 1<<15)
	c.says([]byte("\x82\x85masked"), 1<<15)
	c.answers([]byte("\x82\x05plain"))
	l.end(Leaks, map[Kind]uint64{Other: 2, LeakSIP: 3})

	l = newLedger(t, &k)
	c = l.connect(at(phoneIP, 1234), at(farIP, 80))
	c.says([]byte("GET /rfc3261.txt HTTP/1.1\r\n\r\n"), 1<<15)
	c.answers([]byte("HTTP/1.1 200 OK\r\n\r\n      INVITE sip:bob@biloxi.com SIP/2.0\n      Via: SIP/2.0/UDP pc33\n"))
	l.end(Clean, map[Kind]uint64{Other: 4})

	for _, answered := range []bool{false, true} { // to the edge's own address, by a stranger
		l = newLedger(t, &k)
		c = l.connect(at(farIP, 1234), at(edgeIP, 5060))
		c.says([]byte(invite), 1<<15)
		if answered {
			c.answers([]byte("SIP/2.0 403 Forbidden\r\nVia: SIP/2.0/TCP x\r\n\r\n"))
			l.end(Leaks, map[Kind]uint64{Other: 2, LeakSIP: 2})
			continue
		}
		l.end(Clean, map[Kind]uint64{Other: 2, StrangeSIP: 1})
	}
}

// busy is how long the processor works for f, whatever else it has to do meanwhile.
func busy(f func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var began, ended unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &began)
	f()
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ended)
	return time.Duration(ended.Nano() - began.Nano())
}

// What strangers send costs no more in one piece than in parts: a super-packet of empty
// frames, and one of nothing but SIP's version, once cost as much as the square of their
// length.
func TestCostOfAPacket(t *testing.T) {
	const size, parts = 60000, 16
	k := knows(hmacSuite, nil)
	for name, one := range map[string][]byte{"empty frames": {0, 0}, "versions": sipVersion} {
		took := func(times, size int) time.Duration {
			payload := bytes.Repeat(one, size/len(one))
			c := newLedger(t, &k).connect(phonePort, tcpMedia)
			return busy(func() {
				for range times {
					c.says(payload, size)
					sipInside(payload)
				}
			})
		}
		whole, part := time.Hour, time.Hour
		for range 5 { // the machine may be busy
			whole, part = min(whole, took(10, size)), min(part, took(10*parts, size/parts))
		}
		if whole > parts/2*part {
			t.Errorf("%s take %s, and in %d parts %s", name, whole, parts, part)
		}
	}
}
