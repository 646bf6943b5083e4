package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// SIGUSR2 replaces the edge as the command does, and whoever manages the service hears
// which process serves: first of all from the one before, which is the one that is
// watched, and whose end would be the service's. Nobody is told to watch one that fails.
func TestUpgradeBySignal(t *testing.T) {
	o, manager := newManagedOffice(t)
	first := o.edge.Pid()
	manager.Hears(first, "READY=1")
	if manager.Main() != first {
		t.Errorf("process %d is watched, not the first, %d", manager.Main(), first)
	}
	phone := o.registered("1001")
	media := phone.NewMedia(suite)
	d := o.echo(phone, media, 700)
	media.Hears(700, 10*time.Second)
	media.Count()
	time.Sleep(200 * time.Millisecond) // until nothing is on its way that does not count

	good := o.edge.Configured()
	o.edge.Reconfigure(strings.Replace(good, "[edge]\n", "[edge]\nhandover = \"-1s\"\n", 1))
	o.edge.Signal(syscall.SIGUSR2)
	o.edge.WaitLog(`upgrade failed.*edge\.handover`, 10*time.Second)
	o.edge.Reconfigure(good)
	if manager.Main() != first {
		t.Errorf("process %d is watched after an upgrade that failed, not %d", manager.Main(), first)
	}

	media.Forget()
	before := o.edge.UpgradeBySignal()
	second := o.edge.Pid()
	manager.Hears(second, "READY=1")
	manager.Hears(first, fmt.Sprintf("MAINPID=%d", second))
	manager.Hears(second, fmt.Sprintf("MAINPID=%d", second))
	whole(t, "over the upgrade", media, 100)

	before.Signal(syscall.SIGUSR2) // it has been replaced
	before.WaitLog("SIGUSR2 changes nothing here", 10*time.Second)
	if manager.Main() != second {
		t.Errorf("process %d is watched after a signal to the one before, not %d", manager.Main(), second)
	}

	// Type=notify-reload waits for both words.
	o.edge.Signal(syscall.SIGHUP)
	manager.Hears(second, "RELOADING=1")
	peers.Until(t, 10*time.Second, "the new process to be ready again", func() bool {
		var of []string
		for _, w := range manager.Heard() {
			if w.Pid == second {
				of = append(of, w.Text)
			}
		}
		at := slices.Index(of, "RELOADING=1")
		return slices.Contains(of[at:], "READY=1") && strings.HasPrefix(of[at+1], "MONOTONIC_USEC=")
	})

	o.bye(d, media)
	if status, err := before.Wait(60 * time.Second); status != 0 || err != nil {
		t.Errorf("the process before ended with status %d, %v", status, err)
	}
	if slices.Contains(manager.Heard(), peers.Word{Pid: first, Text: "STOPPING=1"}) || manager.Main() != second {
		t.Errorf("the end of the process before is told as that of the service: %v", manager.Heard())
	}
	o.edge.Signal(syscall.SIGTERM)
	manager.Hears(second, "STOPPING=1")
	if _, err := o.edge.Wait(10 * time.Second); err != nil {
		t.Error(err)
	}
}

// An edge that is told to end while a new process gets ready ends, as if nobody had asked
// for an upgrade: who tells the one that serves means the edge.
func TestUpgradeStopped(t *testing.T) {
	for _, dead := range []bool{false, true} {
		t.Run(map[bool]string{false: "the first", true: "another"}[dead], func(t *testing.T) {
			o := newOffice(t)
			phone := o.registered("1001")
			media := phone.NewMedia(suite)
			d := o.echo(phone, media, 700)
			serves := o.edge.Process
			if dead { // and the one before starts another
				serves = o.edge.Upgrade()
				o.edge.Unreadable()
				o.edge.Kill()
				serves.WaitLog("this one goes on with its own calls, and starts another", 10*time.Second)
			} else {
				o.edge.Unreadable()
				serves.Signal(syscall.SIGUSR2)
				serves.WaitLog("starting the new process", 10*time.Second)
			}
			serves.Signal(syscall.SIGTERM)
			serves.WaitLog("shutting down", 10*time.Second)
			o.speaks(media, 800)
			serves.Signal(syscall.SIGTERM)
			bye := phone.Expect("BYE", 10*time.Second)
			phone.Answer(bye, 200, "OK", "")
			media.Stop()
			if status, err := serves.Wait(10 * time.Second); status != 0 || err != nil || bye.Get("Call-Id") != d.ID() {
				t.Errorf("the edge ended with status %d, %v", status, err)
			}
		})
	}
}
