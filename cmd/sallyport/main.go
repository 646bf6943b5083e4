// Command sallyport stands between a hostile network and a PBX that speaks
// plaintext SIP over UDP. See the README, and `sallyport help`.
package main

import (
	"os"
)

// Exit statuses.
const (
	exitOK    = 0
	exitFault = 1 // the work failed; the reason is on standard error
	exitUsage = 2 // the command line is wrong
)

func commands() []command {
	return []command{
		{"run", "[-config FILE]", "serve until told to stop", runCommand},
		{"upgrade", "[-config FILE]", "replace the edge that runs by the binary on the disk; calls go on", upgradeCommand},
		{"check", "[-config FILE]", "report every fault of the configuration, or what would run", checkCommand},
		{"cert", "COMMAND", "certificates, ours and phones': make, show, check, renew, revoke", family{"sallyport cert", certCommands}.run},
		{"user", "add|list|remove", "the edge's own users: another name and password outside than at the PBX", family{"sallyport user", userCommands}.run},
		{"trunk", "COMMAND", "trunks to other edges and PBXs: pair two edges, see which are up", family{"sallyport trunk", trunkCommands}.run},
		{"bans", "list|add|remove", "see and change who is kept out, while the edge runs", family{"sallyport bans", bansCommands}.run},
		{"prove", "[-interface NAME] [-for TIME] [-json]", "watch an interface: did anything of SIP or media cross it in clear?", proveCommand},
		{"demo", "[-listen IP] [-once]", "a PBX, the edge and two test calls on this machine, then a phone in your browser", demoCommand},
		{"version", "", "print the version", versionCommand},
		{"help", "[config|COMMAND]", "print this, the configuration file with every key explained, or a command's flags", helpCommand},
	}
}

func main() {
	os.Exit(family{"sallyport", commands}.run(console{os.Stdin, os.Stdout, os.Stderr}, os.Args[1:]))
}
