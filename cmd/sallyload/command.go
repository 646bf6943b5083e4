package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/cmd/internal/load"
	"github.com/sallyport/sallyport/cmd/internal/load/measure"
	"github.com/sallyport/sallyport/cmd/internal/load/plot"
)

// command is one that puts load on a server.
type command struct {
	name, help string
	mix        map[measure.Operation]int
}

func commands() []command {
	return []command{
		{"register", "registrations at a rate; with --reconnect each by a connection of its own", map[measure.Operation]int{load.Register: 1}},
		{"call", "calls at a rate, from phones that are registered before", map[measure.Operation]int{load.Call: 1}},
		{"mix", "what --mix says: register, reconnect, call, hold, cancel and options, by weights", nil},
		{"storm", "all phones at once: how long until all are registered", nil},
	}
}

func run(args []string, out, errs io.Writer) int {
	if len(args) == 0 {
		usage(errs)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		if len(args) > 1 && !strings.HasPrefix(args[1], "-") {
			return run([]string{args[1], "--help"}, out, errs)
		}
		usage(out)
		return exitOK
	}
	if args[0] == "answer" {
		return runAnswer(args[1:], out, errs)
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(args[1:], out, errs)
		}
	}
	fmt.Fprintf(errs, "sallyload: there is no command %q\n\n", args[0])
	usage(errs)
	return exitUsage
}

func (c command) run(args []string, out, errs io.Writer) int {
	o := newOptions(c)
	o.flags.SetOutput(errs)
	switch err := o.parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(errs, "sallyload %s: %v\n", c.name, err)
		return exitUsage
	}
	if err := o.writable(); err != nil {
		fmt.Fprintf(errs, "sallyload %s: %v\n", c.name, err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends at once
	progress := &load.Progress{Out: errs, Terminal: terminal(errs)}
	r, err := load.Run(ctx, o.plan, progress)
	progress.End()
	if err != nil {
		fmt.Fprintf(errs, "sallyload %s: %v\n", c.name, err)
		return exitUsage
	}
	load.Summarise(out, r)
	if err := o.write(r); err != nil {
		fmt.Fprintf(errs, "sallyload %s: %v\n", c.name, err)
		return exitFailed
	}
	if !r.Passed {
		return exitFailed
	}
	return exitOK
}

// writable tells before the run what would be in the way of its report. A file that is
// there stays as it is until then.
func (o *options) writable() error {
	for _, f := range []struct{ flag, name string }{{"--json", o.json}, {"--plot", o.plot}} {
		if f.name == "" {
			continue
		}
		file, err := os.OpenFile(f.name, os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return fmt.Errorf("%s: %w", f.flag, err)
		}
		file.Close()
	}
	return nil
}

// write leaves the files that were asked for: one of them if there is no room for the
// other.
func (o *options) write(r *measure.Report) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	var all []error
	for _, f := range []struct{ name, text string }{{o.json, string(b) + "\n"}, {o.plot, plot.Draw(r)}} {
		if f.name == "" {
			continue
		}
		if err := os.WriteFile(f.name, []byte(f.text), 0o644); err != nil {
			all = append(all, fmt.Errorf("write the report: %w", err))
		}
	}
	return errors.Join(all...)
}

// terminal tells whether somebody sees lines as they are written over.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
