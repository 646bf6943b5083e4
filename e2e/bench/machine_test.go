package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// jiffy is the unit of /proc/stat: USER_HZ is 100 on every platform of Linux
// that Go knows.
const jiffy = 10 * time.Millisecond

// meter is a reading of the machine's clocks.
type meter struct {
	at      time.Time
	idle    time.Duration // of all processors
	foreign time.Duration // of processes that have no part in the bench
}

// readMeter reads them. Processes of ours are not foreign, nor is the kernel.
func readMeter(ours ...int) (meter, error) {
	m := meter{at: time.Now()}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return m, fmt.Errorf("read processor time: %w", err)
	}
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	f := strings.Fields(string(line)) // cpu user nice system idle iowait irq softirq steal …
	if len(f) < 9 {
		return m, fmt.Errorf("read processor time: %q", line)
	}
	// What is not idle is busy. The kernel measures the time idle, but guesses
	// at the shares of the other columns by what runs at each tick, and a
	// generator that wakes by the clock would fool it.
	for _, i := range []int{4, 5, 8} {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return m, fmt.Errorf("read processor time: %w", err)
		}
		m.idle += time.Duration(n) * jiffy
	}
	m.foreign = foreign(append(ours, os.Getpid()))
	return m, nil
}

// busy is the processor time used since an earlier reading, without foreign
// processes', which it tells beside.
func (m meter) busy(since meter) (ours, foreign time.Duration) {
	foreign = max(0, m.foreign-since.foreign)
	return m.at.Sub(since.at)*time.Duration(runtime.NumCPU()) - (m.idle - since.idle) - foreign, foreign
}

// foreign sums the time of all processes but ours and the kernel's threads,
// with that of their children that have ended: so nothing is missed that
// came and went.
func foreign(ours []int) time.Duration {
	const kthreadd = 2
	var sum int64
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil { // it has ended
			continue
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from field 3 on
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		ppid, _ := strconv.Atoi(f[1])
		if pid == kthreadd || ppid == kthreadd || slices.Contains(ours, pid) {
			continue
		}
		for _, v := range f[11:15] { // utime stime cutime cstime
			n, _ := strconv.ParseInt(v, 10, 64)
			sum += n
		}
	}
	return time.Duration(sum) * jiffy
}

// resident is a process's resident memory in bytes.
func resident(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			n, err := strconv.Atoi(f[1])
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("read memory of process %d: none is told", pid)
}

// pin binds all threads of a process, and so those they start, to processors.
func pin(pid int, processors ...int) error {
	var set unix.CPUSet
	for _, p := range processors {
		set.Set(p)
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return fmt.Errorf("pin process %d: %w", pid, err)
	}
	for _, t := range tasks {
		tid, _ := strconv.Atoi(t.Name())
		if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) { // it may have ended
			return fmt.Errorf("pin process %d: %w", pid, err)
		}
	}
	return nil
}
