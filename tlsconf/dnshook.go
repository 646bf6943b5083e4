package tlsconf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

const (
	hookTimeout   = 5 * time.Minute  // of one run: it may wait until its name servers agree
	removeTimeout = 10 * time.Second // of one that removes: the edge may be about to end, within TimeoutStopSec of its unit
	hookWords     = 512              // bytes of what it said that are told of a failure
)

// dnsHook answers DNS-01 (RFC 8555 section 8.4) by a program of the operator's:
//
//	program add    _acme-challenge.pbx.example.com VALUE
//	program remove _acme-challenge.pbx.example.com VALUE
//
// It runs without a shell and without our environment but for PATH, and has ended
// with status 0 when the CA may look for the record.
type dnsHook struct {
	program string
	log     *slog.Logger
}

// Present implements acmez.Solver.
func (h dnsHook) Present(ctx context.Context, c acme.Challenge) error {
	return h.run(ctx, hookTimeout, "add", c)
}

// CleanUp implements acmez.Solver. What was added is removed although the order's time
// is over, or the edge stops: a record that stays may have others' challenges fail.
func (h dnsHook) CleanUp(ctx context.Context, c acme.Challenge) error {
	err := h.run(context.WithoutCancel(ctx), removeTimeout, "remove", c)
	if err != nil {
		h.log.Warn("a record of the CA's challenge may be left in DNS", "name", c.DNS01TXTRecordName(), "reason", err)
	}
	return err
}

func (h dnsHook) run(ctx context.Context, limit time.Duration, action string, c acme.Challenge) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.program, action, c.DNS01TXTRecordName(), c.DNS01KeyAuthorization())
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.Dir = "/"
	cmd.WaitDelay = 5 * time.Second // for what it left behind with our pipe in hand
	said := &firstWords{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("tls.acme_dns_hook: run %s %s: %w; it said %q", h.program, action, err, strings.TrimSpace(string(said.kept)))
	}
	return nil
}

// firstWords keeps the beginning of what is written.
type firstWords struct{ kept []byte }

func (w *firstWords) Write(p []byte) (int, error) {
	w.kept = append(w.kept, p[:min(len(p), hookWords-len(w.kept))]...)
	return len(p), nil
}

// check finds what would keep the program from running, or let others change it.
func (h dnsHook) check() error {
	info, err := os.Stat(h.program)
	switch {
	case err != nil:
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return fmt.Errorf("tls.acme_dns_hook: %s: %w; give the path of a program", h.program, err)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("tls.acme_dns_hook: %s is no program; type: chmod 755 %[1]s", h.program)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("tls.acme_dns_hook: others could change %s, which runs as sallyport does; type: chmod go-w %[1]s", h.program)
	}
	return nil
}
