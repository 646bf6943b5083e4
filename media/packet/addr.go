package packet

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Addr is an address in the form that the kernel reads, made once and used
// for many packets. The zero Addr is none.
type Addr struct {
	raw [unix.SizeofSockaddrInet6]byte
	len uint32
}

// MakeAddr converts an address; an invalid one gives the zero Addr.
func MakeAddr(a netip.AddrPort) Addr {
	var r Addr
	switch {
	case !a.IsValid():
	case a.Addr().Is4():
		r.len = unix.SizeofSockaddrInet4
		binary.NativeEndian.PutUint16(r.raw[0:], unix.AF_INET)
		binary.BigEndian.PutUint16(r.raw[2:], a.Port())
		ip := a.Addr().As4()
		copy(r.raw[4:], ip[:])
	default:
		r.len = unix.SizeofSockaddrInet6
		binary.NativeEndian.PutUint16(r.raw[0:], unix.AF_INET6)
		binary.BigEndian.PutUint16(r.raw[2:], a.Port())
		ip := a.Addr().As16()
		copy(r.raw[8:], ip[:])
	}
	return r
}

// IsZero tells whether there is no address.
func (a *Addr) IsZero() bool { return a.len == 0 }

// addrPort reads what the kernel wrote.
func (a *Addr) addrPort() netip.AddrPort {
	port := binary.BigEndian.Uint16(a.raw[2:])
	switch binary.NativeEndian.Uint16(a.raw[0:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(a.raw[4:8])), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(a.raw[8:24])), port)
	}
	return netip.AddrPort{}
}
