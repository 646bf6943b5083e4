package peers

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Memory is how many bytes of the machine the process holds.
func (e *Edge) Memory() int { return e.memory("VmRSS:") }

// MostMemory is the most that it held since LeastMemory, or since it began.
func (e *Edge) MostMemory() int { return e.memory("VmHWM:") }

// LeastMemory has MostMemory begin anew, and returns what is held (see proc(5),
// clear_refs).
func (e *Edge) LeastMemory() int {
	e.lab.t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", e.Pid()), []byte("5"), 0); err != nil {
		e.lab.t.Fatalf("measure memory: %v", err)
	}
	return e.Memory()
}

func (e *Edge) memory(key string) int {
	e.lab.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.Pid()))
	if err != nil {
		e.lab.t.Fatalf("measure memory: %v", err)
	}
	_, after, _ := strings.Cut(string(text), "\n"+key)
	fields := strings.Fields(after)
	if len(fields) == 0 {
		e.lab.t.Fatalf("measure memory: the kernel tells no %s", key)
	}
	kB, err := strconv.Atoi(fields[0])
	if err != nil || kB < 1024 {
		e.lab.t.Fatalf("measure memory: %s is %d kB, %v", key, kB, err)
	}
	return kB << 10
}
