package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// Alarms arrive in order, also when the receiver fails at first; one that hangs
// blocks nobody, and what does not fit is counted.
func TestWebhook(t *testing.T) {
	failures, got, hang := 2, make(chan policy.Alarm, alarmsWaiting), make(chan struct{})
	receiver := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if failures > 0 {
			failures--
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		var a policy.Alarm
		if err := json.NewDecoder(r.Body).Decode(&a); err != nil || r.Method != http.MethodPost {
			t.Errorf("%s %v", r.Method, err)
		}
		if a.User == "hang" {
			<-hang
		}
		got <- a
	}))
	defer receiver.Close()
	defer close(hang)
	w, err := newWebhook(receiver.URL, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w.pause = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }() // ends with ctx; waited for below
	source := netip.MustParseAddr("192.0.2.1")
	for _, user := range []string{"1001", "1002"} {
		w.tell(policy.Alarm{What: "limit", User: user, Source: source})
		if a := <-got; a.User != user || a.Source != source || a.What != "limit" {
			t.Errorf("got %+v", a)
		}
	}
	for range 3 * alarmsWaiting {
		w.tell(policy.Alarm{User: "hang"})
	}
	if n := w.dropped.Load(); n < alarmsWaiting {
		t.Errorf("%d were dropped", n)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "alarm.example.com", "ftp://x/", "https://", "ftp://us:hush@x/", "https://us:hush@[/"} {
		if _, err := newWebhook(bad, nil); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// The address may be all that a receiver knows its senders by.
func TestWebhookKeepsItsAddress(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	w, err := newWebhook(gone.URL+"/services/hush?token=hush", slog.New(slog.DiscardHandler))
	gone.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.post(t.Context(), policy.Alarm{}); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("a receiver that is gone: %v", err)
	}
}
