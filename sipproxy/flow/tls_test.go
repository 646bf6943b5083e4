package flow

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inbox is a Handler that collects.
type inbox struct {
	mu       sync.Mutex
	messages []sip.Message
	flows    []*Flow
	closed   map[*Flow]error
	on       func(*Flow, sip.Message)
}

func newInbox() *inbox { return &inbox{closed: make(map[*Flow]error)} }

func (h *inbox) Receive(f *Flow, m sip.Message) {
	h.mu.Lock()
	h.messages, h.flows = append(h.messages, m), append(h.flows, f)
	on := h.on
	h.mu.Unlock()
	if on != nil {
		on(f, m)
	}
}

func (h *inbox) Closed(f *Flow, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, twice := h.closed[f]; twice {
		panic("closed twice")
	}
	h.closed[f] = err
}

func (h *inbox) count() (messages, closed int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.messages), len(h.closed)
}

// longest is how long a test waits for what must come: so long only if it fails.
const longest = 30 * time.Second

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(longest); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s", what)
		}
	}
}

func serverConfig(t testing.TB) *tls.Config {
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

var quietLog = slog.New(slog.NewTextHandler(io.Discard, nil))

func serve(t *testing.T, l Limits, h Handler, admit Admit) *Listener {
	t.Helper()
	ln, err := ListenTLS(netip.MustParseAddrPort("127.0.0.1:0"), serverConfig(t), l, h, admit, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	run(t, ln.Run)
	return ln
}

func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func dial(t *testing.T, l *Listener) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

// rest reads until the other side closes.
func rest(t *testing.T, c net.Conn) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(longest))
	b, err := io.ReadAll(c)
	if errors.Is(err, context.DeadlineExceeded) || err != nil && strings.Contains(err.Error(), "timeout") {
		t.Fatalf("the connection stays open; read %q", b)
	}
	return string(b)
}

func numbered(n int) string {
	return strings.Replace(options, "CSeq: 1 ", fmt.Sprintf("CSeq: %d ", n), 1)
}

func TestOrderIsKept(t *testing.T) {
	h := newInbox()
	c := dial(t, serve(t, DefaultLimits(), h, nil))
	var all strings.Builder
	for i := range 1000 {
		all.WriteString(numbered(i))
	}
	send(t, c, all.String())
	until(t, "all messages", func() bool { n, _ := h.count(); return n == 1000 })
	for i, m := range h.messages {
		if int(m.CSeq().SeqNo) != i {
			t.Fatalf("message %d has CSeq %d", i, m.CSeq().SeqNo)
		}
	}
	f := h.flows[0]
	for i := range 1000 {
		res := sip.NewResponse(200, "OK")
		res.AppendHeader(&sip.CSeqHeader{SeqNo: uint32(i), MethodName: sip.OPTIONS})
		if err := f.Send(res); err != nil {
			t.Fatal(err)
		}
	}
	s := bufio.NewScanner(c)
	for i := 0; i < 1000 && s.Scan(); {
		if line := s.Text(); strings.HasPrefix(line, "CSeq") {
			if line != fmt.Sprintf("CSeq: %d OPTIONS", i) {
				t.Fatalf("answer %d is %s", i, line)
			}
			i++
		}
	}
	if f.Side() != Secure || !f.Reliable() || f.Transport() != "TLS" || f.TLS() == nil || f.Remote() != addrPort(c.LocalAddr()) {
		t.Errorf("the flow is %s %s from %s", f.Side(), f.Transport(), f.Remote())
	}
}

func TestKeepAliveBothWays(t *testing.T) {
	l := DefaultLimits()
	l.KeepAlive = 50 * time.Millisecond
	c := dial(t, serve(t, l, newInbox(), nil))
	send(t, c, "\r\n\r\n")
	b := make([]byte, 6)
	_ = c.SetReadDeadline(time.Now().Add(longest))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "\r\n\r\n\r\n" {
		t.Fatalf("got %q (%v), want a pong and a ping", b, err)
	}
}

