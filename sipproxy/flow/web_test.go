package flow

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/emiago/sipgo/sip"
)

var testOrigins = Origins{"pbx.example.com", "http://localhost:8000"}

func serveWeb(t *testing.T, l Limits, h Handler, admit Admit) *Listener {
	t.Helper()
	ln, err := ListenWSS(netip.MustParseAddrPort("127.0.0.1:0"), serverConfig(t), l, Site{Origins: testOrigins}, h, admit, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	run(t, ln.Run)
	return ln
}

const upgrade = "GET /ws HTTP/1.1\r\nHost: pbx.example.com\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n"

// browser is a WebSocket client whose every byte the test decides.
type browser struct {
	*tls.Conn
	t *testing.T
	r *bufio.Reader
}

func browse(t *testing.T, l *Listener) *browser {
	t.Helper()
	b := &browser{Conn: dial(t, l), t: t}
	b.r = bufio.NewReader(b)
	send(t, b, upgrade)
	res, err := http.ReadResponse(b.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Protocol") != "sip" || res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("the upgrade is answered %s %v", res.Status, res.Header)
	}
	return b
}

// masked is one frame of a client; first is its first byte.
func masked(first byte, payload string) string {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	key := [4]byte{1, 2, 3, 4}
	b = append(b, key[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^key[i%4])
	}
	return string(b)
}

const (
	fin    = 0x80
	text   = 1
	binop  = 2
	closes = 8
	pings  = 9
	pongs  = 10
)

// next reads one frame of the server.
func (b *browser) next() (first byte, payload string, err error) {
	_ = b.SetReadDeadline(time.Now().Add(longest))
	head := make([]byte, 2)
	if _, err := io.ReadFull(b.r, head); err != nil {
		return 0, "", err
	}
	n := int(head[1])
	if n == 126 {
		size := make([]byte, 2)
		_, _ = io.ReadFull(b.r, size)
		n = int(binary.BigEndian.Uint16(size))
	}
	p := make([]byte, n)
	_, err = io.ReadFull(b.r, p)
	return head[0], string(p), err
}

func (b *browser) frame() (first byte, payload string) {
	b.t.Helper()
	first, payload, err := b.next()
	if err != nil {
		b.t.Fatalf("await a frame: %v", err)
	}
	return first, payload
}

// ends reads until the server closes, and returns what it said before its
// close frame, and the status of that: 0 if there is none.
func (b *browser) ends() (said string, status int) {
	b.t.Helper()
	defer b.Close()
	for {
		first, payload, err := b.next()
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			b.t.Fatalf("the connection stays open; read %q", said)
		case err != nil:
			return said, 0
		case first == fin|closes && len(payload) >= 2:
			return said, int(binary.BigEndian.Uint16([]byte(payload)))
		}
		said += payload
	}
}

