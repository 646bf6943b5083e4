package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// sevenMethods are those that CVE-2021-41145 exhausted FreeSWITCH's memory by.
var sevenMethods = []string{"REGISTER", "INVITE", "OPTIONS", "SUBSCRIBE", "MESSAGE", "PUBLISH", "NOTIFY"}

// calm is a log that costs little under a flood.
const calm = "[log]\nlevel = \"error\"\n"

// A phone and two strangers send seven methods as fast as it goes, for FLOOD_TIME
// (12s): first with nothing between them and the transactions, then with the policy
// as it is. Memory is bounded and nothing is left; a call keeps its sound, and a
// phone comes, registers and calls meanwhile.
func TestMessageFlood(t *testing.T) {
	lasts := 12 * time.Second
	if text := os.Getenv("FLOOD_TIME"); text != "" {
		var err error
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	for name, policy := range map[string]string{
		"nothing in between": "[policy]\nallow = [\"203.0.113.0/24\"]\nauth_failures = 0\n",
		"the policy":         "",
	} {
		t.Run(name, func(t *testing.T) {
			o := newOfficeWith(t, peers.AsteriskConfig{Quiet: true}, peers.EdgeConfig{Extra: policy + calm})
			call := o.talks("1002")
			phone := o.registered("1001")
			hosts := []*peers.Host{phone.Host, o.Phone("stranger"), o.Phone("other")}
			honest := o.Phone("honest")
			before, memory := o.held(), o.edge.LeastMemory()
			toPBX := o.edge.Metric("sallyport_requests_total")
			var floods []*peers.Flood
			for i, h := range hosts {
				var on *peers.Phone
				if i == 0 {
					on = phone
				}
				floods = append(floods, peers.StartFlood(h, o.edge, on, func(n int) string {
					return good(h, sevenMethods[n%len(sevenMethods)], fmt.Sprintf("flood-%d-%d", i, n))
				}))
			}
			flooded := func() (n int) {
				for _, f := range floods {
					n += f.Sent()
				}
				return n
			}
			began := time.Now()
			for round := 0; round == 0 || time.Since(began) < lasts || flooded() < 10_000 && time.Since(began) < lasts+3*time.Minute; round++ {
				o.calls(honest, "1003")
				call.keepsSound(t, "a flood of requests")
			}
			sent, challenged, unavailable, other, connections := 0, 0, 0, 0, 0
			for _, f := range floods {
				f.Stop()
				c, u, o := f.Answered()
				sent, connections, challenged, unavailable, other = sent+f.Sent(), connections+f.Connections(), challenged+c, unavailable+u, other+o
			}
			t.Logf("%d requests in %s by %d connections: %d challenged, %d got 503, %d another answer; the edge took %v; its memory grew from %d to %d MB",
				sent, time.Since(began).Round(time.Second), connections, challenged, unavailable, other,
				o.edge.Metric("sallyport_requests_total")-toPBX, memory>>20, o.edge.MostMemory()>>20)
			if sent < 10_000 || unavailable < sent/4 {
				t.Errorf("%d requests, %d got 503: that was no flood", sent, unavailable)
			}
			if grown := o.edge.MostMemory() - memory; grown > 160<<20 {
				t.Errorf("the edge's memory grew by %d MB", grown>>20)
			}
			peers.Until(t, 60*time.Second, "the flood's transactions to end", func() bool { return o.edge.Metric("sallyport_transactions") == 0 })
			peers.Until(t, 30*time.Second, fmt.Sprintf("the edge to hold no more than the %v of before", before), func() bool {
				left := o.held()
				return left["go_goroutines"] <= before["go_goroutines"]+5 && left["descriptors"] <= before["descriptors"]
			})
			peers.Until(t, 60*time.Second, "the edge to give its memory back", func() bool { return o.edge.Memory() <= memory+spare })
			after := o.edge.Memory()
			t.Logf("afterwards the edge holds %d MB", after>>20)
			o.calls(honest, "1004")
			call.keepsSound(t, "the end of a flood")
			call.ends()
		})
	}
}
