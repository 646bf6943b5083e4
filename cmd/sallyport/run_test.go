package main

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/cmd/internal/demo"
)

// spec is an edge on free ports of loopback.
func spec(t *testing.T) demo.EdgeSpec {
	t.Helper()
	port := func() uint16 {
		n, err := strconv.ParseUint(freePort(t), 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		return uint16(n)
	}
	return demo.EdgeSpec{
		Domain: "edge.test", IP: loopback, TLSPort: port(), MediaPort: port(),
		Plain: netip.AddrPortFrom(loopback, port()), PBX: netip.AddrPortFrom(loopback, 9), StateDir: t.TempDir(),
	}
}

func mustPlan(t *testing.T, s demo.EdgeSpec) plan {
	t.Helper()
	p, faults := demoConfig(s).demoPlan(t.Context())
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return p
}

func TestEdgeStartsAndEnds(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	p := mustPlan(t, spec(t))
	for range 2 { // the second needs every port of the first
		e, err := p.build(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		stop, end := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.run(stop, t.Context()) }() // ends with stop; waited for below
		c, err := net.Dial("tcp", p.listen[0].String())
		if err != nil {
			t.Fatal(err)
		}
		if err := e.health(); err != nil {
			t.Errorf("health while serving: %v", err)
		}
		end()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		if e.health() == nil {
			t.Error("it calls itself healthy after its end")
		}
		c.Close()
	}
}

// A part that can't be built leaves nothing behind: no socket, no goroutine.
func TestBuildGivesUp(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	p := mustPlan(t, spec(t))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	p.admin = taken.Addr().(*net.TCPAddr).AddrPort()
	if _, err = p.build(slog.New(slog.DiscardHandler)); err == nil || !strings.HasPrefix(err.Error(), "admin.listen: ") {
		t.Fatalf("build: %v", err)
	}
	l, err := net.Listen("tcp", p.listen[0].String())
	if err != nil {
		t.Fatalf("the TLS port is still taken: %v", err)
	}
	l.Close()
	for _, port := range []uint16{p.plain.Port(), p.media.Port, p.media.Port + 1} {
		if !free(int(port)) {
			t.Errorf("UDP port %d is still taken", port)
		}
	}
}

// The first signal asks, the second insists.
func TestSignals(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), goleak.IgnoreTopFunction("os/signal.signal_recv"))
	stop, hurry, release := signals()
	defer release()
	for i, ctx := range []context.Context{stop, hurry} {
		if ctx.Err() != nil {
			t.Fatalf("ended before signal %d", i+1)
		}
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
			t.Fatalf("signal %d had no effect", i+1)
		}
	}
}
