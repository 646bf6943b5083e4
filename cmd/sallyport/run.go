package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sallyport/sallyport/cmd/internal/succession"
)

// partingTime is for the messages that end the last calls to leave.
const partingTime = 500 * time.Millisecond

func runCommand(c console, args []string) int {
	flags := newFlags("run")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	if status, ok := parse(c, flags, args); !ok {
		return status
	}
	hangup, usr2 := catch(syscall.SIGHUP), catch(syscall.SIGUSR2) // before what takes time: either may come at once
	defer hangup.release()
	defer usr2.release()
	estate, err := succession.Inherit()
	if err != nil {
		fmt.Fprintf(c.err, "sallyport: %v\n", err)
		return exitFault
	}
	cfg, doc := load(*path)
	defer func() { // whoever asked for an upgrade wants to know, too
		if len(doc.faults) > 0 {
			var why strings.Builder
			report(&why, doc.sorted())
			estate.Fail(why.String())
		}
	}()
	if doc.unreadable {
		report(c.err, doc.sorted())
		return exitFault
	}
	p := cfg.plan(context.Background(), doc)
	if len(doc.faults) > 0 {
		report(c.err, doc.sorted())
		return exitFault
	}
	log := cfg.Log.logger(c.err)
	if p.estate = estate; estate.Generation() > 0 {
		log = log.With("generation", estate.Generation())
	}
	e, err := p.build(log)
	if err != nil {
		doc.addError(advised(err))
		report(c.err, doc.sorted())
		return exitFault
	}
	stop, hurry, release := signals()
	defer release()
	if err := estate.Ready(); err != nil {
		fmt.Fprintf(c.err, "sallyport: %v\n", err)
		return exitFault
	}
	if estate != nil {
		e.policy.Restore() // as the process before left it, which went on since it was read
	}
	estate.Hear(e.hears)
	hangup.each(e.reload)
	usr2.each(e.upgradeAsked)
	notifyMain(os.Getpid(), serving)
	if err := e.run(stop, hurry); err != nil {
		fmt.Fprintf(c.err, "sallyport: %v\n", err)
		return exitFault
	}
	return exitOK
}

// signals returns a context that ends at the first SIGTERM or SIGINT, and one
// that ends at the second. Release ends both.
func signals() (stop, hurry context.Context, release func()) {
	came := make(chan os.Signal, 2)
	signal.Notify(came, syscall.SIGTERM, os.Interrupt)
	stop, first := context.WithCancel(context.Background())
	hurry, second := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { // ends after two signals or with release, which waits
		defer close(done)
		for _, cancel := range []context.CancelFunc{first, second} {
			if _, ok := <-came; !ok {
				return
			}
			cancel()
		}
	}()
	return stop, hurry, func() {
		signal.Stop(came)
		close(came) // Stop has returned: no one sends any more
		<-done
		first()
		second()
	}
}

// caught is a signal that ends the process no more. One waits until each is called.
type caught struct {
	came chan os.Signal
	done sync.WaitGroup
}

func catch(s os.Signal) *caught {
	c := &caught{came: make(chan os.Signal, 1)}
	signal.Notify(c.came, s)
	return c
}

// each calls f at each one, one at a time, until release is called, which waits for it.
func (c *caught) each(f func()) {
	c.done.Go(func() {
		for range c.came {
			f()
		}
	})
}

func (c *caught) release() {
	signal.Stop(c.came)
	close(c.came) // Stop has returned: no one sends any more
	c.done.Wait()
}

// reload takes what can be taken without a restart.
func (e *edge) reload() {
	notifyReloading()
	defer notify(serving)
	e.log.Info("SIGHUP: reading the certificates anew; the configuration file itself is not read again, its changes need a restart, or `sallyport upgrade`")
	e.certificate.Reload()
}

// run serves until stop ends, then lets calls end until hurry does or the
// time for it is over. It returns when every part has.
func (e *edge) run(stop, hurry context.Context) error {
	group, ctx := errgroup.WithContext(context.Background())
	serving, end := context.WithCancel(ctx)
	group.Go(func() error { return newMemory().Run(serving) })
	group.Go(func() error { return e.media.Run(serving) })
	group.Go(func() error { return e.proxy.Run(serving) })
	group.Go(func() error { return e.plain.Run(serving) })
	reigning, yield := context.WithCancel(serving) // what one process does at a time
	group.Go(func() error { return e.admin.Run(reigning) })
	group.Go(func() error { return e.control.Run(reigning) })
	group.Go(func() error { return e.policy.Run(serving) })
	if e.webhook != nil {
		group.Go(func() error { return e.webhook.Run(serving) })
	}
	group.Go(func() error { return e.certificate.Run(serving) })
	for _, s := range e.trunkPlain {
		group.Go(func() error { return s.Run(serving) })
	}
	for _, t := range e.trunks {
		group.Go(func() error { return t.Run(serving) })
	}
	for _, l := range e.listeners {
		group.Go(func() error { return l.Run(serving) })
		e.log.Info("serving phones", "listen", l.Addr(), "transport", l.Transport())
	}
	for _, at := range e.mediaTCP {
		e.log.Info("serving media", "listen", at, "transport", "TCP")
	}
	group.Go(func() error {
		defer end() // ends the parts above
		defer yield()
		for {
			select {
			case <-stop.Done():
				notify(leaving)
				close(e.last)
				e.leave(ctx, hurry)
			case <-ctx.Done(): // a part failed; Wait tells
				close(e.last)
			case asked := <-e.upgrades:
				heir, err := e.succeed(stop, yield)
				asked <- err
				if err != nil {
					continue
				}
				close(e.last)
				return e.handOver(ctx, stop, hurry, heir)
			}
			return nil
		}
	})
	return group.Wait()
}

// leave takes nothing new and lets what is there end.
func (e *edge) leave(ctx, hurry context.Context) {
	e.draining.Store(true)
	for _, l := range e.listeners {
		l.StopAccepting()
	}
	e.estate.Tell(succession.Drain)
	pass := context.AfterFunc(hurry, func() { e.estate.Tell(succession.Hurry) })
	defer pass()
	calls := e.proxy.Stats().Calls
	e.log.Info("shutting down: no new calls", "calls", calls, "wait", e.drain)
	patience, cancel := context.WithTimeout(hurry, e.drain)
	defer cancel()
	stop := context.AfterFunc(ctx, cancel) // a part that fails meanwhile ends the wait
	defer stop()
	e.proxy.Drain(patience)
	if calls > 0 && patience.Err() != nil {
		// The rest was hung up. Neither end may be left in a call that is over.
		select {
		case <-time.After(partingTime):
		case <-ctx.Done():
		}
	}
	select { // what a process before this one still has comes by our sockets
	case <-e.estate.Gone():
	case <-ctx.Done():
	}
	e.log.Info("shut down")
}
