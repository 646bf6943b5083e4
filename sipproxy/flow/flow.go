package flow

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emiago/sipgo/sip"
)

// Side tells the two sides of the edge apart.
type Side uint8

// The sides.
const (
	Secure Side = iota // phones, browsers, trunks
	Plain              // the PBX
)

// String implements fmt.Stringer.
func (s Side) String() string {
	if s == Plain {
		return "plain"
	}
	return "secure"
}

// Handler takes what flows bring.
type Handler interface {
	// Receive takes one validated message. It is called on the flow's own
	// reader goroutine, in order, and delays that flow while it runs.
	Receive(*Flow, sip.Message)
	// Closed is called once for each flow that is gone, after its last Receive.
	Closed(*Flow, error)
}

// Flow is one connection on the secure side, or the way to one address of the
// PBX. Its methods may be called from any goroutine.
type Flow struct {
	id        uint64
	side      Side
	transport string
	local     netip.AddrPort
	remote    netip.AddrPort
	tls       *tls.ConnectionState
	users     []string
	trunk     *Trunk
	browser   bool
	trace     *tracer
	out       outlet
	marks

	done chan struct{}
	once sync.Once
	err  error // set before done is closed
}

// marks are what was learnt of a flow since it is there.
type marks struct {
	expected atomic.Int64 // nanoseconds; see Expect
	spoke    atomic.Bool
	spared   atomic.Bool  // see Spare
	begun    atomic.Bool  // a message has, and is not whole
	last     atomic.Int64 // when the last message came or left, in Unix nanoseconds
}

// outlet is where a flow's bytes go. write owns b, and does not block.
type outlet interface {
	write(b []byte) error
	reliable() bool
	// close is called once, and does not block.
	close()
}

// nextID numbers flows; ids are never used again in one process.
var nextID atomic.Uint64

func newFlow(side Side, transport string, local, remote netip.AddrPort, out outlet, trace *tracer) *Flow {
	return &Flow{
		id: nextID.Add(1), side: side, transport: transport, local: local, remote: remote,
		out: out, trace: trace, done: make(chan struct{}),
	}
}

// ID names the flow; no other flow of this process has or had it.
func (f *Flow) ID() uint64 { return f.id }

// Side tells where the flow leads.
func (f *Flow) Side() Side { return f.side }

// Transport is the name that Via headers use: "TLS", "WSS" or "UDP".
func (f *Flow) Transport() string { return f.transport }

// Reliable tells whether what is sent arrives, or the flow breaks.
func (f *Flow) Reliable() bool { return f.out.reliable() }

// Local is our end.
func (f *Flow) Local() netip.AddrPort { return f.local }

// Remote is the peer's end, as its packets show it.
func (f *Flow) Remote() netip.AddrPort { return f.remote }

// TLS is what the handshake agreed on; nil on UDP.
func (f *Flow) TLS() *tls.ConnectionState { return f.tls }

// Shared tells whether many users are behind the flow: it is a trunk's.
func (f *Flow) Shared() bool { return f.Trunk() != nil }

// Users are those that the client's certificate may speak for; nil if it showed
// none, or one of a trunk, and may try to speak for anybody.
func (f *Flow) Users() []string { return f.users }

// Trunk is whose connection it is; nil: a phone's, or the PBX's.
func (f *Flow) Trunk() *Trunk { return f.trunk }

// Browser tells whether a page speaks on the other end: only browsers say where
// a WebSocket's page is from (RFC 6455 section 4.1).
func (f *Flow) Browser() bool { return f.browser }

// Expect has the flow closed, with ErrQuiet, when its phone says nothing for so
// long, from the next ping on that the phone sends: one that never does so was
// not built to, and has IdleTimeout (RFC 5626 section 4.4.1).
func (f *Flow) Expect(d time.Duration) { f.expected.Store(int64(d)) }

// Done is closed when the flow is gone.
func (f *Flow) Done() <-chan struct{} { return f.done }

// Err tells why the flow is gone; nil while it is not.
func (f *Flow) Err() error {
	select {
	case <-f.done:
		return f.err
	default:
		return nil
	}
}

// Send writes a message. It is serialised before Send returns and may be used
// again; it leaves in the order of the calls. Send never blocks: a peer that
// does not read is closed with ErrSlow. It returns ErrClosed, ErrSlow or
// ErrTooLarge.
func (f *Flow) Send(m sip.Message) error {
	if f.Err() != nil {
		return ErrClosed
	}
	f.trace.message(f, "out", m)
	f.last.Store(time.Now().UnixNano())
	b := texts.Get().(*bytes.Buffer)
	defer texts.Put(b)
	b.Reset()
	m.StringWrite(b)
	if d, ok := f.out.(*datagrams); ok { // keeps nothing
		return d.write(b.Bytes())
	}
	return f.write(bytes.Clone(b.Bytes()))
}

// texts are for messages while they are written.
var texts = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func (f *Flow) write(b []byte) error {
	err := f.out.write(b)
	if errors.Is(err, ErrSlow) {
		f.Close(ErrSlow)
	}
	return err
}

// Close ends the flow. It returns at once; the Handler hears of it from the
// flow's reader.
func (f *Flow) Close(reason error) {
	f.once.Do(func() {
		f.err = reason
		close(f.done)
		f.out.close()
	})
}

// End closes the flow once what is queued for it has left.
func (f *Flow) End(reason error) {
	if q, ok := f.out.(interface{ afterLast(func()) }); ok {
		q.afterLast(func() { f.Close(reason) })
		return
	}
	f.Close(reason)
}

// lull is how long nothing comes or leaves until a conversation is over: whoever is asked
// for credentials has them by then.
const lull = 2 * time.Second

// isMidway tells whether a message is half here, or the last one may have a sequel.
func (f *Flow) isMidway(now time.Time) bool {
	return f.begun.Load() || now.Sub(time.Unix(0, f.last.Load())) < lull
}

// Spoke tells whether a valid message came by the flow.
func (f *Flow) Spoke() bool { return f.spoke.Load() }

// Spare has nothing new begin on a trunk's connection while there is another: its far
// end has asked for that. What belongs to calls by it goes on. If we dialled it, we dial
// again.
func (f *Flow) Spare() {
	if f.trunk != nil && f.spared.CompareAndSwap(false, true) {
		f.trunk.replace(f)
	}
}

// Spared tells whether nothing new is to begin on the connection.
func (f *Flow) Spared() bool { return f.spared.Load() }

// queue writes to a connection without making the sender wait. A goroutine
// lives only while bytes wait; it ends when they have left or the connection
// is closed, and wg waits for it.
type queue struct {
	conn    deadlineWriter
	limits  Limits
	onError func(error)
	wg      *sync.WaitGroup

	mu      sync.Mutex // guards what follows
	waiting [][]byte
	size    int
	running bool
	over    bool      // see shut
	last    time.Time // of a write
	finish  func()    // called once, when all has left
}

type deadlineWriter interface {
	Write([]byte) (int, error)
	SetWriteDeadline(time.Time) error
}

func (q *queue) push(b []byte) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.over:
		return ErrClosed
	case q.size+len(b) > q.limits.WriteQueue:
		return ErrSlow
	}
	q.waiting = append(q.waiting, b)
	q.size += len(b)
	if !q.running {
		q.running = true
		q.wg.Add(1)
		go q.drain()
	}
	return nil
}

// drain writes until nothing waits. Messages that wait together leave in one
// write, and one TLS record. A deadline is for what is written here, and not left
// behind: crypto/tls answers a peer's KeyUpdate by itself (RFC 8446 section 4.6.3), and
// never writes again once that has failed.
func (q *queue) drain() {
	defer q.wg.Done()
	for {
		q.mu.Lock()
		if len(q.waiting) == 0 {
			q.running, q.last = false, time.Now()
			_ = q.conn.SetWriteDeadline(time.Time{}) // before the next drain can set its own
			finish := q.finish
			q.finish = nil // more may be written before the flow ends
			q.mu.Unlock()
			if finish != nil {
				finish()
			}
			return
		}
		b := q.waiting[0]
		for _, more := range q.waiting[1:] {
			b = append(b, more...)
		}
		q.waiting, q.size = nil, 0
		q.mu.Unlock()
		_ = q.conn.SetWriteDeadline(time.Now().Add(q.limits.WriteTimeout))
		if _, err := q.conn.Write(b); err != nil {
			q.onError(err)
			q.mu.Lock()
			q.running = false
			q.mu.Unlock()
			return
		}
	}
}

// shut takes nothing more. The connection's reader calls it before it leaves wg: who
// has seen the flow open, and sends by it only now, must not begin a goroutine that
// nobody waits for.
func (q *queue) shut() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.over = true
}

// quietFor tells how long nothing was written.
func (q *queue) quietFor(now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running {
		return 0
	}
	return now.Sub(q.last)
}

// afterLast calls f when all that waits has left.
func (q *queue) afterLast(f func()) {
	q.mu.Lock()
	idle := !q.running
	if !idle {
		q.finish = f
	}
	q.mu.Unlock()
	if idle {
		f()
	}
}
