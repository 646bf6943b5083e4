package media

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/sallyport/sallyport/media/packet"
)

const (
	slots        = 128     // packets in hand at a time
	secureBuffer = 4 << 20 // of a shared socket
	tick         = time.Second
	plainBurst   = 8 // packets of one plain socket before the next one's turn
)

// worker relays the media of its sessions, on a thread of its own.
type worker struct {
	poll   *packet.Poller
	batch  *packet.Batch
	secure []*secureSocket // RTP and RTCP of each secure address
	byFD   []*endpoint     // by descriptor
	table  table
	head   headers
	spare  []byte // for packets that more than one key is tried on
	counts counts
	now    int64     // nanoseconds, read once a batch
	began  time.Time // what now counts from

	silence time.Duration
	events  *events

	mu       sync.Mutex // guards what follows
	queue    []func()
	running  bool // the loop owns all above
	stopping bool
}

// endpoint is what a descriptor stands for.
type endpoint struct {
	secure *secureSocket // or
	stream *stream
	kind   uint8
}

// secureSocket is one shared socket and what waits to leave by it.
type secureSocket struct {
	packet.Socket
	out  *packet.Outbox
	kind uint8
}

func newWorker(c Config, n int, ev *events) (*worker, error) {
	poll, err := packet.NewPoller()
	if err != nil {
		return nil, err
	}
	w := &worker{
		poll: poll, batch: packet.NewBatch(slots), table: newTable(), spare: make([]byte, packet.SlotSize),
		silence: c.Silence, events: ev, began: time.Now(),
	}
	for _, ip := range c.SecureIPs {
		if err := w.listen(ip, c.Port, n, c.DSCP); err != nil {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

// listen binds the worker's pair on one secure address. Port 0 takes any
// even one with its neighbour free.
func (w *worker) listen(ip netip.Addr, first uint16, n, dscp int) error {
	options := packet.Options{Buffer: secureBuffer, DSCP: dscp}
	for try := 0; ; try++ {
		port := first
		if first != 0 {
			port += uint16(2 * n)
		}
		rtp, err := packet.Listen(netip.AddrPortFrom(ip, port), options)
		if err != nil {
			return fmt.Errorf("listen on media.port %d: %w", port, err)
		}
		rtcp, err := packet.Listen(netip.AddrPortFrom(ip, rtp.Local.Port()+1), options)
		if err != nil || rtp.Local.Port()%2 != 0 {
			_ = rtp.Close()
			if err == nil {
				_ = rtcp.Close()
			}
			if first == 0 && try < 100 {
				continue
			}
			return fmt.Errorf("listen on media.port %d: %w", port+1, err)
		}
		for kind, s := range []packet.Socket{rtp, rtcp} {
			sock := &secureSocket{Socket: s, out: packet.NewOutbox(slots), kind: uint8(kind)}
			w.secure = append(w.secure, sock)
			if err := w.watch(s.FD, &endpoint{secure: sock, kind: uint8(kind)}); err != nil {
				return err
			}
		}
		return nil
	}
}

func (w *worker) watch(fd int, e *endpoint) error {
	for fd >= len(w.byFD) {
		w.byFD = append(w.byFD, make([]*endpoint, len(w.byFD)+64)...)
	}
	w.byFD[fd] = e
	return w.poll.Add(fd)
}

func (w *worker) unwatch(s packet.Socket) {
	w.byFD[s.FD] = nil
	_ = s.Close() // which takes it out of the epoll set
}

// do runs f between two packets, and returns when it has run. Where the
// worker does not run yet, or any longer, f runs here.
func (w *worker) do(f func()) {
	w.mu.Lock()
	if !w.running {
		defer w.mu.Unlock()
		f()
		return
	}
	done := make(chan struct{})
	w.queue = append(w.queue, func() { f(); close(done) })
	w.mu.Unlock()
	w.poll.Wake()
	<-done
}

// run relays until stop is called.
func (w *worker) run() error {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	w.mu.Lock()
	w.running = true
	w.mu.Unlock()
	defer w.finish()
	w.clock()
	next := w.now + int64(tick)
	for !w.isStopping() {
		ready, woken, err := w.poll.Wait(time.Duration(max(0, next-w.now)) + time.Millisecond)
		if err != nil {
			return err
		}
		w.clock()
		if woken {
			w.commands()
		}
		w.relay(ready)
		if w.now >= next {
			w.table.refill()
			w.findSilent()
			next = w.now + int64(tick)
		}
	}
	return nil
}

func (w *worker) clock() { w.now = int64(time.Since(w.began)) }

func (w *worker) isStopping() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopping
}

// stop makes run return.
func (w *worker) stop() {
	w.mu.Lock()
	w.stopping = true
	w.mu.Unlock()
	w.poll.Wake()
}

// finish runs what was still queued, so that nobody waits for ever. From here
// on do runs its functions itself.
func (w *worker) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = false
	for _, f := range w.queue {
		f()
	}
	w.queue = nil
}

func (w *worker) commands() {
	w.mu.Lock()
	queue := w.queue
	w.queue = nil
	w.mu.Unlock()
	for _, f := range queue {
		f()
	}
}

// relay is the path of every packet: receive a batch, transform it in place,
// send it.
func (w *worker) relay(ready []int) {
	slot := 0
	for _, fd := range ready {
		e := w.byFD[fd]
		if e == nil { // closed by a command after it was reported
			continue
		}
		limit := plainBurst
		if e.secure != nil {
			limit = slots
		}
		if slot+min(limit, plainBurst) > slots {
			w.flush()
			slot = 0
		}
		n := w.batch.Recv(fd, slot, limit)
		for i := slot; i < slot+n; i++ {
			if e.secure != nil {
				w.fromPhone(e.secure, i)
			} else {
				w.fromPBX(e.stream, e.kind, i)
			}
		}
		slot += n
	}
	w.flush()
}

// flush sends what is queued on the secure sockets.
func (w *worker) flush() {
	for _, s := range w.secure {
		if s.out.Queued() > 0 {
			w.counts.drops[DropSend] += uint64(s.out.Flush(s.FD))
		}
	}
}

// fromPBX takes a packet of the plain side to the phone.
func (w *worker) fromPBX(st *stream, socket uint8, i int) {
	if w.batch.Truncated(i) {
		w.drop(st, DropOversize)
		return
	}
	if w.batch.Source(i).Addr() != st.plain[socket].from {
		w.drop(st, DropStranger)
		return
	}
	p := w.batch.Packet(i)
	kind, _, ok := classify(p)
	switch {
	case !ok:
		w.drop(st, DropMalformed)
		return
	case st.tx.ctx == nil:
		w.drop(st, DropNotReady)
		return
	}
	to := st.target(kind)
	if to == nil {
		w.drop(st, DropNotLatched)
		return
	}
	out, ok := st.tx.seal(p, kind, &w.head)
	switch {
	case !ok:
		w.drop(st, DropCrypto)
	case !to.sock.out.Queue(out, &to.to):
		w.drop(st, DropSend)
	default:
		st.counts.relayed(Outward, kind == kindRTCP, len(p))
		w.counts.relayed(Outward, kind == kindRTCP, len(p))
	}
}

// deliver sends a phone's decrypted packet to the PBX.
func (w *worker) deliver(st *stream, kind uint8, p []byte) {
	st.lastHeard = w.now
	end := &st.plain[kind]
	switch {
	case end.to.IsZero():
		w.drop(st, DropNowhere)
	case !packet.Send(end.sock.FD, p, &end.to):
		w.drop(st, DropSend)
	default:
		st.counts.relayed(Inward, kind == kindRTCP, len(p))
		w.counts.relayed(Inward, kind == kindRTCP, len(p))
	}
}

func (w *worker) drop(st *stream, why Drop) {
	w.counts.drops[why]++
	if st != nil {
		st.counts.drops[why]++
	}
}

// close frees the worker's sockets. It does not run any longer.
func (w *worker) close() {
	for _, s := range w.secure {
		_ = s.Close()
	}
	w.poll.Close()
}
