// Command sallyload puts a server for secure SIP under load. See docs/sallyload.md,
// and `sallyload help`.
package main

import (
	"os"
)

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // something failed under load; the report says what
	exitUsage  = 2 // the command line is wrong, or the run could not begin
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }
