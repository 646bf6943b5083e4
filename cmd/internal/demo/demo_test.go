package demo

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/srtp/v3"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// standIn is the least that a demo can be played against in place of the edge:
// one connection, SIP handed on as it is, SRTP to RTP and back. Its flaws are
// the controls: with each, the demo must fail.
type standIn struct {
	flaw string
	spec EdgeSpec
	done sync.WaitGroup

	mu   sync.Mutex // guards open
	open []io.Closer
}

func (s *standIn) keep(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, c)
}

func (s *standIn) start(_ context.Context, spec EdgeSpec) (*Edge, error) {
	s.spec = spec
	caFile, cfg, err := certificate(spec)
	if err != nil {
		return nil, err
	}
	l, err := tls.Listen("tcp", netip.AddrPortFrom(spec.IP, spec.TLSPort).String(), cfg)
	if err != nil {
		return nil, err
	}
	s.keep(l)
	s.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.keep(c)
			s.done.Go(func() { s.serve(c) })
		}
	})
	ended := make(chan struct{})
	return &Edge{CAFile: caFile, Done: ended, Stop: func() error {
		s.mu.Lock()
		for _, c := range s.open {
			c.Close()
		}
		s.mu.Unlock()
		s.done.Wait()
		close(ended)
		return nil
	}}, nil
}

func certificate(spec EdgeSpec) (file string, _ *tls.Config, _ error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", nil, err
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{spec.Domain}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return "", nil, err
	}
	file = filepath.Join(spec.StateDir, "edge.crt")
	err = os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	return file, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, err
}

func (s *standIn) serve(c net.Conn) {
	pbx, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(s.spec.Plain), net.UDPAddrFromAddrPort(s.spec.PBX))
	if err != nil {
		return
	}
	defer pbx.Close()
	in, buf := bufio.NewReader(c), make([]byte, 64<<10)
	for {
		m, err := readMessage(in)
		if err != nil {
			return
		}
		var media *bridge
		if m.method() == "INVITE" {
			if media, err = s.bridge(m); err != nil {
				return
			}
		}
		if s.flaw == "no registration" && m.method() == "REGISTER" {
			_, _ = c.Write(answer(m, 403, "Forbidden").bytes())
			continue
		}
		_, _ = pbx.Write(m.bytes())
		if m.method() == "ACK" {
			continue
		}
		n, err := pbx.Read(buf)
		if err != nil {
			return
		}
		r, _ := parseMessage(buf[:n])
		if media != nil {
			media.answer(r)
		}
		_, _ = c.Write(r.bytes())
	}
}

// bridge is one call's media in the stand-in.
type bridge struct {
	s             *standIn
	secure, plain *net.UDPConn
	in, out       *srtp.Context
	suite         Suite
	key           string
	pbx           netip.AddrPort
}

func (s *standIn) bridge(m *message) (*bridge, error) {
	offer, err := parseSDP(m.body)
	if err != nil {
		return nil, err
	}
	b := &bridge{s: s, suite: Suite(offer.crypto)}
	b.key, _ = b.suite.newKey()
	b.in, _ = b.suite.context(offer.key)
	b.out, _ = b.suite.context(b.key)
	b.secure, _ = net.ListenUDP("udp", &net.UDPAddr{IP: loopback.AsSlice()})
	b.plain, _ = net.ListenUDP("udp", &net.UDPAddr{IP: loopback.AsSlice()})
	s.keep(b.secure)
	s.keep(b.plain)
	m.withSDP(sdp(b.plain.LocalAddr().(*net.UDPAddr).AddrPort(), "RTP/AVP", "0", ""))
	return b, nil
}

func (b *bridge) answer(m *message) {
	sd, err := parseSDP(m.body)
	if err != nil {
		return
	}
	b.pbx = sd.addr
	proto, crypto := "RTP/SAVP", fmt.Sprintf("a=crypto:1 %s inline:%s", b.suite, b.key)
	if b.s.flaw == "plain answer" {
		proto, crypto = "RTP/AVP", "a=x"
	}
	m.withSDP(sdp(b.secure.LocalAddr().(*net.UDPAddr).AddrPort(), proto, "0", "", crypto))
	phones := make(chan netip.AddrPort, 1)
	b.s.done.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := b.secure.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			plain, err := b.in.DecryptRTP(nil, buf[:max(n, 0)], nil)
			if err != nil {
				continue
			}
			select {
			case phones <- from:
			default:
			}
			if b.s.flaw == "mute" {
				clear(plain[headerSize:])
			}
			_, _ = b.plain.WriteToUDPAddrPort(plain, b.pbx)
		}
	})
	b.s.done.Go(func() {
		var phone netip.AddrPort
		buf := make([]byte, 2048)
		for {
			n, _, err := b.plain.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select {
			case phone = <-phones:
			default:
			}
			if err != nil || !phone.IsValid() {
				continue
			}
			sealed, _ := b.out.EncryptRTP(nil, buf[:n], nil)
			if b.s.flaw == "leak" { // besides the sealed one, as a tap would
				_, _ = b.secure.WriteToUDPAddrPort(buf[:n], phone)
			}
			_, _ = b.secure.WriteToUDPAddrPort(sealed, phone)
		}
	})
}

func TestRun(t *testing.T) {
	for _, tc := range []struct {
		flaw   string // of the edge
		failed []string
	}{
		{"", nil},
		{"no registration", []string{"registered"}},
		{"plain answer", []string{"call 602", "call 600", "outside"}},
		{"leak", []string{"outside"}},
		{"mute", []string{"call 600", "inside"}},
	} {
		t.Run("flaw="+tc.flaw, func(t *testing.T) {
			var out bytes.Buffer
			s := &standIn{flaw: tc.flaw}
			err := Run(t.Context(), Options{Listen: loopback, Once: true, talk: 1500 * time.Millisecond, Out: &out, Log: slog.New(slog.DiscardHandler), StartEdge: s.start})
			if (tc.failed != nil) != errors.Is(err, ErrFailed) || (err != nil && !errors.Is(err, ErrFailed)) {
				t.Errorf("Run: %v", err)
			}
			for _, step := range tc.failed {
				if !strings.Contains(out.String(), "FAILED  "+step) {
					t.Errorf("step %q did not fail", step)
				}
			}
			if tc.failed == nil && strings.Contains(out.String(), "FAILED") {
				t.Error("a step failed")
			}
			if t.Failed() {
				t.Log(out.String())
			}
		})
	}
}

func TestRunStaysUntilTold(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	s, ended := &standIn{}, make(chan error, 1)
	go func() { // ends with Run; waited for below
		err := Run(ctx, Options{Listen: loopback, talk: 1500 * time.Millisecond, Out: w, Log: slog.New(slog.DiscardHandler), StartEdge: s.start})
		w.Close()
		ended <- err
	}()
	lines, offered := bufio.NewScanner(r), false
	for lines.Scan() {
		if strings.Contains(lines.Text(), "https://") {
			offered = strings.TrimSpace(lines.Text()) == fmt.Sprintf("https://127.0.0.1:%d/phone#user=102&call=600", s.spec.WebPort) && s.spec.WebPort != s.spec.TLSPort
		}
		if strings.Contains(lines.Text(), "Ctrl-C ends the demo") {
			cancel()
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !offered {
		t.Error("the test phone's page was not offered")
	}
}

func TestRunReportsAnEdgeThatDoesNotStart(t *testing.T) {
	want := errors.New("no edge today")
	err := Run(t.Context(), Options{Listen: loopback, Out: io.Discard, Log: slog.New(slog.DiscardHandler),
		StartEdge: func(context.Context, EdgeSpec) (*Edge, error) { return nil, want }})
	if !errors.Is(err, want) {
		t.Errorf("Run: %v", err)
	}
}

// The eavesdropper must read plain text when there is any, or its silence on a
// sealed wire proves nothing.
func TestWireReadsPlainText(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w, err := OpenWire(l.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	phone, err := net.Dial("tcp", w.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer phone.Close()
	edge, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer edge.Close()
	text := "REGISTER sip:example.com SIP/2.0\r\n\r\n"
	if _, err := io.WriteString(phone, text); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(edge, make([]byte, len(text))); err != nil {
		t.Fatal(err)
	}

	far, err := net.ListenUDP("udp", &net.UDPAddr{IP: loopback.AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	at, err := w.Media(far.LocalAddr().(*net.UDPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	near, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	_ = far.SetReadDeadline(time.Now().Add(10 * time.Second))
	f := newFrames(testTone, 1)
	for range 50 {
		packet, _ := f.next().Marshal()
		_, _ = near.Write(packet)
		if _, err := far.Read(make([]byte, 2048)); err != nil {
			t.Fatal(err)
		}
	}
	o := w.Outside()
	if o.Sealed() || o.Other != len(text) || len(o.Words) < 2 || o.Tone < 0.8 || o.Packets != 50 {
		t.Errorf("the eavesdropper saw %+v", o)
	}
}

func TestPBX(t *testing.T) {
	p, err := StartPBX(netip.AddrPortFrom(loopback, 0), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	offer := sdp(netip.MustParseAddrPort("127.0.0.1:9"), "RTP/AVP", "0", "PCMU/8000")
	opus := sdp(netip.MustParseAddrPort("127.0.0.1:9"), "RTP/AVP", "96", "opus/48000/2")
	for _, step := range []struct {
		name, method, uri, callID, sdp string
		status                         int
	}{
		{"register", "REGISTER", "sip:example.com", "r", "", 200},
		{"ping", "OPTIONS", "sip:example.com", "o", "", 200},
		{"echo", "INVITE", "sip:600@example.com", "a", offer, 200},
		{"the same again", "INVITE", "sip:600@example.com", "a", offer, 200},
		{"any number echoes", "INVITE", "sip:12345@example.com", "b", opus, 200},
		{"tone", "INVITE", "sip:602@example.com", "c", offer, 200},
		{"tone to one without PCMU", "INVITE", "sip:602@example.com", "d", opus, 488},
		{"no SDP", "INVITE", "sip:600@example.com", "e", "", 488},
		{"late CANCEL", "CANCEL", "sip:600@example.com", "a", "", 200},
		{"hang up", "BYE", "sip:600@example.com", "a", "", 200},
		{"hang up again", "BYE", "sip:600@example.com", "a", "", 481},
		{"subscribe", "SUBSCRIBE", "sip:101@example.com", "s", "", 489},
		{"unknown", "FROBNICATE", "sip:101@example.com", "f", "", 501},
	} {
		m := request(step.method, step.uri).add("Via", "SIP/2.0/UDP x;branch=z9hG4bK"+step.name).
			add("From", "<sip:101@example.com>;tag=1").add("To", "<sip:101@example.com>").
			add("Call-ID", step.callID).add("CSeq", "1 "+step.method).add("Contact", "<sip:101@127.0.0.1:9>")
		if step.sdp != "" {
			m.withSDP(step.sdp)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write(m.bytes()); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		r, err := parseMessage(buf[:n])
		if err != nil || r.status() != step.status {
			t.Errorf("%s: answer %q, %v; want %d", step.name, buf[:n], err, step.status)
		}
		if step.method == "REGISTER" && !strings.Contains(r.get("Contact"), "expires=") {
			t.Errorf("%s: the answer names no binding: %q", step.name, buf[:n])
		}
	}
}

// A browser offers DTMF beside its codecs, and holds with a direction that its
// answer must mirror (RFC 3264 section 6.1).
func TestPBXHolds(t *testing.T) {
	p, err := StartPBX(netip.AddrPortFrom(loopback, 0), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(p.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	media, err := net.ListenUDP("udp", &net.UDPAddr{IP: loopback.AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	defer media.Close()
	buf := make([]byte, 4096)
	for i, step := range []struct{ wants, answers string }{
		{"sendrecv", "sendrecv"}, {"sendonly", "recvonly"}, {"sendrecv", "sendrecv"}, {"inactive", "inactive"}, {"recvonly", "sendonly"},
	} {
		offer := sdp(media.LocalAddr().(*net.UDPAddr).AddrPort(), "RTP/AVP", "111 0 126", "", "a=rtpmap:111 opus/48000/2", "a=rtpmap:126 telephone-event/8000")
		m := request("INVITE", "sip:602@example.com").add("Via", fmt.Sprintf("SIP/2.0/UDP x;branch=z9hG4bK%d", i)).
			add("From", "<sip:102@example.com>;tag=1").add("To", "<sip:602@example.com>").add("Call-ID", "hold").
			add("CSeq", fmt.Sprintf("%d INVITE", i+1)).add("Contact", "<sip:102@127.0.0.1:9>").
			withSDP(strings.Replace(offer, "a=sendrecv", "a="+step.wants, 1))
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write(m.bytes()); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{" RTP/AVP 0 126\r\n", "a=rtpmap:126 telephone-event/8000\r\n", "a=" + step.answers + "\r\n"} {
			if !strings.Contains(string(buf[:n]), line) {
				t.Errorf("%s is answered %q, want %q", step.wants, buf[:n], line)
			}
		}
		held := step.answers == "recvonly" || step.answers == "inactive"
		for end := time.Now().Add(10 * time.Second); ; {
			_ = media.SetReadDeadline(time.Now().Add(200 * time.Millisecond)) // ten packets' time
			_, err := media.Read(buf)
			if (err != nil) == held {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s: held is %v, and it sends %v", step.wants, held, err == nil)
			}
		}
	}
}
