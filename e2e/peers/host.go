package peers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Do runs f in the namespace. Sockets that f opens stay there; goroutines that
// it starts do not.
func (h *Host) Do(f func() error) error {
	errs := make(chan error, 1)
	go func() { // ends with f; waited for below
		// Never unlocked: a thread that was in a namespace is not used again.
		runtime.LockOSThread()
		errs <- func() error {
			ns, err := os.Open("/run/netns/" + h.Name)
			if err != nil {
				return fmt.Errorf("open namespace: %w", err)
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter namespace %s: %w", h.Name, err)
			}
			return f()
		}()
	}()
	return <-errs
}

// Command is a command that will run in the namespace.
func (h *Host) Command(name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", h.Name, name}, args...)...)
}

// Run runs a command in the namespace and returns what it printed.
func (h *Host) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := h.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("run %s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// etc writes a file that those who are started on the host have in /etc, as ip-netns(8)
// has it.
func (h *Host) etc(name, text string) {
	h.lab.t.Helper()
	dir := etcOf(h.Name)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)); err != nil {
		h.lab.t.Fatal(err)
	}
}

func etcOf(namespace string) string { return filepath.Join("/etc/netns", namespace) }
