package sipproxy

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"net/textproto"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/media"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/sipproxy/locate"
	"github.com/sallyport/sallyport/sipproxy/transaction"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = netip.MustParseAddr("127.0.0.1")

// bench is a proxy with a PBX that the test plays, and phones that it plays.
type bench struct {
	t     testing.TB
	proxy *Proxy
	tls   []netip.AddrPort // for each public address
	wss   netip.AddrPort
	pbx   *net.UDPConn
	plain netip.AddrPort
	far   *tlsPeer        // that the trunks dial
	said  map[string]bool // to the PBX, so far

	faults uint64 // of the proxy's own that the test makes
}

func newBench(t *testing.T) *bench {
	t.Helper()
	return newBenchWith(t, media.Defaults().Silence, nil)
}

func newBenchWith(t *testing.T, silence time.Duration, change func(*Config)) *bench {
	t.Helper()
	return newBenchFor(t, silence, change, policy.Defaults())
}

// newBenchUnder is one with rules of its own.
func newBenchUnder(t *testing.T, rules func(*policy.Config)) *bench {
	t.Helper()
	cfg := policy.Defaults()
	rules(&cfg)
	return newBenchFor(t, media.Defaults().Silence, nil, cfg)
}

func newBenchFor(t testing.TB, silence time.Duration, change func(*Config), rules policy.Config) *bench {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	judge, err := policy.New(rules, policy.Parts{})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, said: make(map[string]bool)}
	if b.pbx, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	c := Defaults()
	c.WSSPort = 8443
	c.Domain, c.PublicIPs, c.Secret = "pbx.example.com", []netip.Addr{loopback}, make([]byte, 32)
	c.PBXs, c.CheckInterval = []locate.Server{{Addr: b.pbx.LocalAddr().(*net.UDPAddr).AddrPort()}}, 0
	c.PlainAddr = netip.AddrPortFrom(loopback, freePort(t))
	if change != nil {
		change(&c)
	}
	mc := media.Defaults()
	mc.SecureIPs, mc.PlainIP, mc.Port, mc.Workers, mc.PlainPorts = c.PublicIPs, loopback, 0, 1, media.PortRange{First: 31000, Last: 31999}
	mc.Silence = silence
	engine, err := media.New(mc)
	if err != nil {
		t.Fatal(err)
	}
	if b.proxy, err = New(c, engine, judge, log); err != nil {
		t.Fatal(err)
	}
	parts := append(b.listen(c, log), engine.Run, b.proxy.Run)
	done := make(chan error, len(parts))
	for _, run := range parts {
		go func() { done <- run(ctx) }()
	}
	t.Cleanup(func() {
		if n := b.proxy.Stats().Faults; n != b.faults {
			t.Errorf("%d messages met a fault of the proxy, want %d", n, b.faults)
		}
		drained, stop := context.WithTimeout(context.Background(), 0)
		b.proxy.Drain(drained) // hangs up what a test left
		stop()
		cancel()
		for range parts {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		b.pbx.Close()
	})
	return b
}

// listen binds the sockets, and returns what serves them.
func (b *bench) listen(c Config, log *slog.Logger) []func(context.Context) error {
	b.t.Helper()
	limits := flow.DefaultLimits()
	limits.KeepAlive = 0
	plain, err := flow.ListenPlain(c.PlainAddr, nil, limits, b.proxy, log)
	if err != nil {
		b.t.Fatal(err)
	}
	b.proxy.Attach(plain)
	asking := serverTLS(b.t)
	asking.ClientAuth = tls.RequestClientCert
	runs := b.attachTrunks(c, limits, log)
	for _, ip := range c.PublicIPs {
		ln, err := flow.ListenTLS(netip.AddrPortFrom(ip, 0), asking, limits, b.proxy, nil, log)
		if err != nil {
			b.t.Fatal(err)
		}
		ln.Know(named{})
		b.tls, runs = append(b.tls, ln.Addr()), append(runs, ln.Run)
	}
	web, err := flow.ListenWSS(netip.AddrPortFrom(loopback, 0), serverTLS(b.t), limits, flow.Site{Origins: flow.Origins{c.Domain}}, b.proxy, nil, log)
	if err != nil {
		b.t.Fatal(err)
	}
	b.plain, b.wss = plain.Addr(), web.Addr()
	return append(runs, plain.Run, web.Run)
}

var (
	firstPort  = mathrand.Uint32N(5000) // two runs side by side begin apart
	portsGiven atomic.Uint32
)

