package flow

import (
	"bytes"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// line is where a trunk's pings go.
type line struct {
	mu    sync.Mutex
	pings []time.Time
	on    func(n int) // at each, which is told its number
}

func (l *line) write(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if string(b) == ping {
		l.pings = append(l.pings, time.Now())
		if l.on != nil {
			go l.on(len(l.pings))
		}
	}
	return nil
}

func (l *line) reliable() bool { return true }
func (l *line) close()         {}

func TestVigil(t *testing.T) {
	const every = 30 * time.Second
	for _, tc := range []struct {
		name   string
		every  time.Duration
		answer func(v *vigil, n int) // to the ping of that number, from 1
		pings  [2]int                // sent in an hour, at least and at most
		ends   bool
	}{
		{name: "answered", every: every, answer: func(v *vigil, _ int) { v.heard(); v.pongDue() }, pings: [2]int{120, 150}},
		{name: "never answered", every: every, answer: func(*vigil, int) {}, pings: [2]int{120, 150}},
		{name: "answered no longer", every: every, ends: true, pings: [2]int{6, 6}, answer: func(v *vigil, n int) {
			if n <= 5 {
				v.heard()
				v.pongDue()
			}
		}},
		{name: "answered no longer, and it speaks", every: every, pings: [2]int{120, 150}, answer: func(v *vigil, n int) {
			v.heard()
			if n <= 5 {
				v.pongDue()
			}
		}},
		{name: "answered within ten seconds", every: every, pings: [2]int{120, 150}, answer: func(v *vigil, _ int) {
			time.Sleep(9 * time.Second)
			v.heard()
			v.pongDue()
		}},
		{name: "turned off", every: 0, pings: [2]int{0, 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := new(line)
				limits := DefaultLimits()
				limits.KeepAlive = tc.every
				f := newFlow(Secure, "TLS", netip.AddrPort{}, netip.AddrPort{}, out, nil)
				c := &conn{service: &service{limits: limits}}
				v := c.startVigil(f)
				out.mu.Lock()
				out.on = func(n int) { tc.answer(v, n) }
				out.mu.Unlock()
				began := time.Now()
				select {
				case <-f.Done():
				case <-time.After(time.Hour):
				}
				v.stop()
				synctest.Wait()
				if ended := f.Err() != nil; ended != tc.ends || ended && !errors.Is(f.Err(), ErrNoPong) {
					t.Errorf("after %s: %v", time.Since(began), f.Err())
				}
				if got := len(out.pings); got < tc.pings[0] || got > tc.pings[1] {
					t.Errorf("%d pings in %s, want %v", got, time.Since(began), tc.pings)
				}
				if tc.ends {
					if late := time.Since(out.pings[len(out.pings)-1]); late != pongTimeout {
						t.Errorf("ended %s after the ping without an answer", late)
					}
				}
				sent := len(out.pings)
				time.Sleep(time.Hour)
				if len(out.pings) != sent {
					t.Error("pings go on after the connection")
				}
			})
		})
	}
}

// Pings of many connections do not stay together.
func TestVigilJitter(t *testing.T) {
	v := &vigil{every: 10 * time.Second}
	seen := make(map[time.Duration]bool)
	for range 100 {
		p := v.pause()
		if p < 8*time.Second || p > 10*time.Second {
			t.Fatalf("pause of %s", p)
		}
		seen[p] = true
	}
	if len(seen) < 50 {
		t.Errorf("%d different pauses of 100", len(seen))
	}
}

// A lone CRLF is an answer if one is due; the two of a ping are none.
func TestPongs(t *testing.T) {
	for _, tc := range []struct {
		name, bytes  string
		due          int
		pings, pongs int
	}{
		{"a pong that is due", "\r\n", 1, 0, 1},
		{"a pong that is not", "\r\n", 0, 0, 0},
		{"a ping while a pong is due", "\r\n\r\n", 1, 1, 0},
		{"both", "\r\n\r\n\r\n", 1, 1, 1},
		{"two pings and a pong", "\r\n\r\n\r\n\r\n\r\n", 1, 2, 1},
		{"a pong, and a message", "\r\n" + optionsText, 1, 0, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			due, pings, pongs := tc.due, 0, 0
			fr := &framer{r: bytes.NewReader([]byte(tc.bytes)), limits: DefaultLimits(), deadline: func(bool) {}, pongDue: func() bool {
				due--
				return due >= 0
			}}
			for {
				got, err := fr.next()
				if err != nil {
					break
				}
				switch got.kind {
				case framePing:
					pings++
				case framePong:
					pongs++
				}
			}
			if pings != tc.pings || pongs != tc.pongs {
				t.Errorf("%d pings and %d pongs, want %d and %d", pings, pongs, tc.pings, tc.pongs)
			}
		})
	}
}
