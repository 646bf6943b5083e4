package demo

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"
)

const (
	domain    = "demo.sallyport.test" // RFC 6761: never in the DNS
	user      = "101"
	webUser   = "102" // the test phone's
	voice     = 700.0 // Hz, what the demo's phone says
	talkTime  = 1500 * time.Millisecond
	checkTime = 10 * time.Second
)

// Options says where the demo serves and how long.
type Options struct {
	Listen    netip.Addr // the edge's address; loopback, or one on the LAN to let phones in
	TLSPort   uint16     // 0: 5061 if it is free
	WebPort   uint16     // 0: 8443 if it is free
	MediaPort uint16     // 0: 10000 if it is free
	Once      bool       // end after the test calls

	Out io.Writer
	Log *slog.Logger

	// StartEdge starts the edge, and returns when it serves.
	StartEdge func(context.Context, EdgeSpec) (*Edge, error)

	talk time.Duration // how long each test call is; 0: talkTime
}

// EdgeSpec is the edge that the demo asks for.
type EdgeSpec struct {
	Domain    string
	IP        netip.Addr // where phones come
	TLSPort   uint16
	WebPort   uint16 // of secure WebSocket, and of the test phone
	MediaPort uint16
	Plain     netip.AddrPort // where the PBX sends
	PBX       netip.AddrPort
	StateDir  string
}

// Edge is one that serves.
type Edge struct {
	CAFile string
	Stop   func() error    // ends it and waits
	Done   <-chan struct{} // closed when it ended, by itself or not
}

// Run plays the demo until ctx ends, or once. It returns ErrFailed if a step
// did not show what it should.
func Run(ctx context.Context, o Options) error {
	state, err := os.MkdirTemp("", "sallyport-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the edge's state: %w", err)
	}
	defer os.RemoveAll(state)

	pbx, err := StartPBX(netip.MustParseAddrPort("127.0.0.1:0"), o.Log)
	if err != nil {
		return err
	}
	defer pbx.Close()

	spec := EdgeSpec{Domain: domain, IP: o.Listen, PBX: pbx.Addr(), StateDir: state}
	if err := spec.choosePorts(o); err != nil {
		return err
	}
	edge, err := o.StartEdge(ctx, spec)
	if err != nil {
		return fmt.Errorf("start the edge: %w", err)
	}
	passed := show(ctx, o, spec, edge, pbx)
	if passed && !o.Once {
		instruct(o.Out, spec, edge)
		select {
		case <-ctx.Done():
		case <-edge.Done:
		}
	}
	if err := edge.Stop(); err != nil {
		return fmt.Errorf("run the edge: %w", err)
	}
	if !passed {
		return ErrFailed
	}
	return nil
}

// show makes the test calls and prints the table.
func show(ctx context.Context, o Options, spec EdgeSpec, edge *Edge, pbx *PBX) bool {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	t := table{out: o.Out, passed: true, talk: cmp.Or(o.talk, talkTime)}
	fmt.Fprintf(o.Out, "\nPBX %s (UDP, plain)  <->  edge %s (TLS, SRTP)  <->  phone %s\n\n",
		spec.PBX, netip.AddrPortFrom(spec.IP, spec.TLSPort), user)
	wire, err := OpenWire(netip.AddrPortFrom(spec.IP, spec.TLSPort))
	if err != nil {
		return t.row("wire", false, "%v", err)
	}
	defer wire.Close()

	phone, err := connect(ctx, wire, edge.CAFile)
	if err != nil {
		return t.row("connected", false, "%v", err)
	}
	defer phone.Close()
	t.row("connected", true, "%s, certificate verified", phone.TLS())
	if err := phone.Register(ctx); err != nil {
		return t.row("registered", false, "%v", err)
	}
	t.row("registered", true, "%s@%s at the PBX, through the edge", user, domain)

	t.call(ctx, phone, ToneCall, AESCM80, testTone, "the PBX's tone")
	t.call(ctx, phone, Echo, AESGCM, voice, "its own tone, echoed")
	t.outside(wire.Outside())
	t.inside(pbx.Inside())
	fmt.Fprintln(o.Out)
	return t.passed
}

// connect dials the edge through the wire, trusting its certificate alone.
func connect(ctx context.Context, wire *Wire, caFile string) (*Phone, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read the edge's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the edge's certificate: %s holds none", caFile)
	}
	phone, err := DialPhone(ctx, wire.Addr(), user, domain, &tls.Config{RootCAs: roots, ServerName: domain, MinVersion: tls.VersionTLS12})
	if err != nil {
		return nil, err
	}
	phone.Media = wire.Media
	return phone, nil
}