// A library's client speaks with us, both ways and in order, in text and binary.
func TestWebSpeaksWithALibrary(t *testing.T) {
	h := newInbox()
	l := DefaultLimits()
	l.WriteQueue = 8 << 20 // for what is sent below before it is read
	ln := serveWeb(t, l, h, nil)
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	ws, _, err := websocket.Dial(ctx, "wss://"+ln.Addr().String()+"/", &websocket.DialOptions{ //nolint:bodyclose // it is the WebSocket: closed with it
		HTTPClient: client, Subprotocols: []string{"sip"}, HTTPHeader: http.Header{"Origin": {"https://pbx.example.com:8443"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	for i := range 500 {
		if err := ws.Write(ctx, websocket.MessageType(1+i%2), []byte(numbered(i))); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all messages", func() bool { n, _ := h.count(); return n == 500 })
	for i, m := range h.messages {
		if int(m.CSeq().SeqNo) != i {
			t.Fatalf("message %d has CSeq %d", i, m.CSeq().SeqNo)
		}
	}
	f := h.flows[0]
	if f.Side() != Secure || !f.Reliable() || f.Transport() != "WSS" || f.TLS() == nil {
		t.Errorf("the flow is %s %s", f.Side(), f.Transport())
	}
	for i := range 500 {
		res := sip.NewResponse(200, strings.Repeat("x", i*20)) // beyond the library's buffer
		res.AppendHeader(&sip.CSeqHeader{SeqNo: uint32(i), MethodName: sip.OPTIONS})
		if i%3 == 0 {
			res.SetBody([]byte{0xff, 0xfe})
		}
		if err := f.Send(res); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 500 {
		kind, b, err := ws.Read(ctx)
		if err != nil || !strings.Contains(string(b), fmt.Sprintf("CSeq: %d OPTIONS", i)) || (kind == websocket.MessageBinary) != (i%3 == 0) {
			t.Fatalf("answer %d is %s %.90q, %v", i, kind, b, err)
		}
	}
	if err := ws.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("closing in good order: %v", err)
	}
	until(t, "the flow to end", func() bool { return ln.Stats().Events["closed_by_peer"] == 1 })
}

func TestWebMessages(t *testing.T) {
	bare := strings.Replace(options, "Content-Length: 0\r\n", "", 1)
	third := len(options) / 3
	for name, c := range map[string]struct {
		bytes string
		want  int
	}{
		"text":                      {masked(fin|text, options), 1},
		"binary":                    {masked(fin|binop, options), 1},
		"without a Content-Length":  {masked(fin|text, bare), 1},
		"a body and no length":      {masked(fin|text, strings.Replace(bare, "\r\n\r\n", "\r\nContent-Type: text/plain\r\n\r\nhello", 1)), 1},
		"two in one write":          {masked(fin|text, numbered(1)) + masked(fin|text, numbered(2)), 2},
		"in fragments":              {masked(text, options[:third]) + masked(0, options[third:2*third]) + masked(fin, options[2*third:]), 1},
		"in fragments, with a ping": {masked(text, options[:third]) + masked(fin|pings, "p") + masked(0, "") + masked(fin, options[third:]), 1},
		"after keep-alives":         {masked(fin|text, "\r\n\r\n") + masked(fin|text, "\r\n") + masked(fin|text, "") + masked(fin|pongs, "x") + masked(fin|text, options), 1},
	} {
		t.Run(name, func(t *testing.T) {
			h := newInbox()
			b := browse(t, serveWeb(t, DefaultLimits(), h, nil))
			send(t, b, c.bytes)
			until(t, "the messages", func() bool { n, _ := h.count(); return n == c.want })
		})
	}
}

// JsSIP and SIP.js do not know their own address, and write a name that
// nobody can look up (RFC 7118 appendix B.1).
func TestWebInvalidHosts(t *testing.T) {
	h := newInbox()
	b := browse(t, serveWeb(t, DefaultLimits(), h, nil))
	register := "REGISTER sip:pbx.example.com SIP/2.0\r\nVia: SIP/2.0/WSS df7jal23ls0d.invalid;branch=z9hG4bK1\r\nMax-Forwards: 69\r\n" +
		"To: <sip:1001@pbx.example.com>\r\nFrom: \"Anna\" <sip:1001@pbx.example.com>;tag=a\r\nCall-ID: c1\r\nCSeq: 1 REGISTER\r\n" +
		"Contact: <sip:k2l9@df7jal23ls0d.invalid;transport=ws;ob>;+sip.ice;reg-id=1;+sip.instance=\"<urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6>\";expires=600\r\n" +
		"Expires: 600\r\nAllow: INVITE,ACK,CANCEL,BYE\r\nSupported: path,gruu,outbound\r\nUser-Agent: JsSIP 3.10.1\r\nContent-Length: 0\r\n\r\n"
	send(t, b, masked(fin|text, register))
	until(t, "the message", func() bool { n, _ := h.count(); return n == 1 })
	if via := h.messages[0].(*sip.Request).Via(); via.Transport != "WSS" || via.Host != "df7jal23ls0d.invalid" {
		t.Errorf("Via is %s", via.Value())
	}
}

func TestWebKeepAlive(t *testing.T) {
	l := DefaultLimits()
	l.KeepAlive = time.Second
	h := newInbox()
	ln := serveWeb(t, l, h, nil)
	b := browse(t, ln)
	send(t, b, masked(fin|text, options)+masked(fin|text, "\r\n\r\n")+masked(fin|pings, "are you there"))
	for _, want := range []string{"\x81\r\n", "\x8aare you there", "\x89"} {
		first, payload := b.frame()
		for first == fin|pings && first != want[0] { // they come at their time
			first, payload = b.frame()
		}
		if string([]byte{first})+payload != want {
			t.Errorf("got %x %q, want %q", first, payload, want)
		}
	}
	for range 5 { // one that answers stays, beyond three pings' time
		send(t, b, masked(fin|pongs, ""))
		if first, _ := b.frame(); first != fin|pings {
			t.Fatalf("got %x, want a ping", first)
		}
	}
	began := time.Now() // one that does not is gone
	b.ends()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	until(t, "the flow to end", func() bool { return ln.Stats().Events["closed_idle"] == 1 })
}

func TestWebMalformed(t *testing.T) {
	l := DefaultLimits()
	l.MaxHead, l.MaxBody = 2000, 3000
	h := newInbox()
	ln := serveWeb(t, l, h, nil)
	sized := func(n int) string {
		return swap("Length: 0\r\n\r\n", fmt.Sprintf("Length: %d\r\nContent-Type: a/b\r\n\r\n", n))
	}
	long := append([]byte{fin | text, 0x80 | 127}, binary.BigEndian.AppendUint64(nil, 1<<63-1)...)
	longer := append([]byte{fin | text, 0x80 | 127}, binary.BigEndian.AppendUint64(nil, 1<<63)...)
	for name, c := range map[string]struct {
		bytes  string
		answer string // the SIP answer's beginning
		status int
	}{
		"bad header":                  {masked(fin|text, swap("CSeq: 1 OPTIONS", "CSeq: 1 INVITE")), "SIP/2.0 400", 1002},
		"no head":                     {masked(fin|text, "hello"), "", 1002},
		"two messages in one":         {masked(fin|text, options+options), "SIP/2.0 400", 1002},
		"Content-Length too small":    {masked(fin|text, sized(3)+"hello"), "SIP/2.0 400", 1002},
		"Content-Length too large":    {masked(fin|text, sized(9)+"hello"), "SIP/2.0 400", 1002},
		"text that is none":           {masked(fin|text, sized(2)+"\xff\xfe"), "SIP/2.0 400", 1007},
		"head too large":              {masked(fin|text, swap("Contact", "X: "+strings.Repeat("x", 2000)+"\r\nContact")), "SIP/2.0 513", 1009},
		"body too large":              {masked(fin|text, sized(3001)+strings.Repeat("x", 3001)), "SIP/2.0 413", 1009},
		"message too large":           {masked(fin|text, strings.Repeat("x", 6000)), "", 1009},
		"fragments too large":         {masked(text, strings.Repeat("x", 3000)) + masked(0, strings.Repeat("x", 3000)), "", 1009},
		"frame of 2^63-1 bytes":       {string(long) + "\x01\x02\x03\x04" + strings.Repeat("x", 6000), "", 1009},
		"frame of 2^63 bytes":         {string(longer) + "\x01\x02\x03\x04", "", 1002},
		"not masked":                  {"\x81\x05hello", "", 1002},
		"reserved bit":                {masked(fin|0x40|text, options), "", 1002},
		"unknown opcode":              {masked(fin|3, "x"), "", 1002},
		"continuation of nothing":     {masked(fin, options), "", 1002},
		"message within a message":    {masked(text, "OPTIONS ") + masked(fin|text, options), "", 1002},
		"fragmented ping":             {masked(pings, "x"), "", 1002},
		"ping of 126 bytes":           {masked(fin|pings, strings.Repeat("x", 126)), "", 1002},
		"close with half of a status": {masked(fin|closes, "\x03"), "", 1002},
		"SIP without WebSocket":       {options, "", 1002},
	} {
		t.Run(name, func(t *testing.T) {
			b := browse(t, ln)
			send(t, b, c.bytes)
			said, status := b.ends()
			if status != c.status || !strings.Contains(said, c.answer) || (c.answer == "") != (said == "") {
				t.Errorf("answered %q, status %d", said, status)
			}
		})
	}
	if n, _ := h.count(); n != 0 {
		t.Fatalf("%d messages came through", n)
	}
	until(t, "all to be counted", func() bool { return ln.Stats().Open == 0 && ln.Stats().Events["closed_malformed"] == 21 })
}

// An emergency call by its service URN is refused, and the phone goes on.
func TestWebForeignScheme(t *testing.T) {
	h := newInbox()
	b := browse(t, serveWeb(t, DefaultLimits(), h, nil))
	send(t, b, masked(fin|text, swap("sip:602@pbx.example.com SIP", "urn:service:sos SIP"))+masked(fin|text, options))
	until(t, "the next message", func() bool { n, _ := h.count(); return n == 1 })
	if _, payload := b.frame(); !strings.HasPrefix(payload, "SIP/2.0 416") {
		t.Fatalf("got %q", payload)
	}
}

// A slow or silent client costs only its own time, at whichever step it stops.
func TestWebSlowClients(t *testing.T) {
	l := DefaultLimits()
	l.HandshakeTimeout, l.FirstMessageTimeout, l.MessageTimeout, l.MaxHandshakes = 10*time.Second, 10*time.Second, 500*time.Millisecond, 2
	h := newInbox()
	ln := serveWeb(t, l, h, nil)
	const each = 10
	for range each {
		c, err := net.Dial("tcp", ln.Addr().String()) // silent before the handshake
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		dial(t, ln)                                             // after it
		send(t, dial(t, ln), upgrade[:60])                      // half of an upgrade
		browse(t, ln)                                           // upgraded and silent
		send(t, browse(t, ln), masked(fin|text, options)[:100]) // half of a frame
		send(t, browse(t, ln), masked(text, options[:100])+masked(fin|pings, ""))
	}
	trickle := dial(t, ln)
	go func() { // ends when the edge closes the connection
		for i := range upgrade {
			if _, err := io.WriteString(trickle, upgrade[i:i+1]); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	begun := time.Now()
	send(t, browse(t, ln), masked(fin|text, options))
	until(t, "the honest client's message", func() bool { n, _ := h.count(); return n == 1 })
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the honest client waited %s", took)
	}
	until(t, "the slow ones to be closed", func() bool { return ln.Stats().Open == 1 })
	e := ln.Stats().Events
	if e["handshake_failed"] != each || e["closed_without_upgrade"] != 2*each+1 || e["closed_silent"]+e["closed_stalled"] != 3*each || e["closed_stalled"] < each {
		t.Errorf("counted %v", e)
	}
}

// A client that does not read is closed, and nobody waits for it: neither who
// sends to it, nor its own pings' answers.
func TestWebNeverReads(t *testing.T) {
	l := DefaultLimits()
	l.WriteQueue = 64 << 10
	h := newInbox()
	ln := serveWeb(t, l, h, nil)
	send(t, browse(t, ln), masked(fin|text, options))
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
	b := browse(t, ln)
	flood := strings.Repeat(masked(fin|pings, strings.Repeat("x", 125)), 100)
	_ = b.SetWriteDeadline(time.Now().Add(longest))
	for err = nil; err == nil; {
		_, err = io.WriteString(b, flood)
	}
	until(t, "the flood to end", func() bool { return ln.Stats().Events["closed_slow"] == 2 })
}

func TestWebAdmission(t *testing.T) {
	l := DefaultLimits()
	l.MaxFlows = 2
	released := make(chan struct{}, 10)
	ln := serveWeb(t, l, newInbox(), func(netip.Addr) (func(), error) { return func() { released <- struct{}{} }, nil })
	a := browse(t, ln)
	dial(t, ln)
	until(t, "both", func() bool { return ln.Stats().Open == 2 })
	if _, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Fatal("a third connection got in")
	}
	<-released
	a.Close()
	<-released
	browse(t, ln)
	refused := serveWeb(t, l, newInbox(), func(netip.Addr) (func(), error) { return nil, errors.New("no") })
	if _, err := tls.Dial("tcp", refused.Addr().String(), &tls.Config{InsecureSkipVerify: true}); err == nil {
		t.Fatal("a refused connection got in")
	}
}
