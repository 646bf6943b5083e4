package media

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/media/packet"
)

const (
	slots        = 128         // packets in hand at a time
	secureBuffer = 4 << 20     // of a shared socket
	sweepEvery   = time.Second // looks for silence and the ends of graces
)

// worker relays the media of its sessions, on a goroutine of its own.
type worker struct {
	mu      sync.Mutex // guards what follows, but for control; the loop has it unless it waits
	poll    *packet.Poller
	batch   *packet.Batch
	secure  []*secureSocket       // RTP and RTCP of each secure address
	seams   map[*secureSocket]int // where their packets come from since Yield
	byFD    []*endpoint           // by descriptor
	dirty   []*secureSocket       // connections with something to flush
	table   table
	budget  budget
	dtls    doorman
	scratch scratch
	counts  counts
	clock
	running bool // the loop does, and reads the clock
	load    workload

	numbered uint64 // the connections there were

	index   int
	silence time.Duration
	events  *events

	prover  prover
	control control
}

// clock is a worker's time, in nanoseconds since it was made.
type clock struct {
	began time.Time
	now   int64 // as it was last read: once a batch
}

// elapsed is what it is this moment.
func (c *clock) elapsed() int64 { return int64(time.Since(c.began)) }

// at is when it was, or will be, so much.
func (c *clock) at(elapsed int64) time.Time { return c.began.Add(time.Duration(elapsed)) }

// workload is how much of its time a worker works.
type workload struct {
	worked int64        // nanoseconds since the last sweep
	busy   atomic.Int32 // thousandths of the time between the last two sweeps
}

// control is how other goroutines reach the worker.
type control struct {
	mu       sync.Mutex // guards what follows
	queue    []func()
	stopping bool
	ended    bool // the loop has run; its sockets are closed
}

// endpoint is what a descriptor stands for.
type endpoint struct {
	secure *secureSocket // or
	stream *stream
	kind   uint8
	seam   bool // packets come from the process after this one, each behind its source
}

func newWorker(c Config, n int, ev *events) (*worker, error) {
	w := &worker{
		batch: packet.NewBatch(slots), table: newTable(), budget: newBudget(), scratch: newScratch(),
		dtls: newDoorman(), index: n, silence: c.Silence, events: ev, clock: clock{began: time.Now()},
		seams: make(map[*secureSocket]int),
	}
	var err error
	if w.poll, err = packet.NewPoller(sweepEvery, &w.mu); err != nil {
		return nil, err
	}
	for _, ip := range c.SecureIPs {
		if err := w.listen(c, ip, n); err != nil {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

// listen binds the worker's pair on one secure address. Port 0 takes any
// even one with its neighbour free.
func (w *worker) listen(c Config, ip netip.Addr, n int) error {
	options, first := packet.Options{Buffer: secureBuffer, DSCP: c.DSCP}, c.Port
	for try := 0; ; try++ {
		port := first
		if first != 0 {
			port += uint16(2 * n)
		}
		rtp, err := c.listenUDP(netip.AddrPortFrom(ip, port), options)
		if err != nil {
			return fmt.Errorf("media.port: listen on %d: %w", port, err)
		}
		rtcp, err := c.listenUDP(netip.AddrPortFrom(ip, rtp.Local.Port()+1), options)
		if err != nil || rtp.Local.Port()%2 != 0 {
			_ = rtp.Close()
			if err == nil {
				_ = rtcp.Close()
			}
			if first == 0 && try < 100 {
				continue
			}
			return fmt.Errorf("media.port: listen on %d: %w", port+1, err)
		}
		for kind, sock := range []*secureSocket{rtp, rtcp} {
			sock.kind = uint8(kind)
			w.secure = append(w.secure, sock)
			if err := w.watch(sock.FD, &endpoint{secure: sock, kind: sock.kind}); err != nil {
				return err
			}
		}
		return nil
	}
}

func (w *worker) watch(fd int, e *endpoint) error {
	w.know(fd, e)
	return w.poll.Add(fd)
}

func (w *worker) know(fd int, e *endpoint) {
	for fd >= len(w.byFD) {
		w.byFD = append(w.byFD, make([]*endpoint, len(w.byFD)+64)...)
	}
	w.byFD[fd] = e
}

func (w *worker) unwatch(s packet.Socket) {
	w.know(s.FD, nil) // which it may never have been: see attach
	_ = s.Close()
}

// do runs f between two batches. It runs on the caller's goroutine: to hand it
// to the loop and wait for it would cost two switches and a wake-up for each
// call's beginning and end.
func (w *worker) do(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running {
		w.readClock()
	}
	f()
}

// post has the loop run f between two batches, soon, unless the worker has
// ended. It does not wait for a batch, as do may.
func (w *worker) post(f func()) {
	c := &w.control
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.queue = append(c.queue, f)
	w.poll.Wake()
}

// run relays until stop is called.
func (w *worker) run() error {
	defer w.dtls.running.Wait() // each was stopped by finish
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.finish()
	w.running = true
	w.readClock()
	swept := w.now
	for w.commands() {
		ready, err := w.poll.Wait()
		if err != nil {
			return err
		}
		w.readClock()
		w.relay(ready)
		w.load.worked += w.elapsed() - w.now
		if passed := w.now - swept; passed >= int64(sweepEvery) {
			w.load.busy.Store(int32(1000 * w.load.worked / passed))
			w.load.worked, swept = 0, w.now
			w.sweep()
		}
	}
	return nil
}

// readClock does so for all that happens until it is read again.
func (w *worker) readClock() {
	w.now = w.elapsed()
	w.budget.refill(w.now)
}

// commands runs what control has handed over, and tells whether to go on.
func (w *worker) commands() bool {
	c := &w.control
	c.mu.Lock()
	queue, stopping := c.queue, c.stopping
	c.queue = nil
	c.mu.Unlock()
	for _, f := range queue {
		f()
	}
	return !stopping
}

// stop makes run return.
func (w *worker) stop() {
	w.control.mu.Lock()
	defer w.control.mu.Unlock()
	w.control.stopping = true
	if !w.control.ended {
		w.poll.Wake()
	}
}

func (w *worker) hasEnded() bool {
	w.control.mu.Lock()
	defer w.control.mu.Unlock()
	return w.control.ended
}

// finish runs what was still queued, and frees all that the worker holds.
func (w *worker) finish() {
	w.control.mu.Lock()
	defer w.control.mu.Unlock()
	for _, f := range w.control.queue {
		f()
	}
	w.control.queue = nil
	for st := range w.table.all {
		w.detach(st)
	}
	for t := range w.table.transports {
		w.dismiss(t)
	}
	for a := range w.dtls.open {
		w.end(a)
	}
	w.close()
	w.running, w.control.ended = false, true
}

// close frees the worker's own sockets, when it does not run.
func (w *worker) close() {
	for _, s := range w.secure {
		_ = s.Close()
		if s.past != nil {
			s.past.Close()
		}
	}
	for _, fd := range w.seams {
		_ = unix.Close(fd)
	}
	w.poll.Close()
}
