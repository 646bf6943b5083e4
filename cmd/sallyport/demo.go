package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"github.com/sallyport/sallyport/cmd/internal/demo"
)

func demoCommand(c console, args []string) int {
	flags := newFlags("demo")
	listen := flags.String("listen", loopback.String(), "`IP` to serve phones on; one of this machine's on the LAN lets real phones in")
	tlsPort := flags.Uint("tls-port", 0, "TLS `PORT`; 0: 5061, or a free one")
	webPort := flags.Uint("web-port", 0, "TCP `PORT` for browsers and the test phone; 0: 8443, or a free one")
	mediaPort := flags.Uint("media-port", 0, "first UDP `PORT` for media; 0: 10000, or a free one")
	once := flags.Bool("once", false, "end after the test calls, with status 1 if one failed")
	verbose := flags.Bool("v", false, "show the edge's log")
	if status, ok := parse(c, flags, args); !ok {
		return status
	}
	ip, err := netip.ParseAddr(*listen)
	if err != nil || ip.IsUnspecified() || *tlsPort > 65535 || *webPort > 65535 || *mediaPort > 65535 {
		fmt.Fprintf(c.err, "sallyport demo: -listen must be one address of this machine, and ports at most 65535\n")
		return exitUsage
	}
	log := slog.New(slog.DiscardHandler)
	if *verbose {
		log = slog.New(slog.NewTextHandler(c.err, nil))
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	err = demo.Run(ctx, demo.Options{
		Listen: ip, TLSPort: uint16(*tlsPort), WebPort: uint16(*webPort), MediaPort: uint16(*mediaPort),
		Once: *once, Out: c.out, Log: log,
		StartEdge: func(ctx context.Context, spec demo.EdgeSpec) (*demo.Edge, error) {
			return startDemoEdge(ctx, spec, log)
		},
	})
	if err != nil {
		fmt.Fprintf(c.err, "sallyport demo: %v\n", err)
		return exitFault
	}
	return exitOK
}

// startDemoEdge takes the same way from configuration to edge as run does.
func startDemoEdge(ctx context.Context, spec demo.EdgeSpec, log *slog.Logger) (*demo.Edge, error) {
	p, faults := demoConfig(spec).demoPlan(ctx)
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	e, err := p.build(log)
	if err != nil {
		return nil, err
	}
	stop, end := context.WithCancel(context.Background())
	done := make(chan struct{})
	var failed error
	go func() { // ends with Stop, which waits
		defer close(done)
		failed = e.run(stop, stop)
	}()
	return &demo.Edge{
		CAFile: e.certificate.Describe()[0].File,
		Done:   done,
		Stop: func() error {
			end()
			<-done
			return failed
		},
	}, nil
}

func demoConfig(spec demo.EdgeSpec) Config {
	c := defaults()
	c.Edge.Domain = spec.Domain
	c.Edge.PublicIP = []netip.Addr{spec.IP}
	c.Edge.PlainIP = spec.Plain.Addr()
	c.Edge.StateDir = spec.StateDir
	c.Edge.Drain = 0
	c.PBX.Address = []pbxAddress{{hostPort: hostPort{Host: spec.PBX.Addr().String(), Port: spec.PBX.Port()}}}
	c.SIP.TLSListen = listenAddr{Port: spec.TLSPort}
	c.SIP.WSSListen = optionalAddr{listenAddr{Port: spec.WebPort}}
	c.SIP.WSSPhone = true
	c.SIP.PlainListen = listenAddr{Port: spec.Plain.Port()}
	c.Media.Port = int(spec.MediaPort)
	c.Media.Workers = 1
	c.Admin.Listen = listenAddr{} // a free port: two demos may run
	return c
}

// demoPlan plans without a file.
func (c Config) demoPlan(ctx context.Context) (plan, []error) {
	d := &document{file: "demo"}
	c.validate(d)
	p := c.plan(ctx, d)
	var faults []error
	for _, f := range d.sorted() {
		faults = append(faults, f)
	}
	return p, faults
}
