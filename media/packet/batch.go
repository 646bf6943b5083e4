package packet

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/media/seam"
)

// SlotSize is the room for one packet with what encryption adds. Longer
// packets are truncated, and marked so.
const SlotSize = 2048

// TagRoom is kept free at a slot's end for a tag, an index and an MKI.
const TagRoom = 160

// mmsghdr is struct mmsghdr of recvmmsg(2). The compiler pads it as C does.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// Batch is a set of slots and the kernel's view of them. The kernel's headers
// point into the other slices, which therefore never grow.
type Batch struct {
	slab  []byte
	iovs  []unix.Iovec
	names []Addr
	in    []mmsghdr
}

// NewBatch returns a batch of n slots.
func NewBatch(n int) *Batch {
	b := &Batch{
		slab: make([]byte, n*SlotSize),
		iovs: make([]unix.Iovec, n), names: make([]Addr, n), in: make([]mmsghdr, n),
	}
	for i := range n {
		b.iovs[i].Base = &b.slab[i*SlotSize]
		b.iovs[i].SetLen(SlotSize - TagRoom)
		link(&b.in[i], &b.iovs[i], &b.names[i])
	}
	return b
}

func link(m *mmsghdr, iov *unix.Iovec, name *Addr) {
	m.hdr.Name = &name.raw[0]
	m.hdr.Iov = iov
	m.hdr.SetIovlen(1)
}

// Len is the number of slots.
func (b *Batch) Len() int { return len(b.in) }

// Recv fills slots from the one given with what waits on fd, without
// blocking, and returns how many, and whether there may be more. A passing
// error, such as a queued ICMP message about something sent before, gives 0
// and more.
func (b *Batch) Recv(fd, from, limit int) (n int, more bool) {
	if n = min(limit, len(b.in)-from); n <= 0 {
		return 0, true
	}
	for i := from; i < from+n; i++ {
		b.in[i].hdr.Namelen = unix.SizeofSockaddrInet6
		b.in[i].hdr.Flags = 0
	}
	got, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.in[from])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno != unix.EAGAIN && errno != unix.EBADF
	}
	return int(got), int(got) == n
}

// Packet returns the bytes received into slot i, with room for a tag behind
// them. They are valid until the slot is used again.
func (b *Batch) Packet(i int) []byte {
	at := i * SlotSize
	return b.slab[at : at+int(b.in[i].len) : at+SlotSize]
}

// Source returns where slot i came from.
func (b *Batch) Source(i int) netip.AddrPort { return b.names[i].addrPort() }

// Truncated tells whether slot i was longer than its slot.
func (b *Batch) Truncated(i int) bool { return b.in[i].hdr.Flags&unix.MSG_TRUNC != 0 }

// Fill puts a packet into slot i as if it had been received: what came by a
// stream, and in tests. p is borrowed until it returns.
func (b *Batch) Fill(i int, p []byte, from netip.AddrPort) {
	n := copy(b.slab[i*SlotSize:(i+1)*SlotSize-TagRoom], p)
	b.in[i].len = uint32(n)
	b.in[i].hdr.Flags = 0
	if n < len(p) {
		b.in[i].hdr.Flags = unix.MSG_TRUNC
	}
	b.names[i] = MakeAddr(from)
}

// Unwrap takes the source off a packet that came by a seam: slot i is as if it had
// been received from there. It tells whether there is one.
func (b *Batch) Unwrap(i int) bool {
	from, p, ok := seam.Cut(b.Packet(i))
	if !ok {
		return false
	}
	b.in[i].len = uint32(copy(b.Packet(i), p))
	b.names[i] = MakeAddr(from)
	return true
}

// Send sends one packet from fd at once, and tells whether the kernel took
// it. p is borrowed until it returns.
func Send(fd int, p []byte, to *Addr) bool {
	if len(p) == 0 || to.len == 0 {
		return false
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)),
		unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&to.raw[0])), uintptr(to.len))
	return errno == 0
}
