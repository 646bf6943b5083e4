package peers

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Upgrade has the edge replaced, as its operator would, and returns the process
// before, which may live on. From here on the edge is the new one.
func (e *Edge) Upgrade() (before *Process) {
	e.lab.t.Helper()
	before = e.Process
	known := len(e.told(upgraded))
	e.Run("upgrade")
	e.follow(upgraded, known)
	return before
}

// UpgradeBySignal does so by SIGUSR2, which tells nobody the outcome.
func (e *Edge) UpgradeBySignal() (before *Process) {
	e.lab.t.Helper()
	before = e.Process
	known := len(e.told(upgraded))
	e.Signal(syscall.SIGUSR2)
	e.follow(upgraded, known)
	return before
}

// upgraded is how the log tells of a process that has followed.
const upgraded = `"msg":"upgraded[^\n]*"pid":(\d+)`

// Follow waits until the log tells of a process by words of which a part is its pid, and
// takes it for the edge.
func (e *Edge) Follow(words string) {
	e.lab.t.Helper()
	e.follow(words, 0)
}

// follow does so with one more than those that are known.
func (e *Edge) follow(words string, known int) {
	e.lab.t.Helper()
	Until(e.lab.t, 10*time.Second, "the edge to tell the pid of its successor", func() bool { return len(e.told(words)) > known })
	all := e.told(words)
	e.ending.Store(true)
	e.Process = e.lab.adopt(e.Process, all[len(all)-1])
}

// told are the pids that the log tells by such words.
func (e *Edge) told(words string) (pids []int) {
	e.lab.t.Helper()
	text, err := os.ReadFile(e.Log)
	if err != nil {
		e.lab.t.Fatal(err)
	}
	for _, told := range regexp.MustCompile(words).FindAllSubmatch(text, -1) {
		pid, _ := strconv.Atoi(string(told[1]))
		pids = append(pids, pid)
	}
	return pids
}

// UpgradeFails asks for an upgrade that must change nothing, and returns what was said.
func (e *Edge) UpgradeFails() string {
	e.lab.t.Helper()
	said, err := e.command("upgrade").CombinedOutput()
	if err == nil {
		e.lab.t.Fatalf("the edge was upgraded: %s", said)
	}
	return string(said)
}

// Configured is the configuration; Reconfigure writes another.
func (e *Edge) Configured() string {
	e.lab.t.Helper()
	text, err := os.ReadFile(e.config)
	if err != nil {
		e.lab.t.Fatal(err)
	}
	return string(text)
}

// Reconfigure replaces the configuration.
func (e *Edge) Reconfigure(text string) {
	e.lab.t.Helper()
	if err := os.WriteFile(e.config, []byte(text), 0o600); err != nil {
		e.lab.t.Fatal(err)
	}
}

// Unreadable has whoever reads the configuration wait for ever.
func (e *Edge) Unreadable() {
	e.lab.t.Helper()
	err := os.Remove(e.config)
	if err == nil {
		err = syscall.Mkfifo(e.config, 0o600)
	}
	if err != nil {
		e.lab.t.Fatal(err)
	}
}

// adopt takes care of a process that another one started. How it ended, nobody knows.
func (l *Lab) adopt(parent *Process, pid int) *Process {
	l.t.Helper()
	process, err := os.FindProcess(pid)
	if err != nil {
		l.t.Fatal(err)
	}
	p := &Process{Name: parent.Name, Log: parent.Log, t: l.t, cmd: &exec.Cmd{Process: process}, exited: make(chan struct{})}
	go func() { // ends with the process; Stop waits for it
		defer close(p.exited)
		for lives(pid) {
			time.Sleep(20 * time.Millisecond)
		}
	}()
	l.mu.Lock()
	l.logs = append(l.logs, p)
	l.mu.Unlock()
	return p
}

// lives tells whether a process has not ended, whoever is to collect its status.
func lives(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}
