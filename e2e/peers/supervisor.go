package peers

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Supervisor is where a service tells its manager how it is (sd_notify(3)). As systemd
// does, it has the kernel say which process a word is from.
type Supervisor struct {
	lab  *Lab
	Path string // for $NOTIFY_SOCKET

	mu    sync.Mutex // guards words
	words []Word
}

// Word is one assignment that a process sent.
type Word struct {
	Pid  int
	Text string // "READY=1"
}

// StartSupervisor listens until the lab ends.
func StartSupervisor(l *Lab) *Supervisor {
	l.t.Helper()
	s := &Supervisor{lab: l, Path: filepath.Join(l.Dir, "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.Path, Net: "unixgram"})
	if err != nil {
		l.t.Fatalf("listen for what services say: %v", err)
	}
	l.t.Cleanup(func() { conn.Close() })
	raw, err := conn.SyscallConn()
	if err == nil {
		err = errors.Join(err, raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
		}))
	}
	if err != nil {
		l.t.Fatalf("ask who says what: %v", err)
	}
	go s.listen(conn) // ends when the socket is closed
	return s
}

func (s *Supervisor) listen(conn *net.UnixConn) {
	text, control := make([]byte, 4096), make([]byte, 256)
	for {
		n, c, _, _, err := conn.ReadMsgUnix(text, control)
		if err != nil {
			return
		}
		pid := senderOf(control[:c])
		s.mu.Lock()
		for _, line := range strings.Split(strings.TrimSpace(string(text[:n])), "\n") {
			s.words = append(s.words, Word{pid, line})
		}
		s.mu.Unlock()
	}
}

// senderOf reads the credentials that the kernel adds; 0: there are none.
func senderOf(control []byte) int {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if cred, err := unix.ParseUnixCredentials(&m); err == nil {
			return int(cred.Pid)
		}
	}
	return 0
}

// Manage has the edge started from now on as a service of this manager.
func (s *Supervisor) Manage(e *Edge) { e.Environ = append(e.Environ, "NOTIFY_SOCKET="+s.Path) }

// Heard is all that was said so far.
func (s *Supervisor) Heard() []Word {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.words)
}

// Hears waits until a process has said something.
func (s *Supervisor) Hears(pid int, text string) {
	s.lab.t.Helper()
	Until(s.lab.t, 10*time.Second, fmt.Sprintf("process %d to say %s", pid, text), func() bool {
		return slices.Contains(s.Heard(), Word{pid, text})
	})
}

// Main is the process that is to be watched by what was said last.
func (s *Supervisor) Main() (pid int) {
	for _, w := range s.Heard() {
		_, _ = fmt.Sscanf(w.Text, "MAINPID=%d", &pid)
	}
	return pid
}
