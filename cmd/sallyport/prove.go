package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/admin"
	"github.com/sallyport/sallyport/cmd/internal/prove"
)

// Exit statuses of prove. What keeps it from proving anything, a wrong command
// line too, is not to be taken for either answer.
const (
	provedClean = 0
	provedLeak  = 1
	notProved   = 2
)

func proveCommand(c console, args []string) int {
	flags := newFlags("prove")
	path := flags.String("config", defaultConfig, "configuration `FILE` of the edge that runs")
	name := flags.String("interface", "", "what to watch: the interface's `NAME`; else the one with the edge's address")
	span := flags.Duration("for", time.Minute, "how long, like 60s; 0 until Ctrl-C: `TIME`")
	strict := flags.Bool("strict", false, "what strangers send to the edge in clear, and it refuses, is a leak, too")
	asJSON := flags.Bool("json", false, "print the outcome as JSON")
	if status, ok := parse(c, flags, args); !ok {
		return status // exitUsage, which is notProved; or the help that was asked for
	}
	if *span < 0 {
		fmt.Fprintf(c.err, "sallyport prove: -for is %s; give a time, or 0 to watch until Ctrl-C\n", *span)
		return notProved
	}
	cfg, doc := load(*path)
	if doc.unreadable {
		report(c.err, doc.sorted())
		return notProved
	}
	stop, _, release := signals()
	defer release()
	r, err := prove.Watch(stop, prove.Config{
		Interface: *name, For: *span, Strict: *strict,
		Ask: func(ctx context.Context) (prove.Knowledge, error) {
			var told admin.Secure
			err := cfg.ask(ctx, http.MethodGet, "keys", nil, &told)
			return prove.Knowledge(told), err
		},
		Began: func(iface string) {
			until := "until Ctrl-C"
			if *span > 0 {
				until = fmt.Sprintf("for %s, or until Ctrl-C", *span)
			}
			fmt.Fprintf(c.err, "sallyport prove: watching %s %s\n", iface, until)
		},
	})
	if err != nil {
		fmt.Fprintf(c.err, "sallyport prove: %v\n", err)
		return notProved
	}
	if *asJSON {
		out := json.NewEncoder(c.out)
		out.SetIndent("", "  ")
		err = out.Encode(r)
	} else {
		r.Print(c.out)
	}
	switch {
	case err != nil:
		return notProved
	case r.Verdict == prove.Leaks:
		return provedLeak
	case r.Verdict == prove.Clean:
		return provedClean
	}
	return notProved
}
