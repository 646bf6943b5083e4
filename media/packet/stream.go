package packet

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is TCP: connections that Go accepted, and a Poller of ours watches.

const (
	// unsent is how many bytes the kernel keeps that it could not send yet. What
	// is beyond waits with us, where it can be dropped: media that comes late is
	// of no use.
	unsent = 16 << 10
	// userTimeout is after how many milliseconds an end that acknowledges nothing
	// is given up.
	userTimeout = 30_000
)

// Control sets the options of a listening socket, which those that it accepts
// inherit. It is what net.ListenConfig wants.
func (o Options) Control(network, _ string, c syscall.RawConn) (err error) {
	family := unix.AF_INET
	if network == "tcp6" {
		family = unix.AF_INET6
	}
	if failed := c.Control(func(fd uintptr) { err = o.set(int(fd), family) }); failed != nil {
		return failed
	}
	return err
}

// Adopt takes a connection out of Go's hands: the socket is the same, by another
// descriptor. The caller still closes his own.
func Adopt(c *net.TCPConn) (Socket, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return Socket{}, fmt.Errorf("take over connection: %w", err)
	}
	s, fault := Socket{FD: -1}, error(nil)
	if err := raw.Control(func(fd uintptr) { s.FD, fault = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		fault = err
	}
	if fault != nil {
		return Socket{}, fmt.Errorf("take over connection: %w", fault)
	}
	// As good as the kernel grants: without them the rest still holds, later.
	_ = unix.SetsockoptInt(s.FD, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
	_ = unix.SetsockoptInt(s.FD, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout)
	if at, ok := c.LocalAddr().(*net.TCPAddr); ok {
		s.Local = netip.AddrPortFrom(at.AddrPort().Addr().Unmap(), uint16(at.Port))
	}
	return s, nil
}

// AddStream watches a connection, for what comes and for room to send.
func (p *Poller) AddStream(fd int) error {
	return p.addEdges(fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP)
}

// Read reads what waits on a connection, without blocking. It returns 0 bytes
// if there are none, and whether there may ever be more.
func Read(fd int, p []byte) (n int, open bool) {
	return transfer(unix.SYS_RECVFROM, fd, p, unix.MSG_DONTWAIT, true)
}

// Write gives a connection as much of p as it takes now, and returns how much,
// and whether it will ever take more.
func Write(fd int, p []byte) (n int, open bool) {
	return transfer(unix.SYS_SENDTO, fd, p, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, false)
}

func transfer(call uintptr, fd int, p []byte, flags uintptr, ends bool) (int, bool) {
	if len(p) == 0 {
		return 0, true
	}
	for {
		n, _, errno := unix.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), n > 0 || !ends
		case unix.EINTR:
		case unix.EAGAIN, unix.ENOBUFS:
			return 0, true
		default:
			return 0, false
		}
	}
}
