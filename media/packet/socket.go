package packet

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Socket is a non-blocking UDP socket.
type Socket struct {
	FD    int
	Local netip.AddrPort
}

// Options of a socket.
type Options struct {
	Buffer int // bytes in each direction, as far as the kernel grants
	DSCP   int // differentiated services code point of what is sent

	Guard func(fd int) error // called before the socket is bound; nil: nothing
}

// Listen binds a socket. Link-local IPv6 addresses are of no use here: their
// zone is lost.
func Listen(addr netip.AddrPort, o Options) (Socket, error) {
	family := unix.AF_INET
	if addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Socket{}, fmt.Errorf("open UDP socket: %w", err)
	}
	if err := o.set(fd, family); err != nil {
		_ = unix.Close(fd)
		return Socket{}, fmt.Errorf("set options for %s: %w", addr, err)
	}
	if o.Guard != nil {
		if err := o.Guard(fd); err != nil {
			_ = unix.Close(fd)
			return Socket{}, err
		}
	}
	if err := unix.Bind(fd, sockaddr(addr)); err != nil {
		_ = unix.Close(fd)
		return Socket{}, fmt.Errorf("bind %s: %w", addr, err)
	}
	if addr.Port() == 0 { // the kernel has chosen one
		if addr, err = localAddr(fd); err != nil {
			_ = unix.Close(fd)
			return Socket{}, err
		}
	}
	return Socket{FD: fd, Local: addr}, nil
}

// Take is for a socket that another process has bound. It is given away.
func Take(fd int, o Options) (Socket, error) {
	local, err := localAddr(fd)
	if err == nil {
		family := unix.AF_INET
		if local.Addr().Is6() {
			family = unix.AF_INET6
		}
		o.tune(fd, family) // that IPv4 stays apart was set before it was bound
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = unix.Close(fd)
		return Socket{}, fmt.Errorf("take over a socket: %w", err)
	}
	return Socket{FD: fd, Local: local}, nil
}

// set applies the options. Only that IPv4 stays apart is a must: a mapped
// source address would be another one to all tables. The rest is as good as
// the kernel grants.
func (o Options) set(fd, family int) error {
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
	}
	o.tune(fd, family)
	return nil
}

func (o Options) tune(fd, family int) {
	if family == unix.AF_INET6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, o.DSCP<<2)
	} else {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, o.DSCP<<2)
	}
	if o.Buffer > 0 {
		force(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, o.Buffer)
		force(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, o.Buffer)
	}
}

// force sets a buffer past the system's limit where privileges allow it.
func force(fd, forced, option, size int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, forced, size) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, size)
	}
}

// Close closes the socket, which also takes it out of its Poller.
func (s Socket) Close() error { return unix.Close(s.FD) }

// InUse tells whether binding failed because another socket has the address.
func InUse(err error) bool { return errors.Is(err, unix.EADDRINUSE) }

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func localAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("read socket address: %w", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)), nil
	}
	return netip.AddrPort{}, errors.New("read socket address: unknown family")
}
