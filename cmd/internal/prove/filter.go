package prove

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Places that a filter reads from, of linux/filter.h.
const (
	auxProtocol = 0xfffff000 // SKF_AD_OFF + SKF_AD_PROTOCOL
	auxKind     = 0xfffff000 + 4
	atNetwork   = 0xfff00000 // SKF_NET_OFF
)

const (
	all  = 1 << 18 // more than any packet has
	head = 96      // enough to count what is not looked into
)

// filter reads IP whole where it may hold SIP or media, and of all else its head
// alone: that is counted, and not read. Of a loopback interface, where each packet
// comes twice, the copy that leaves is left out.
func filter(loopback bool) []unix.SockFilter {
	load := func(size uint16, at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | size | unix.BPF_ABS, K: at}
	}
	ret := func(n uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: n} }
	var f []unix.SockFilter
	is := func(value uint32, jump uint8) {
		f = append(f, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: jump, K: value})
	}
	if loopback {
		f = append(f, load(unix.BPF_B, auxKind), unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.PACKET_OUTGOING}, ret(0))
	}
	f = append(f, load(unix.BPF_H, auxProtocol))
	whole := []uint32{etherIPv6, etherVLAN, etherQinQ, etherQinQ1, etherPPPoE}
	carried := []uint32{protoTCP, protoUDP, protoIPIP, protoIPv6, protoGRE, protoAH}
	// Jumps are over what follows: to the last but one, which returns all.
	left := len(whole) + 2 + len(carried) + 1 // from the first comparison to there
	for i, kind := range whole {
		is(kind, uint8(left-1-i))
	}
	f = append(f, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: uint8(1 + len(carried)), K: etherIPv4})
	f = append(f, load(unix.BPF_B, atNetwork+9)) // the protocol
	for i, proto := range carried {
		is(proto, uint8(len(carried)-i))
	}
	return append(f, ret(head), ret(all))
}

func attach(fd int, program []unix.SockFilter) error {
	fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &fprog); err != nil {
		return fmt.Errorf("filter packets: %w", err)
	}
	return nil
}
