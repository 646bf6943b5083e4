package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// A phone that calls without end and acknowledges nothing is told to come again
// later, and holds no more than its share; who calls meanwhile does not notice.
func TestRequestFlood(t *testing.T) {
	const share, more = 200, 400
	o := newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{Extra: fmt.Sprintf("[sip]\nmax_requests = %d\n", share)})
	flood, anna := o.registered("1001"), o.registered("1002")
	offer := flood.NewMedia(suite).Offer()
	for range share + more {
		flood.Dial("602", offer)
	}
	status := make(map[int]int)
	for deadline := time.Now().Add(20 * time.Second); status[401]+status[503] < share+more && time.Now().Before(deadline); {
		if m := flood.Within(time.Second); m != nil {
			if status[m.Status()]++; m.Status() == 503 && m.Get("Retry-After") == "" {
				t.Fatal("the 503 says nothing of when to come again")
			}
		}
	}
	if status[401] != share || status[503] != more {
		t.Errorf("the flood was answered %v, want %d challenges and %d refusals", status, share, more)
	}
	if n := o.edge.Metric("sallyport_transactions"); n > 3*share {
		t.Errorf("the edge holds %v transactions", n)
	}
	media := anna.NewMedia(suite)
	d := o.echo(anna, media, 700)
	media.Hears(700, 10*time.Second)
	o.hangUp(d, media)
	if n := o.edge.Metric(`sallyport_requests_refused_total{status="503"}`); n != more {
		t.Errorf("%v refusals are counted, want %d", n, more)
	}
}
