package packet

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Outbox collects packets that leave by one socket, for one system call.
type Outbox struct {
	iovs   []unix.Iovec
	names  []Addr
	out    []mmsghdr
	queued int
}

// NewOutbox returns an outbox for n packets.
func NewOutbox(n int) *Outbox {
	o := &Outbox{iovs: make([]unix.Iovec, n), names: make([]Addr, n), out: make([]mmsghdr, n)}
	for i := range n {
		link(&o.out[i], &o.iovs[i], &o.names[i])
	}
	return o
}

// Queue notes p to be sent to an address by the next Flush, and tells whether
// there was room. p is borrowed until then; it is usually a slot's own memory.
func (o *Outbox) Queue(p []byte, to *Addr) bool {
	if o.queued == len(o.out) || len(p) == 0 || to.len == 0 {
		return false
	}
	i := o.queued
	o.iovs[i].Base = &p[0]
	o.iovs[i].SetLen(len(p))
	o.names[i] = *to
	o.out[i].hdr.Namelen = to.len
	o.queued++
	return true
}

// Queued tells how many packets wait for Flush.
func (o *Outbox) Queued() int { return o.queued }

// Flush sends what is queued from fd, and returns how many packets the kernel
// did not take: a full buffer drops, as a full network would.
func (o *Outbox) Flush(fd int) (lost int) {
	for at := 0; at < o.queued; {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&o.out[at])), uintptr(o.queued-at), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			at += int(n)
		case unix.EAGAIN, unix.ENOBUFS, unix.EBADF: // of the socket: the others fare no better
			lost += o.queued - at
			at = o.queued
		default: // of the first one left, its destination perhaps; the others may still go
			at++
			lost++
		}
	}
	o.queued = 0
	return lost
}
