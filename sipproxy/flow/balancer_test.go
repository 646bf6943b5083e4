package flow

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// proxyHeader is a header as HAProxy's proxy-protocol.txt, section 2.2, has it.
func proxyHeader(command, family byte, rest ...byte) []byte {
	b := append(bytes.Clone(proxySignature), 0x20|command, family)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(rest))), rest...)
}

var (
	phone4 = []byte{192, 0, 2, 7, 203, 0, 113, 7, 0x9c, 0x40, 0x13, 0xc5}                                                   // 192.0.2.7:40000 to 203.0.113.7:5061
	phone6 = append(append(netip.MustParseAddr("2001:db8::7").AsSlice(), make([]byte, 16)...), 0x9c, 0x40, 0x13, 0xc5)      // port 40000
	mapped = append(append(netip.MustParseAddr("::ffff:192.0.2.7").AsSlice(), make([]byte, 16)...), 0x9c, 0x40, 0x13, 0xc5) // likewise
	tlv    = append(bytes.Clone(phone4), 3, 0, 4, 1, 2, 3, 4)                                                               // a CRC, which nobody checks
	zero   = append([]byte{0, 0, 0, 0}, phone4[4:]...)
)

func TestProxyHeader(t *testing.T) {
	for _, tc := range []struct {
		name   string
		header []byte
		want   string // "own" is the balancer's; nothing is refused
	}{
		{"IPv4", proxyHeader(1, 0x11, phone4...), "192.0.2.7:40000"},
		{"IPv6", proxyHeader(1, 0x21, phone6...), "[2001:db8::7]:40000"},
		{"a mapped IPv4", proxyHeader(1, 0x21, mapped...), "192.0.2.7:40000"},
		{"with more behind", proxyHeader(1, 0x11, tlv...), "192.0.2.7:40000"},
		{"the balancer's own", proxyHeader(0, 0), "own"},
		{"the balancer's own, with addresses", proxyHeader(0, 0x11, phone4...), "own"},
		{"nobody's address", proxyHeader(1, 0x11, zero...), ""},
		{"UDP", proxyHeader(1, 0x12, phone4...), ""},
		{"a UNIX socket", proxyHeader(1, 0x31, make([]byte, 216)...), ""},
		{"unknown", proxyHeader(1, 0), ""},
		{"another command", proxyHeader(2, 0x11, phone4...), ""},
		{"too short", proxyHeader(1, 0x11, phone4[:11]...), ""},
		{"cut", proxyHeader(1, 0x11, phone4...)[:20], ""},
		{"too long", append(proxyHeader(1, 0x11)[:14], 0xff, 0xff), ""},
		{"version 1", []byte("PROXY TCP4 192.0.2.7 203.0.113.7 40000 5061\r\n"), ""},
		{"version 3", append(append(bytes.Clone(proxySignature), 0x31, 0x11, 0, 12), phone4...), ""},
		{"TLS", []byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 1, 2, 3, 4, 5, 6}, ""},
		{"nothing", nil, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := bytes.NewReader(append(bytes.Clone(tc.header), "TLS follows"...))
			if tc.name == "cut" || tc.name == "nothing" {
				r = bytes.NewReader(tc.header)
			}
			got, err := readProxyHeader(r)
			text := ""
			switch {
			case err == nil && got.IsValid():
				text = got.String()
			case err == nil:
				text = "own"
			case !errors.Is(err, errNoProxyHeader):
				t.Errorf("error %v", err)
			}
			if text != tc.want {
				t.Errorf("read %q (%v), want %q", text, err, tc.want)
			}
			if rest, _ := io.ReadAll(r); tc.want != "" && string(rest) != "TLS follows" {
				t.Errorf("%q is left", rest)
			}
		})
	}
}

func FuzzProxyHeader(f *testing.F) {
	for _, seed := range [][]byte{
		proxyHeader(1, 0x11, phone4...), proxyHeader(1, 0x21, phone6...), proxyHeader(0, 0), tlv,
		proxyHeader(1, 0x11, phone4[:11]...), proxyHeader(1, 0x21, phone6[:35]...), proxyHeader(2, 0x11, phone4...), proxyHeader(1, 0x12, phone4...), // cut, of another command, of UDP
		proxyHeader(1, 0x11, make([]byte, 12)...), proxyHeader(1, 0x11, make([]byte, maxProxyHeader+1)...), proxyHeader(1, 0x11, phone4...)[:20],
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		at, err := readProxyHeader(r)
		if read := len(b) - r.Len(); read > 16+maxProxyHeader {
			t.Errorf("read %d bytes", read)
		}
		if err == nil && at.IsValid() && (at.Addr().IsUnspecified() || at.Addr().Is4In6()) {
			t.Errorf("%s is taken for a phone", at)
		}
	})
}

