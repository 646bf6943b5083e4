package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/admin"
	"github.com/sallyport/sallyport/policy"
)

const (
	alarmsWaiting = 64 // for a slow receiver; more are dropped, and counted
	alarmTimeout  = 10 * time.Second
	alarmTries    = 3
)

// webhook tells alarms to an address of the operator's, one after the other.
type webhook struct {
	url    string
	log    *slog.Logger
	client *http.Client
	queue  chan policy.Alarm
	pause  time.Duration // before another try

	sent, failed, dropped atomic.Uint64
}

func newWebhook(address string, log *slog.Logger) (*webhook, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		// Not shown: who gives a password in it expects that no more than of any other.
		return nil, errors.New("is no address of http or https; write it like \"https://alarm.example.com/calls\"")
	}
	return &webhook{
		url: address, log: log, client: &http.Client{Timeout: alarmTimeout, Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}},
		queue: make(chan policy.Alarm, alarmsWaiting), pause: 5 * time.Second,
	}, nil
}

// tell queues an alarm. It does not block.
func (w *webhook) tell(a policy.Alarm) {
	select {
	case w.queue <- a:
	default:
		w.dropped.Add(1)
	}
}

// Run posts what is queued until ctx ends.
func (w *webhook) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-w.queue:
			w.deliver(ctx, a)
		}
	}
}

func (w *webhook) deliver(ctx context.Context, a policy.Alarm) {
	var err error
	for try := range alarmTries {
		if try > 0 {
			pause := time.NewTimer(w.pause)
			select {
			case <-ctx.Done():
				pause.Stop()
				return
			case <-pause.C:
			}
		}
		if err = w.post(ctx, a); err == nil {
			w.sent.Add(1)
			return
		}
	}
	w.failed.Add(1)
	w.log.Warn("alarm not delivered", "what", a.What, "reason", err)
}

func (w *webhook) post(ctx context.Context, a policy.Alarm) error {
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := w.client.Do(req)
	if err != nil {
		return errors.Unwrap(err) // without the address, which may hold a token
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 4<<10) // what it says more is not of interest
	if res.StatusCode >= 300 {
		return fmt.Errorf("the receiver answered %s", res.Status)
	}
	return nil
}

var alarmsTotal = &admin.Metric{Name: "alarms_total", Help: "Alarms for policy.calls.alarm_url.", Labels: []string{"result"}}

func (w *webhook) metrics(emit func(admin.Sample)) {
	for result, n := range map[string]uint64{"delivered": w.sent.Load(), "failed": w.failed.Load(), "dropped": w.dropped.Load()} {
		emit(admin.Sample{Metric: alarmsTotal, Labels: []string{result}, Value: float64(n)})
	}
}
