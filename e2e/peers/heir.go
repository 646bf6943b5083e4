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
