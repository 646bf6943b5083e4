package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// A phone with two connections (RFC 5626) is one contact to Asterisk. It is called
// by one of them, and by the other once that is dead.
func TestOutbound(t *testing.T) {
	o := newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{Extra: "[sip]\nkeepalive = \"1s\"\n"})
	host := o.Phone("1002")
	ben := peers.StartBaresip(host, peers.BaresipConfig{User: "1002", CAFile: o.edge.CAFile(), ToneHz: 1300, AutoAnswer: true, Outbound: true})
	ben.WaitLog(`\{1/TLS/v4\} 200 OK`, 10*time.Second)
	ben.WaitLog(`\{2/TLS/v6\} 200 OK`, 10*time.Second)
	if n := o.edge.Metric("sallyport_bindings"); n != 2 {
		t.Fatalf("the edge has %v bindings, want 2", n)
	}
	ben.WaitLog(`Require: outbound`, time.Second)
	anna := o.registered("1001")
	rings := func() (peer string) {
		t.Helper()
		media := anna.NewMedia(suite)
		d := o.call(anna, "1002", media, 700)
		media.Hears(1300, 10*time.Second)
		if m := d.Request("BYE", ""); m.Status() != 200 {
			t.Fatalf("BYE was answered %s", m.Start)
		}
		media.Stop()
		o.idle()
		all := o.invited()
		return all[len(all)-1]
	}
	first := rings()
	if n := len(o.invited()); n != 1 {
		t.Errorf("the phone was invited %d times to one call", n)
	}
	host.CutTCP(strings.HasPrefix(first, "["))
	peers.Until(t, 10*time.Second, "the edge to lose the connection", func() bool {
		return o.edge.Metric(`sallyport_flows{socket="203.0.113.7:5061"}`)+o.edge.Metric(`sallyport_flows{socket="[2001:db8:0:1::7]:5061"}`) == 2
	})
	if second := rings(); second == first {
		t.Errorf("both calls went to %s", first)
	}
}

// invited are the connections that the edge sent an INVITE by.
func (o *office) invited() (list []string) {
	o.t.Helper()
	log, err := os.ReadFile(o.edge.Log)
	if err != nil {
		o.t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`"side":"secure","dir":"out","peer":"([^"]+)","start":"INVITE `).FindAllStringSubmatch(string(log), -1) {
		list = append(list, m[1])
	}
	return list
}
