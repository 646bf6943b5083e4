package admin

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

func TestControl(t *testing.T) {
	p, err := policy.New(policy.Defaults(), policy.Parts{})
	if err != nil {
		t.Fatal(err)
	}
	log, path := slog.New(slog.DiscardHandler), filepath.Join(t.TempDir(), "control.sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil { // what a killed edge left
		t.Fatal(err)
	}
	s, err := NewControl(path, Operations{Bans: p, Trunks: noTrunks, Keys: noKeys{}}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }() // ends with ctx; waited for below
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	ask := func(method, query, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://control/bans"+query, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := ControlClient(path).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(text)
	}
	for _, tc := range []struct {
		name, method, query, body string
		status                    int
		banned                    string // afterwards
	}{
		{"add", "POST", "", `{"source":"192.0.2.1/32","for":60000000000,"reason":"x"}`, 200, "192.0.2.1/32"},
		{"add what is none", "POST", "", `{"source":"192.0.2.1/24"}`, 400, "192.0.2.1/32"},
		{"add nonsense", "POST", "", `{`, 400, "192.0.2.1/32"},
		{"add too much", "POST", "", `{"reason":"` + strings.Repeat("x", 1<<20) + `"}`, 400, "192.0.2.1/32"},
		{"remove another", "DELETE", "?source=192.0.2.2/32", "", 404, "192.0.2.1/32"},
		{"remove nonsense", "DELETE", "?source=x", "", 400, "192.0.2.1/32"},
		{"change", "PUT", "", "", 405, "192.0.2.1/32"},
		{"remove", "DELETE", "?source=192.0.2.1/32", "", 200, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if status, text := ask(tc.method, tc.query, tc.body); status != tc.status {
				t.Errorf("status %d: %s", status, text)
			}
			_, text := ask("GET", "", "")
			var list []policy.Ban
			if err := json.Unmarshal([]byte(text), &list); err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, b := range list {
				got += b.Source.String()
				if b.Until.Before(time.Now()) {
					t.Errorf("until %s", b.Until)
				}
			}
			if got != tc.banned {
				t.Errorf("banned are %q, want %q", got, tc.banned)
			}
		})
	}
	if _, err := NewControl(path, Operations{Bans: p, Trunks: noTrunks, Keys: noKeys{}}, log); err == nil || !strings.Contains(err.Error(), "another edge runs") {
		t.Errorf("a second edge: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

var _ Bans = (*policy.Policy)(nil)

func noTrunks() []TrunkState { return nil }
