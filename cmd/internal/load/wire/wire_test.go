package wire

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/coder/websocket"

	"github.com/sallyport/sallyport/cmd/internal/load/message"
)

func TestParseTarget(t *testing.T) {
	for _, c := range []struct{ text, transport, addr, path string }{
		{"pbx.example.com", "", "pbx.example.com:5061", ""},
		{"pbx.example.com:5071", "tls", "pbx.example.com:5071", ""},
		{"sips:pbx.example.com", "", "pbx.example.com:5061", ""},
		{"[2001:db8::1]", "", "[2001:db8::1]:5061", ""},
		{"2001:db8::1", "", "[2001:db8::1]:5061", ""},
		{"[fe80::1%eth0]:5061", "", "[fe80::1%eth0]:5061", ""},
		{"pbx.example.com", "wss", "pbx.example.com:443", "/"},
		{"wss://pbx.example.com:8089/ws?a=b", "", "pbx.example.com:8089", "/ws?a=b"},
	} {
		if got, err := ParseTarget(c.text, c.transport); err != nil || got.Addr != c.addr || got.Path != c.path {
			t.Errorf("%s by %q is %+v, %v", c.text, c.transport, got, err)
		}
	}
	for text, transport := range map[string]string{
		"wss://x/": "tls", "a": "udp", "wss://": "", ":5061": "",
		"tls:pbx.example.com:5061": "", "https://pbx.example.com/": "", "sip:alice@pbx.example.com": "", "a:0": "", "a:99999": "", "a:": "", "a:sips": "", "wss://a:x/": "",
	} {
		if got, err := ParseTarget(text, transport); err == nil {
			t.Errorf("%s by %q is %+v", text, transport, got)
		}
	}
}

// A WebSocket carries messages both ways, by a certificate that is pinned; another
// pin, no CA and another subprotocol are refused, and told apart.
func TestWebSocket(t *testing.T) {
	protocol := "sip"
	host := make(chan string, 10)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host <- r.Host
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{protocol}})
		if err != nil {
			return
		}
		defer ws.CloseNow()
		_ = ws.Write(r.Context(), websocket.MessageText, []byte("\r\n")) // a keep-alive is no message
		kind, b, err := ws.Read(r.Context())
		if err == nil {
			_ = ws.Write(r.Context(), kind, b)
		}
	}))
	defer s.Close()
	sum := sha256.Sum256(s.Certificate().Raw)
	dial := func(pin string) (Conn, error) {
		target, err := ParseTarget("wss://"+strings.TrimPrefix(s.URL, "https://")+"/", "")
		if err != nil {
			t.Fatal(err)
		}
		target.TLS = &tls.Config{ServerName: "example.com", NextProtos: []string{"http/1.1"}}
		if pin != "" {
			if err := Pinned(target.TLS, pin); err != nil {
				t.Fatal(err)
			}
		}
		c, _, err := target.Dial(context.Background(), 0, nil)
		return c, err
	}
	c, err := dial(hex.EncodeToString(sum[:]))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := <-host, strings.TrimPrefix(s.URL, "https://"); got != want { // with its port (RFC 9110 section 7.2)
		t.Errorf("the Host is %s, want %s", got, want)
	}
	if err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if b, err := c.Read(); string(b) != "hello" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
	c.Close()
	for pin, want := range map[string]string{strings.Repeat("00", 32): "certificate not trusted", "": "certificate not trusted"} {
		if _, err := dial(pin); err == nil || Cause(err) != want {
			t.Errorf("pin %q: %v, which is %q; want %q", pin, err, Cause(err), want)
		}
	}
	protocol = "chat"
	if _, err := dial(hex.EncodeToString(sum[:])); err == nil || Cause(err) != "WebSocket refused" {
		t.Errorf("another subprotocol: %v, which is %q", err, Cause(err))
	}
	s.Close()
	if _, err := dial(""); Cause(err) != "connection refused" {
		t.Errorf("nobody there: %v", err)
	}
}

// What no message is has a cause of its own: it is the server's, not the network's.
func TestUnreadable(t *testing.T) {
	for _, text := range []string{"HTTP/1.1 400 Bad Request\r\n\r\n", "SIP/2.0 200 OK\r\nContent-Length: many\r\n\r\n"} {
		b, err := message.Read(bufio.NewReader(strings.NewReader(text)))
		if err == nil {
			_, err = message.Parse(b)
		}
		if got := Cause(err); got != message.ErrFormat.Error() {
			t.Errorf("%q: the cause of %v is %q", text, err, got)
		}
	}
}

// Why there is no connection is told apart: what a server's TLS does not like of us,
// a port where none is spoken, an address that nobody has.
func TestCauses(t *testing.T) {
	certified := httptest.NewTLSServer(nil) // for its certificate
	defer certified.Close()
	serves := func(serve func(net.Conn)) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var done sync.WaitGroup
		done.Go(func() { // ends with the connection; waited for at the end
			if conn, err := ln.Accept(); err == nil {
				serve(conn)
				conn.Close()
			}
		})
		t.Cleanup(func() {
			ln.Close()
			done.Wait()
		})
		return ln.Addr().String()
	}
	shakes := func(c *tls.Config) string {
		c.Certificates = certified.TLS.Certificates
		return serves(func(conn net.Conn) { _ = tls.Server(conn, c).Handshake() })
	}
	for _, c := range []struct{ name, addr, source, cause string }{
		{"it wants a certificate", shakes(&tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}), "", "TLS alert: "},
		{"it is too old", shakes(&tls.Config{MaxVersion: tls.VersionTLS11}), "", "TLS alert: protocol version not supported"},
		{"it speaks plain SIP", serves(func(conn net.Conn) { _, _ = conn.Write([]byte("SIP/2.0 400 Bad Request\r\n\r\n")) }), "", "no TLS is spoken there"},
		{"the source is nobody's here", "127.0.0.1:1", "192.0.2.1", "no source address or port"},
	} {
		target := &Target{Addr: c.addr, TLS: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the server is the test's own
		if c.source != "" {
			target.Sources = []netip.Addr{netip.MustParseAddr(c.source)}
		}
		_, _, err := target.Dial(context.Background(), 0, nil)
		if got := Cause(err); err == nil || !strings.HasPrefix(got, c.cause) {
			t.Errorf("%s: the cause is %q, of %v; want %q", c.name, got, err, c.cause)
		}
	}
	taken, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := net.ListenUDP("udp", taken.LocalAddr().(*net.UDPAddr)); Cause(err) != "no source address or port" {
		t.Errorf("the cause of %v is %q", err, Cause(err))
	}
	for _, errno := range []error{syscall.ENETUNREACH, syscall.EHOSTUNREACH} {
		if got := Cause(&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}); got != "no route" {
			t.Errorf("the cause of %v is %q", errno, got)
		}
	}
}
