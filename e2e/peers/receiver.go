package peers

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Receiver takes what is posted to it.
type Receiver struct {
	URL string

	mu  sync.Mutex // guards got
	got []string
}

// StartReceiver runs one on a host's inner address, until the test ends.
func StartReceiver(h *Host) *Receiver {
	h.lab.t.Helper()
	at := net.JoinHostPort(h.Addr.String(), "8099")
	r := &Receiver{URL: "http://" + at + "/alarm"}
	var ln net.Listener
	err := h.Do(func() (err error) {
		ln, err = net.Listen("tcp", at)
		return err
	})
	if err != nil {
		h.lab.t.Fatalf("listen for alarms: %v", err)
	}
	server := &http.Server{Handler: r, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() { // ends when the server is closed; waited for at the test's end
		defer close(done)
		_ = server.Serve(ln)
	}()
	h.lab.t.Cleanup(func() {
		server.Close()
		<-done
	})
	return r
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(_ http.ResponseWriter, req *http.Request) {
	b, err := io.ReadAll(io.LimitReader(req.Body, 1<<16))
	if err != nil || req.Method != http.MethodPost {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, string(b))
}

// Awaits waits for something that has all these words in it.
func (r *Receiver) Awaits(h *Host, words ...string) {
	h.lab.t.Helper()
	Until(h.lab.t, 10*time.Second, "an alarm of "+strings.Join(words, ", "), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, text := range r.got {
			n := 0
			for _, word := range words {
				if strings.Contains(text, `"`+word+`"`) {
					n++
				}
			}
			if n == len(words) {
				return true
			}
		}
		return false
	})
}
