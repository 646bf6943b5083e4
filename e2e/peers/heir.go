package peers

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Upgrade has the edge replaced, as its operator would, and returns the process
// before, which may live on. From here on the edge is the new one.
func (e *Edge) Upgrade() (before *Process) {
	e.lab.t.Helper()
	before = e.Process
	e.Run("upgrade")
	text, err := os.ReadFile(before.Log)
	if err != nil {
		e.lab.t.Fatal(err)
	}
	told := regexp.MustCompile(`"msg":"upgraded[^\n]*"pid":(\d+)`).FindAllSubmatch(text, -1)
	if len(told) == 0 {
		e.lab.t.Fatal("the edge does not log the pid of its successor")
	}
	pid, _ := strconv.Atoi(string(told[len(told)-1][1]))
	before.ending.Store(true)
	e.Process = e.lab.adopt(before, pid)
	return before
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
