package e2e

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// impatient are the edge's deadlines, shorter than by default so that a test sees them.
const impatient = "[sip]\nhandshake_timeout = \"4s\"\nfirst_message_timeout = \"4s\"\nmessage_timeout = \"4s\"\nwrite_timeout = \"3s\"\nwrite_queue = 32768\n"

// Clients that stop half-way or take their time, over TLS, as TestSlowWss has them
// over WebSocket: a phone registers as fast among them as without, a call keeps its
// sound, and the edge throws each out by itself and is left with nothing.
func TestSlowClients(t *testing.T) {
	const clients = 200
	o := newOfficeWith(t, peers.AsteriskConfig{Quiet: true}, peers.EdgeConfig{Extra: impatient + quiet + calm})
	call := o.talks("1002")
	honest := o.Phone("honest")
	o.registerOver(honest, 9)
	for _, how := range []peers.Slowness{peers.SaysNothing, peers.SlowHello, peers.SlowMessage, peers.NoBody, peers.NeverReads} {
		t.Run(how.String(), func(t *testing.T) {
			host := o.Phone(fmt.Sprintf("slow%d", how))
			text := strings.Replace(good(host, "OPTIONS", "slow"), "Max-Forwards: 70", "Max-Forwards: 0", 1) // answered by the edge
			n := clients
			switch how {
			case peers.SlowMessage, peers.NoBody:
				text = strings.Replace(text, "Content-Length: 0\r\n\r\n", "Content-Length: 20000\r\n\r\n"+strings.Repeat("b", 100), 1)
			case peers.NeverReads:
				n, text = 50, strings.Repeat(text, 20)
			}
			ratio := 0.0
			for range 3 { // what another process of the machine's costs passes; an attack's effect does not
				if ratio = o.slowed(honest, host, n, how, text); ratio <= 2 {
					return
				}
			}
			t.Errorf("a registration takes %.1f times as long among slow clients", ratio)
		})
	}
	t.Run("control", func(t *testing.T) { oneStopsAll(t, o, honest) })
	call.keepsSound(t, "slow clients")
	call.ends()
}

// slowed tells how many times as long a registration takes among so many slow clients
// as before and after them.
func (o *office) slowed(honest, host *peers.Host, n int, how peers.Slowness, text string) float64 {
	o.t.Helper()
	before, memory := o.held(), o.edge.LeastMemory()
	quiet := o.registerOver(honest, 15)
	slow := peers.SlowClients(host, o.edge, n, how, text)
	there := o.gathered("sallyport_flows{", float64(n)/2)
	busy := o.registerOver(honest, 15)
	peers.Until(o.t, 60*time.Second, "the edge to throw the slow ones out", func() bool {
		now := o.held()
		return now["descriptors"] <= before["descriptors"] && now["go_goroutines"] <= before["go_goroutines"]+2
	})
	slow.Close()
	if there < float64(n)/2 { // the machine took as long to make them as they live
		o.t.Logf("only %v of %d slow clients were there together", there, n)
		return math.Inf(1)
	}
	without, among := median(append(quiet, o.registerOver(honest, 15)...)), median(busy)
	o.t.Logf("%d clients, %s: a registration takes %s among them, %s without (medians); memory grew by %d kB at most",
		n, how, among, without, (o.edge.MostMemory()-memory)>>10)
	return float64(among) / float64(without)
}

// gathered is how many connections the edge has, when it has taken so many, or will not.
func (o *office) gathered(metric string, want float64) (there float64) {
	o.t.Helper()
	for begun := time.Now(); there < want && time.Since(begun) < 3*time.Second; time.Sleep(20 * time.Millisecond) {
		there = o.edge.Metric(metric)
	}
	return there
}

// registerOver is the times of registrations over new TLS connections, from the
// TCP handshake to the 200.
func (o *office) registerOver(h *peers.Host, times int) []time.Duration {
	o.t.Helper()
	var took []time.Duration
	for range times {
		began := time.Now()
		p := peers.NewPhone(h, o.edge, "1001")
		if m := p.Register("secret-1001", 600, ""); m.Status() != 200 {
			o.t.Fatalf("registration answered %s", m.Start)
		}
		took = append(took, time.Since(began))
		p.Close()
	}
	return took
}

func median(of []time.Duration) time.Duration {
	slices.Sort(of)
	return of[len(of)/2]
}
