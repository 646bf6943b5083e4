package media

import (
	"maps"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// crew is a worker with many streams, which no socket is behind.
func crew(t testing.TB, streams int) (*Engine, *worker) {
	t.Helper()
	e := runEngine(t, testConfig())
	w, all := e.workers[0], make([]*stream, streams)
	s, err := e.Open(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		rx, err := newOpener(newKey(t, AEADAES128GCM))
		if err != nil {
			t.Fatal(err)
		}
		tx, err := newSealer(newKey(t, AEADAES128GCM))
		if err != nil {
			t.Fatal(err)
		}
		st := &stream{session: s}
		st.prot = [numKinds]*protection{&st.own, &st.own}
		st.own.set(rx, tx, false, 0)
		st.own.tx.sources = map[uint32]*source{uint32(i): {ssrc: uint32(i), stream: st, started: true}}
		st.lanes = []*lane{{stream: st, key: laneKey{ssrc: uint32(i)}}}
		all[i] = st
	}
	w.do(func() {
		for i, st := range all {
			st.peers[kindRTP].latched = addr(byte(i), uint16(10000+i))
			w.table.add(st)
		}
	})
	t.Cleanup(func() {
		w.do(func() {
			for _, st := range all {
				delete(w.table.all, st)
			}
		})
	})
	return e, w
}

// Who asks for the keys lets go of a worker again and again, and misses no stream that
// ends meanwhile.
func TestKeysLetGoOfTheWorker(t *testing.T) {
	const streams = 2000
	for range 50 { // on a busy machine nobody else may come to run meanwhile
		e, w := crew(t, streams)
		begun := make(chan struct{})
		var ender sync.WaitGroup
		ender.Go(func() { // all streams end as soon as it is seen that somebody asks
			close(begun)
			for asked := false; !asked; runtime.Gosched() {
				w.do(func() {
					if asked = w.prover.until > 0; asked {
						w.remember(slices.Collect(maps.Keys(w.table.all)), nil)
						clear(w.table.all)
					}
				})
			}
		})
		<-begun
		k := e.Keys()
		ender.Wait()
		told := make(map[string]bool)
		for _, l := range k.SRTP {
			told[string(l.KeySalt)] = true
		}
		if len(told) != 2*streams {
			t.Fatalf("told the keys of %d streams of %d", len(told)/2, streams)
		}
		if len(k.SRTP) > 2*streams { // some are told twice: before they end and after
			return
		}
	}
	t.Errorf("the worker was held for all %d streams at once", streams)
}

// BenchmarkKeys tells how long a worker with 5,000 streams is kept from its
// packets by who asks for the keys: the longest wait of a round, by the median of all.
func BenchmarkKeys(b *testing.B) {
	e, w := crew(b, 5000)
	b.ReportAllocs()
	var waits []time.Duration
	for b.Loop() {
		told, waited := make(chan struct{}), make(chan time.Duration)
		go func() {
			longest := time.Duration(0)
			for {
				began := time.Now()
				w.do(func() {})
				longest = max(longest, time.Since(began))
				select {
				case <-told:
					waited <- longest
					return
				case <-time.After(50 * time.Microsecond):
				}
			}
		}()
		e.Keys()
		close(told)
		waits = append(waits, <-waited)
	}
	slices.Sort(waits)
	b.ReportMetric(float64(waits[len(waits)/2].Microseconds()), "longest-µs")
}
