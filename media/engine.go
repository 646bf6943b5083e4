package media

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

// Engine relays the media of all calls.
type Engine struct {
	config  Config
	workers []*worker
	ports   *ports
	lobby   *lobby
	events  *events
	certs   certificates

	mu   sync.Mutex // guards load
	load map[*worker]int
}

// New binds the secure sockets. Nothing is relayed before Run.
func New(c Config) (*Engine, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	e := &Engine{config: c, ports: newPorts(c), events: newEvents(), load: make(map[*worker]int)}
	for i := range c.workers() {
		w, err := newWorker(c, i, e.events)
		if err != nil {
			e.giveUp()
			return nil, err
		}
		e.workers = append(e.workers, w)
		e.load[w] = 0
	}
	var err error
	if e.lobby, err = newLobby(c, e.workers); err != nil {
		e.giveUp()
		return nil, err
	}
	return e, nil
}

// giveUp closes the sockets of workers that never ran.
func (e *Engine) giveUp() {
	for _, w := range e.workers {
		w.close()
	}
}

// Run relays until ctx ends, or a worker can't go on. It is called once; all
// sockets are closed when it returns, those of sessions too.
func (e *Engine) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(e.workers))
	for i, w := range e.workers {
		wg.Go(func() { // ends by stop below; waited for by wg
			defer cancel() // one that fails takes the others with it
			if err := w.run(); err != nil {
				errs[i] = fmt.Errorf("run media worker %d: %w", i, err)
			}
		})
	}
	wg.Go(e.events.deliver) // ends by stop below
	e.lobby.serve()
	<-ctx.Done()
	e.lobby.close() // before the workers, which it waits for
	for _, w := range e.workers {
		w.stop()
	}
	e.events.stop()
	wg.Wait()
	return errors.Join(errs...)
}

// Open begins a session. notify may be nil.
func (e *Engine) Open(notify Notify) (*Session, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := e.deal()
	if w.hasEnded() {
		return nil, ErrClosed
	}
	e.load[w]++
	return &Session{engine: e, worker: w, notify: notify}, nil
}

const (
	// enough is how busy a worker is, in thousandths, before the next one gets
	// sessions too. It leaves room for those that have no media yet.
	enough = 400
	// expected is what a session will take, in millionths of a worker.
	expected = 300
)

// deal chooses a worker: the first that is not busy enough, else the one with
// the fewest sessions. Waking a thread costs more than relaying the packet it
// is woken for, so calls are kept together as long as one worker is well able
// to have them. mu is held.
func (e *Engine) deal() *worker {
	least := e.workers[0]
	for _, w := range e.workers {
		if max(int(w.load.busy.Load()), e.load[w]*expected/1000) < enough {
			return w
		}
		if e.load[w] < e.load[least] {
			least = w
		}
	}
	return least
}

func (e *Engine) left(s *Session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.load[s.worker]--
}

// secureAddrs are a worker's RTP addresses as phones see them.
func (e *Engine) secureAddrs(w *worker) []netip.AddrPort {
	var list []netip.AddrPort
	for i, s := range w.secure {
		if s.kind == kindRTP {
			list = append(list, netip.AddrPortFrom(e.config.public(i/numKinds), s.Local.Port()))
		}
	}
	return list
}

// Stats returns a snapshot of all workers.
func (e *Engine) Stats() Stats {
	var total counts
	s := Stats{TCP: e.lobby.stats()}
	for _, w := range e.workers {
		w.do(func() {
			total.add(&w.counts)
			s.Streams += len(w.table.all)
			s.Handshakes += len(w.dtls.open)
			s.Sockets += len(w.secure) + numKinds*len(w.table.all)
		})
	}
	e.mu.Lock()
	for _, n := range e.load {
		s.Sessions += n
	}
	e.mu.Unlock()
	s.Inward, s.Outward, s.Drops = total.dir[Inward], total.dir[Outward], total.dropMap()
	return s
}
