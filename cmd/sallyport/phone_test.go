package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The demo's edge has the test phone, which may speak SIP with it; other pages
// may not.
func TestDemoPhone(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := spec(t)
	e, err := startDemoEdge(t.Context(), s, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	}()
	base := fmt.Sprintf("https://127.0.0.1:%d", s.WebPort)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	ask := func(path string, header ...string) (int, string, http.Header) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode == http.StatusSwitchingProtocols {
			return res.StatusCode, "", res.Header
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body), res.Header
	}
	status, body, header := ask("/phone")
	if status != 200 || !strings.Contains(body, `data-domain="edge.test"`) || !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("the page is answered %d %v %.200q", status, header, body)
	}
	if status, _, _ := ask("/phone/phone.js"); status != 200 {
		t.Errorf("its script is answered %d", status)
	}
	for origin, want := range map[string]int{base: 101, "https://edge.test": 101, "https://evil.example": 403} {
		status, _, _ := ask("/ws", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13",
			"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol", "sip", "Origin", origin)
		if status != want {
			t.Errorf("a page of %s is answered %d, want %d", origin, status, want)
		}
	}
}

// Without the key there is no page.
func TestNoPhone(t *testing.T) {
	c := demoConfig(spec(t))
	c.SIP.WSSPhone = false
	p, faults := c.demoPlan(t.Context())
	if len(faults) > 0 || p.phone || strings.Join(p.origins, " ") != "edge.test" {
		t.Errorf("planned phone %v for pages of %q, faults %v", p.phone, p.origins, faults)
	}
}
