package peers

import (
	"bufio"
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Flood is somebody who sends as fast as it goes, and comes back when he is
// thrown out.
type Flood struct {
	stop chan struct{}
	done sync.WaitGroup

	connections, sent, challenged, unavailable, other atomic.Int64
}

// StartFlood sends what next makes, by TLS, until Stop or the test's end. It
// begins on the connection of a phone, if one is given.
func StartFlood(h *Host, e *Edge, phone *Phone, next func(i int) string) *Flood {
	h.lab.t.Helper()
	f := &Flood{stop: make(chan struct{})}
	trust := e.trust(h.lab.t)
	f.done.Go(func() { // ends by Stop, which waits
		_ = h.Do(func() error {
			i := 0
			if phone != nil {
				f.on(phone.conn, next, &i)
			}
			for f.goesOn() {
				raw, err := (&net.Dialer{Timeout: time.Second}).Dial("tcp", EdgeOutside+":5061")
				if err != nil {
					time.Sleep(20 * time.Millisecond)
					continue
				}
				f.on(tls.Client(raw, trust), next, &i)
			}
			return nil
		})
	})
	h.lab.t.Cleanup(f.Stop)
	return f
}

func (f *Flood) goesOn() bool {
	select {
	case <-f.stop:
		return false
	default:
		return true
	}
}

// on floods by one connection, until it ends.
func (f *Flood) on(conn net.Conn, next func(int) string, i *int) {
	f.connections.Add(1)
	var reader sync.WaitGroup
	reader.Go(func() { // ends when conn is closed
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			f.count(lines.Text())
		}
	})
	for f.goesOn() {
		_ = conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Write([]byte(next(*i))); err != nil {
			break
		}
		*i++
		f.sent.Add(1)
	}
	conn.Close()
	reader.Wait()
}

func (f *Flood) count(line string) {
	switch {
	case !strings.HasPrefix(line, "SIP/2.0 "), strings.HasPrefix(line, "SIP/2.0 100"):
	case strings.HasPrefix(line, "SIP/2.0 401"):
		f.challenged.Add(1)
	case strings.HasPrefix(line, "SIP/2.0 503"):
		f.unavailable.Add(1)
	default:
		f.other.Add(1)
	}
}

// Stop ends it.
func (f *Flood) Stop() {
	if f.goesOn() {
		close(f.stop)
	}
	f.done.Wait()
}

// Connections tells how many connections it made so far.
func (f *Flood) Connections() int { return int(f.connections.Load()) }

// Sent tells how many requests it wrote.
func (f *Flood) Sent() int { return int(f.sent.Load()) }

// Answered tells how many of them were challenged, how many got 503, and how many
// another answer.
func (f *Flood) Answered() (challenged, unavailable, other int) {
	return int(f.challenged.Load()), int(f.unavailable.Load()), int(f.other.Load())
}
