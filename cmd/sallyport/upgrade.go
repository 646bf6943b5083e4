package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/admin"
	"github.com/sallyport/sallyport/cmd/internal/succession"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/sipproxy/flow"
	"github.com/sallyport/sallyport/tlsconf"
)

// upgradePatience is longer than the edge may take to answer.
const upgradePatience = readyWithin + 10*time.Second

// unixControl is the name under which the control socket is handed on.
const unixControl = "unix control"

// inherit takes what a process before this one left of an address.
func (p plan) inherit(network string, at netip.AddrPort) (fd int, ok bool) {
	return p.estate.Take(network + " " + at.String())
}

func (p plan) inheritListener(name string) (net.Listener, error) {
	fd, ok := p.estate.Take(name)
	if !ok {
		return nil, nil
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close() // FileListener has a descriptor of its own
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take over %s: %w", name, err)
	}
	return l, nil
}

// listenTCP binds an address for phones, or takes the listener that is bound already.
func (p plan) listenTCP(at netip.AddrPort) (net.Listener, error) {
	for _, known := range boundAs(at) {
		if l, err := p.inheritListener("tcp " + known.String()); l != nil || err != nil {
			return l, err
		}
	}
	return flow.Listen(at)
}

// sessionTickets is the name under which their keys are left.
const sessionTickets = "session tickets"

// inheritTickets has phones resume their sessions that they have with the process before.
func (p plan) inheritTickets(c *tlsconf.Source) error {
	keys, err := p.estate.Read(sessionTickets)
	if err != nil || keys == nil {
		return err
	}
	defer clear(keys)
	return c.TakeTickets(keys)
}

// boundAs is how a listener at an address says where it is: one for all addresses of IPv4
// is, where there is IPv6, one for those too.
func boundAs(at netip.AddrPort) []netip.AddrPort {
	if at.Addr() == netip.IPv4Unspecified() {
		return []netip.AddrPort{at, netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port())}
	}
	return []netip.AddrPort{at}
}

// listenPlain does so with an address for PBXs, and with the seam to the process that
// has calls by it.
func (p plan) listenPlain(at netip.AddrPort, keepOff func(int) error, to flow.Handler, log *slog.Logger) (s *flow.PlainSocket, err error) {
	if fd, ok := p.inherit("udp", at); ok {
		s, err = flow.TakePlain(fd, p.limits, to, log)
	} else {
		s, err = flow.ListenPlain(at, keepOff, p.limits, to, log)
	}
	if err != nil {
		return nil, err
	}
	if fd, ok := p.inherit("seam", at); ok {
		s.Follow(fd)
	}
	return s, nil
}

func (e *edge) buildControl(p plan, judge *policy.Policy) error {
	operations := admin.Operations{Bans: judge, Trunks: e.trunkStates, Keys: e, Upgrade: e.upgrade}
	l, err := p.inheritListener(unixControl)
	switch {
	case err != nil:
		return err
	case l != nil:
		e.control = admin.TakeControl(l, operations, e.log)
		return nil
	}
	e.control, err = admin.NewControl(filepath.Join(p.tls.StateDir, controlSocket), operations, e.log)
	return err
}

// ledger is kept by one process at a time. The one before is told, and reads it; the one
// after is told of whom this one bans besides.
type ledger struct {
	policy.Ledger
	estate *succession.Estate

	mu     sync.Mutex // guards what follows, and is held while the ledger is written
	sealed bool
	made   []policy.Ban     // that are not written: since it was sealed, of connections that were there and come no more; or all
	heir   *succession.Heir // nil: there is none that could be told
}

// Save implements policy.Ledger.
func (l *ledger) Save(k policy.Kept) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sealed {
		return nil
	}
	if err := l.Ledger.Save(k); err != nil {
		l.made = k.Bans // an heir can't read them
		return err
	}
	l.made = nil
	l.estate.Tell(succession.Kept)
	return nil
}

// seal leaves the ledger to another process: nothing is written any more when it returns.
func (l *ledger) seal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sealed = true
}

// leaveTo has an heir know of the bans that this process makes, and of those that it does
// not find in the ledger; nil: there is none any longer.
func (l *ledger) leaveTo(heir *succession.Heir) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heir = heir
	for _, b := range l.made {
		l.tell(b)
	}
}

// banned takes a ban of this process. It is another's to keep, once the ledger is sealed.
func (l *ledger) banned(b policy.Ban) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sealed {
		l.made = append(l.made, b)
		l.tell(b)
	}
}

// tell has the heir know of a ban. l.mu is held.
func (l *ledger) tell(b policy.Ban) {
	if text, err := json.Marshal(b); err == nil && l.heir != nil {
		l.heir.Tell(succession.Ban + string(text))
	}
}

// hears takes a word of the process before.
func (e *edge) hears(word string) {
	if name, ok := strings.CutPrefix(word, succession.Asked); ok {
		e.proxy.Leave(name)
	} else if text, ok := strings.CutPrefix(word, succession.Ban); ok {
		var b policy.Ban
		if json.Unmarshal([]byte(text), &b) == nil {
			e.policy.TakeBan(b)
		}
	}
}

// upgrade asks for the process to be replaced by its binary, as it is on the disk now.
// It returns when it is, or why it is not.
func (e *edge) upgrade() error {
	asked := make(chan error, 1)
	select {
	case e.upgrades <- asked:
		return <-asked
	case <-e.last:
		return errLast
	}
}

// errLast refuses an upgrade of a process that no longer serves.
var errLast = errors.New("the edge shuts down, or is upgraded already")

// upgradeAsked is that at SIGUSR2. The log tells the outcome.
func (e *edge) upgradeAsked() {
	if err := e.upgrade(); errors.Is(err, errLast) {
		e.log.Warn("SIGUSR2 changes nothing here; send it to the process that serves, or run sallyport upgrade", "reason", err)
	}
}

// upgradeCommand has the edge that runs replaced, and tells the outcome.
func upgradeCommand(c console, args []string) int {
	flags := newFlags("upgrade")
	path := flags.String("config", defaultConfig, "configuration `FILE` of the edge that runs")
	if status, ok := parse(c, flags, args); !ok {
		return status
	}
	cfg, doc := load(*path)
	if doc.unreadable {
		report(c.err, doc.sorted())
		return exitFault
	}
	client := admin.ControlClient(filepath.Join(cfg.Edge.StateDir, controlSocket))
	client.Timeout = upgradePatience
	res, err := client.Post("http://control/upgrade", "", nil)
	if err != nil {
		fmt.Fprintf(c.err, "sallyport upgrade: %v\n", unanswered(err))
		return exitFault
	}
	defer res.Body.Close()
	said, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil || res.StatusCode != http.StatusOK {
		fmt.Fprintf(c.err, "sallyport upgrade: the former process goes on: %s\n", strings.TrimSpace(string(said)))
		return exitFault
	}
	fmt.Fprintln(c.out, "the new process serves; the one before it ends with its calls")
	return exitOK
}
