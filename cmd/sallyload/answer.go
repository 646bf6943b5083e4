package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/load/answer"
	"github.com/sallyport/sallyport/cmd/internal/load/media"
)

// runAnswer stands for a PBX until it is told to stop.
func runAnswer(args []string, out, errs io.Writer) int {
	flags := flag.NewFlagSet("sallyload answer", flag.ContinueOnError)
	flags.SetOutput(errs)
	listen := flags.String("listen", "udp:127.0.0.1:5060", "where to listen, `udp:ADDRESS:PORT`")
	password := flags.String("password", "", "that is asked for, where %s is the user; empty: none is")
	sha := flags.Bool("sha256", false, "ask for it by SHA-256, not by MD5")
	codecs := flags.String("codecs", strings.ToLower(strings.Join(media.Codecs(), ",")), "that the echo takes, of what is offered the first")
	ring := flags.Duration("ring", 0, "how long a call rings")
	duration := flags.Duration("duration", 0, "after which it ends; 0: when it is told to")
	if err := flags.Parse(args); err != nil {
		if err == flag.ErrHelp { //nolint:errorlint // it is returned as it is
			return exitOK
		}
		return exitUsage
	}
	at, err := netip.ParseAddrPort(strings.TrimPrefix(*listen, "udp:"))
	if err != nil || at.Addr().IsUnspecified() || flags.NArg() > 0 {
		fmt.Fprintf(errs, "sallyload answer: --listen %s: want udp:ADDRESS:PORT, an address that calls can be sent to\n", *listen)
		return exitUsage
	}
	for _, name := range list(*codecs) {
		if !media.KnownCodec(name) {
			fmt.Fprintf(errs, "sallyload answer: --codecs %s: there are %s\n", *codecs, strings.Join(media.Codecs(), ", "))
			return exitUsage
		}
	}
	s, err := answer.New(answer.Config{Listen: at, Password: *password, SHA256: *sha, Ring: *ring, Readers: runtime.GOMAXPROCS(0), Codecs: list(*codecs)})
	if err != nil {
		fmt.Fprintf(errs, "sallyload answer: %v\n", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if *duration > 0 {
		ctx, stop = context.WithTimeout(ctx, *duration)
		defer stop()
	}
	fmt.Fprintf(out, "sallyload answers at %s\n", s.Addr())
	done := make(chan struct{})
	go func() { // ends with ctx; waited for below
		defer close(done)
		s.Run(ctx)
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for before := (answer.Counts{}); ; {
		select {
		case <-done:
			c := s.Counts()
			fmt.Fprintf(out, "%d registrations, %d calls, %d hung up, %d packets of sound, %d of reports\n", c.Registers, c.Invites, c.Byes, c.Packets, c.Reports)
			return exitOK
		case <-tick.C:
		}
		if c := s.Counts(); c != before {
			fmt.Fprintf(errs, "%d registrations/s, %d calls/s, %d hung up/s, %d packets/s\n",
				c.Registers-before.Registers, c.Invites-before.Invites, c.Byes-before.Byes, c.Packets-before.Packets)
			before = c
		}
	}
}