// An emergency call by its service URN is refused, and the phone goes on.
func TestForeignSchemeKeepsTheFlow(t *testing.T) {
	h := newInbox()
	c := dial(t, serve(t, DefaultLimits(), h, nil))
	send(t, c, swap("sip:602@pbx.example.com SIP", "urn:service:sos SIP")+options)
	until(t, "the next message", func() bool { n, _ := h.count(); return n == 1 })
	b := make([]byte, 11)
	_ = c.SetReadDeadline(time.Now().Add(longest))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "SIP/2.0 416" {
		t.Fatalf("got %q (%v)", b, err)
	}
}

func TestMalformedIsAnsweredAndClosed(t *testing.T) {
	h := newInbox()
	l := serve(t, DefaultLimits(), h, nil)
	for name, text := range map[string]string{
		"bad header":       swap("CSeq: 1 OPTIONS", "CSeq: 1 INVITE"),
		"not SIP":          "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"control":          swap("Contact", "X: a\x0bb\r\nContact"),
		"overflowed":       swap("Length: 0", "Length: 4294967328"),
		"hidden in a body": swap("Length: 0\r\n", "Length: 0\r\nContent-Length: 500\r\n") + options,
	} {
		c := dial(t, l)
		send(t, c, text)
		answer := rest(t, c)
		if strings.Contains(text, "Via") != strings.HasPrefix(answer, "SIP/2.0 4") || strings.Contains(text, "Via") != strings.Contains(answer, "Warning: 399") {
			t.Errorf("%s is answered %q", name, answer)
		}
	}
	if n, _ := h.count(); n != 0 {
		t.Fatalf("%d messages came through", n)
	}
}

// A slow client costs only its own time.
// What was answered before a malformed message leaves before the end, though
// that message itself gets no answer.
func TestAnswersLeaveBeforeTheEnd(t *testing.T) {
	h := newInbox()
	h.on = func(f *Flow, m sip.Message) { _ = f.Send(m) }
	ln := serve(t, DefaultLimits(), h, nil)
	for range 20 {
		c := dial(t, ln)
		send(t, c, options+"SIP/2.0 099 x\r\n"+options[strings.Index(options, "Via"):])
		if got := rest(t, c); !strings.HasPrefix(got, "OPTIONS ") {
			t.Fatalf("read %q, want what was sent before the malformed message", got)
		}
	}
}

