package peers

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine names what tests run on: processors and kernel.
func Machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u) // never fails with good memory
	model := ""
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, after, _ := strings.Cut(string(b), "model name\t: ")
		model, _, _ = strings.Cut(after, "\n")
	}
	return fmt.Sprintf("%d × %s, Linux %s", runtime.NumCPU(), model, unix.ByteSliceToString(u.Release[:]))
}

// jiffy is the unit of processor time in /proc: USER_HZ is 100 on every
// platform of Linux that Go knows.
const jiffy = 10 * time.Millisecond

// Idle is the time that the machine's processors have been idle, all together.
//
// What is not idle is busy. The kernel measures the time idle, but guesses at
// the shares of the other columns of /proc/stat by what runs at each tick, and
// who wakes by the clock would fool it.
func Idle() (time.Duration, error) { return processors(4, 5, 8) }

// SoftIRQ is the time that all processors spent in software interrupts, which is
// where the kernel forwards packets. It is such a guess.
func SoftIRQ() (time.Duration, error) { return processors(7) }

// processors sums columns of the first line of /proc/stat.
func processors(columns ...int) (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	f := strings.Fields(string(line)) // cpu user nice system idle iowait irq softirq steal …
	if len(f) < 9 {
		return 0, fmt.Errorf("read processor time: %q", line)
	}
	var sum time.Duration
	for _, i := range columns {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read processor time: %w", err)
		}
		sum += time.Duration(n) * jiffy
	}
	return sum, nil
}

// Resident is the process's resident memory in bytes.
func (p *Process) Resident() (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			n, err := strconv.Atoi(f[1])
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("read memory of %s: none is told", p.Name)
}

// Busy is the processor time that the process has used, by itself and by the
// kernel for it; in steps of 10 ms.
func (p *Process) Busy() (time.Duration, error) { return Busy(p.Pid()) }

// Busy is that of any process.
func Busy(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from field 3 on
	if len(f) < 13 {
		return 0, fmt.Errorf("read processor time of process %d: %q", pid, b)
	}
	var ticks int64
	for _, v := range f[11:13] { // utime stime
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read processor time of process %d: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * jiffy, nil
}