// table prints a line for each step as it is known.
type table struct {
	out    io.Writer
	passed bool // no step failed yet
	talk   time.Duration
}

func (t *table) row(name string, ok bool, format string, args ...any) bool {
	mark := "ok    "
	if !ok {
		mark, t.passed = "FAILED", false
	}
	fmt.Fprintf(t.out, "  %s  %-10s  %s\n", mark, name, fmt.Sprintf(format, args...))
	return t.passed
}

func (t *table) call(ctx context.Context, phone *Phone, number string, suite Suite, want float64, what string) {
	h, err := phone.Call(ctx, number, suite, voice, t.talk)
	if err != nil {
		t.row("call "+number, false, "%v", err)
		return
	}
	t.row("call "+number, h.Sound.Is(want), "%s: the phone heard %s, %.1f Hz, in %d packets (%d bad)",
		suite, what, h.Sound.Hertz, h.Packets, h.Bad)
}

func (t *table) outside(o Outside) {
	t.row("outside", o.Sealed(), "%d TLS records, %d SRTP packets; SIP words to read: %d; audio: noise (most tonal packet %.0f %%)",
		o.Records, o.Packets, len(o.Words), 100*o.Tone)
}

func (t *table) inside(in Inside) {
	t.row("inside", in.Messages > 0 && in.Invite != "" && in.Sound.Is(voice),
		"%d SIP messages to read, as %q; audio: %.1f Hz, %.1f %% tone", in.Messages, in.Invite, in.Sound.Hertz, 100*in.Sound.Share)
}

// instruct tells how to point a phone here.
func instruct(w io.Writer, spec EdgeSpec, edge *Edge) {
	fmt.Fprintf(w, `Now yours. In a browser open

  https://%s/phone#user=%s&call=%s

accept the certificate, which is the edge's own, then Register (no password), Call, and
hear yourself. Or set a phone to:

  server      %s, port %d      transport   TLS
  domain      %s
  user        any, password none      encryption  SRTP by SDES, mandatory
  CA file     %s

and call %s for a tone, %s for an echo. `, netip.AddrPortFrom(spec.IP, spec.WebPort), webUser, Echo, spec.IP, spec.TLSPort, spec.Domain, edge.CAFile, ToneCall, Echo)
	if spec.IP.IsLoopback() {
		fmt.Fprint(w, "To let in a phone on the LAN, start with -listen and this\nmachine's address there. ")
	}
	fmt.Fprint(w, "Ctrl-C ends the demo.\n")
}

// choosePorts fills in the ports that are not fixed. Another program may take
// one before the edge does, which then says so.
func (s *EdgeSpec) choosePorts(o Options) error {
	s.TLSPort, s.WebPort, s.MediaPort = o.TLSPort, o.WebPort, o.MediaPort
	var err error
	for _, tcp := range []struct {
		port  *uint16
		usual uint16
	}{{&s.TLSPort, 5061}, {&s.WebPort, 8443}} {
		if *tcp.port != 0 {
			continue
		}
		if *tcp.port, err = firstFree(tcp.usual, func(port uint16) error { return tcpFree(o.Listen, port) }); err != nil {
			return fmt.Errorf("find a port for TLS on %s: %w", o.Listen, err)
		}
	}
	if s.MediaPort == 0 {
		if s.MediaPort, err = firstFree(10000, func(port uint16) error {
			return errors.Join(udpFree(o.Listen, port, 2*maxWorkers), tcpFree(o.Listen, port)) // a browser may come by TCP
		}); err != nil {
			return fmt.Errorf("find ports for media on %s: %w", o.Listen, err)
		}
	}
	plain := s.PBX.Addr()
	port, err := firstFree(5060, func(port uint16) error { return udpFree(plain, port, 1) })
	if err != nil {
		return fmt.Errorf("find a port for SIP on %s: %w", plain, err)
	}
	s.Plain = netip.AddrPortFrom(plain, port)
	return nil
}

const maxWorkers = 2 // the demo's edge runs no more

// firstFree tries ports a hundred apart from the usual one on.
func firstFree(usual uint16, try func(uint16) error) (uint16, error) {
	var err error
	for port := int(usual); port < 20000; port += 100 {
		if err = try(uint16(port)); err == nil {
			return uint16(port), nil
		}
	}
	return 0, err
}

func tcpFree(ip netip.Addr, port uint16) error {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, port)))
	if err == nil {
		l.Close()
	}
	return err
}

func udpFree(ip netip.Addr, first uint16, count int) error {
	for port := int(first); port < int(first)+count; port++ {
		s, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(port))))
		if err != nil {
			return err
		}
		s.Close()
	}
	return nil
}
