package peers

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Dialer opens many connections from one host, without a thread for each of them as
// Host.Do has it: a socket stays in the namespace where it was made, whoever
// connects it.
type Dialer struct {
	h       *Host
	wants   chan int // types of sockets
	sockets chan made
}

type made struct {
	fd  int
	err error
}

// Dialer returns one, good until the test ends.
func (h *Host) Dialer() *Dialer {
	d := &Dialer{h: h, wants: make(chan int), sockets: make(chan made)}
	go func() { // ends at the test's end
		_ = h.Do(func() error {
			for kind := range d.wants {
				fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
				d.sockets <- made{fd, err}
			}
			return nil
		})
	}()
	h.lab.t.Cleanup(func() { close(d.wants) })
	return d
}

// Dial connects by "tcp" or "udp" to an IPv4 address.
func (d *Dialer) Dial(network string, to netip.AddrPort) (net.Conn, error) {
	kind := unix.SOCK_STREAM
	if network == "udp" {
		kind = unix.SOCK_DGRAM
	}
	d.wants <- kind
	s := <-d.sockets // one at a time, and whose it is does not matter
	if s.err != nil {
		return nil, fmt.Errorf("make a socket: %w", s.err)
	}
	err := unix.Connect(s.fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	f := os.NewFile(uintptr(s.fd), network)
	defer f.Close() // the connection has a copy
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if err := connected(f); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return net.FileConn(f)
}

// connected waits until a socket is.
func connected(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if err := f.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	var fault error
	err = raw.Write(func(fd uintptr) bool {
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		if err != nil {
			fault = err
			return true
		}
		_, err = unix.Getpeername(int(fd))
		return err == nil
	})
	runtime.KeepAlive(f)
	return errors.Join(err, fault)
}

// TLS connects, and does the handshake with a group that phones have; none is
// resumed.
func (d *Dialer) TLS(to netip.AddrPort, trusted *tls.Config) (*tls.Conn, error) {
	conn, err := d.Dial("tcp", to)
	if err != nil {
		return nil, err
	}
	c := tls.Client(conn, trusted)
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if err := c.Handshake(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("shake hands: %w", err)
	}
	_ = conn.SetDeadline(time.Time{})
	return c, nil
}

// WebSocket upgrades a connection, as a phone that is no page does.
func (d *Dialer) WebSocket(conn *tls.Conn) (net.Conn, error) {
	w, _, err := openWebSocket(conn, "")
	if err != nil {
		return nil, err
	}
	return w, nil
}

// PhoneTrust is a phone's TLS for a server with the certificate of a file.
func PhoneTrust(l *Lab, caFile string) *tls.Config {
	c := trust(l.t, caFile)
	c.CurvePreferences = []tls.CurveID{tls.X25519}
	c.SessionTicketsDisabled = true
	return c
}