// Behind a balancer each phone is who it is to policy and to the handler. Who is no
// balancer is not believed, and a balancer that says nothing is refused.
func TestBehindBalancer(t *testing.T) {
	for _, tc := range []struct {
		name      string
		balancers string
		header    []byte
		want      string // whose flow it is; nothing: refused
		unasked   bool   // policy is not
	}{
		{name: "a phone", balancers: "127.0.0.0/8", header: proxyHeader(1, 0x11, phone4...), want: "192.0.2.7:40000"},
		{name: "a phone that policy refuses", balancers: "127.0.0.0/8", header: proxyHeader(1, 0x11, 192, 0, 2, 66, 203, 0, 113, 7, 0, 1, 0, 2)},
		{name: "a check", balancers: "127.0.0.0/8", header: proxyHeader(0, 0), want: "127.0.0.1", unasked: true},
		{name: "a check with an address", balancers: "127.0.0.0/8", header: proxyHeader(0, 0x11, phone4...), want: "127.0.0.1", unasked: true},
		{name: "no header", balancers: "127.0.0.0/8"},
		{name: "no balancer, and a header", balancers: "198.51.100.0/24", header: proxyHeader(1, 0x11, phone4...)},
		{name: "no balancer, and none", balancers: "198.51.100.0/24", want: "127.0.0.1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, asked := newInbox(), make(chan netip.Addr, 1)
			var held atomic.Int32
			admit := func(a netip.Addr) (func(), error) {
				asked <- a
				if a == netip.MustParseAddr("192.0.2.66") {
					return nil, errors.New("no")
				}
				held.Add(1)
				return func() { held.Add(-1) }, nil
			}
			limits := DefaultLimits()
			limits.HandshakeTimeout = 3 * time.Second
			ln, err := ListenTLS(netip.MustParseAddrPort("127.0.0.1:0"), serverConfig(t), limits, h, admit, quietLog)
			if err != nil {
				t.Fatal(err)
			}
			ln.Behind([]netip.Prefix{netip.MustParsePrefix(tc.balancers)})
			run(t, func(ctx context.Context) error { return ln.Run(ctx) })
			raw, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			_, _ = raw.Write(tc.header)
			c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
			_ = c.SetDeadline(time.Now().Add(longest))
			err = c.Handshake()
			if (err == nil) != (tc.want != "") {
				t.Fatalf("handshake: %v", err)
			}
			if tc.want == "" {
				until(t, "nothing to be open", func() bool { return ln.Stats().Open == 0 })
				return
			}
			send(t, c, options)
			until(t, "a message", func() bool { n, _ := h.count(); return n == 1 })
			if got := h.flows[0].Remote().String(); !strings.HasPrefix(got, tc.want) {
				t.Errorf("the flow is of %s, want %s", got, tc.want)
			}
			select {
			case got := <-asked:
				if tc.unasked || !strings.HasPrefix(tc.want, got.String()) {
					t.Errorf("policy was asked about %s", got)
				}
			default:
				if !tc.unasked {
					t.Error("policy was not asked")
				}
			}
			c.Close()
			until(t, "the place to be free", func() bool { return held.Load() == 0 })
		})
	}
}

// What a balancer does to see whether the edge lives succeeds, whatever policy says of
// the balancer, and is held against nobody.
func TestBalancerChecks(t *testing.T) {
	var foreign atomic.Int32
	ln, err := ListenWSS(netip.MustParseAddrPort("127.0.0.1:0"), serverConfig(t), DefaultLimits(), Site{Origins: testOrigins}, newInbox(),
		func(netip.Addr) (func(), error) { return nil, errors.New("no") }, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	ln.Behind([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	ln.OnForeign(func(netip.Addr) { foreign.Add(1) })
	run(t, ln.Run)
	check := func(t *testing.T) net.Conn {
		raw, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { raw.Close() })
		_ = raw.SetDeadline(time.Now().Add(longest))
		_, _ = raw.Write(proxyHeader(0, 0))
		return raw
	}
	t.Run("HTTPS", func(t *testing.T) {
		c := tls.Client(check(t), &tls.Config{InsecureSkipVerify: true})
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("answered %s", res.Status)
		}
	})
	t.Run("no TLS", func(t *testing.T) {
		raw := check(t)
		_, _ = io.WriteString(raw, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		_, _ = io.Copy(io.Discard, raw)
	})
	t.Run("nothing", func(t *testing.T) { check(t).Close() })
	until(t, "three checks to be over", func() bool { st := ln.Stats(); return st.Events["balancer_check"] == 3 && st.Open == 0 })
	if st := ln.Stats(); st.Events["handshake_failed"] != 0 || foreign.Load() != 0 {
		t.Errorf("counted %v, and %d foreign", st.Events, foreign.Load())
	}
}
