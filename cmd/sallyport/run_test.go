package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/cmd/internal/demo"
	"github.com/sallyport/sallyport/tlsconf"
)

// spec is an edge on free ports of loopback.
func spec(t *testing.T) demo.EdgeSpec {
	t.Helper()
	return demo.EdgeSpec{
		Domain: "edge.test", IP: loopback, TLSPort: freePort(t), WebPort: freePort(t), MediaPort: freePort(t),
		Plain: netip.AddrPortFrom(loopback, freePort(t)), PBX: netip.AddrPortFrom(loopback, 9), StateDir: t.TempDir(),
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
	if l, err = net.Listen("tcp", p.media.TCPListen()[0].String()); err != nil {
		t.Fatalf("the TCP port of media is still taken: %v", err)
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

// SIGHUP takes the new certificate, says what it does not take, and touches no
// connection.
func TestHangup(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), goleak.IgnoreTopFunction("os/signal.signal_recv"))
	s := spec(t)
	p := mustPlan(t, s)
	var log lockedLog
	e, err := p.build(slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	stop, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.run(stop, stop) }() // ends with stop; waited for below
	hangup := catch(syscall.SIGHUP)
	hangup.each(e.reload)
	connect := func() *tls.Conn {
		c, err := tls.Dial("tcp", p.listen[0].String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	serial := func(c *tls.Conn) string { return c.ConnectionState().PeerCertificates[0].SerialNumber.String() }
	old := connect()
	for _, file := range []string{"self-signed.crt", "self-signed.key"} { // the next start would make others
		if err := os.Remove(filepath.Join(s.StateDir, "tls", file)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tlsconf.New(p.tls, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !log.has("its changes need a restart") || strings.Count(log.String(), `msg="certificate in force"`) < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("SIGHUP had no effect:\n%s", log.String())
		}
	}
	fresh := connect()
	if serial(fresh) == serial(old) {
		t.Error("a new connection sees the old certificate")
	}
	if _, err := old.Write([]byte("\r\n\r\n")); err != nil {
		t.Error(err)
	}
	pong := make([]byte, 2)
	_ = old.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(old, pong); err != nil || string(pong) != "\r\n" {
		t.Errorf("the old connection answers %q (%v)", pong, err)
	}
	old.Close()
	fresh.Close()
	hangup.release()
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// lockedLog is a log that a test can read while it is written.
type lockedLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedLog) has(words string) bool { return strings.Contains(l.String(), words) }

// A signal that comes while the configuration is read, which takes as long as the test
// wants, ends nothing. It is heard once the edge is there.
func TestEarlySignal(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), goleak.IgnoreTopFunction("os/signal.signal_recv"))
	good := fmt.Sprintf("[edge]\ndomain = \"edge.test\"\npublic_ip = \"127.0.0.1\"\nstate_dir = %q\n[pbx]\naddress = \"127.0.0.1:9\"\n"+
		"[sip]\ntls_listen = \"127.0.0.1:%d\"\nplain_listen = \"127.0.0.1:%d\"\n[media]\nport = %d\n[admin]\nlisten = \"127.0.0.1:%d\"\n",
		t.TempDir(), freePort(t), freePort(t), freePort(t), freePort(t))
	for _, c := range []struct {
		signal syscall.Signal
		config string
		status int
	}{
		{syscall.SIGHUP, good, exitOK},
		{syscall.SIGHUP, "nonsense", exitFault},
		{syscall.SIGUSR2, "nonsense", exitFault}, // heard, it would start another process
	} {
		path := filepath.Join(t.TempDir(), "edge.toml")
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		var log lockedLog
		ended := make(chan int, 1)
		go func() { ended <- runCommand(console{out: &log, err: &log}, []string{"-config", path}) }() // waited for below
		f, err := os.OpenFile(path, os.O_WRONLY, 0)                                                   // waits until the other end is opened
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(syscall.Getpid(), c.signal); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(c.config); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if c.status == exitOK {
			for deadline := time.Now().Add(10 * time.Second); !log.has("SIGHUP: reading"); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("SIGHUP was not heard:\n%s", log.String())
				}
			}
			if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
		if status := <-ended; status != c.status {
			t.Errorf("%v, then %q: status %d, want %d:\n%s", c.signal, c.config, status, c.status, log.String())
		}
	}
}
