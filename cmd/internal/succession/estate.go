package succession

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// variable is the environment's, by which a process knows that it is an heir.
const variable = "SALLYPORT_INHERITS"

// The words that two processes say to one another.
const (
	wordReady = "ready"
	wordYours = "yours"
	// wordDeclined is before the name of what the heir has no use for.
	wordDeclined = "declined "

	// Drain and Hurry are what an heir that is told to end passes on.
	Drain = "drain"
	Hurry = "hurry"
	// Yielded is what an heir says that has an heir of its own: from then on all is that
	// one's, whatever becomes of the former.
	Yielded = "yielded"
	// Kept is what an heir says that has written down who is kept out.
	Kept = "kept"
	// Ban is before what the heir is told of whom the process before it keeps out.
	Ban = "ban "
	// Asked is before the name of a request that the process before it has begun with.
	Asked = "asked "
)

// patience is how long a word to another process may take to be written: one that does
// not read is not waited for.
const patience = time.Second

const maxContent = 1 << 20 // bytes

// firstFD is the first descriptor that a process is left: that of its kin.
const firstFD = 3

// will is what the environment tells of the descriptors that follow.
type will struct {
	Generation int
	Names      []string
}

// Estate is what the process before this one left. A nil Estate is of one that
// follows nobody.
type Estate struct {
	generation int
	kin        net.Conn
	words      *bufio.Scanner // of the process before
	gone       chan struct{}  // closed when that one is

	mu   sync.Mutex // guards left
	left map[string]int
}

// Inherit takes what was left, once; nil: this process follows nobody.
func Inherit() (*Estate, error) {
	text, ok := os.LookupEnv(variable)
	if !ok {
		return nil, nil
	}
	_ = os.Unsetenv(variable) // it is nobody else's
	var w will
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		return nil, fmt.Errorf("read what the process before left: %w", err)
	}
	e := &Estate{generation: w.Generation, gone: make(chan struct{}), left: make(map[string]int)}
	for i, name := range w.Names {
		fd := firstFD + 1 + i
		unix.CloseOnExec(fd)
		e.left[name] = fd
	}
	f := os.NewFile(firstFD, "kin")
	defer f.Close() // FileConn has a descriptor of its own
	var err error
	if e.kin, err = net.FileConn(f); err != nil {
		return nil, fmt.Errorf("speak to the process before: %w", err)
	}
	return e, nil
}

// Generation counts the processes: the first one's is 0.
func (e *Estate) Generation() int {
	if e == nil {
		return 0
	}
	return e.generation
}

// Take returns a descriptor by its name, once. It is given away.
func (e *Estate) Take(name string) (fd int, ok bool) {
	if e == nil {
		return 0, false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	fd, ok = e.left[name]
	delete(e.left, name)
	return fd, ok
}

// Read returns content by its name, once; nil if there is none.
func (e *Estate) Read(name string) ([]byte, error) {
	fd, ok := e.Take(name)
	if !ok {
		return nil, nil
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxContent)) // where the other end is in it is of no concern
	if err != nil {
		return nil, fmt.Errorf("read %s of the process before: %w", name, err)
	}
	return b, nil
}

// Ready tells the process before that this one could serve, and what it has not taken,
// which it closes. It returns when all else is this one's. Hear is called after it.
func (e *Estate) Ready() error {
	if e == nil {
		return nil
	}
	var said strings.Builder
	e.mu.Lock()
	for name, fd := range e.left {
		_ = unix.Close(fd)
		fmt.Fprintln(&said, wordDeclined+name)
	}
	e.left = nil
	e.mu.Unlock()
	fmt.Fprintln(&said, wordReady)
	if _, err := io.WriteString(e.kin, said.String()); err != nil {
		return fmt.Errorf("tell the process before: %w", err)
	}
	e.words = bufio.NewScanner(e.kin)
	if !e.words.Scan() || e.words.Text() != wordYours {
		return fmt.Errorf("the process before ended, or changed its mind")
	}
	return nil
}

// Hear calls heard with each word that the process before says from now on, one at a
// time.
func (e *Estate) Hear(heard func(word string)) {
	if e == nil {
		return
	}
	go func() { // ends with the process before
		defer close(e.gone)
		for e.words.Scan() {
			heard(e.words.Text())
		}
	}()
}

// Fail tells the process before why this one will not serve.
func (e *Estate) Fail(why string) {
	if e != nil {
		_, _ = fmt.Fprintln(e.kin, strings.ReplaceAll(strings.TrimSpace(why), "\n", "; ")) // it sees that we end
	}
}

// Tell passes a word to the process before.
func (e *Estate) Tell(word string) {
	if e != nil {
		tell(e.kin, word)
	}
}

func tell(kin net.Conn, word string) {
	if len(word) >= bufio.MaxScanTokenSize || strings.Contains(word, "\n") { // what could not be read as one
		return
	}
	_ = kin.SetWriteDeadline(time.Now().Add(patience))
	_, _ = fmt.Fprintln(kin, word) // one that is gone needs none
}

// Gone is closed when there is no process before this one any longer. It is called
// after Hear.
func (e *Estate) Gone() <-chan struct{} {
	if e == nil {
		none := make(chan struct{})
		close(none)
		return none
	}
	return e.gone
}
