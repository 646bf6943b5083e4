package peers

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Family is a process and all that descend from it, as they are now. Some servers are
// one process for each connection they read at a time.
func (p *Process) Family() []int {
	children := make(map[int][]int)
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil { // it has ended
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		parent, _ := strconv.Atoi(strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))[1])
		children[parent] = append(children[parent], pid)
	}
	family := []int{p.Pid()}
	for i := 0; i < len(family); i++ {
		family = append(family, children[family[i]]...)
	}
	return family
}

// FamilyBusy is the processor time that the family has used.
func (p *Process) FamilyBusy() (time.Duration, error) {
	var sum time.Duration
	for _, pid := range p.Family() {
		d, err := Busy(pid)
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

// FamilyMemory is how many bytes of the machine the family holds: what several of it
// share counts once (proc(5), smaps_rollup: Pss).
func (p *Process) FamilyMemory() (int, error) {
	sum := 0
	for _, pid := range p.Family() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, fmt.Errorf("read memory: %w", err)
		}
		_, after, _ := strings.Cut(string(b), "\nPss:")
		f := strings.Fields(after)
		if len(f) == 0 {
			return 0, fmt.Errorf("read memory of process %d: none is told", pid)
		}
		kB, err := strconv.Atoi(f[0])
		if err != nil {
			return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
		}
		sum += kB << 10
	}
	return sum, nil
}
