package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	calls    = &Metric{Name: "calls", Help: "Calls now.", Kind: Gauge}
	verdicts = &Metric{Name: "verdicts_total", Help: "Verdicts given.", Kind: Counter, Labels: []string{"rule", "verdict"}}
)

func config(health error) Config {
	return Config{
		Listen: netip.MustParseAddrPort("127.0.0.1:0"),
		Health: func() error { return health },
		Sources: []Source{
			func(emit func(Sample)) { emit(Sample{Metric: calls, Value: 3}) },
			func(emit func(Sample)) {
				emit(Sample{Metric: verdicts, Labels: []string{"policy.deny", "refuse"}, Value: 7})
				emit(Sample{Metric: verdicts, Labels: []string{"one label missing"}, Value: 1})
			},
		},
	}
}

func TestHandler(t *testing.T) {
	metrics := []string{
		"sallyport_calls 3\n", "# TYPE sallyport_calls gauge", "# TYPE sallyport_verdicts_total counter",
		`sallyport_verdicts_total{rule="policy.deny",verdict="refuse"} 7`, "go_goroutines ", "process_open_fds ",
	}
	for _, tc := range []struct {
		name, method, path, host string
		health                   error
		status                   int
		body                     []string
	}{
		{name: "healthy", path: "/healthz", status: 200, body: []string{"ok\n"}},
		{name: "unhealthy", path: "/healthz", health: errors.New("the edge is draining"), status: 503, body: []string{"the edge is draining\n"}},
		{name: "HEAD", method: "HEAD", path: "/healthz", status: 200},
		{name: "metrics in spite of one at fault", path: "/metrics", status: 200, body: metrics},
		{name: "POST", method: "POST", path: "/healthz", status: 405},
		{name: "DELETE", method: "DELETE", path: "/metrics", status: 405},
		{name: "elsewhere", path: "/", status: 404},
		{name: "no profiles", path: "/debug/pprof/", status: 404},
		{name: "IPv6", path: "/healthz", host: "[::1]:9060", status: 200},
		{name: "localhost", path: "/healthz", host: "localhost:9060", status: 200},
		{name: "a rebound name", path: "/metrics", host: "evil.example:9060", status: 421},
	} {
		t.Run(tc.name, func(t *testing.T) {
			method, host := "GET", "127.0.0.1:9060"
			if tc.method != "" {
				method = tc.method
			}
			if tc.host != "" {
				host = tc.host
			}
			r := httptest.NewRequestWithContext(t.Context(), method, tc.path, nil)
			r.Host = host
			w := httptest.NewRecorder()
			handler(config(tc.health)).ServeHTTP(w, r)
			if w.Code != tc.status {
				t.Fatalf("status %d, want %d: %s", w.Code, tc.status, w.Body)
			}
			for _, want := range tc.body {
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("the body lacks %q:\n%.2000s", want, w.Body)
				}
			}
		})
	}
}

func TestRun(t *testing.T) {
	s, err := New(config(nil), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }() // ends with ctx; waited for below
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://" + s.Addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "ok\n" {
		t.Errorf("body %q", body)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if res, err := client.Get("http://" + s.Addr().String() + "/healthz"); err == nil {
		res.Body.Close()
		t.Error("it still listens")
	}
}

func TestLoopbackOnly(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", "[::]:0", "192.0.2.1:9060"} {
		cfg := config(nil)
		cfg.Listen = netip.MustParseAddrPort(listen)
		if _, err := New(cfg, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrNotLoopback) || !strings.HasPrefix(err.Error(), "admin.listen: ") {
			t.Errorf("%s: %v", listen, err)
		}
	}
}
