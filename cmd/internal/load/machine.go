package load

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/cmd/internal/load/media"
)

// descriptors makes room for a socket of each phone, and of its sound, and of what is told of that.
func descriptors(phones int, kind media.Kind) error {
	need := uint64(phones) + 100
	switch kind {
	case media.SDES: // RTCP has a port of its own until the other end needs none
		need += 2 * uint64(phones)
	case media.DTLS:
		need += uint64(phones)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if limit.Cur >= need {
		return nil
	}
	hard := limit.Max
	limit.Cur, limit.Max = need, max(limit.Max, need)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("%d phones need %d open files, and %d are allowed: raise that with ulimit -Hn, or take fewer phones: %w", phones, need, hard, err)
	}
	return nil
}

// resident is the process's resident memory, in bytes.
func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := bytes.Fields(b)
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(f[1]), 10, 64)
	return pages * int64(os.Getpagesize())
}

// processor is the time that the process has used.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
