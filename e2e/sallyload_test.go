package e2e

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/e2e/peers"
)

// Phones of sallyload call one another through the edge and a real Asterisk.
func TestSallyloadEdge(t *testing.T) {
	o := newOfficeWith(t, peers.AsteriskConfig{}, peers.EdgeConfig{Extra: peers.WSS})
	run := peers.StartSallyload(o.Phone("load"), "call", "--target", peers.EdgeOutside+":5061", "--domain", "pbx.example.com", "--ca", o.edge.CAFile(),
		"--phones", "20", "--users", "%d", "--first", "1001", "--password", "secret-%s", "--rate", "5", "--duration", "4s", "--talk", "1s")
	r := run.Result(time.Minute)
	t.Logf("%+v", r)
	if !r.Passed || r.Exit != 0 {
		t.Errorf("failed")
	}
	o.idle()
}
