package flow

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"unicode/utf8"

	"github.com/sallyport/sallyport/media/seam"
)

const (
	maxDatagram = 65507 // what an IPv4 datagram can carry
	maxPlain    = 64    // flows: addresses of the PBX that spoke to us
	plainBuffer = 4 << 20
)

// PlainSocket is the UDP socket towards the PBX, or several. It takes nothing from
// any other address.
type PlainSocket struct {
	conn   *net.UDPConn
	local  netip.AddrPort
	limits Limits
	to     Handler
	log    *slog.Logger
	trace  *tracer
	past   *seam.Writer // to the process before this one; nil: there is none
	counters

	mu    sync.Mutex // guards what follows
	peers map[netip.Addr]bool
	flows map[netip.AddrPort]*Flow
	later *os.File // the seam from the process after this one; nil: this one reads
	over  bool
}

// ListenPlain binds address. Nothing is taken before Expect. guard is called for
// the socket before it is bound; nil is nothing.
func ListenPlain(address netip.AddrPort, guard func(fd int) error, limits Limits, to Handler, log *slog.Logger) (*PlainSocket, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		if guard == nil {
			return nil
		}
		var guarded error
		err := raw.Control(func(fd uintptr) { guarded = guard(int(fd)) })
		return errors.Join(err, guarded)
	}}
	pc, err := lc.ListenPacket(context.Background(), "udp", address.String())
	if err != nil {
		return nil, fmt.Errorf("listen on %s by UDP: %w", address, err)
	}
	return newPlain(pc.(*net.UDPConn), limits, to, log), nil // what "udp" gives
}

func newPlain(conn *net.UDPConn, limits Limits, to Handler, log *slog.Logger) *PlainSocket {
	_ = conn.SetReadBuffer(plainBuffer) // as much as the kernel grants
	_ = conn.SetWriteBuffer(plainBuffer)
	return &PlainSocket{
		conn: conn, local: addrPort(conn.LocalAddr()), limits: limits,
		to: to, log: log, trace: &tracer{log}, flows: make(map[netip.AddrPort]*Flow),
	}
}

// Expect tells the addresses from which anything is taken from now on.
func (s *PlainSocket) Expect(peers []netip.Addr) {
	expected := make(map[netip.Addr]bool, len(peers))
	for _, p := range peers {
		expected[p.Unmap()] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers = expected
}

// Addr is the bound address.
func (s *PlainSocket) Addr() netip.AddrPort { return s.local }

// Stats returns a snapshot.
func (s *PlainSocket) Stats() Stats { return s.snapshot() }

// Flow returns the flow to an address of the PBX. It is not closed before Run
// ends.
func (s *PlainSocket) Flow(to netip.AddrPort) *Flow {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flowLocked(to)
}

func (s *PlainSocket) flowLocked(to netip.AddrPort) *Flow {
	if f := s.flows[to]; f != nil {
		return f
	}
	f := newFlow(Plain, "UDP", s.local, to, &datagrams{s, to}, s.trace)
	s.flows[to] = f
	return f
}

// Run reads until ctx ends; the socket is closed then.
func (s *PlainSocket) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.close)
	defer stop()
	buf := make([]byte, maxDatagram+1)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			break
		}
		if errors.Is(err, os.ErrDeadlineExceeded) { // it was yielded
			s.readSeam(buf)
			continue // it was taken back, or is closed
		}
		if err != nil { // an ICMP error of something sent before
			s.event("read_error")
			continue
		}
		s.datagram(buf[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.flows {
		f.Close(ErrDone)
	}
	if s.past != nil {
		s.past.Close() // the reader's, which is here
	}
	return nil
}

// datagram takes one packet, borrowed.
func (s *PlainSocket) datagram(b []byte, from netip.AddrPort) {
	s.mu.Lock()
	known := s.peers[from.Addr()]
	s.mu.Unlock()
	if !known {
		// The process before may have calls at a PBX that is none any longer: it
		// knows, and takes nothing from anybody else either.
		if s.past == nil || s.past.Pass(from, b) != seam.Passed {
			s.event("stranger")
		}
		return
	}
	b = bytes.TrimLeft(b, "\r\n\x00") // keep-alives, and RFC 3261 section 7.5
	if len(b) == 0 {
		return
	}
	s.mu.Lock()
	if s.flows[from] == nil && len(s.flows) >= maxPlain {
		s.mu.Unlock()
		s.event("too_many_ports")
		return
	}
	f := s.flowLocked(from)
	s.mu.Unlock()
	if end := bytes.Index(b, headEnd); end >= 0 && !utf8.Valid(b[:end]) {
		// A caller's name comes from telephone networks in their own
		// encodings, and a call must not fail for it.
		b = append(bytes.ToValidUTF8(b[:end], []byte("?")), b[end:]...)
	}
	head, msg, fault := parseDatagram(b)
	if fault != nil {
		s.event("malformed")
		s.log.Warn("malformed message of the PBX dropped", "peer", from.String(), "header", fault.Header, "reason", fault.Fault)
		if answer := head.rejection(fault); answer != nil {
			_ = f.write(answer)
		}
		return
	}
	if s.isForeign(f, msg) && s.passOn(from, b) {
		return
	}
	f.trace.message(f, "in", msg)
	s.to.Receive(f, msg)
}

// datagrams is the outlet to one address.
type datagrams struct {
	s  *PlainSocket
	to netip.AddrPort
}

func (d *datagrams) reliable() bool { return false }
func (d *datagrams) close()         {}

func (d *datagrams) write(b []byte) error {
	if len(b) > maxDatagram {
		return ErrTooLarge
	}
	if _, err := d.s.conn.WriteToUDPAddrPort(b, d.to); err != nil {
		if errors.Is(err, net.ErrClosed) {
			return ErrClosed
		}
		d.s.event("write_error") // as good as lost on the way: retransmission decides
	}
	return nil
}
