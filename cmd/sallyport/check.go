package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/sipproxy/locate"
	"github.com/sallyport/sallyport/sipproxy/users"
	"github.com/sallyport/sallyport/tlsconf"
)

func checkCommand(c console, args []string) int {
	flags := newFlags("check")
	path := flags.String("config", defaultConfig, "configuration `FILE`")
	if status, ok := parse(c, flags, args); !ok {
		return status
	}
	p, certs, faults := examine(context.Background(), *path)
	if len(faults) > 0 {
		report(c.err, faults)
		return exitFault
	}
	fmt.Fprintf(c.out, "%s is good. `sallyport run` would serve:\n\n", *path)
	p.summary(c.out, certs)
	return exitOK
}

// examine loads a file and finds every fault that can be found without serving.
func examine(ctx context.Context, path string) (plan, []tlsconf.Description, []fault) {
	cfg, doc := load(path)
	if doc.unreadable {
		return plan{}, nil, doc.sorted()
	}
	p := cfg.plan(ctx, doc)
	certs, err := tlsconf.Inspect(p.tls)
	doc.addError(err)
	if p.users != "" && cfg.Edge.Domain != "" {
		_, err := users.Load(p.users, cfg.Edge.Domain)
		doc.addError(err)
	}
	return p, certs, doc.sorted()
}

func report(w io.Writer, faults []fault) {
	for _, f := range faults {
		fmt.Fprintln(w, f)
	}
}

// summary tells an operator what would run.
func (p plan) summary(w io.Writer, certs []tlsconf.Description) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("phones", "SIP over %s on %s", p.tls.Profile, list(p.listen))
	if len(p.web) > 0 {
		row("browsers", "SIP over WSS on %s, from pages of %s", list(p.web), strings.Join(p.origins, ", "))
		if p.phone {
			row("", "the test phone at %s", p.phoneURL())
		}
	}
	row("", "SRTP on UDP ports %d to %d, by %s", p.media.Port, int(p.media.Port)+2*p.media.Workers-1, list(p.sip.Suites))
	if at := p.media.TCPListen(); len(at) > 0 {
		row("", "and by TCP, for browsers, on %s", list(at))
	}
	for i, s := range p.pbxs {
		row([]string{"PBX", ""}[min(i, 1)], "%s over UDP, from %s%s", s.Addr, p.plain, rankOf(s, len(p.pbxs)))
	}
	row("", "RTP on UDP ports %d to %d", p.media.PlainPorts.First, p.media.PlainPorts.Last)
	for i, cert := range certs {
		row([]string{"certificate", ""}[min(i, 1)], "%s", cert)
		for _, warning := range cert.Warnings {
			row("", "note: %s", warning)
		}
	}
	if c := p.tls.Clients; c.Asked() {
		row("of phones", "certificates are %s by TLS, %s by WSS", c.TLS, c.WSS)
	}
	p.trunkSummary(row)
	if warning := p.tls.Profile.Warning(); warning != "" {
		row("", "note: %s", warning)
	}
	from := "all"
	if n := p.policy.MaxConnectionsPerAddress; n > 0 {
		from = strconv.Itoa(n)
	}
	row("admission", "%d connections, %s from one address", p.policy.MaxConnections, from)
	if p.policy.DryRun {
		row("", "note: policy.dry_run is on: what policy would refuse is let through, and logged")
	}
	row("admin", "http://%s/healthz and /metrics", p.admin)
}

// rankOf tells which of several PBXs one is.
func rankOf(s locate.Server, of int) string {
	if of == 1 {
		return ""
	}
	return fmt.Sprintf(", priority %d, weight %d", s.Priority, s.Weight)
}

func list[T fmt.Stringer](items []T) string {
	var out []string
	for _, item := range items {
		out = append(out, item.String())
	}
	return strings.Join(out, ", ")
}
