package main

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// The kernel takes a packet for any of its addresses by any interface, unless
// its reverse path filter is on. So a neighbour on the phones' network could
// write the PBX's address into a packet and reach the plain side, which knows
// the PBX by nothing else.

// guard is a socket filter that drops what comes by the interfaces on which
// only phones are: those with a listen_ip, and not plain_ip. It is nil where
// there are none. An interface that comes later under another number passes:
// the guard must never lock the PBX out.
func guard(listen []netip.Addr, plain netip.Addr) (func(fd int) error, error) {
	outside, err := onlyPhones(listen, plain)
	if err != nil || len(outside) == 0 {
		return nil, err
	}
	const ifindex = 0xfffff000 + 8 // SKF_AD_OFF + SKF_AD_IFINDEX of linux/filter.h
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: ifindex}}
	for i, index := range outside {
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(len(outside) - i), K: uint32(index)})
	}
	program = append(program,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 18}, // all of it
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	)
	return func(fd int) error {
		fprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &fprog); err != nil {
			return fmt.Errorf("keep the phones' interfaces off the plain side: %w", err)
		}
		return nil
	}, nil
}

// onlyPhones finds the interfaces that have a listen address and not the plain
// one.
func onlyPhones(listen []netip.Addr, plain netip.Addr) ([]int, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	var found []int
	for _, each := range interfaces {
		addrs, err := each.Addrs()
		if err != nil || each.Flags&net.FlagLoopback != 0 {
			continue
		}
		has := func(a netip.Addr) bool {
			return slices.ContainsFunc(addrs, func(n net.Addr) bool {
				p, err := netip.ParsePrefix(n.String())
				return err == nil && p.Addr().Unmap() == a.Unmap()
			})
		}
		if slices.ContainsFunc(listen, has) && !has(plain) {
			found = append(found, each.Index)
		}
	}
	return found, nil
}
