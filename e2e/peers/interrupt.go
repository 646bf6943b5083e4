package peers

import (
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
)

// standing are the labs that are not taken down: an interrupted test ends
// without its cleanups, and Go has no other moment for them.
var standing interruptible

type interruptible struct {
	once sync.Once
	mu   sync.Mutex // guards labs; never released again once interrupted, so that no test goes on
	labs map[*Lab]bool
}

func (s *interruptible) add(l *Lab) {
	s.once.Do(func() {
		s.labs = make(map[*Lab]bool)
		interrupted := make(chan os.Signal, 1)
		signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
		go func() { // ends with the process
			<-interrupted
			s.takeDown()
			os.Exit(130) // as a shell says of what Ctrl-C ended
		}()
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.labs[l] = true
}

func (s *interruptible) remove(l *Lab) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.labs, l)
}

// takeDown leaves nothing of any lab: no process, namespace or file.
func (s *interruptible) takeDown() {
	s.mu.Lock()
	for l := range s.labs {
		for _, p := range l.processes() {
			p.Kill()
		}
		l.removeNamespaces()
		_ = os.RemoveAll(filepath.Dir(l.Dir)) // with the other folders of its test
	}
}
