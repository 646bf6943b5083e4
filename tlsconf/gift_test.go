package tlsconf

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// What the CA gave and can't be kept, on a full disk say, is not ordered again: it is in
// force as soon as it can be.
func TestGiftWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := acmeConfig(t)
		ca := new(fakeCA)
		ca.from(func() ([]byte, error) {
			return given(t, time.Now(), time.Now().Add(90*24*time.Hour), "pbx.example.com"), nil
		})
		s, end := renewing(t, cfg, ca)
		defer end()
		if err := os.Mkdir(cfg.acmeFile(), 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(24 * time.Hour)
		asked, log := ca.seen()
		if len(asked) != 1 {
			t.Fatalf("within a day it was asked %d times, want once", len(asked))
		}
		if !strings.Contains(log, `reason="edge.state_dir: keep the certificate: `) || strings.Contains(log, "the CA is not reached") {
			t.Errorf("it says\n%s", log)
		}
		if err := os.Remove(cfg.acmeFile()); err != nil {
			t.Fatal(err)
		}
		s.renewer.nudge()
		synctest.Wait()
		if d := s.Describe()[0]; d.ACME == "" {
			t.Errorf("in force is %s", d)
		}
		if asked, _ := ca.seen(); len(asked) != 1 {
			t.Errorf("it was asked %d times, want once", len(asked))
		}
		if st := s.Stats().ACME; st.Fetched != 1 || st.InARow != 0 {
			t.Errorf("counted %+v", st)
		}
	})
}

// What the CA gives and is of no use is ordered again, but seldom: it counts as given.
func TestUselessGifts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := new(fakeCA)
		ca.from(func() ([]byte, error) {
			return given(t, time.Now(), time.Now().Add(90*24*time.Hour), "other.example.com"), nil
		})
		_, end := renewing(t, acmeConfig(t), ca)
		defer end()
		time.Sleep(6 * 24 * time.Hour)
		if asked, _ := ca.seen(); len(asked) < 2 || len(asked) > 5 {
			t.Errorf("within six days it was asked %d times, want 2 to 5", len(asked))
		}
	})
}

// An account that the CA has made, and that can't be kept here, is made once.
func TestAccountWaits(t *testing.T) {
	var asked atomic.Int32
	mux := http.NewServeMux()
	ca := httptest.NewTLSServer(mux)
	defer ca.Close()
	mux.HandleFunc("/dir", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"newNonce":"%[1]s/nonce","newAccount":"%[1]s/account","newOrder":"%[1]s/order"}`, ca.URL)
	})
	mux.HandleFunc("/nonce", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Replay-Nonce", "bm9uY2U") })
	mux.HandleFunc("/account", func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Replay-Nonce", "bm9uY2U")
		w.Header().Set("Location", ca.URL+"/account/1")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, `{"status":"valid"}`)
	})
	mux.HandleFunc("/order", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Replay-Nonce", "bm9uY2U")
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"type":"urn:ietf:params:acme:error:rejectedIdentifier"}`)
	})
	cfg := acmeConfig(t)
	cfg.ACME.Directory, cfg.ACME.Root = ca.URL+"/dir", writePEM(t, "CERTIFICATE", ca.Certificate().Raw, 0o600)
	o, err := newOrderer(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(cfg.StateDir, "tls")
	if err := os.Symlink("/nowhere", folder); err != nil { // which is not followed
		t.Fatal(err)
	}
	for range 3 {
		if _, err := o.order(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "edge.state_dir: keep the ACME account: ") {
			t.Fatalf("order: %v", err)
		}
	}
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := o.order(t.Context()); !isProblem(err, acme.ProblemTypeRejectedIdentifier) {
			t.Fatalf("order: %v", err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d accounts were made, want 1", n)
	}
	if _, err := os.Stat(cfg.accountFile()); err != nil {
		t.Errorf("it is not kept: %v", err)
	}
}
