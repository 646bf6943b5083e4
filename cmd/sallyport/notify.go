package main

import (
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// What a service manager is told (sd_notify(3)).
const (
	serving  = "READY=1"
	leaving  = "STOPPING=1"
	mainPID  = "MAINPID=%d" // which process to watch; any of the service may say so
	reloadAt = "RELOADING=1\nMONOTONIC_USEC=%d"
)

// notify tells the service manager, if there is one. What it can't be told changes
// nothing here.
func notify(words ...string) {
	at := os.Getenv("NOTIFY_SOCKET")
	if at == "" {
		return
	}
	c, err := net.Dial("unixgram", at) // a leading @ is an abstract name to both
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = fmt.Fprintln(c, strings.Join(words, "\n"))
}

// notifyMain tells that a process is the one to watch. One that ends while it is the one,
// ends the service.
func notifyMain(pid int, more ...string) {
	notify(append([]string{fmt.Sprintf(mainPID, pid)}, more...)...)
}

// notifyReloading tells that a signal to reload has come, by the clock that the service
// manager asks for (Type=notify-reload in systemd.service(5)). READY=1 tells that it is
// done.
func notifyReloading() {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) == nil {
		notify(fmt.Sprintf(reloadAt, now.Nano()/1000))
	}
}
