// Command sallyport stands between a hostile network and a PBX that speaks
// plaintext SIP over UDP. See the README, and `sallyport help`.
package main

import (
	"fmt"
	"io"
	"os"
)

// Exit statuses.
const (
	exitOK    = 0
	exitFault = 1 // the work failed; the reason is on standard error
	exitUsage = 2 // the command line is wrong
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

func commands() []command {
	return []command{
		{"run", "[-config FILE]", "serve until told to stop", runCommand},
		{"check", "[-config FILE]", "report every fault of the configuration, or what would run", checkCommand},
		{"cert", "COMMAND", "certificates, ours and phones': make, show, check, renew, revoke", certCommand},
		{"user", "add|list|remove", "the edge's own users: another name and password outside than at the PBX", userCommand},
		{"bans", "list|add|remove", "see and change who is kept out, while the edge runs", bansCommand},
		{"demo", "[-listen IP] [-once]", "a PBX, the edge and two test calls on this machine, then a phone in your browser", demoCommand},
		{"version", "", "print the version", versionCommand},
		{"help", "[config]", "print this, or the configuration file with every key explained", helpCommand},
	}
}

func main() {
	os.Exit(dispatch(console{os.Stdin, os.Stdout, os.Stderr}, os.Args[1:]))
}

func dispatch(c console, args []string) int {
	if len(args) == 0 {
		usage(c.err)
		return exitUsage
	}
	for _, cmd := range commands() {
		if cmd.name == args[0] {
			return cmd.run(c, args[1:])
		}
	}
	if args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		return helpCommand(c, nil)
	}
	fmt.Fprintf(c.err, "sallyport: there is no command %q\n\n", args[0])
	usage(c.err)
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, "usage: sallyport COMMAND\n\n")
	for _, cmd := range commands() {
		fmt.Fprintf(w, "  %-8s %-22s %s\n", cmd.name, cmd.args, cmd.help)
	}
}
