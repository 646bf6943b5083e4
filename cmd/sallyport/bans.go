package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/admin"
	"github.com/sallyport/sallyport/policy"
)

// bansCommands speak to the edge that runs, by the socket in its state folder.
func bansCommands() []command {
	return []command{
		{"list", "[-config FILE]", "who is kept out, until when, and why", bansList},
		{"add", "SOURCE [-for TIME] [-reason TEXT] [-config FILE]", "keep an address or a network out", bansAdd},
		{"remove", "SOURCE [-config FILE]", "let it in, and forget what it did", bansRemove},
	}
}

func bansList(c console, args []string) int {
	flags := newFlags("bans list")
	path := flags.String("config", defaultConfig, "configuration `FILE` of the edge that runs")
	if status, ok := parse(c, flags, args); !ok {
		return status
	}
	var list []policy.Ban
	if status, ok := control(c, "bans", *path, http.MethodGet, "bans", nil, &list); !ok {
		return status
	}
	for _, b := range list {
		until := "for good"
		if !b.Until.IsZero() {
			until = "until " + b.Until.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(c.out, "%s %s: %s\n", b.Source, until, b.Reason)
	}
	return exitOK
}

func bansAdd(c console, args []string) int {
	flags := newFlags("bans add")
	path := flags.String("config", defaultConfig, "configuration `FILE` of the edge that runs")
	span := flags.Duration("for", 24*time.Hour, "how long, like 24h; 0 for good: `TIME`")
	reason := flags.String("reason", "by the operator", "why: `TEXT`")
	source, status, ok := sourceOf(c, flags, args)
	if !ok {
		return status
	}
	var made policy.Ban
	if status, ok := control(c, "bans", *path, http.MethodPost, "bans", admin.NewBan{Source: source, For: *span, Reason: *reason}, &made); !ok {
		return status
	}
	fmt.Fprintf(c.out, "%s is banned\n", made.Source)
	return exitOK
}

func bansRemove(c console, args []string) int {
	flags := newFlags("bans remove")
	path := flags.String("config", defaultConfig, "configuration `FILE` of the edge that runs")
	source, status, ok := sourceOf(c, flags, args)
	if !ok {
		return status
	}
	var removed netip.Prefix
	if status, ok := control(c, "bans", *path, http.MethodDelete, "bans?source="+url.QueryEscape(source.String()), nil, &removed); !ok {
		return status
	}
	fmt.Fprintf(c.out, "%s is let in again\n", removed)
	return exitOK
}

// sourceOf reads the arguments of a command about an address or network, which comes
// before the flags.
func sourceOf(c console, flags *flag.FlagSet, args []string) (_ netip.Prefix, status int, ok bool) {
	source := ""
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		source, args = args[0], args[1:]
	}
	if status, ok := parse(c, flags, args); !ok {
		return netip.Prefix{}, status, false
	}
	if source == "" {
		fmt.Fprintf(c.err, "sallyport %s: which address or network?\n", flags.Name())
		family{"sallyport bans", bansCommands}.usage(c.err)
		return netip.Prefix{}, exitUsage, false
	}
	var p prefix
	if err := p.UnmarshalText([]byte(source)); err != nil {
		fmt.Fprintf(c.err, "sallyport %s: SOURCE %v\n", flags.Name(), err)
		return netip.Prefix{}, exitUsage, false
	}
	return p.Prefix, exitOK, true
}

// control asks the edge that runs with a configuration, for a command of a family.
func control(c console, family, config, method, resource string, body, answer any) (status int, ok bool) {
	cfg, doc := load(config)
	if doc.unreadable {
		report(c.err, doc.sorted())
		return exitFault, false
	}
	if err := cfg.ask(context.Background(), method, resource, body, answer); err != nil {
		fmt.Fprintf(c.err, "sallyport %s: %v\n", family, err)
		return exitFault, false
	}
	return exitOK, true
}

// ask asks the edge that runs with a configuration, by its control socket.
func (c Config) ask(ctx context.Context, method, resource string, body, answer any) error {
	socket := filepath.Join(c.Edge.StateDir, controlSocket)
	if err := askSocket(ctx, socket, method, resource, body, answer); err != nil {
		return fmt.Errorf("%s: %w", socket, err)
	}
	return nil
}

// unanswered words why the control socket could not be asked.
func unanswered(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED): // a process that died leaves its socket
		return errors.New("no edge runs with this configuration")
	case errors.Is(err, os.ErrPermission):
		return errors.New("the edge speaks to root and to its own user; run this as one of them")
	}
	return errors.Unwrap(err) // the URL says nothing
}

func askSocket(ctx context.Context, socket, method, resource string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://control/"+resource, bytes.NewReader(text))
	if err != nil {
		return err
	}
	res, err := admin.ControlClient(socket).Do(req)
	if err != nil {
		return unanswered(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(res.Body, 1<<10))
		return errors.New(strings.TrimSpace(string(said)))
	}
	return json.NewDecoder(res.Body).Decode(answer)
}
