package seam

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Head is what stands before a datagram: its source, of 16 bytes and a port.
const Head = 18

// buffer is what waits in a seam at most, as far as the kernel grants it: media of
// many calls may come at once.
const buffer = 4 << 20

// Pair makes a seam: the end that datagrams come out of, and the one they are put
// into. Both are close-on-exec, and neither blocks.
func Pair() (out, in int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, fmt.Errorf("make a seam: %w", err)
	}
	// The sender's buffer bounds what waits at the other end (unix(7)).
	if unix.SetsockoptInt(fds[1], unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, buffer) != nil {
		_ = unix.SetsockoptInt(fds[1], unix.SOL_SOCKET, unix.SO_SNDBUF, buffer)
	}
	return fds[0], fds[1], nil
}

// Writer puts datagrams into a seam.
type Writer struct {
	fd   int
	head [Head]byte
	iovs [2]unix.Iovec
	msg  unix.Msghdr
}

// Fate is what became of a datagram.
type Fate uint8

const (
	// Passed is one that was put in.
	Passed Fate = iota
	// Full is one that was dropped for want of room.
	Full
	// Vain is one that was dropped because nobody is at the other end, or nothing is in it.
	Vain
)

// NewWriter writes to the end given, which is given away.
func NewWriter(fd int) *Writer {
	w := &Writer{fd: fd}
	w.iovs[0].Base = &w.head[0]
	w.iovs[0].SetLen(Head)
	w.msg.Iov = &w.iovs[0]
	w.msg.SetIovlen(2)
	return w
}

// Pass puts a datagram in, and tells what became of it. p is borrowed until it returns.
func (w *Writer) Pass(from netip.AddrPort, p []byte) Fate {
	if len(p) == 0 {
		return Vain
	}
	ip := from.Addr().As16()
	copy(w.head[:], ip[:])
	binary.BigEndian.PutUint16(w.head[16:], from.Port())
	w.iovs[1].Base = &p[0]
	w.iovs[1].SetLen(len(p))
	_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(w.fd), uintptr(unsafe.Pointer(&w.msg)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	w.iovs[1].Base = nil // borrowed no longer
	switch errno {
	case 0:
		return Passed
	case unix.EAGAIN, unix.ENOBUFS:
		return Full
	}
	return Vain
}

// Close ends the seam.
func (w *Writer) Close() { _ = unix.Close(w.fd) }

// Cut takes apart what came out of a seam: the source, and the datagram, which is
// part of b.
func Cut(b []byte) (from netip.AddrPort, p []byte, ok bool) {
	if len(b) <= Head {
		return netip.AddrPort{}, nil, false
	}
	ip := netip.AddrFrom16([16]byte(b[:16])).Unmap()
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(b[16:])), b[Head:], true
}