// freePort was free a moment ago, and is given once. It is none of those that the
// kernel gives to whoever asks for any, nor of another package's tests, which run
// meanwhile.
func freePort(t testing.TB) uint16 {
	t.Helper()
	for range 100 {
		port := 15000 + int((firstPort+portsGiven.Add(1))%5000)
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err == nil {
			c.Close()
			return uint16(port)
		}
	}
	t.Fatal("no port is free")
	return 0
}

func serverTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// message is a SIP message as the far ends read it.
type message struct {
	start string
	h     textproto.MIMEHeader
	body  string
}

func (m *message) status() int {
	if !strings.HasPrefix(m.start, "SIP/2.0 ") {
		return 0
	}
	n, _ := strconv.Atoi(m.start[8:11])
	return n
}

func (m *message) method() string {
	if m.status() > 0 {
		_, method, _ := strings.Cut(m.h.Get("CSeq"), " ")
		return method
	}
	method, _, _ := strings.Cut(m.start, " ")
	return method
}

func (m *message) uri() string { return strings.Fields(m.start)[1] }

func readText(r *bufio.Reader) (*message, error) {
	tp := textproto.NewReader(r)
	start, err := tp.ReadLine()
	for err == nil && start == "" {
		start, err = tp.ReadLine()
	}
	if err != nil {
		return nil, err
	}
	h, err := tp.ReadMIMEHeader()
	if err != nil {
		return nil, err
	}
	n, _ := strconv.Atoi(h.Get("Content-Length"))
	body := make([]byte, n)
	_, err = io.ReadFull(r, body)
	return &message{start, h, string(body)}, err
}

func text(body string, lines ...string) string {
	if body != "" {
		lines = append(lines, "Content-Type: application/sdp")
	}
	return strings.Join(lines, "\r\n") + fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// fromPBX sends text to the edge's plain address.
func (b *bench) fromPBX(s string) {
	b.t.Helper()
	if _, err := b.pbx.WriteToUDPAddrPort([]byte(s), b.plain); err != nil {
		b.t.Fatal(err)
	}
}

// atPBX reads the next message of a kind at the PBX: a method, or a status.
func (b *bench) atPBX(kind string) *message {
	b.t.Helper()
	return await(b.t, "the PBX", kind, b.heard)
}

// heard reads the next message at the PBX.
func (b *bench) heard(deadline time.Time) (*message, error) {
	s, err := b.raw(deadline)
	if err != nil {
		return nil, err
	}
	return readText(bufio.NewReader(strings.NewReader(s)))
}

// raw reads the next datagram at the PBX, byte for byte. Over UDP the edge says again
// what has no answer after half a second, which a busy machine may take: that is
// passed over, and so neither taken for the next message nor for one too many. An ACK
// is not said again but to what the PBX itself says again.
func (b *bench) raw(deadline time.Time) (string, error) {
	buf := make([]byte, 65536)
	_ = b.pbx.SetReadDeadline(deadline)
	for {
		n, err := b.pbx.Read(buf)
		if err != nil {
			return "", err
		}
		s := string(buf[:n])
		if again := b.said[s]; !again || strings.HasPrefix(s, "ACK ") {
			b.said[s] = true
			return s, nil
		}
	}
}

// What the edge says again is neither the next message nor one too many.
func TestRepetitionsArePassedOver(t *testing.T) {
	b := newBench(t)
	quick := transaction.DefaultTimers()
	quick.T1 = 20 * time.Millisecond
	b.proxy.tx = transaction.NewLayer(quick, transaction.DefaultLimits())
	p := b.phone()
	p.send(p.request("OPTIONS", "sip:602@pbx.example.com", to602, "o1", 1, ""))
	first := b.atPBX("OPTIONS")
	if m, err := b.heard(time.Now().Add(10 * quick.T1)); err == nil {
		t.Errorf("another %s came", m.start)
	}
	clear(b.said)
	again := b.atPBX("OPTIONS") // the control: it is repeated
	if again.h.Get("Via") != first.h.Get("Via") {
		t.Errorf("it is repeated by %s, and was sent by %s", again.h.Get("Via"), first.h.Get("Via"))
	}
	b.fromPBX(reply(again, 200, "pbx", ""))
	p.next("200")
}

// soon is until when a test waits for what must come: so long only if it fails.
func soon() time.Time { return time.Now().Add(30 * time.Second) }

// until waits for what must come to be.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := soon(); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s", what)
		}
	}
}

