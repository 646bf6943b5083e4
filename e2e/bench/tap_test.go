package bench

import (
	"encoding/binary"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/e2e/peers"
)

const (
	tapBatch  = 64
	tapSlot   = 512
	tapBuffer = 64 << 20
	cmsgSpace = 32 // one timestamp
)

// tap sends and receives whole frames on a host's interface. So one system
// call carries packets of many ports, and a generator that plays thousands of
// phones costs little beside the relay. The relay can't tell: what reaches it
// came through the same interfaces and sockets as ever.
//
// Its system calls are raw: Go's scheduler is not told, and does not wake
// other threads for them.
type tap struct {
	fd   int
	mac  net.HardwareAddr
	out  [tapBatch]mmsghdr
	outs [tapBatch]unix.Iovec
	in   [tapBatch]mmsghdr
	ins  [tapBatch]unix.Iovec
	slab []byte
	ctrl []byte
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// openTap opens a host's interface.
func openTap(h *peers.Host) (*tap, error) {
	t := &tap{slab: make([]byte, tapBatch*tapSlot), ctrl: make([]byte, tapBatch*cmsgSpace)}
	err := h.Do(func() error {
		dev, err := net.InterfaceByName(h.Dev)
		if err != nil {
			return err
		}
		t.mac = dev.HardwareAddr
		ip := int(htons(unix.ETH_P_IP))
		if t.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, ip); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(t.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, tapBuffer); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(t.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
			return err
		}
		return unix.Bind(t.fd, &unix.SockaddrLinklayer{Protocol: uint16(ip), Ifindex: dev.Index})
	})
	if err != nil {
		return nil, fmt.Errorf("open interface %s of %s: %w", h.Dev, h.Name, err)
	}
	for i := range tapBatch {
		t.out[i].hdr.Iov = &t.outs[i]
		t.out[i].hdr.SetIovlen(1)
		t.ins[i].Base = &t.slab[i*tapSlot]
		t.ins[i].SetLen(tapSlot)
		t.in[i].hdr.Iov = &t.ins[i]
		t.in[i].hdr.SetIovlen(1)
		t.in[i].hdr.Control = &t.ctrl[i*cmsgSpace]
	}
	return t, nil
}

func (t *tap) close() { _ = unix.Close(t.fd) }

// send sends frames of one size that lie at equal distances, as many as one
// call takes, and returns how many the kernel took.
func (t *tap) send(frames []byte, distance, size int) int {
	n := min(len(frames)/distance, tapBatch)
	for i := range n {
		t.outs[i].Base = &frames[i*distance]
		t.outs[i].SetLen(size)
	}
	sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(t.fd), uintptr(unsafe.Pointer(&t.out[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(sent)
}

// receive takes what waits, up to a batch.
func (t *tap) receive() int {
	for i := range t.in {
		t.in[i].hdr.SetControllen(cmsgSpace)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(t.fd), uintptr(unsafe.Pointer(&t.in[0])), tapBatch, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// frame is what slot i received, valid until the next receive.
func (t *tap) frame(i int) []byte {
	return t.slab[i*tapSlot : i*tapSlot+min(int(t.in[i].len), tapSlot)]
}

// stamp is when the kernel saw slot i arrive, in nanoseconds since 1970.
func (t *tap) stamp(i int) int64 {
	c := t.ctrl[i*cmsgSpace:]
	return int64(binary.NativeEndian.Uint64(c[16:]))*1e9 + int64(binary.NativeEndian.Uint64(c[24:]))
}

// drops counts what the kernel could not keep for us since it was last asked.
func (t *tap) drops() (int, error) {
	s, err := unix.GetsockoptTpacketStats(t.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, fmt.Errorf("count drops of the generator: %w", err)
	}
	return int(s.Drops), nil
}

// sleepUntil sleeps to a time in nanoseconds since 1970, or a signal.
func sleepUntil(at int64) {
	ts := unix.NsecToTimespec(at)
	_, _, _ = unix.RawSyscall6(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_REALTIME, unix.TIMER_ABSTIME, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }
