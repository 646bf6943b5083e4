package succession

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Heirloom is a descriptor that is left to the heir. It stays its owner's.
type Heirloom struct {
	Name string
	FD   int
}

// Content is an heirloom that is read, of a file in memory alone. The caller closes it.
func Content(name string, b []byte) (Heirloom, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return Heirloom{}, fmt.Errorf("leave %s to the new process: %w", name, err)
	}
	if _, err := unix.Pwrite(fd, b, 0); err != nil { // all of it: memory is there or not
		_ = unix.Close(fd)
		return Heirloom{}, fmt.Errorf("leave %s to the new process: %w", name, err)
	}
	return Heirloom{name, fd}, nil
}

// Heir is the process that is to follow this one.
type Heir struct {
	cmd    *exec.Cmd
	kin    net.Conn
	said   chan string // what it says; closed when it is gone
	exited chan error

	declined map[string]bool // by name; set by Await
}

// Start starts the program at path, as this process was started, and leaves it the
// heirlooms. generation is the heir's own.
func Start(path string, generation int, left []Heirloom) (*Heir, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start the new process: %w", err)
	}
	ours := os.NewFile(uintptr(fds[0]), "heir")
	defer ours.Close() // FileConn has a descriptor of its own
	files := []*os.File{os.NewFile(uintptr(fds[1]), "kin")}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	w := will{Generation: generation}
	for _, h := range left {
		fd, err := unix.FcntlInt(uintptr(h.FD), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("leave %s to the new process: %w", h.Name, err)
		}
		files = append(files, os.NewFile(uintptr(fd), h.Name))
		w.Names = append(w.Names, h.Name)
	}
	text, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("start the new process: %w", err)
	}
	kin, err := net.FileConn(ours)
	if err != nil {
		return nil, fmt.Errorf("start the new process: %w", err)
	}
	cmd := exec.Command(path, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = files
	cmd.Env = append(os.Environ(), variable+"="+string(text))
	if err := cmd.Start(); err != nil {
		kin.Close()
		return nil, fmt.Errorf("start the new process: %w", err)
	}
	h := &Heir{cmd: cmd, kin: kin, said: make(chan string), exited: make(chan error, 1), declined: make(map[string]bool)}
	go func() { h.exited <- cmd.Wait() }() // ends with the heir
	go h.listen()                          // ends with the heir, or with Close
	return h, nil
}

func (h *Heir) listen() {
	defer h.kin.Close()
	defer close(h.said)
	for lines := bufio.NewScanner(h.kin); lines.Scan(); {
		h.said <- lines.Text()
	}
}

// Pid is the heir's.
func (h *Heir) Pid() int { return h.cmd.Process.Pid }

// Await waits until the heir is ready, and kills it if it takes too long, or when ctx
// ends. The error tells why it will never be; it has ended then.
func (h *Heir) Await(ctx context.Context, limit time.Duration) error {
	late := time.NewTimer(limit)
	defer late.Stop()
	unwanted := ctx.Done()
	var why []string
	for {
		select {
		case word, ok := <-h.said:
			switch {
			case ok && word == wordReady && ctx.Err() == nil:
				return nil
			case ok && strings.HasPrefix(word, wordDeclined):
				h.declined[strings.TrimPrefix(word, wordDeclined)] = true
				continue
			case ok:
				why = append(why, word)
				continue
			}
			err := <-h.exited
			h.kin.Close()
			if len(why) > 0 {
				return errors.New("the new process: " + strings.Join(why, "; "))
			}
			if err == nil {
				err = errors.New("it ended at once")
			}
			return fmt.Errorf("the new process: %w", err)
		case <-late.C:
			_ = h.cmd.Process.Kill()
			why = append(why, fmt.Sprintf("was not ready within %s", limit))
		case <-unwanted:
			unwanted = nil
			_ = h.cmd.Process.Kill()
			why = append(why, "is wanted no longer")
		}
	}
}

// Took tells whether an heir that is ready took what it was left by that name.
func (h *Heir) Took(name string) bool { return !h.declined[name] }

// Yield tells the heir that all is its that it took.
func (h *Heir) Yield() error {
	if _, err := fmt.Fprintln(h.kin, wordYours); err != nil {
		return fmt.Errorf("yield to the new process: %w", err)
	}
	return nil
}

// Tell passes a word to an heir that was yielded to.
func (h *Heir) Tell(word string) { tell(h.kin, word) }

// Said are the words of an heir that was yielded to. The channel is closed when it is
// gone.
func (h *Heir) Said() <-chan string { return h.said }