func TestSlowClients(t *testing.T) {
	l := DefaultLimits()
	l.HandshakeTimeout, l.FirstMessageTimeout, l.MessageTimeout = 3*time.Second, 3*time.Second, 2*time.Second
	l.MaxHandshakes = 2 // the silent ones take none of them
	h := newInbox()
	ln := serve(t, l, h, nil)
	for range 20 { // silent before the handshake
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	silent := dial(t, ln)
	trickle := dial(t, ln)
	send(t, trickle, options)
	go func() { // ends when the edge closes the connection
		for i := range options {
			if _, err := io.WriteString(trickle, options[i:i+1]); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	honest := dial(t, ln)
	begun := time.Now()
	send(t, honest, options)
	until(t, "the honest client's message", func() bool { n, _ := h.count(); return n >= 2 })
	if took := time.Since(begun); took > 150*time.Millisecond {
		t.Logf("the honest client waited %s", took)
	}
	rest(t, silent)
	rest(t, trickle)
	until(t, "the slow ones to be closed", func() bool {
		e := ln.Stats().Events
		return e["closed_silent"] == 1 && e["closed_stalled"] == 1 && e["handshake_failed"] == 20
	})
	if ln.Stats().Handshakes != 0 {
		t.Errorf("%d handshakes are left", ln.Stats().Handshakes)
	}
}

// A client that does not read is closed when its queue is full, and nobody
// waits for it meanwhile.
// gate is a connection whose writes wait until they are let through.
type gate chan struct{}

func (g gate) Write(b []byte) (int, error)    { <-g; return len(b), nil }
func (gate) SetWriteDeadline(time.Time) error { return nil }

// What is told once that all has left is not told again when another message
// leaves after it: an answer of the PBX, while a malformed message is refused.
func TestAfterLastOnce(t *testing.T) {
	open, wg := make(gate), &sync.WaitGroup{}
	q := &queue{conn: open, limits: DefaultLimits(), wg: wg, onError: func(error) {}}
	told := 0
	_ = q.push([]byte("first"))
	q.afterLast(func() { told++ })
	for range 2 {
		open <- struct{}{}
		wg.Wait()
		_ = q.push([]byte("more"))
	}
	open <- struct{}{}
	wg.Wait()
	if told != 1 {
		t.Fatalf("told %d times", told)
	}
}

func TestNeverReads(t *testing.T) {
	l := DefaultLimits()
	l.WriteQueue = 64 << 10
	h := newInbox()
	ln := serve(t, l, h, nil)
	c := dial(t, ln)
	send(t, c, options)
	until(t, "the message", func() bool { n, _ := h.count(); return n == 1 })
	f := h.flows[0]
	res := sip.NewResponse(200, strings.Repeat("x", 10000))
	var err error
	for i := 0; i < 10000 && err == nil; i++ {
		err = f.Send(res)
	}
	if !errors.Is(err, ErrSlow) {
		t.Fatalf("sending into a full queue gave %v", err)
	}
	until(t, "the flow to close", func() bool { _, n := h.count(); return n == 1 })
	if !errors.Is(h.closed[f], ErrSlow) || !errors.Is(f.Send(res), ErrClosed) {
		t.Errorf("closed for %v", h.closed[f])
	}
}

func TestAdmission(t *testing.T) {
	var released atomic.Int32
	refuse := atomic.Bool{}
	admit := func(netip.Addr) (func(), error) {
		if refuse.Load() {
			return nil, errors.New("no")
		}
		return func() { released.Add(1) }, nil
	}
	l := DefaultLimits()
	l.MaxFlows = 3
	h := newInbox()
	ln := serve(t, l, h, admit)
	var open []*tls.Conn
	for range 3 {
		open = append(open, dial(t, ln))
	}
	until(t, "three connections", func() bool { return ln.Stats().Open == 3 })
	if _, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Fatal("a fourth connection got in")
	}
	until(t, "the fourth to be released", func() bool { return released.Load() == 1 })
	open[0].Close()
	until(t, "the place to be free", func() bool { return ln.Stats().Open == 2 && released.Load() == 2 })
	dial(t, ln)
	refuse.Store(true)
	if _, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Fatal("a refused connection got in")
	}
	if e := ln.Stats().Events; e["refused_full"] != 1 || e["refused_by_policy"] != 1 {
		t.Errorf("counted %v", e)
	}
}

// flaky is a net.Listener whose first accepts fail.
type flaky struct {
	net.Listener
	left atomic.Int32
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return f.Listener.Accept()
}

func TestAcceptErrorsPass(t *testing.T) {
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{Listener: raw}
	f.left.Store(3)
	h := newInbox()
	ln := NewListener(f, serverConfig(t), DefaultLimits(), h, nil, quietLog)
	run(t, ln.Run)
	send(t, dial(t, ln), options)
	until(t, "the message", func() bool { n, _ := h.count(); return n == 1 })
	if n := ln.Stats().Events["accept_error"]; n != 3 {
		t.Errorf("%d accept errors counted", n)
	}
}

func TestStopAcceptingKeepsFlows(t *testing.T) {
	h := newInbox()
	ln := serve(t, DefaultLimits(), h, nil)
	c := dial(t, ln)
	send(t, c, options)
	until(t, "the message", func() bool { n, _ := h.count(); return n == 1 })
	ln.StopAccepting()
	until(t, "the port to close", func() bool {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	send(t, c, options)
	until(t, "a second message", func() bool { n, _ := h.count(); return n == 2 })
}

func TestPlainSocket(t *testing.T) {
	h := newInbox()
	s, err := ListenPlain(netip.MustParseAddrPort("127.0.0.1:0"), nil, DefaultLimits(), h, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	s.Expect([]netip.Addr{netip.MustParseAddr("127.0.0.1")})
	run(t, s.Run)
	open := func(ip string) *net.UDPConn {
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	pbx, stranger := open("127.0.0.1"), open("127.0.0.2")
	write := func(c *net.UDPConn, text string) {
		if _, err := c.WriteToUDPAddrPort([]byte(text), s.Addr()); err != nil {
			t.Fatal(err)
		}
	}
	write(stranger, options)
	until(t, "the stranger to be counted", func() bool { return s.Stats().Events["stranger"] == 1 })
	for _, text := range []string{"\r\n\r\n", "\x00\x00\x00\x00", "\r\n" + numbered(7) + "surplus"} {
		write(pbx, text)
	}
	until(t, "the message", func() bool { n, _ := h.count(); return n == 1 })
	f := h.flows[0]
	if f != s.Flow(addrPort(pbx.LocalAddr())) || f.Side() != Plain || f.Reliable() || f.TLS() != nil {
		t.Fatalf("the flow is %s %s", f.Side(), f.Remote())
	}
	write(pbx, strings.Replace(numbered(8), "Max-Forwards", "P-Asserted-Identity: \"M\xfcller\" <sip:1@x.example>\r\nMax-Forwards", 1))
	until(t, "the message of a caller with a name in Latin-1", func() bool { n, _ := h.count(); return n == 2 })
	if name := h.messages[1].GetHeaders("P-Asserted-Identity")[0].Value(); name != `"M?ller" <sip:1@x.example>` {
		t.Errorf("the caller's name is %s", name)
	}
	write(pbx, swap("CSeq: 1 OPTIONS", "CSeq: 1 INVITE"))
	b := make([]byte, 4096)
	_ = pbx.SetReadDeadline(time.Now().Add(longest))
	n, err := pbx.Read(b)
	if err != nil || !strings.HasPrefix(string(b[:n]), "SIP/2.0 400 ") {
		t.Fatalf("malformed is answered %q (%v)", b[:n], err)
	}
	big := sip.NewResponse(200, strings.Repeat("x", 5000)) // over 1300 bytes: no limit of ours
	if err := f.Send(big); err != nil {
		t.Fatal(err)
	}
	b = make([]byte, 65536)
	if n, err = pbx.Read(b); err != nil || n < 5000 {
		t.Fatalf("got %d bytes (%v)", n, err)
	}
	if err := f.Send(sip.NewResponse(200, strings.Repeat("x", 70000))); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("70,000 bytes: %v", err)
	}
}

// At level debug each message leaves one line, with nothing secret in it.
func TestTraceHasNoSecrets(t *testing.T) {
	var out strings.Builder
	log := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	_, m, fault := parseDatagram([]byte(strings.Replace(withBody("a=crypto:1 X inline:SECRET"), "Contact", "Authorization: Digest response=\"SECRET\"\r\nContact", 1)))
	if fault != nil {
		t.Fatal(fault)
	}
	tr := &tracer{log}
	f := newFlow(Secure, "TLS", netip.AddrPort{}, netip.MustParseAddrPort("192.0.2.1:5061"), nil, tr)
	tr.message(f, "in", m)
	for _, want := range []string{`"msg":"sip"`, `"side":"secure"`, `"dir":"in"`, `"peer":"192.0.2.1:5061"`, `"start":"OPTIONS sip:602@pbx.example.com SIP/2.0"`, `"cseq":"1 OPTIONS"`, `"call_id":"c1@192.168.1.9"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is missing in %s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "SECRET") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("traced as %s", out.String())
	}
}