func await(t testing.TB, who, kind string, next func(time.Time) (*message, error)) *message {
	t.Helper()
	var seen []string
	for deadline := soon(); ; {
		m, err := next(deadline)
		if err != nil {
			t.Fatalf("%s awaits %s, got %q, then %v", who, kind, seen, err)
		}
		seen = append(seen, m.start)
		if (m.status() == 0 && m.method() == kind) || (m.status() > 0 && strconv.Itoa(m.status()) == kind) {
			return m
		}
	}
}

// phone is one connection to the edge.
type phone struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	n    int
}

func (b *bench) phone() *phone { return b.phoneWith(&tls.Config{InsecureSkipVerify: true}) }

func (b *bench) phoneWith(config *tls.Config) *phone {
	b.t.Helper()
	return b.phoneTo(b.tls[0], config)
}

func (b *bench) phoneTo(at netip.AddrPort, config *tls.Config) *phone {
	b.t.Helper()
	conn, err := tls.Dial("tcp", at.String(), config)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	return &phone{t: b.t, conn: conn, r: bufio.NewReader(conn)}
}

func (p *phone) send(s string) {
	p.t.Helper()
	if _, err := p.conn.Write([]byte(s)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *phone) next(kind string) *message {
	p.t.Helper()
	return await(p.t, "the phone", kind, func(d time.Time) (*message, error) {
		_ = p.conn.SetReadDeadline(d)
		return readText(p.r)
	})
}

func (p *phone) via() string {
	p.n++
	return fmt.Sprintf("Via: SIP/2.0/TLS 192.168.1.9:5061;branch=z9hG4bK%s;rport", randomToken(6))
}

// request composes a request of the phone; more are further lines.
func (p *phone) request(method, uri, to, callID string, cseq int, body string, more ...string) string {
	lines := append([]string{method + " " + uri + " SIP/2.0", p.via(), "Max-Forwards: 70",
		"From: \"Anna\" <sip:1001@pbx.example.com>;tag=anna", "To: " + to, "Call-ID: " + callID,
		fmt.Sprintf("CSeq: %d %s", cseq, method)}, more...)
	return text(body, lines...)
}

// reply composes an answer to a request.
func reply(m *message, status int, tag, body string, more ...string) string {
	lines := []string{fmt.Sprintf("SIP/2.0 %d Because", status)}
	for _, v := range m.h.Values("Via") {
		lines = append(lines, "Via: "+v)
	}
	to := m.h.Get("To")
	if tag != "" && !strings.Contains(to, "tag=") {
		to += ";tag=" + tag
	}
	lines = append(lines, "From: "+m.h.Get("From"), "To: "+to, "Call-ID: "+m.h.Get("Call-Id"), "CSeq: "+m.h.Get("Cseq"))
	return text(body, append(lines, more...)...)
}

const contact = "Contact: <sip:1001@192.168.1.9:5061;transport=tls>"

// register registers 1001 and returns the token that the PBX got.
func (b *bench) register(p *phone) string {
	b.t.Helper()
	p.send(p.request("REGISTER", "sip:pbx.example.com", "<sip:1001@pbx.example.com>", "reg", 1, "", contact, "Expires: 600"))
	reg := b.atPBX("REGISTER")
	got := reg.h.Get("Contact")
	b.fromPBX(reply(reg, 200, "r", "", "Contact: "+got+";expires=600"))
	p.next("200")
	token, _, ok := strings.Cut(strings.TrimPrefix(got, "<sip:"), "@")
	if !ok || len(token) != tokenLen {
		b.t.Fatalf("the PBX got contact %q", got)
	}
	return token
}

const secureSDP = "v=0\r\no=- 1 1 IN IP4 192.168.1.9\r\ns=-\r\nc=IN IP4 192.168.1.9\r\nt=0 0\r\nm=audio 40000 RTP/SAVP 0 101\r\n" +
	"a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n" +
	"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj\r\n" +
	"a=x-unknown:does not cross\r\na=sendrecv\r\n"

const plainSDP = "v=0\r\no=root 1 1 IN IP4 127.0.0.1\r\ns=Asterisk\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 30000 RTP/AVP 0 101\r\n" +
	"a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"

// noCallLeft waits until the proxy has forgotten every call: it does so just
// after the message that ends one has left.
func (b *bench) noCallLeft() {
	b.t.Helper()
	until(b.t, "no call to be left", func() bool { return b.proxy.Stats().Calls == 0 })
}
