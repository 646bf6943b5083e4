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

	"github.com/sallyport/sallyport/e2e/peers"
)

// jiffy is the unit of /proc/stat: USER_HZ is 100 on every platform of Linux
// that Go knows.
const jiffy = 10 * time.Millisecond

// meter is a reading of the machine's clocks.
type meter struct {
	at      time.Time
	idle    time.Duration // of all processors
	foreign time.Duration // of processes that have no part in the bench
	process time.Duration // of those that are measured
	softirq time.Duration // of interrupts' second halves, as ticks tell: a cross-check only (see peers.Idle)
}

// readMeter reads them. Processes of ours are not foreign, nor is the kernel.
func readMeter(ours ...int) (meter, error) {
	m := meter{at: time.Now()}
	var err error
	if m.idle, err = peers.Idle(); err != nil {
		return m, err
	}
	for _, pid := range ours {
		busy, err := peers.Busy(pid)
		if err != nil {
			return m, err
		}
		m.process += busy
	}
	if m.softirq, err = peers.SoftIRQ(); err != nil {
		return m, err
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
