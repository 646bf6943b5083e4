package flow

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emiago/sipgo/sip"
)

// What was sent before the end arrives, and the handler hears the reason.
func TestEndAfterTheLastAnswer(t *testing.T) {
	reason, h := errors.New("enough"), newInbox()
	h.on = func(f *Flow, m sip.Message) {
		if !f.Spoke() {
			t.Error("it has not spoken")
		}
		_ = f.Send(m)
		f.End(reason)
	}
	ln := serve(t, DefaultLimits(), h, nil)
	for range 20 {
		c := dial(t, ln)
		send(t, c, options)
		if got := rest(t, c); !strings.HasPrefix(got, "OPTIONS ") {
			t.Fatalf("read %q", got)
		}
	}
	until(t, "all to be closed", func() bool { _, n := h.count(); return n == 20 })
	for _, err := range h.closed {
		if !errors.Is(err, reason) {
			t.Errorf("closed by %v", err)
		}
	}
}

// Who saw the flow open and writes only when the listener has ended begins nothing that
// nobody waits for.
func TestWriteAfterTheEnd(t *testing.T) {
	h := newInbox()
	ln, err := ListenTLS(netip.MustParseAddrPort("127.0.0.1:0"), serverConfig(t), DefaultLimits(), h, nil, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- ln.Run(ctx) }()
	send(t, dial(t, ln), options)
	until(t, "the message", func() bool { n, _ := h.count(); return n == 1 })
	f := h.flows[0]
	if err := f.write([]byte("in time")); err != nil {
		t.Errorf("writing to an open flow gave %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := f.write([]byte("late")); !errors.Is(err, ErrClosed) {
		t.Errorf("writing after the end gave %v", err)
	}
}

// Plain SIP, HTTP and noise are told of; a phone, silence and a port scan are not.
func TestForeignPeersAreToldOf(t *testing.T) {
	ln, err := ListenTLS(netip.MustParseAddrPort("127.0.0.1:0"), serverConfig(t), DefaultLimits(), newInbox(), nil, quietLog)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	told := 0
	ln.OnForeign(func(from netip.Addr) {
		mu.Lock()
		defer mu.Unlock()
		if from != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("told of %s", from)
		}
		told++
	})
	run(t, func(ctx context.Context) error { return ln.Run(ctx) })
	for _, tc := range []struct {
		name, says string
		want       int
	}{{"port scan", "", 0}, {"SIP", options, 1}, {"HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 2}} {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		send(t, c, tc.says)
		_ = c.(*net.TCPConn).CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(longest))
		for buf := make([]byte, 100); err == nil; {
			_, err = c.Read(buf)
		}
		c.Close()
		mu.Lock()
		if told != tc.want {
			t.Errorf("%s: told of %d", tc.name, told)
		}
		mu.Unlock()
	}
	dial(t, ln)
	if mu.Lock(); told != 2 {
		t.Errorf("a phone was told of")
	}
	mu.Unlock()
}
