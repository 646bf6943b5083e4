package prove

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// A packet, super-packets among them, is not longer than a block. 64 MB are some
	// seconds of a full gigabit.
	blockSize = 1 << 20
	blocks    = 64
	// retire is after how long, in ms, a block that is not full is handed over.
	retire = 20

	vnetHead = 10 // struct virtio_net_hdr: what a super-packet is made of
)

// Offsets in a block (struct tpacket_block_desc) and before a packet in it (struct
// tpacket3_hdr, then struct sockaddr_ll) of linux/if_packet.h.
const (
	blockStatus  = 8
	blockPackets = 12
	blockFirst   = 16

	headNext   = 0
	headSec    = 4
	headNsec   = 8
	headSnap   = 12
	headLen    = 16
	headMAC    = 24
	headNet    = 26
	linkAddr   = 48
	linkProto  = linkAddr + 2
	linkHatype = linkAddr + 8
)

// capture reads all packets of an interface, both ways, by a ring that the kernel
// writes (TPACKET_V3).
type capture struct {
	fd      int
	ring    []byte
	next    int
	dropped uint64
}

// openCapture begins to record. It never takes part in what is on the interface.
func openCapture(iface *net.Interface) (c *capture, err error) {
	// Without a protocol, nothing comes before the filter and the ring are there.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
			return nil, fmt.Errorf("watch %s: %w", iface.Name, ErrPermission)
		}
		return nil, fmt.Errorf("watch %s: %w", iface.Name, err)
	}
	c = &capture{fd: fd}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if err := attach(fd, filter(iface.Flags&net.FlagLoopback != 0)); err != nil {
		return nil, err
	}
	for option, value := range map[int]int{unix.PACKET_VERSION: unix.TPACKET_V3, unix.PACKET_VNET_HDR: 1} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option, value); err != nil {
			return nil, fmt.Errorf("watch %s: set packet option %d: %w", iface.Name, option, err)
		}
	}
	req := unix.TpacketReq3{Block_size: blockSize, Block_nr: blocks, Frame_size: 2048, Frame_nr: blocks * blockSize / 2048, Retire_blk_tov: retire}
	if err := unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return nil, fmt.Errorf("watch %s: make a ring of %d MB: %w", iface.Name, blocks*blockSize>>20, err)
	}
	if c.ring, err = unix.Mmap(fd, 0, blocks*blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("watch %s: map the ring: %w", iface.Name, err)
	}
	const every = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in the network's order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: every, Ifindex: iface.Index}); err != nil {
		return nil, fmt.Errorf("watch %s: %w", iface.Name, err)
	}
	return c, nil
}

func (c *capture) close() {
	if c.ring != nil {
		_ = unix.Munmap(c.ring)
		c.ring = nil
	}
	_ = unix.Close(c.fd)
}

// wait returns when packets have come, or after a time.
func (c *capture) wait(timeout time.Duration) error {
	p := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN | unix.POLLERR}}
	switch _, err := unix.Poll(p, int(timeout.Milliseconds())); {
	case err != nil && !errors.Is(err, unix.EINTR):
		return fmt.Errorf("wait for packets: %w", err)
	case p[0].Revents&unix.POLLERR != 0:
		if e, _ := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); e != 0 {
			return fmt.Errorf("wait for packets: %w", unix.Errno(e))
		}
	}
	return nil
}

// read hands all frames that have come to take, which borrows them, and tells
// whether there were any.
func (c *capture) read(take func(Frame)) (any bool) {
	order := binary.NativeEndian
	for {
		b := c.ring[c.next*blockSize : (c.next+1)*blockSize]
		// The kernel writes the status last, behind a barrier; poll(2) has been between.
		if order.Uint32(b[blockStatus:])&unix.TP_STATUS_USER == 0 {
			return any
		}
		at := int(order.Uint32(b[blockFirst:]))
		for range order.Uint32(b[blockPackets:]) {
			p := b[at:]
			take(frameOf(p))
			at += int(order.Uint32(p[headNext:]))
			any = true
		}
		order.PutUint32(b[blockStatus:], unix.TP_STATUS_KERNEL)
		c.next = (c.next + 1) % blocks
	}
}

// frameOf reads one packet of a block.
func frameOf(p []byte) Frame {
	order := binary.NativeEndian
	mac, snap := int(order.Uint16(p[headMAC:])), int(order.Uint32(p[headSnap:]))
	f := Frame{
		At:     time.Unix(int64(order.Uint32(p[headSec:])), int64(order.Uint32(p[headNsec:]))),
		Data:   p[mac : mac+snap],
		Length: int(order.Uint32(p[headLen:])),
	}
	switch order.Uint16(p[linkHatype:]) {
	case unix.ARPHRD_ETHER, unix.ARPHRD_LOOPBACK, unix.ARPHRD_IEEE802:
	default: // no Ethernet: what it is stands beside
		f.Kind = binary.BigEndian.Uint16(p[linkProto:])
		f.Data = f.Data[min(len(f.Data), max(0, int(order.Uint16(p[headNet:]))-mac)):]
	}
	v := p[mac-vnetHead : mac]
	if kind := v[1] &^ 0x80; kind == unix.VIRTIO_NET_HDR_GSO_UDP_L4 {
		f.Each = int(order.Uint16(v[4:]))
	}
	return f
}

// drops is how many packets the kernel could not keep for us, since the beginning.
func (c *capture) drops() (uint64, error) {
	s, err := unix.GetsockoptTpacketStatsV3(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, fmt.Errorf("ask what the kernel dropped: %w", err)
	}
	c.dropped += uint64(s.Drops) // reading it sets it to 0
	return c.dropped, nil
}
