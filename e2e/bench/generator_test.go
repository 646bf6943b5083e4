package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"github.com/sallyport/sallyport/e2e/peers"
)

const (
	lateAfter   = 50 * time.Millisecond // a packet later than this is as good as lost
	grace       = 100 * time.Millisecond
	patience    = 2 * time.Second
	sampleEvery = 37 // prime, so that every call has its turn
)

// generator plays all phones and the PBX, or two PBXs, on one thread.
type generator struct {
	tick    time.Duration
	taps    [ways]*tap             // that send: the phones', the PBX's
	gateway [ways]net.HardwareAddr // the edges' interfaces towards them
	frames  [ways][]byte           // memory of windows, used again
}

// newGenerator opens the interfaces of the hosts that send each way, behind the
// edge of each. The kernels of its hosts get no packets of calls: they have no
// sockets for them.
func newGenerator(hosts, edges [ways]*peers.Host, tick time.Duration) (*generator, error) {
	g := &generator{tick: tick}
	for way, h := range hosts {
		dev := h.Dev // it has the same name at the edge
		err := edges[way].Do(func() error {
			i, err := net.InterfaceByName(dev)
			if err == nil {
				g.gateway[way] = i.HardwareAddr
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("find interface %s of the edge: %w", dev, err)
		}
		if g.taps[way], err = openTap(h); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (g *generator) close() {
	for _, t := range g.taps {
		t.close()
	}
}

// window is a load over some time: the same number of packets for each call
// and way, one call after the other.
type window struct {
	g      *generator
	calls  []*call
	every  time.Duration // between two packets of one way
	total  int           // packets of one way
	way    [ways]flight
	sentBy int64 // when all was sent, in nanoseconds behind the plan
}

// flight is what goes one way. Packet k is of call k modulo their number.
type flight struct {
	frames  []byte
	size    int      // of each frame
	first   []uint16 // sequence number of each call
	sent    []int64  // when each packet was
	took    []int64  // until it arrived; 0: it did not
	done    int      // how many were sent
	arrived int
	double  int
	samples []sample
}

type sample struct {
	packet int
	rtp    []byte
}

// outcome is what a window saw.
type outcome struct {
	sent, lost [ways]int
	p50, p99   time.Duration
	behind     bool // the generator could not send at the rate
}

func (o outcome) loss() float64 {
	return float64(o.lost[inward]+o.lost[outward]) / float64(o.sent[inward]+o.sent[outward])
}

// prepare makes the packets of a window, rate being those of both ways in a
// second.
func (g *generator) prepare(calls []*call, rate int, length time.Duration) (*window, error) {
	rounds := max(1, int(length.Seconds()*float64(rate)/float64(ways*len(calls))))
	w := &window{g: g, calls: calls, total: rounds * len(calls), every: time.Duration(float64(ways) / float64(rate) * 1e9)}
	var wg sync.WaitGroup
	errs := make([]error, ways)
	for way := range ways {
		wg.Go(func() { errs[way] = w.prepareWay(way, rounds) }) // waited for below
	}
	wg.Wait()
	return w, errors.Join(errs...)
}

func (w *window) prepareWay(way, rounds int) error {
	f := &w.way[way]
	if room := w.total * frameRoom; cap(w.g.frames[way]) < room {
		w.g.frames[way] = make([]byte, room)
	}
	f.frames = w.g.frames[way][:w.total*frameRoom]
	f.first, f.sent, f.took = make([]uint16, len(w.calls)), make([]int64, w.total), make([]int64, w.total)
	f.samples = make([]sample, 0, w.total/sampleEvery+1)
	f.size = rtpAt + rtpLen + payloadLen
	var head rtp.Header
	for i, c := range w.calls {
		f.first[i] = c.next[way]
		from := c.phone
		if way == outward {
			from = c.pbx
		}
		for round := range rounds {
			frame := f.frames[(round*len(w.calls)+i)*frameRoom:][:frameRoom]
			p := frame[rtpAt:][:rtpLen+payloadLen]
			putRTP(p, c, way, c.next[way])
			c.next[way]++
			if way == inward && !c.plain() {
				sealed, err := c.seal.EncryptRTP(p, p, &head)
				if err != nil {
					return fmt.Errorf("encrypt: %w", err)
				}
				p = frame[rtpAt : rtpAt+copy(frame[rtpAt:], sealed)]
			}
			f.size = rtpAt + len(p)
			putHeaders(frame, w.g.taps[way].mac, w.g.gateway[way], from, c.entry[way], len(p))
		}
	}
	return nil
}

// run sends and receives. A generator that can't send at the rate gives up
// some time after the window's end.
func (w *window) run() outcome {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	begin := time.Now().UnixNano() + int64(w.g.tick)
	end := begin + int64(w.every)*int64(w.total)
	for at := begin; ; {
		sleepUntil(at)
		now := time.Now().UnixNano()
		due := min(w.total, max(0, int((now-begin)/int64(w.every))+1))
		for w.send(due) {
			w.drain(1) // between batches too: a late tick has much to send
		}
		w.drain(1 << 20)
		all := w.way[inward].done == w.total && w.way[outward].done == w.total
		if all && w.sentBy == 0 {
			w.sentBy = time.Now().UnixNano() - end
		}
		arrived := w.way[inward].arrived + w.way[outward].arrived
		if arrived == ways*w.total || all && now > end+w.sentBy+int64(grace) || now > end+int64(patience) {
			return w.outcome()
		}
		for at <= now {
			at += int64(w.g.tick)
		}
	}
}

// send sends a batch of what is due each way, and tells whether there was
// something.
func (w *window) send(due int) bool {
	more := false
	for way := range ways {
		f := &w.way[way]
		n := min(due-f.done, tapBatch/2)
		if n <= 0 {
			continue
		}
		now := time.Now().UnixNano()
		n = w.g.taps[way].send(f.frames[f.done*frameRoom:(f.done+n)*frameRoom], frameRoom, f.size)
		for k := f.done; k < f.done+n; k++ {
			f.sent[k] = now
		}
		f.done += n
		more = more || n > 0
	}
	return more
}

// drain takes what has arrived at both far ends, at most some batches.
func (w *window) drain(batches int) {
	for way := range ways {
		t := w.g.taps[1-way]
		for range batches {
			n := t.receive()
			for i := range n {
				w.arrive(way, t.frame(i), t.stamp(i))
			}
			if n < tapBatch {
				break
			}
		}
	}
}

func (w *window) arrive(way int, frame []byte, at int64) {
	number, p, ok := arrival(frame, len(w.calls))
	if !ok {
		return // of signalling, or of ARP
	}
	f := &w.way[way]
	k := int(binary.BigEndian.Uint16(p[2:])-f.first[number])*len(w.calls) + number
	switch {
	case k >= f.done: // late, of the window before
	case f.took[k] != 0:
		f.double++
	default:
		f.took[k] = max(1, at-f.sent[k])
		f.arrived++
		if k%sampleEvery == 0 {
			f.samples = append(f.samples, sample{k, slices.Clone(p)})
		}
	}
}

func (w *window) outcome() outcome {
	o := outcome{}
	var all []int64
	for way := range ways {
		f := &w.way[way]
		o.sent[way] = f.done
		o.behind = o.behind || f.done < w.total || w.sentBy > int64(w.every)*int64(w.total)/50
		for _, t := range f.took {
			if t == 0 || t > int64(lateAfter) {
				o.lost[way]++
			} else {
				all = append(all, t)
			}
		}
	}
	slices.Sort(all)
	if n := len(all); n > 0 {
		o.p50, o.p99 = time.Duration(all[n/2]), time.Duration(all[n*99/100])
	}
	return o
}

// verify opens the samples and compares them with what was sent. A relay that
// is none leaves the phone's packets sealed.
func (w *window) verify(relayed bool) error {
	var head rtp.Header
	want := make([]byte, frameRoom)
	for way := range ways {
		f := &w.way[way]
		names := make(map[*call]uint32)
		if len(f.samples) == 0 {
			return errors.New("check samples: there are none")
		}
		for _, s := range f.samples {
			c := w.calls[s.packet%len(w.calls)]
			got, err := s.rtp, error(nil)
			if relayed && way == outward && !c.plain() {
				got, err = open(c.open, s.rtp, &head)
			}
			if !relayed && way == inward && !c.plain() {
				want = want[:copy(want[:cap(want)], f.frames[s.packet*frameRoom+rtpAt:][:f.size-rtpAt])]
			} else {
				want = want[:rtpLen+payloadLen]
				putRTP(want, c, way, f.first[c.number]+uint16(s.packet/len(w.calls)))
			}
			if c.renamed && len(got) > rtpLen {
				if _, seen := names[c]; !seen {
					names[c] = binary.BigEndian.Uint32(got[8:])
				}
				binary.BigEndian.PutUint32(want[8:], names[c]) // always one, whichever
			}
			if err != nil || !bytes.Equal(got, want) {
				return fmt.Errorf("check samples: call %d's packet is not what was sent: %w\n got %x\nwant %x", c.number, err, got, want)
			}
		}
	}
	return nil
}

func open(c *srtp.Context, p []byte, head *rtp.Header) ([]byte, error) {
	if c == nil {
		return nil, errors.New("the relay gave no key")
	}
	return c.DecryptRTP(nil, p, head)
}

// drops counts what the generator's own sockets lost since it was last asked.
func (g *generator) drops() (sum int, err error) {
	for _, t := range g.taps {
		n, err := t.drops()
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}
