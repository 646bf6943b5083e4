package packet

import (
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// adopt makes a connection, and our end of it.
func adopt(t *testing.T) (far *net.TCPConn, near Socket) {
	t.Helper()
	config := net.ListenConfig{Control: Options{DSCP: 46}.Control}
	ln, err := config.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close() // what is adopted stays open
	if near, err = Adopt(accepted.(*net.TCPConn)); err != nil {
		t.Fatal(err)
	}
	if want := ln.Addr().(*net.TCPAddr).AddrPort(); near.Local != want {
		t.Errorf("our end is %s, want %s", near.Local, want)
	}
	return conn.(*net.TCPConn), near
}

// told waits until the poller tells of a socket.
func told(t *testing.T, p *Poller, fd int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		ready, err := p.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(ready, fd) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the poller never told")
		}
	}
}

// A connection is told of when something comes, when there is room again, and at
// its end; it never blocks.
func TestStream(t *testing.T) {
	far, near := adopt(t)
	defer near.Close()
	if tos, err := unix.GetsockoptInt(near.FD, unix.IPPROTO_IP, unix.IP_TOS); err != nil || tos != 46<<2 {
		t.Errorf("type of service is %d, %v", tos, err)
	}
	p := newPoller(t, 50*time.Millisecond)
	if err := p.AddStream(near.FD); err != nil {
		t.Fatal(err)
	}
	told(t, p, near.FD) // of room, once
	buf := make([]byte, 64<<10)
	if n, open := Read(near.FD, buf); n != 0 || !open {
		t.Errorf("read %d of nothing, open: %v", n, open)
	}
	if _, err := far.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	told(t, p, near.FD)
	if n, open := Read(near.FD, buf); string(buf[:n]) != "hello" || !open {
		t.Errorf("read %q, open: %v", buf[:n], open)
	}
	sent := 0
	for {
		n, open := Write(near.FD, buf)
		if !open {
			t.Fatal("writing failed")
		}
		if n == 0 {
			break
		}
		sent += n
	}
	if _, err := io.CopyN(io.Discard, far, int64(sent)); err != nil {
		t.Fatal(err)
	}
	told(t, p, near.FD)
	if n, open := Write(near.FD, buf[:10]); n != 10 || !open {
		t.Errorf("wrote %d when there was room, open: %v", n, open)
	}
	_ = far.SetLinger(0)
	far.Close()
	told(t, p, near.FD)
	if n, open := Read(near.FD, buf); n != 0 || open {
		t.Errorf("read %d at the end, open: %v", n, open)
	}
	if n, open := Write(near.FD, buf); n != 0 || open {
		t.Errorf("wrote %d behind the end, open: %v", n, open)
	}
}
