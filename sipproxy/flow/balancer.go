package flow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"
)

// A balancer before us is the peer of every connection that it passes on. By the
// PROXY protocol, version 2 (HAProxy's proxy-protocol.txt, section 2.2), it says
// in front of the phone's first byte who the phone is. Only listed balancers are
// believed, and they must say it: a phone could otherwise be whom it likes.

// proxySignature begins the header.
var proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// maxProxyHeader bounds what a balancer may say of a connection, beside addresses.
const maxProxyHeader = 4 << 10

// errNoProxyHeader is a balancer that does not say for whom it connects.
var errNoProxyHeader = errors.New("no PROXY header (version 2) of a balancer in sip.balancers")

// Behind has the connections of balancers tell whose they are. It is called before
// Run.
func (l *Listener) Behind(balancers []netip.Prefix) { l.balancers = balancers }

func (l *Listener) isBalancer(a netip.Addr) bool {
	return slices.ContainsFunc(l.balancers, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
}

// introduce serves a balancer's connection once it has told whose that is. It
// runs on the connection's own goroutine.
func (c *conn) introduce() {
	balancer := c.remote
	_ = c.raw.SetReadDeadline(time.Now().Add(c.l.limits.HandshakeTimeout))
	phone, err := readProxyHeader(c.raw)
	_ = c.raw.SetReadDeadline(time.Time{})
	switch {
	case err != nil:
		c.l.event("refused_no_proxy_header")
		c.l.log.Info("connection refused", "peer", balancer.String(), "reason", err)
	case !phone.IsValid(): // policy is not asked: to refuse it would be to say that we are down
		c.l.event("balancer_check")
		c.own = true
		c.run()
		return
	default:
		c.remote = phone
		release, ok := c.l.admitted(phone)
		if !ok {
			break
		}
		c.release = release
		c.run()
		return
	}
	abort(c.raw)
	c.l.forget(c)
}

// readProxyHeader reads a header, and not a byte more. The address is not valid if
// the connection is the balancer's own (LOCAL), to see whether we live: it is served as
// the balancer's, whatever else the header says.
func readProxyHeader(r io.Reader) (netip.AddrPort, error) {
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head); err != nil || !bytes.Equal(head[:12], proxySignature) || head[12]>>4 != 2 {
		return netip.AddrPort{}, errNoProxyHeader
	}
	length := int(binary.BigEndian.Uint16(head[14:]))
	if length > maxProxyHeader {
		return netip.AddrPort{}, fmt.Errorf("%w: %d bytes of it", errNoProxyHeader, length)
	}
	rest := make([]byte, length)
	if _, err := io.ReadFull(r, rest); err != nil {
		return netip.AddrPort{}, errNoProxyHeader
	}
	const local, proxied, tcp4, tcp6 = 0, 1, 0x11, 0x21
	switch command, family := head[12]&15, head[13]; {
	case command == local:
		return netip.AddrPort{}, nil
	case command != proxied:
		return netip.AddrPort{}, fmt.Errorf("%w: command %d", errNoProxyHeader, command)
	case family == tcp4 && length >= 12:
		return source(rest[:4], rest[8:])
	case family == tcp6 && length >= 36:
		return source(rest[:16], rest[32:])
	}
	return netip.AddrPort{}, fmt.Errorf("%w: it is about no TCP connection", errNoProxyHeader)
}

func source(ip, port []byte) (netip.AddrPort, error) {
	a, _ := netip.AddrFromSlice(ip)
	if a = a.Unmap(); a.IsUnspecified() || a.IsMulticast() {
		return netip.AddrPort{}, fmt.Errorf("%w: %s is nobody's address", errNoProxyHeader, a)
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port)), nil
}

// admitted asks policy about a connection, and tells why if it is refused.
func (l *Listener) admitted(remote netip.AddrPort) (release func(), ok bool) {
	if l.admit == nil {
		return func() {}, true
	}
	release, err := l.admit(remote.Addr())
	if err != nil {
		l.event("refused_by_policy")
		l.log.Info("connection refused", "peer", remote.String(), "reason", err)
		return nil, false
	}
	return release, true
}
