package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
)

// sample is the configuration file with every key explained.
//
//go:embed sallyport.toml
var sample string

func helpCommand(c console, args []string) int {
	switch {
	case len(args) == 0, args[0] == "-h":
		family{"sallyport", commands}.usage(c.out)
		return exitOK
	case len(args) == 1 && args[0] == "config":
		fmt.Fprint(c.out, sample)
		return exitOK
	case slices.ContainsFunc(commands(), func(cmd command) bool { return cmd.name == args[0] }):
		return family{"sallyport", commands}.run(c, append(slices.Clone(args), "-h"))
	}
	fmt.Fprintf(c.err, "sallyport help: there is no help on %q; there is on: config, and each command\n", args)
	return exitUsage
}

func versionCommand(c console, args []string) int {
	flags := newFlags("version")
	if status, ok := parse(c, flags, args); !ok {
		return status
	}
	info, _ := debug.ReadBuildInfo()
	fmt.Fprintln(c.out, version(info))
	return exitOK
}

// version tells what was built, from what the Go tool records in the binary.
func version(info *debug.BuildInfo) string {
	release, revision, changed := "(devel)", "", ""
	if info != nil {
		if info.Main.Version != "" {
			release = info.Main.Version
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				revision = " " + s.Value[:min(12, len(s.Value))]
			case "vcs.modified":
				if s.Value == "true" {
					changed = " with local changes"
				}
			}
		}
	}
	return fmt.Sprintf("sallyport %s%s%s, %s %s/%s", release, revision, changed, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// newFlags returns a command's flag set, which prints nothing by itself.
func newFlags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags
}

// parse reads a command's arguments. When it is not ok, the command ends with
// the status.
func parse(c console, flags *flag.FlagSet, args []string) (status int, ok bool) {
	err := flags.Parse(args)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err == nil {
		return exitOK, true
	}
	w, status := c.err, exitUsage
	if errors.Is(err, flag.ErrHelp) {
		w, status = c.out, exitOK
	} else {
		fmt.Fprintf(w, "sallyport %s: %v\n", flags.Name(), err)
	}
	fmt.Fprintf(w, "usage of sallyport %s:\n", flags.Name())
	flags.SetOutput(w)
	flags.PrintDefaults()
	return status, false
}
