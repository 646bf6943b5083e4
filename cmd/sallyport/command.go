package main

import (
	"fmt"
	"io"
)

// console is where a command speaks to.
type console struct {
	in       io.Reader
	out, err io.Writer
}

type command struct {
	name, args, help string
	run              func(c console, args []string) int
}

// family is commands that begin alike: "sallyport", or "sallyport cert".
type family struct {
	name    string
	members func() []command
}

// run finds the command that the first argument names, and runs it with the others.
func (f family) run(c console, args []string) int {
	if len(args) == 0 {
		f.usage(c.err)
		return exitUsage
	}
	for _, cmd := range f.members() {
		if cmd.name == args[0] {
			return cmd.run(c, args[1:])
		}
	}
	if args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		f.usage(c.out)
		return exitOK
	}
	fmt.Fprintf(c.err, "%s: there is no command %q\n\n", f.name, args[0])
	f.usage(c.err)
	return exitUsage
}

func (f family) usage(w io.Writer) {
	fmt.Fprintf(w, "usage: %s COMMAND\n\n", f.name)
	name, args := 0, 0
	for _, cmd := range f.members() {
		name, args = max(name, len(cmd.name)), max(args, len(cmd.args))
	}
	for _, cmd := range f.members() {
		fmt.Fprintf(w, "  %-*s  %-*s  %s\n", name, cmd.name, args, cmd.args, cmd.help)
	}
	fmt.Fprintf(w, "\n%s COMMAND -h tells what a command takes.\n", f.name)
}
