package peers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Process is a started peer. `ip netns exec` replaces itself by the program,
// so the pid is the program's own.
type Process struct {
	Name   string
	Log    string // the file of its output
	t      testing.TB
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended
	err    error         // of Wait, once exited
	ending atomic.Bool
}

// start runs cmd with its output in a log file. It is stopped by the lab.
func (l *Lab) start(name string, cmd *exec.Cmd) *Process {
	l.t.Helper()
	p := &Process{Name: name, Log: filepath.Join(l.Dir, fmt.Sprintf("%02d-%s.log", len(l.processes()), name)), t: l.t, cmd: cmd, exited: make(chan struct{})}
	// A browser's console is added to the same file.
	out, err := os.OpenFile(p.Log, os.O_CREATE|os.O_TRUNC|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		l.t.Fatalf("create log of %s: %v", name, err)
	}
	cmd.Stdout, cmd.Stderr = out, out
	// The kernel ends the child when the thread that started it ends: so it is
	// started by a thread that lives as long as the child does.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() { // ends with the process; Stop waits for it
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer out.Close()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		l.t.Fatalf("start %s: %v; run make peers", name, err)
	}
	l.mu.Lock()
	l.logs = append(l.logs, p)
	l.mu.Unlock()
	return p
}

// Pid is the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Running tells whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Signal sends a signal to the process.
func (p *Process) Signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// Stop ends the process, by force if it takes over five seconds.
func (p *Process) Stop() {
	if !p.Running() {
		return
	}
	p.ending.Store(true)
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second):
		p.Signal(syscall.SIGKILL)
		<-p.exited
	}
}

// Kill ends the process as a power cut would.
func (p *Process) Kill() {
	p.ending.Store(true)
	p.Signal(syscall.SIGKILL)
	<-p.exited
}

// Wait waits for the process to end by itself, and returns its exit status.
func (p *Process) Wait(timeout time.Duration) (int, error) {
	select {
	case <-p.exited:
	case <-time.After(timeout):
		return -1, fmt.Errorf("%s still runs after %s", p.Name, timeout)
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		return -1, p.err
	}
	if p.cmd.ProcessState == nil { // it was adopted: its status is its parent's to know
		return 0, nil
	}
	return p.cmd.ProcessState.ExitCode(), nil
}

// Logged tells whether a text is in the log.
func (p *Process) Logged(text string) bool {
	p.t.Helper()
	b, err := os.ReadFile(p.Log)
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Contains(string(b), text)
}

// WaitLog waits for a line in the log.
func (p *Process) WaitLog(pattern string, timeout time.Duration) {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	Until(p.t, timeout, fmt.Sprintf("%q in the log of %s", pattern, p.Name), func() bool {
		b, _ := os.ReadFile(p.Log)
		if re.Match(b) {
			return true
		}
		if !p.Running() && !p.ending.Load() {
			p.t.Fatalf("%s ended: %v", p.Name, p.err)
		}
		return false
	})
}
