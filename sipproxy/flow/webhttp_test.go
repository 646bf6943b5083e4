package flow

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

func TestWebHTTP(t *testing.T) {
	ln := serveWeb(t, DefaultLimits(), newInbox(), nil)
	with := func(header string) string { return strings.Replace(upgrade, "\r\n\r\n", "\r\n"+header+"\r\n\r\n", 1) }
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"health page":          {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 200},
		"another path":         {"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"upgrade elsewhere":    {strings.Replace(upgrade, "/ws", "/metrics", 1), 404},
		"no upgrade":           {"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", 426},
		"another method":       {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405},
		"upgrade by POST":      {strings.Replace(upgrade, "GET", "POST", 1), 405},
		"no subprotocol":       {strings.Replace(upgrade, "Sec-WebSocket-Protocol: sip\r\n", "", 1), 400},
		"another subprotocol":  {strings.Replace(upgrade, "Protocol: sip", "Protocol: xmpp", 1), 400},
		"one of subprotocols":  {strings.Replace(upgrade, "Protocol: sip", "Protocol: xmpp, sip", 1), 101},
		"another version":      {strings.Replace(upgrade, "Version: 13", "Version: 8", 1), 400},
		"no key":               {strings.Replace(upgrade, "Sec-WebSocket-Key", "X", 1), 400},
		"the domain's page":    {with("Origin: https://pbx.example.com"), 101},
		"at another port":      {with("Origin: https://PBX.example.com:8443"), 101},
		"a listed origin":      {with("Origin: http://localhost:8000"), 101},
		"another origin":       {with("Origin: https://evil.example"), 403},
		"a longer origin":      {with("Origin: https://pbx.example.com.evil.example"), 403},
		"the domain, not TLS":  {with("Origin: http://pbx.example.com"), 403},
		"the Host's origin":    {strings.Replace(with("Origin: https://evil.example"), "Host: pbx.example.com", "Host: evil.example", 1), 403},
		"no page":              {with("Origin: null"), 403},
		"two origins":          {with("Origin: https://pbx.example.com\r\nOrigin: https://evil.example"), 400},
		"a head that is large": {with("X: " + strings.Repeat("x", 40<<10)), 431},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, ln)
			go func() { _, _ = io.WriteString(conn, c.request) }() // ends with the connection
			_ = conn.SetReadDeadline(time.Now().Add(longest))
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != c.status {
				t.Errorf("answered %s, want %d", res.Status, c.status)
			}
		})
	}
}

// Pages are beside SIP, never in its place.
func TestWebPages(t *testing.T) {
	const large = 32 << 20 // more than sockets hold
	limits := DefaultLimits()
	limits.HandshakeTimeout = 2 * time.Second
	pages := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, _ = rw.Write(make([]byte, large))
			return
		}
		fmt.Fprintf(rw, "page %s %s", r.Method, r.URL.Path)
	})
	h := newInbox()
	ln, err := ListenWSS(netip.MustParseAddrPort("127.0.0.1:0"), serverConfig(t), limits, Site{Origins: testOrigins, Pages: pages}, h, nil, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	run(t, ln.Run)
	for name, c := range map[string]struct {
		request string
		status  int
		body    string
	}{
		"a page":            {"GET /phone HTTP/1.1\r\nHost: x\r\n\r\n", 200, "page GET /phone"},
		"methods are its":   {"DELETE /phone HTTP/1.1\r\nHost: x\r\n\r\n", 200, "page DELETE /phone"},
		"the health page":   {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 200, "sallyport is up"},
		"SIP":               {upgrade, 101, ""},
		"SIP at the root":   {strings.Replace(upgrade, "/ws", "/", 1), 101, ""},
		"SIP without SIP":   {"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", 426, ""},
		"upgrade of a page": {strings.Replace(upgrade, "/ws", "/phone", 1), 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, ln)
			send(t, conn, c.request)
			_ = conn.SetReadDeadline(time.Now().Add(longest))
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body := ""
			if c.body != "" {
				b, _ := io.ReadAll(res.Body)
				body = string(b)
			}
			if res.StatusCode != c.status || !strings.HasPrefix(body, c.body) || (c.status != 101 && !res.Close) {
				t.Errorf("answered %s %q, close %v", res.Status, body, res.Close)
			}
		})
	}
	until(t, "their connections to be closed", func() bool { return ln.Stats().Open == 0 })

	never := dial(t, ln) // reads nothing of what it asks for
	send(t, never, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
	until(t, "it to be closed", func() bool { return ln.Stats().Open == 0 })
	_ = never.SetReadDeadline(time.Now().Add(longest))
	if n, err := io.Copy(io.Discard, never); n >= large || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it got %d bytes, %v", n, err)
	}
}
